"""Names with Markdown, HTML, LaTeX or control characters are shown, and do nothing."""

import pandas as pd
import pytest

from analysis.page import escape
from analysis.page.write import markdown

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "a\\|b",
    "a\\\\|b",
    "two\nlines\r\nand three",
    "\x1b[31mred\x1b[0m",
    "\x9b31m",
    "a\u202eb",
    "&lt;",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_in_its_cell(name: str) -> None:
    table = pd.DataFrame({name: [name, "b"], "n": [1, 2]})
    lines = markdown(table).split("\n")
    assert len(lines) == 4
    for line in lines:
        bars = [
            i for i, sign in enumerate(line)
            if sign == "|" and (len(line[:i]) - len(line[:i].rstrip("\\"))) % 2 == 0
        ]  # fmt: skip
        assert len(bars) == 3
        assert "<" not in line
        assert not escape.CONTROL.search(line)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\&#124;b"),
        ("R&D <b>", "R&amp;D &lt;b>"),
        ("a\r\nb", "a b"),
        ("\x1b[0m", "\ufffd[0m"),
        ("boss-4 -> fixmatch", "boss-4 -> fixmatch"),
    ],
)
def test_cells_by_hand(text: str, cell: str) -> None:
    assert escape.markdown_cell(text) == cell


def test_latex_ends_no_line_of_a_table() -> None:
    assert escape.latex("a\n% b \x1b[0m") == "a \\% b \ufffd[0m"
