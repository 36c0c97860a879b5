"""CIFAR-10 from 250 labels, and from all, on a laptop.

On three folds of FixMatch's 250 labels: FixMatch alone, the recipe of docs/laptop.md, and FixMatch
from the weights of its encoder but from the 250 labels alone. On all labels: a network of
airbench94's widths, supervised, for 16 epochs.

Published: 94.9% (FixMatch, WRN-28-2, 2^26 labeled images); 94.0% in ten epochs of all labels
(airbench94, larger batches, test images seen six times).

Budgets: laptop, from the encoder that comes with the package: each run takes under an hour on two
cores of a processor of today; smoke shows in minutes that every stage works.
"""

from typing import Any

from boss.study import Run, Study, grid
from boss.study.designs import LAPTOP_ENCODER, LAPTOP_PLAIN, laptop_chain, laptop_run

ALONE = {"num_images": 64 * 1600, "num_evaluations": 16}
FROM_ENCODER: dict[str, Any] = {"encoder": LAPTOP_ENCODER}
ALL_LABELS = {
    "algorithm": "supervised",
    "unlabeled_ratio": 0,
    "network": "fast-64-256-256",
    "options": {"smoothing": 0.2},  # as in airbench: without it they overfit after 9 epochs
    "num_images": 16 * 50_000,
    "batch_size": 256,
    "num_evaluations": 16,
}


def runs(budget: str) -> list[Run]:
    listed: list[Run] = []
    for fold in range(1, 4):
        place: dict[str, Any] = {"label_set": f"fixmatch:{fold}@250", "repeat": 0}
        listed += laptop_chain(budget, {}, **place)
        listed += [
            laptop_run(budget, LAPTOP_PLAIN, changes, **place) for changes in (FROM_ENCODER, ALONE)
        ]
    for place in grid(repeat=range(3), label_set="fixmatch:0@50000"):
        listed.append(laptop_run(budget, LAPTOP_PLAIN, ALL_LABELS, **place))
    return listed


STUDY = Study(
    reproduces="Nothing published: 250 labels, and all, of CIFAR-10 on two CPU cores",
    runs=runs,
    default_budget="laptop",
    budgets=("smoke", "laptop"),
)
