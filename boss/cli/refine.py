"""`boss-study refine`: replace the prototypes of classes that failed."""

import argparse
from pathlib import Path

from boss import api
from boss.cli import arguments as types
from boss.cli.child import print_lines
from boss.study.run import BUDGETS

HELP = "replace the prototypes of classes that failed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("study", metavar="STUDY", help="a study with results on several label sets")
    parser.add_argument(
        "--method", default="fixmatch", metavar="M", help="whose runs to read (default: fixmatch)"
    )
    parser.add_argument(
        "--rule", default="label-free", metavar="label-free|test-accuracy",
        help="how to tell that a class failed (default: label-free; the other is an oracle)",
    )  # fmt: skip
    parser.add_argument(
        "--base", metavar="LABEL_SET", help="the one to refine (default: of the best score)"
    )
    parser.add_argument(
        "--label-set", action="append", default=[], metavar="LABEL_SET",
        help="choose among these only (repeatable; default: all that were run)",
    )  # fmt: skip
    parser.add_argument(
        "--failed-below", type=types.share, default=0.5, metavar="SCORE", help="(default: 0.5)"
    )
    parser.add_argument("--budget", choices=BUDGETS, help="of the runs, if there are several")
    types.add_data(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json",
        help="(default: label_sets/STUDY-M-refined.json, found as label_set='select:...')",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    types.add_results(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the refined label set and print its path."""
    return print_lines(_make_refined, arguments)


def _make_refined(arguments: argparse.Namespace) -> list[str]:
    """In a child process: `boss.prototypes.refined`."""
    from boss.prototypes.refined import Request, make_refined

    request = Request(
        study=api.find_study(arguments.study).name,
        results=arguments.results,
        data=arguments.data,
        out=arguments.out,
        method=arguments.method,
        rule=arguments.rule,
        base=arguments.base,
        failed_below=arguments.failed_below,
        budget=arguments.budget,
        label_sets=tuple(arguments.label_set),
        overwrite=arguments.force,
    )
    return make_refined(request)
