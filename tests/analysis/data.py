"""A store of made-up runs for the tests of analysis: every number is a function of the run."""

import functools
import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from boss.results.read import Store
from boss.study.methods import DEFAULTS, METHODS
from boss.study.run import Run

CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CLASSES = {"cifar100": tuple(f"class_{i}" for i in range(100)), "svhn": tuple("1234567890")}
TEST_COUNT = 200  # test images per class
TRAINING_SIZE = 1201  # images of the training set
LARGE = 50_000  # that of label sets with more

# Bins of some of CTAugment's operations, by parameter.
BINS = {"autocontrast": (17,), "identity": (), "posterize": (8,), "rescale": (17, 6)}

Rows = dict[str, list[dict[str, Any]]]  # by the name of their table


def make_run(algorithm: str = "fixmatch", label_set: str = "fixmatch:3@10", **fields: Any) -> Run:
    """A run with the defaults of these tests."""
    defaults = {
        "dataset": "cifar10",
        "repeat": 0,
        "network": "wrn-10-1",
        "num_images": 120_000,
        "num_evaluations": 12,
        "budget": "short",
        "options": {"threshold": 0.95} if algorithm == "fixmatch" else {},
    }
    return Run(algorithm=algorithm, label_set=label_set, **(defaults | fields))


def grid_of_runs(
    algorithms: tuple[str, ...] = ("supervised", "fixmatch"),
    num_label_sets: int = 6,
    num_repeats: int = 4,
    **fields: Any,
) -> list[Run]:
    """Algorithms x label sets x repeats."""
    return [
        make_run(algorithm, f"fixmatch:{label_set}@10", repeat=repeat, **fields)
        for algorithm in algorithms
        for label_set in range(num_label_sets)
        for repeat in range(num_repeats)
    ]


def method_run(number: int, label_set: str = "fixmatch:3@10", **fields: Any) -> Run:
    """A run of one of the authors' methods, with their hyperparameters."""
    return make_run(label_set=label_set, **(METHODS[number].fields() | fields))


def child_of(parent: Run, picks_per_class: int = 40, **fields: Any) -> Run:
    """A round of self-training."""
    return make_run(
        label_set=parent.label_set,
        repeat=parent.repeat,
        parent=parent,
        picks_per_class=picks_per_class,
        **fields,
    )


def full_run(repeat: int = 0, **fields: Any) -> Run:
    """A run that is supervised on the whole training set."""
    return make_run("supervised", f"fixmatch:0@{TRAINING_SIZE}", repeat=repeat, **fields)


def stream(*key: object) -> np.random.Generator:
    """A random stream named by its key, the same in every process."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def final_accuracies(run: Run, num_classes: int) -> np.ndarray:
    """Class accuracies after the last step (K,): each class is either learned or lost."""
    chance = stream("label set", run.label_set).beta(1.2, 0.9, num_classes)
    noise = stream(run.id).normal(0, 0.04, num_classes)
    if run.parent is not None:
        before = final_accuracies(run.parent, num_classes)
        share = 0.12 * np.log2(run.picks_per_class) + 0.1 * (run.pick_labels == "true")
        return np.clip(before + share * (0.95 - before) + noise / 2, 0, 1)
    if run.algorithm == "supervised":
        if set_size(run, num_classes) in (TRAINING_SIZE, LARGE):
            return np.clip(0.96 + noise / 4, 0, 1)
        return np.clip(0.15 + 0.25 * chance + noise, 0, 1)
    if run.algorithm == "boss":
        chance = chance**0.6
    learned = stream(run.label_set, run.repeat).random(num_classes) < chance
    return np.clip(np.where(learned, 0.94, 0.06) + noise, 0, 1)


def set_size(run: Run, num_classes: int) -> int:
    """Number of labeled images without picks."""
    _, at, size = run.label_set.partition("@")
    return max(num_classes, int(size)) if at else num_classes


def label_rows(run: Run, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The images of the label set, then the picks: one in ten of these is wrong."""
    num_classes, size = len(classes), set_size(run, len(classes))
    if size in (TRAINING_SIZE, LARGE):
        indices = np.arange(size)
    else:
        total = TRAINING_SIZE if size < TRAINING_SIZE else LARGE
        indices = stream("images", run.label_set).choice(total, size, replace=False)
    rows = []
    for position, index in enumerate(indices):
        label = position % num_classes
        rows.append(
            {
                "position": position,
                "image_index": int(index),
                "label": label,
                "true_label": label,
                "class_name": classes[label],
                "is_pick": False,
                "doubt": None,
                "image": png(int(index), label) if size <= 100 else None,
            }
        )
    others = iter(np.setdiff1d(np.arange(TRAINING_SIZE), indices))
    for number in range(run.picks_per_class * num_classes):
        guess = number % num_classes
        truth = (guess + (number % 10 == 9)) % num_classes
        label = truth if run.pick_labels == "true" else guess
        rows.append(
            {
                "position": size + number,
                "image_index": int(next(others)),
                "label": label,
                "true_label": truth,
                "class_name": classes[label],
                "is_pick": True,
                "doubt": 1e-4 * number,
                "image": None,
            }
        )
    return rows


