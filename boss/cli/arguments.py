"""Arguments and types of arguments that several commands share."""

import argparse
import re
from pathlib import Path

from boss.study.run import BUDGETS


def add_study(parser: argparse.ArgumentParser) -> None:
    """STUDY, --budget, --data and --results."""
    parser.add_argument("study", metavar="STUDY", help="a name from `list`, or a .py file")
    parser.add_argument("--budget", choices=BUDGETS, help="how long to train (see `list`)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR|FILE.npz|folder:PATH[@SIZE]",
        help="folder of data sets (default: $BOSS_DATA or data/), or a custom data set",
    )  # fmt: skip
    add_results(parser)


def add_data(parser: argparse.ArgumentParser) -> None:
    """--data, for commands that take the data set from elsewhere."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR|FILE.npz",
        help="folder of data sets (default: $BOSS_DATA or data/), or the file with CIFAR-10",
    )  # fmt: skip


def add_results(parser: argparse.ArgumentParser) -> None:
    """--results."""
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results/)"
    )


def data_sets() -> str:
    """What may stand for a data set, for the help."""
    from boss.data import DATASETS  # imports numpy

    return f"{', '.join(DATASETS)}, a file FILE.npz or image files in folder:PATH[@SIZE]"


def positive(text: str) -> int:
    """An integer, at least 1."""
    if not re.fullmatch(r"[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, not {text!r}")
    return int(text)


def natural(text: str) -> int:
    """An integer, at least 0."""
    if not re.fullmatch(r"0|[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"must be an integer of at least 0, not {text!r}")
    return int(text)


def share(text: str) -> float:
    """A number in [0, 1)."""
    if not re.fullmatch(r"0|0?\.\d+", text):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to below 1, not {text!r}")
    return float(text)


def seconds(text: str) -> float:
    """A duration in seconds.

    >>> seconds("90"), seconds("25m"), seconds("1h1m1s")
    (90.0, 1500.0, 3661.0)
    """
    match = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s?)?", text)
    if not text or not match:
        raise argparse.ArgumentTypeError(f"use a duration such as 90s, 25m or 1h30m, not {text!r}")
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60 * minutes + rest


def devices(text: str) -> str:
    """One or more devices: "auto", "cpu", "cuda" or "cuda:0,cuda:1"."""
    if not re.fullmatch(r"auto|cpu|cuda|cuda:\d+(,cuda:\d+)*", text):
        raise argparse.ArgumentTypeError(f"use auto, cpu, cuda or cuda:0,cuda:1, not {text!r}")
    return text
