"""`boss-study select`: choose which image of each class to label, or preview propagated labels."""

import argparse
from pathlib import Path
from typing import Any

from boss.cli import arguments as types
from boss.cli.child import print_lines
from boss.cli.words import say
from boss.errors import InputError

HELP = "choose which image of each class to label, or preview label propagation"
# Without effect with --propagate, or without it.
ONLY_METHOD, ONLY_PROPAGATE = ("candidates", "rank", "trim"), ("num_start",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("dataset", metavar="DATASET", help=types.data_sets())
    parser.add_argument(
        "--embedding", required=True, metavar="E",
        help="kmeans-patches[:CENTROIDS], manifold[:DICTIONARY[xDIMENSION]], teacher:FILE,"
        " simclr[:STEPS][@NETWORK] or torchvision:NAME; NAME+NAME: side by side",
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--method", action="append", metavar="M",
        help="class-centroid, kmeans-centroid, typiclust, k-medoids or random (repeatable: a file"
        " for each, and one contact sheet to compare them)",
    )  # fmt: skip
    what.add_argument(
        "--propagate", action="append", metavar="LABEL_SET",
        help="write no label set, but show which images label propagation from this one would"
        " label (repeatable: a contact sheet for each)",
    )  # fmt: skip
    parser.add_argument(
        "--num-start", type=types.positive, metavar="N",
        help="with --propagate: the most certain images of each predicted class (default: 100)",
    )  # fmt: skip
    types.add_data(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json",
        help="(default: label_sets/DATASET-E-M.json, found as label_set='select:DATASET-E-M');"
        " with --propagate FILE.png (default: label_sets/DATASET-E-propagated-LABEL_SET.png)",
    )  # fmt: skip
    parser.add_argument(
        "--candidates", type=types.positive, metavar="N",
        help="ranked images of each class or cluster to store and show (default: 5)",
    )  # fmt: skip
    parser.add_argument(
        "--rank", type=types.positive, metavar="R",
        help="label the candidates of this rank, for another label set (default: 1, the best)",
    )  # fmt: skip
    parser.add_argument(
        "--trim", type=types.share, metavar="SHARE",
        help="class-centroid: leave out this share of each class, the atypical images (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--seed",
        type=types.natural,
        default=0,
        metavar="N",
        help="of the random draws (default: 0)",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to embed (default: cpu)"
    )
    parser.add_argument(
        "--probe", action="store_true",
        help="also print the accuracy of a linear classifier on the embedding: a diagnostic",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    types.add_results(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the label sets, or the contact sheets of a preview, and print their paths."""
    without_effect = ONLY_METHOD if arguments.propagate else ONLY_PROPAGATE
    for name in without_effect:
        if getattr(arguments, name) is not None:
            option = name.replace("_", "-")
            other = "with" if arguments.propagate else "without"
            raise InputError(f"--{option} has no effect {other} --propagate")
    return print_lines(_preview if arguments.propagate else _make_label_sets, arguments)


def _make_label_sets(arguments: argparse.Namespace) -> list[str]:
    """In a child process: `boss.prototypes.select`."""
    from boss.prototypes.select import Request, make_label_sets

    request = Request(
        methods=tuple(arguments.method),
        **_given(arguments, *ONLY_METHOD),
        **_shared(arguments),
    )
    return make_label_sets(request, report=say)


def _preview(arguments: argparse.Namespace) -> list[str]:
    """In a child process: `boss.prototypes.propagated`."""
    from boss.prototypes.propagated import Request, preview

    request = Request(
        label_sets=tuple(arguments.propagate),
        **_given(arguments, *ONLY_PROPAGATE),
        **_shared(arguments),
    )
    return preview(request, report=say)


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given: the others have the defaults of the request."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _shared(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that both requests have."""
    from boss.workers.runtime import find_devices

    return {
        "dataset": arguments.dataset,
        "embedding": arguments.embedding,
        "data": arguments.data,
        "out": arguments.out,
        "seed": arguments.seed,
        "device": find_devices(arguments.device)[0],
        "results": arguments.results,
        "with_probe": arguments.probe,
        "overwrite": arguments.force,
    }
