"""Functions that need torch are called in a child process, and their lines printed."""

from collections.abc import Callable
from typing import Any


def print_lines(function: Callable[..., list[str]], *arguments: Any) -> int:
    """Call a function in a child process and print the lines that it returns."""
    from boss.workers.process import in_child

    for line in in_child(function, *arguments):
        print(line)
    return 0
