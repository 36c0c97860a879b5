"""`boss-study bench`: time a training step beside the eager fp32 step and the torchvision pattern.

No torch here: `--help` starts in a fraction of a second.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from boss.cli.arguments import natural, positive
from boss.cli.words import say
from boss.errors import InputError
from boss.workers.memory import keep_memory, use_large_pages

HELP = "time a training step beside the usual way to write it"


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
        "--execution", "--step", dest="execution", action="append", default=[], metavar="EXECUTION",
        help="eager, compiled, graph or compiled-graph (repeatable; default: all that the device"
        " has; eager fp32 always comes first)",
    )  # fmt: skip
    add("--threads", type=positive, metavar="N", help="(default: 1 on CPUs, all cores on GPUs)")
    add("--repeats", type=positive, metavar="N", help="rounds (default: 15; with --quick 5)")
    add("--json", type=Path, metavar="FILE", help="write everything, every round too, to this file")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print a table, write the JSON; returns the exit code."""
    if arguments.json is not None:
        _check_writable(arguments.json)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # of torch's profiler, which logs to stderr
    use_large_pages()
    keep_memory()  # as processes that train do
    from boss.bench.measure import Settings, bench

    settings = Settings(
        device=arguments.device,
        network=arguments.network,
        batch_size=arguments.batch_size,
        unlabeled_ratio=arguments.unlabeled_ratio,
        algorithm=arguments.algorithm,
        augmentation=arguments.augmentation,
        dataset=arguments.dataset,
        data=arguments.data,
        precision=arguments.precision,
        executions=tuple(arguments.execution),
        threads=arguments.threads,
        repeats=arguments.repeats,
        quick=arguments.quick,
    )
    result = bench(settings, say=lambda line: print(line, file=sys.stderr, flush=True))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    say(markdown(result))
    return 0


def markdown(result: dict[str, Any]) -> str:
    """The result as Markdown; the values of single rounds are in the JSON only."""
    from tabulate import tabulate

    settings, shape = result["settings"], " x ".join(map(str, result["image_shape"]))
    header = ["step", "ms (quartiles)", "n", "images/s", "x eager fp32", "x torchvision"]
    rows = [
        [
            name,
            _spelled(step["milliseconds"]),
            step["milliseconds"]["n"],
            f"{step['images_per_second']:,.0f}",
            _spelled(step["speed_relative_to_eager_fp32"]),
            _spelled(step.get("speed_relative_to_torchvision")),
        ]
        for name, step in result["steps"].items()
    ]
    parts = [[part, f"{100 * share:.1f}%"] for part, share in result["parts"].items()]
    lines = [
        f"{result['device']}, {result['threads']} of {result['cores']} cores, torch"
        f" {result['versions']['torch']}, {result['date']}, commit {result['commit'] or 'unknown'}",
        f"{settings['algorithm']}, {settings['augmentation']}, {settings['network']}, B"
        f" {settings['batch_size']}, mu {settings['unlabeled_ratio']}:"
        f" {result['images_per_step']} images of {shape} and"
        f" {result['flops_per_step'] / 1e12:.3f} TFLOP per step",
        "",
        _table(tabulate, header, rows),
        "",
        "x: how many times as fast, median (quartiles) of n interleaved rounds.",
        "torchvision: data loaders with a worker process per core, Pillow transforms, a plain loop."
        if "torchvision" in result["steps"]
        else "No torchvision baseline: it is written for fixmatch with randaugment.",
        "",
        _table(tabulate, [f"part of {result['parts_of']}", "share"], parts),
    ]
    if result["operations"]:
        kinds = [[kind, f"{100 * share:.1f}%"] for kind, share in result["operations"].items()]
        lines += ["", _table(tabulate, ["operation", "share of processor time"], kinds)]
    return "\n".join(lines)


def _table(tabulate: Any, header: list[str], rows: list[list[Any]]) -> str:
    right = ["left"] + ["right"] * (len(header) - 1)
    return str(tabulate(rows, header, tablefmt="pipe", colalign=right, disable_numparse=True))


def _spelled(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "-"
    if spread["n"] == 1:
        return f"{spread['median']:.2f}"
    return f"{spread['median']:.2f} ({spread['lower']:.2f} to {spread['upper']:.2f})"


def _check_writable(path: Path) -> None:
    """Raise InputError now, rather than after minutes. Changes no file and leaves none behind."""
    existed = path.exists()
    try:
        with path.open("a"):
            pass
        if not existed:
            path.resolve().unlink()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"use auto, cpu, cuda or cuda:1, not {text!r}")
    return text
