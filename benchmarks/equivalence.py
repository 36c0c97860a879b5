"""Does speed change what is learned? The same trainings, executed in every way there is.

    python -m benchmarks.equivalence --data data --out equivalence

Two questions, one figure:

* 200 steps on CIFAR-10, all from one seed (weights, labeled images, batches, augmentation): how far
  apart are the losses of eager single precision, eager bf16, and what is compiled or recorded?
* Whole trainings (a few thousand steps, several label sets and repeats): do their accuracies differ
  by more than their spread? Intervals are t intervals over the means of the label sets, since
  repeats on one label set are not independent; differences are taken run by run before.

On a GPU the network is WRN-28-2 with batches of 64 and 448, and the trainings are on CIFAR-10; on a
CPU it is WRN-10-1 with 16 and 112, and the trainings are on digits. Writes OUT.json with every
number, and OUT.png.
"""

import argparse
import dataclasses
import itertools
import json
import math
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from scipy import stats

from boss import data
from boss.data.label_sets import resolve
from boss.study.run import Run
from boss.training.loop import train
from boss.training.state import Training, TrainingData
from boss.workers.build import start_run, train_config, training_data

# (name, precision, execution); the first is the reference.
CPU_WAYS = (
    ("eager fp32", "fp32", "eager"),
    ("eager bf16", "bf16", "eager"),
    ("compiled fp32", "fp32", "compiled"),
    ("compiled bf16", "bf16", "compiled"),
)
GPU_WAYS = (
    ("eager fp32", "fp32", "eager"),
    ("eager bf16", "bf16", "eager"),
    ("graph bf16", "bf16", "graph"),
    ("compiled-graph bf16", "bf16", "compiled-graph"),
)
COLORS = ("#000000", "#E69F00", "#0072B2", "#CC79A7")  # Okabe and Ito: told apart by everyone
STYLES = ("-", "--", "-.", ":")


def curve_run(on_gpu: bool) -> Run:
    """The training whose first steps are compared."""
    network, batch_size = ("wrn-28-2", 64) if on_gpu else ("wrn-10-1", 16)
    return Run(
        dataset="cifar10",
        algorithm="fixmatch",
        options={"threshold": 0.5},  # so that pseudo-labels count from early on
        label_set="fixmatch:1@40",
        repeat=0,
        num_images=2**22,
        num_evaluations=1,
        network=network,
        batch_size=batch_size,
    )


def whole_runs(on_gpu: bool, steps: int, sets: int, repeats: int) -> list[Run]:
    """The trainings whose accuracies are compared."""
    if on_gpu:
        fields: dict[str, Any] = {
            "dataset": "cifar10", "network": "wrn-28-2", "batch_size": 64,
            "label_set": "fixmatch:{}@40", "teacher_decay": 0.99, "norm_momentum": 0.01,
        }  # fmt: skip
    else:
        fields = {
            "dataset": "digits", "network": "wrn-7-1", "batch_size": 16, "learning_rate": 0.2,
            "label_set": "fixmatch:{}@10", "teacher_decay": 0.99, "norm_momentum": 0.01,
        }  # fmt: skip
    return [
        Run(
            algorithm="fixmatch",
            repeat=repeat,
            num_images=steps * fields["batch_size"],
            num_evaluations=1,
            **(fields | {"label_set": fields["label_set"].format(label_set)}),
        )
        for label_set in range(sets)
        for repeat in range(repeats)
    ]


def prepared(run: Run, folder: Path | None, device: str) -> tuple[Training, TrainingData]:
    """A training at step 0, and its images."""
    dataset, where = data.load(run.dataset, folder), torch.device(device)
    labels = resolve(run.label_set, dataset)
    return start_run(run, dataset, where), training_data(run, dataset, labels, where)


def losses(run: Run, folder: Path | None, execution: str, device: str, steps: int) -> list[float]:
    """Supervised + unsupervised loss of the first steps, in nats."""
    training, images = prepared(run, folder, device)
    sums = [0.0]
    train(
        training,
        images,
        train_config(run),
        key=run.stream_key,
        execution=execution,
        should_stop=lambda: training.step == steps,
        report=lambda t: sums.append(float(t.totals.losses.sum())),
    )
    return [after - before for before, after in itertools.pairwise(sums)]


def accuracy(run: Run, folder: Path | None, execution: str, device: str) -> float:
    """Of the teacher after the last step."""
    training, images = prepared(run, folder, device)
    train(training, images, train_config(run), key=run.stream_key, execution=execution)
    return next(r["test_accuracy"] for r in training.evaluations[-2:] if r["network"] == "teacher")


