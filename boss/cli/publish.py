"""`boss-study publish`: add finished runs to results/reference."""

import argparse
from pathlib import Path

from boss import api
from boss.cli.words import warn
from boss.study.run import BUDGETS

HELP = "add finished runs to results/reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("study", metavar="STUDY", help="a name from `list`, or a .py file")
    parser.add_argument(
        "--results", type=Path, action="append", default=[], metavar="DIR",
        help="where finished runs are (repeatable; default: results/)",
    )  # fmt: skip
    parser.add_argument(
        "--to", type=Path, default=Path("results/reference"), metavar="DIR",
        help="add them to this folder (default: results/reference), one file per table; runs that"
        " are already there are not replaced",
    )  # fmt: skip
    parser.add_argument(
        "--predictions", choices=("needed", "last", "all"), default="needed",
        help="which predictions on training images to include, 0.2 MB per network on CIFAR-10:"
        " those that other runs of the study select images by (default), also those of the last"
        " network of every run (for `refine`), or all",
    )  # fmt: skip
    parser.add_argument("--budget", choices=BUDGETS, help="only runs of this one (default: all)")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be added, write nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    """Publish and print what was added."""
    from boss.results.publish import publish

    published = publish(
        api.find_study(arguments.study),
        arguments.results or [Path("results")],
        arguments.to,
        predictions=arguments.predictions,
        budget=arguments.budget,
        dry_run=arguments.dry_run,
    )
    for warning in published.warnings:
        warn(warning)
    for line in published.lines:
        print(line)
    if arguments.dry_run:
        print("nothing was written (--dry-run)")
    return 0
