"""Texts that come from data, made safe for the place where they are written."""

import re

# C0 and C1 control characters (ANSI escapes begin with one), the line and paragraph separators,
# and the marks that reverse the direction of a text.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """A text on one line that steers no terminal: white space becomes a space, controls "�"."""
    return CONTROL.sub("\ufffd", re.sub(r"[\t\n\v\f\r\u2028\u2029]+", " ", text))


def markdown_cell(text: str) -> str:
    """A text for a cell of a Markdown table: one line, no HTML, no cell more."""
    html = plain(text).replace("&", "&amp;").replace("<", "&lt;")
    # A bar after a backslash would end the cell if it got one more.
    return html.replace("\\|", "\\&#124;").replace("|", "\\|")


def latex(text: str) -> str:
    """A text for LaTeX."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    special |= {"±": r"$\pm$", "²": r"$^2$", "<": r"$<$", ">": r"$>$", "|": r"$|$"}
    safe = "".join(special.get(sign, sign) for sign in plain(text))
    return safe.replace("-$>$", r"$\to$")