@functools.cache
def png(index: int, label: int) -> bytes:
    """A made-up image as PNG: gray, 8 x 8, with a bright row that tells the class."""
    pixels = stream("pixels", index).integers(0, 120, (8, 8)).astype(np.uint8)
    pixels[label % 8] = 250
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def oracle(run: Run) -> str | None:
    """Which hidden labels a run profited from."""
    texts = ["refined by test accuracy"] * ("refined" in run.label_set)
    texts += ["true labels of the picks"] * (run.pick_labels == "true")
    texts += ["picks by the network of the best test accuracy"] * (run.rank_by == "best_test")
    if run.parent is not None and (
        run.parent.pick_labels == "true" or run.parent.rank_by == "best_test"
    ):
        texts.append(f"an oracle in round {run.parent.round}")
    return "; ".join(texts) or None


def rate_rows(run: Run) -> list[dict[str, Any]]:
    """What CTAugment learned: strong distortions are recognized less and less."""
    return [
        {
            "step": round(run.num_steps * number / run.num_evaluations),
            "operation": operation,
            "parameter": parameter,
            "bin": i,
            "rate": 1 - 0.6 * number / run.num_evaluations * (i / count) ** 2,
        }
        for number in range(1, run.num_evaluations + 1)
        for operation, counts in BINS.items()
        for parameter, count in enumerate(counts)
        for i in range(count)
    ]


def rows(
    run: Run,
    classes: tuple[str, ...] = CIFAR10,
    *,
    has_student: bool = True,
    accuracy: float | None = None,
) -> tuple[dict[str, Any], Rows]:
    """The row of one finished run, and those of the other tables, as Store.write takes them.

    Args:
        accuracy: about what all classes come to; None: each is learned or lost.
    """
    num_classes = len(classes)
    final = final_accuracies(run, num_classes)
    if accuracy is not None:
        final = np.clip(accuracy + stream(run.id).normal(0, 0.01, num_classes), 0, 1)
    start = np.full(num_classes, 1 / num_classes)
    onset = stream("onset", run.id).uniform(0.1, 0.7, num_classes)
    if accuracy is not None:
        onset = onset - 0.6  # learned long before the last evaluations
    evaluations, class_evaluations, all_accuracies = [], [], {"teacher": [], "student": []}
    has_pseudo_labels = run.algorithm != "supervised"
    num_evaluations = min(run.num_evaluations, run.num_steps)
    for number in range(1, num_evaluations + 1):
        progress = number / num_evaluations
        for network in ("teacher", "student") if has_student else ("teacher",):
            wobble = stream(run.id, number, network).normal(0, 0.015, num_classes)
            weight = 1 / (1 + np.exp(-14 * (progress - onset)))
            accuracy = start + (final - start) * weight + wobble * (network == "student")
            right = np.round(TEST_COUNT * np.clip(accuracy, 0, 1)).astype(int)
            overall = float(right.sum() / (TEST_COUNT * num_classes))
            all_accuracies[network].append(overall)
            used = 0.1 + 0.8 * progress if has_pseudo_labels else None
            step = round(run.num_steps * progress)
            evaluations.append(
                {
                    "step": step,
                    "images_seen": step * run.batch_size,
                    "network": network,
                    "test_accuracy": overall,
                    "test_loss": 2.3 * (1 - overall),
                    "validation_accuracy": overall if run.num_validation else None,
                    "supervised_loss": 0.1,
                    "unsupervised_loss": 0.2 if has_pseudo_labels else None,
                    "used_share": used,
                    "pseudo_label_accuracy": overall if has_pseudo_labels else None,
                    "learning_rate": 0.03,
                }
            )
            share = np.clip(accuracy, 0.001, 1) / np.clip(accuracy, 0.001, 1).sum()
            class_evaluations += [
                {
                    "step": step,
                    "network": network,
                    "class_index": index,
                    "class_name": name,
                    "test_accuracy": right[index] / TEST_COUNT,
                    "test_count": TEST_COUNT,
                    "confused_with": (index + 1) % len(classes)
                    if right[index] < TEST_COUNT
                    else None,
                    "confused_count": (TEST_COUNT - right[index]) // 2,
                    "predicted_count": round(9000 * share[index]) if has_pseudo_labels else None,
                    "pseudo_label_count": round(8000 * share[index]) if has_pseudo_labels else None,
                    "pseudo_label_accuracy": overall if has_pseudo_labels else None,
                }
                for index, name in enumerate(classes)
            ]
    labels = label_rows(run, classes)
    own = [r for r in labels if not r["is_pick"]]
    row = run.as_dict() | {
        "run_id": run.id,
        "study": "synthetic",
        "dataset_fingerprint": f"{zlib.crc32(run.dataset.encode()):064x}",
        "labels": [r["image_index"] for r in own],
        "label_classes": [r["label"] for r in own],
        "num_labels": len(labels),
        "parent": run.parent and run.parent.id,
        "round": run.round,
        "num_picks": sum(r["is_pick"] for r in labels),
        "num_wrong_picks": sum(r["is_pick"] for r in labels) // 10,
        "stop_reason": run.parent and "enough",
        "oracle": oracle(run),
        "num_parameters": 75_290,
        "num_steps": run.num_steps,
        "options": json.dumps(DEFAULTS.get(run.algorithm, {}) | dict(run.options)),
        "seconds": 30.0 + run.repeat,
        "first_step_seconds": 0.5,
        "execution": "eager",
        "device": "cpu",
        "threads": 1,
        "versions": json.dumps({"python": "3.11", "torch": "2.11"}),
        "commit": "0123456789ab",
        "finished_at": f"2020-04-0{1 + run.repeat % 9}T12:00:00+00:00",
        "last_accuracy": all_accuracies["teacher"][-1],
        "median_last_20_accuracy": float(np.median(all_accuracies["teacher"][-20:])),
        "best_test_accuracy": max(max(values, default=0) for values in all_accuracies.values()),
    }
    return row, {
        "evaluations": evaluations,
        "class_evaluations": class_evaluations,
        "labeled_images": labels,
        "predictions": [],
        "augmentation_rates": rate_rows(run) if run.augmentation.startswith("ctaugment") else [],
    }


