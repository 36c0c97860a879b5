"""`boss-study select`: choose which image of each class to label."""

import argparse
from pathlib import Path

from boss.cli import arguments as types
from boss.cli.child import print_lines
from boss.cli.words import say

HELP = "choose which image of each class to label"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("dataset", metavar="DATASET", help=types.data_sets())
    parser.add_argument(
        "--embedding", required=True, metavar="E",
        help="kmeans-patches[:CENTROIDS], manifold[:DICTIONARY[xDIMENSION]], teacher:FILE,"
        " simclr[:STEPS] or torchvision:NAME",
    )  # fmt: skip
    parser.add_argument(
        "--method", required=True, action="append", metavar="M",
        help="class-centroid, kmeans-centroid, typiclust, k-medoids or random (repeatable: a file"
        " for each, and one contact sheet to compare them)",
    )  # fmt: skip
    types.add_data(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json",
        help="(default: label_sets/DATASET-E-M.json, found as label_set='select:DATASET-E-M')",
    )  # fmt: skip
    parser.add_argument(
        "--candidates", type=types.positive, default=5, metavar="N",
        help="ranked images of each class or cluster to store and show (default: 5)",
    )  # fmt: skip
    parser.add_argument(
        "--rank", type=types.positive, default=1, metavar="R",
        help="label the candidates of this rank, for another label set (default: 1, the best)",
    )  # fmt: skip
    parser.add_argument(
        "--trim", type=types.share, default=0.0, metavar="SHARE",
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
    """Write the label sets and print their paths."""
    return print_lines(_make_label_sets, arguments)


def _make_label_sets(arguments: argparse.Namespace) -> list[str]:
    """In a child process: `boss.prototypes.select`."""
    from boss.prototypes.select import Request, make_label_sets
    from boss.workers.runtime import find_devices

    request = Request(
        dataset=arguments.dataset,
        embedding=arguments.embedding,
        methods=tuple(arguments.method),
        data=arguments.data,
        out=arguments.out,
        candidates=arguments.candidates,
        rank=arguments.rank,
        seed=arguments.seed,
        trim=arguments.trim,
        device=find_devices(arguments.device)[0],
        results=arguments.results,
        with_probe=arguments.probe,
        overwrite=arguments.force,
    )
    return make_label_sets(request, report=say)
