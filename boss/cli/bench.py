"""`boss-study bench`: time a training step."""

import argparse
import re
import sys
from pathlib import Path

from boss.cli.arguments import natural, positive
from boss.cli.words import say
from boss.workers.runtime import find_devices

HELP = "time a training step beside its floor and rivals"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("--quick", action="store_true", help="less than a minute on two cores")
    add("--device", type=_device, default="auto", metavar="auto|cpu|cuda|cuda:1")
    add("--network", metavar="NAME", help="(default: wrn-28-2 on GPUs, wrn-10-1 on CPUs)")
    add("--batch-size", type=positive, metavar="B", help="(default: 64 on GPUs, 16 on CPUs)")
    add("--unlabeled-ratio", type=natural, default=7, metavar="MU", help="(default: 7)")
    add("--algorithm", default="fixmatch", metavar="NAME", help="(default: fixmatch)")
    add("--augmentation", default="randaugment", metavar="NAME", help="(default: randaugment)")
    add("--dataset", default="random", metavar="NAME", help="(default: random pixels, 32 x 32)")
    add("--data", type=Path, metavar="DIR", help="folder of data sets, with --dataset")
    add("--precision", default="bf16", metavar="bf16|fp32", help="(default: bf16)")
    add(
        "--step", action="append", default=[], metavar="EXECUTION",
        help="eager, compiled, graph or compiled-graph (repeatable; default: all that the device"
        " has; eager in single precision always comes first)",
    )  # fmt: skip
    add("--threads", type=positive, metavar="N", help="(default: 1 on CPUs, all cores on GPUs)")
    add("--repeats", type=positive, metavar="N", help="(default: 15; with --quick 5)")
    add("--scaling", action="store_true", help="also other batches, widths, several processes")
    add("--json", type=Path, metavar="FILE", help="write everything, all repeats too, to this file")


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"use auto, cpu, cuda or cuda:1, not {text!r}")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Measure and print a table."""
    # In this process: it has the worker processes of data loaders for children.
    from boss.bench.report import markdown
    from boss.bench.run import Settings, bench, check_writable, write_json

    if arguments.json is not None:
        check_writable(arguments.json)
    settings = Settings(
        device=find_devices(arguments.device)[0],
        network=arguments.network,
        batch_size=arguments.batch_size,
        unlabeled_ratio=arguments.unlabeled_ratio,
        algorithm=arguments.algorithm,
        augmentation=arguments.augmentation,
        dataset=arguments.dataset,
        data=arguments.data,
        precision=arguments.precision,
        executions=tuple(arguments.step),
        threads=arguments.threads,
        repeats=arguments.repeats,
        quick=arguments.quick,
        scaling=arguments.scaling,
    )
    result = bench(settings, say=lambda line: print(line, file=sys.stderr, flush=True))
    say(markdown(result).rstrip())
    if arguments.json is not None:
        write_json(result, arguments.json)
    return 0
