"""A store of made-up runs for the tests of analysis: every number is a function of the run."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from boss.store import Store
from boss.study import Run

CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
TEST_COUNT = 200  # test images per class


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


def stream(*key: object) -> np.random.Generator:
    """A random stream named by its key, the same in every process."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def final_accuracies(run: Run, num_classes: int) -> np.ndarray:
    """Class accuracies after the last step (K,): each class is either learned or lost."""
    chance = stream("label set", run.label_set).beta(1.2, 0.9, num_classes)
    learned = stream(run.label_set, run.repeat).random(num_classes) < chance
    noise = stream(run.id).normal(0, 0.04, num_classes)
    if run.algorithm == "supervised":
        return np.clip(0.15 + 0.25 * chance + noise, 0, 1)
    return np.clip(np.where(learned, 0.94, 0.06) + noise, 0, 1)


def rows(
    run: Run, classes: tuple[str, ...] = CIFAR10, *, has_student: bool = True
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of one finished run, as boss.store.Store.write takes them."""
    num_classes = len(classes)
    final = final_accuracies(run, num_classes)
    start = np.full(num_classes, 1 / num_classes)
    onset = stream("onset", run.id).uniform(0.1, 0.7, num_classes)
    evaluations, class_evaluations, all_accuracies = [], [], {"teacher": [], "student": []}
    has_pseudo_labels = run.algorithm != "supervised"
    for number in range(1, run.num_evaluations + 1):
        progress = number / run.num_evaluations
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
                    "predicted_count": round(9000 * share[index]) if has_pseudo_labels else None,
                    "pseudo_label_count": round(8000 * share[index]) if has_pseudo_labels else None,
                    "pseudo_label_accuracy": overall if has_pseudo_labels else None,
                }
                for index, name in enumerate(classes)
            ]
    fields = {name: value for name, value in run.as_dict().items() if name != "options"}
    row = fields | {
        "run_id": run.id,
        "study": "synthetic",
        "dataset_fingerprint": f"{zlib.crc32(run.dataset.encode()):064x}",
        "labels": list(range(num_classes)),
        "label_classes": list(range(num_classes)),
        "num_labels": num_classes,
        "num_parameters": 75_290,
        "num_steps": run.num_steps,
        "options": json.dumps(dict(run.options)),
        "seconds": 30.0 + run.repeat,
        "device": "cpu",
        "threads": 1,
        "versions": json.dumps({"python": "3.11", "torch": "2.11"}),
        "commit": "0123456789ab",
        "finished_at": f"2020-04-0{1 + run.repeat % 9}T12:00:00+00:00",
        "last_accuracy": all_accuracies["teacher"][-1],
        "median_last_20_accuracy": float(np.median(all_accuracies["teacher"][-20:])),
        "best_test_accuracy": max(max(values, default=0) for values in all_accuracies.values()),
    }
    return row, evaluations, class_evaluations


def write_store(
    results: Path,
    runs: list[Run],
    *,
    study: str = "synthetic",
    classes: tuple[str, ...] = CIFAR10,
    has_student: bool = True,
) -> Store:
    """A store that holds the given runs."""
    store = Store(results, study)
    for run in runs:
        store.write(*rows(run, classes, has_student=has_student))
    return store
