"""All checks of a store, in an order in which each may rely on those before it."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import pandas as pd

from .classes import changed_classes, missing_classes, other_classes, wrong_sums
from .evaluations import partly_missing, without_rows, wrong_steps, wrong_summaries
from .runs import contradictions, wrong_parents
from .tables import Reasons, Tables, first, without, without_repeats
from .values import restored, wrong_texts, wrong_values

Check = Callable[[Tables], Iterable[Reasons]]
# By the table whose rows they are about; each sees the runs that passed those before it.
CHECKS: dict[str, tuple[Check, ...]] = {
    "runs": (
        lambda t: wrong_texts(t.runs),
        lambda t: contradictions(t.runs),
        lambda t: wrong_parents(t.runs),
    ),
    "evaluations": (
        lambda t: wrong_steps(t.runs, t.evaluations),
        lambda t: partly_missing(t.runs, t.evaluations, "evaluations"),
        lambda t: wrong_summaries(t.runs, t.evaluations),
    ),
    "class_evaluations": (
        lambda t: missing_classes(*t),
        lambda t: changed_classes(t.runs, t.class_evaluations),
        lambda t: partly_missing(t.runs, t.class_evaluations, "class_evaluations"),
        lambda t: wrong_sums(*t),
        lambda t: other_classes(t.runs, t.class_evaluations),
    ),
}


class Validated(NamedTuple):
    """What came of it.

    Attributes:
        tables: the rows of the runs that are whole, each once, in the order of their keys.
        rows: the rows of `runs` that are whole by themselves, whatever the evaluations are: what a
            round of self-training may name as its parent.
        reasons: against the others.
        twice: by table, the runs of which rows were stored more than once, all alike.
    """

    tables: Tables
    rows: pd.DataFrame
    reasons: Reasons
    twice: dict[str, list[str]]


def validate(tables: Tables) -> Validated:
    """Leave out the runs that are not whole, each with the first reason that is found."""
    reasons: Reasons = {}
    twice: dict[str, list[str]] = {}
    rows = tables.runs
    for name, checks in CHECKS.items():
        found = first(malformed(tables, name))
        tables, reasons = without(tables, found), reasons | found
        table = restored(getattr(tables, name), name)
        table, twice[name], found = without_repeats(table, name)
        tables, reasons = without(tables._replace(**{name: table}), found), reasons | found
        for check in checks:
            if len(tables.runs):
                found = first(check(tables))
                tables, reasons = without(tables, found), reasons | found
        if name == "runs":
            rows = tables.runs
    return Validated(tables, rows, reasons, twice)


def malformed(tables: Tables, name: str) -> Iterator[Reasons]:
    """Rows of a table that are not there, and values that are wrong by themselves."""
    table = getattr(tables, name)
    if name != "runs":
        yield without_rows(tables.runs, table, name)
    yield from wrong_values(table, name)