def interval(values: list[float], label_sets: int) -> tuple[float, float | None]:
    """Mean, and half of the 95% t interval over the means of the label sets; None if there is one.

    Args:
        values: of the trainings; as many for each label set, those of the first one first.
    """
    repeats = len(values) // label_sets
    means = [statistics.mean(values[i * repeats : (i + 1) * repeats]) for i in range(label_sets)]
    if label_sets == 1:
        return means[0], None
    spread = statistics.stdev(means) / math.sqrt(label_sets)
    return statistics.mean(means), float(stats.t.ppf(0.975, label_sets - 1)) * spread


def spelled(interval: tuple[float, float | None], sign: str = "") -> str:
    """A mean with its interval, if it has one.

    >>> spelled((-1.25, 3.0)), spelled((1.0, None), "+")
    ('-1.2 ± 3.0', '+1.0')
    """
    mean, half = interval
    return f"{mean:{sign}.1f}" + ("" if half is None else f" ± {half:.1f}")


def rows(found: dict[str, Any]) -> list[str]:
    """The table, a line each: losses, accuracies, differences to the first way of executing."""
    names = list(found["losses"])
    reference, last = names[0], len(found["losses"][names[0]])
    steps = [step for step in (1, 10, 50) if step < last] + [last]
    lines = [
        f"| executed | loss at steps {', '.join(map(str, steps))} | accuracy, % (sd) |"
        f" minus {reference}, points |",
        "| --- | --- | --- | --- |",
    ]
    for name in names:
        curve, scores = found["losses"][name], [100 * v for v in found["accuracies"][name]]
        some = ", ".join(f"{curve[step - 1]:.4f}" for step in steps)
        pairs = [a - 100 * b for a, b in zip(scores, found["accuracies"][reference], strict=True)]
        level = f"{statistics.mean(scores):.1f}"
        if len(scores) > 1:
            level += f" ({statistics.stdev(scores):.1f})"
        difference = spelled(interval(pairs, found["label_sets"]), "+")
        lines.append(f"| {name} | {some} | {level} | {difference} |")
    return lines


def draw(found: dict[str, Any], path: Path) -> None:
    """Curves on the left, accuracies on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    names = list(found["losses"])
    for name, color, style in zip(names, COLORS, STYLES, strict=True):
        values = found["losses"][name]
        left.plot(range(1, len(values) + 1), values, style, color=color, lw=1.1, label=name)
    left.set(xlabel="step", ylabel="supervised + unsupervised loss, nats", title=found["curve"])
    left.legend(frameon=False)
    for row, (name, color) in enumerate(zip(names, COLORS, strict=True)):
        values = [100 * v for v in found["accuracies"][name]]
        mean, half = interval(values, found["label_sets"])
        offsets = [row + 0.16 * (i / max(1, len(values) - 1) - 0.5) for i in range(len(values))]
        right.plot(values, offsets, "o", color=color, alpha=0.45, ms=4.5, mec="none")
        right.errorbar(mean, row + 0.22, xerr=half, fmt="D", color=color, ms=5, capsize=3)
        text = spelled((mean, half))
        right.annotate(text, (mean, row + 0.3), ha="center", va="top", fontsize=8)
    right.set(
        yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.4),
        xlabel="test accuracy, %: each training,\n"
        "and mean with 95% t interval over the means of label sets",
        title=f"{found['whole']}\n({found['label_sets']} label sets x {found['repeats']} repeats)",
    )  # fmt: skip
    right.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, write OUT.json and OUT.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10")
    parser.add_argument("--out", type=Path, required=True, help="path without its ending")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=200, help="of the curves")
    parser.add_argument("--whole-steps", type=int, default=2000, help="of the whole trainings")
    parser.add_argument("--label-sets", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args(argv)
    on_gpu = options.device != "cpu"
    if on_gpu:
        torch.cuda.set_device(torch.device(options.device).index or 0)
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # single precision is no TF32
    else:
        torch.set_num_threads(1)  # as runs of a study have
    ways = GPU_WAYS if on_gpu else CPU_WAYS
    run = curve_run(on_gpu)
    runs = whole_runs(on_gpu, options.whole_steps, options.label_sets, options.repeats)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "curve": f"CIFAR-10, {run.network}, B {run.batch_size}, mu 7: one seed",
        "whole": f"{runs[0].dataset}, {runs[0].network}, {options.whole_steps:,} steps,"
        f" n = {len(runs)}",
        "label_sets": options.label_sets,
        "repeats": options.repeats,
        "losses": {},
        "accuracies": {},
    }  # fmt: skip
    for name, precision, execution in ways:
        here = dataclasses.replace(run, precision=precision)
        found["losses"][name] = losses(here, options.data, execution, options.device, options.steps)
        found["accuracies"][name] = [
            accuracy(
                dataclasses.replace(r, precision=precision),
                options.data, execution, options.device,
            )
            for r in runs
        ]  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, options.out.with_suffix(".png"))
    print("\n".join(rows(found)))


if __name__ == "__main__":
    main()
