"""Tables show the titles of variants, algorithms and methods; their CSV keeps the names in code."""

import dataclasses
from collections.abc import Mapping

import pandas as pd

from ..titles import method_title, titles_of
from .parts import Part, Table


def titles_in(runs: pd.DataFrame) -> dict[str, str]:
    """The titles of all variants, algorithms and methods of a study, by their names in code."""
    names = {name for column in ("algorithm", "method") for name in runs[column].unique()}
    return {name: method_title(name) for name in names} | titles_of(runs["variant"].unique())


def titled(part: Part, titles: Mapping[str, str]) -> Part:
    """The part with titles in the text of a table."""
    if not isinstance(part, Table):
        return part
    text = part.text.map(lambda cell: title(cell, titles) if isinstance(cell, str) else cell)
    if "group" in text:  # of settings: an experiment and a variant
        text = text.assign(group=[heading(str(cell), titles) for cell in text["group"]])
    text.columns = pd.Index([heading(str(name), titles) for name in text.columns])
    return dataclasses.replace(part, text=text)


def title(text: str, titles: Mapping[str, str]) -> str:
    """A cell that is a name, or a list of names.

    >>> names = {"uda": "UDA", "vat": "VAT"}
    >>> title("uda", names), title("uda; vat", names), title("uda: 3 runs", names)
    ('UDA', 'UDA; VAT', 'uda: 3 runs')
    """
    parts = text.split("; ")
    if all(part in titles for part in parts):
        return "; ".join(titles[part] for part in parts)
    return text


def heading(text: str, titles: Mapping[str, str]) -> str:
    """The name of a column that is a name, or ends with one after a comma.

    >>> heading("uda", {"uda": "UDA"}), heading("short, digits, uda", {"uda": "UDA"})
    ('UDA', 'short, digits, UDA')
    """
    for name in titles:
        if text == name or text.endswith(f", {name}"):
            return text.removesuffix(name) + titles[name]
    return text