def write_store(
    results: Path,
    runs: list[Run],
    *,
    study: str = "synthetic",
    classes: tuple[str, ...] = CIFAR10,
    has_student: bool = True,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    accuracies: Mapping[str, float] | None = None,
) -> Store:
    """A store that holds the given runs.

    Args:
        changes: by the id of a run: values of its row that are to be others.
        accuracies: by the id of a run: about what all classes come to.
    """
    store = Store(results, study)
    for run in runs:
        row, tables = rows(
            run,
            CLASSES.get(run.dataset, classes),
            has_student=has_student,
            accuracy=(accuracies or {}).get(run.id),
        )
        own = dict((changes or {}).get(run.id, {}))
        if ACCURACIES & own.keys():
            own = fit_accuracies(tables, own)
        store.write(row | own, **tables)
    return store


ACCURACIES = {"last_accuracy", "median_last_20_accuracy", "best_test_accuracy"}


def fit_accuracies(tables: Rows, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change the evaluations of a run so that these sum them up: all classes alike where they do.

    Returns:
        the changes, and what the evaluations say of the accuracies that are not among them.
    """
    of = {
        network: [r for r in tables["evaluations"] if r["network"] == network]
        for network in ("teacher", "student")
    }
    best = changes.get("best_test_accuracy", 1.0)
    values = {k: [min(r["test_accuracy"], best) for r in of[k]] for k in of}
    last = values["teacher"][-1] = changes.get("last_accuracy", values["teacher"][-1])
    if "median_last_20_accuracy" in changes:
        median, num = changes["median_last_20_accuracy"], len(of["teacher"]) - 1
        values["teacher"][:-1] = [2 * median - last if num == 1 else median] * num
    if "best_test_accuracy" in changes:
        values["student" if of["student"] else "teacher"][0] = best
    for network, evaluations in of.items():
        for evaluation, value in zip(evaluations, values[network], strict=True):
            if evaluation["test_accuracy"] != value:
                evaluation["test_accuracy"] = value
                for r in tables["class_evaluations"]:
                    if (r["network"], r["step"]) == (network, evaluation["step"]):
                        r["test_accuracy"] = value
    said = {
        "last_accuracy": last,
        "median_last_20_accuracy": float(np.median(values["teacher"][-20:])),
        "best_test_accuracy": max(values["teacher"] + values["student"]),
    }
    return said | dict(changes)


def boss_study(
    label_sets: tuple[str, ...] = ("fixmatch:0@10", "fixmatch:1@10"),
    num_repeats: int = 2,
    methods: tuple[int, ...] = (0, 1, 4),
) -> list[Run]:
    """Methods x label sets x repeats, with self-training of method 4 and its diagnostics."""
    runs = []
    for label_set in label_sets:
        for repeat in range(num_repeats):
            runs += [method_run(number, label_set, repeat=repeat) for number in methods]
            parent = method_run(4, label_set, repeat=repeat)
            child = child_of(parent, 40)
            runs += [child_of(parent, 5), child, child_of(child, 40)]
            runs += [child_of(parent, 40, pick_labels="true")]
            runs += [child_of(parent, 40, rank_by="best_test")]
    return runs


def run_rows(values: dict[tuple[str, str, int], float], **columns: Any) -> pd.DataFrame:
    """A table of runs as `analysis.load` makes it, but only what the tables of a section need.

    Args:
        values: accuracy in percent by (variant, label set, repeat).
        columns: others, the same for all rows.
    """
    rows = [
        {
            "experiment": "e",
            "scope": "e",
            "variant": variant,
            "method": variant,
            "algorithm": variant,
            "round": 0,
            "label_set": label_set,
            "repeat": repeat,
            "run_id": f"{variant} {label_set} {repeat}",
            "last_accuracy": percent / 100,
        }
        for (variant, label_set, repeat), percent in values.items()
    ]
    return pd.DataFrame(rows).assign(**columns)
