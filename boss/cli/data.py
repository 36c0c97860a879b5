"""`boss-study data`: check or download a data set."""

import argparse
from pathlib import Path

from boss.cli.arguments import data_sets
from boss.cli.child import print_lines

HELP = "check or download a data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("action", choices=("check", "fetch"), metavar="check|fetch")
    parser.add_argument("name", metavar="NAME", help=data_sets())
    parser.add_argument("--data", type=Path, metavar="DIR", help="its folder (default: data/)")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found."""
    return print_lines(_check, arguments.name, arguments.data, arguments.action == "fetch")


def _check(name: str, folder: Path | None, fetch: bool) -> list[str]:
    from boss import data

    if fetch:
        data.fetch(name, folder)
    return data.check(name, folder)
