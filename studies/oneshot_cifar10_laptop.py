"""CIFAR-10 from ten labels on a laptop: what two CPU cores can do.

The recipe that `tune_cifar10_laptop` chose (docs/laptop.md): an encoder without labels, label
propagation over its features, FixMatch from both, rounds of self-training. On three hand-picked
label sets, the class centroids of the embedding kmeans-patches and two random sets, 2 repeats each.
Beside it, from the same label sets: FixMatch alone, as long as all trainings of the recipe
together, with the recipe's optimizer; supervised training on the ten images from the encoder's
weights; and supervised training on the labels that propagation gives to the 5,000 most certain
images of each class, so on what the start is worth by itself. The same network on all labels, for
as many images as a training of FixMatch passes through the network, shows what is left.

Published, with WRN-28-2 and days on a GPU: 61% on average from one label per class (Table 1 of
Empirical Perspectives), 95% (BOSS).

The recipe was tuned on other label sets, but for the class centroids. boss:6 is boss:2 with two
images replaced, by one of boss:1 and one of boss:3, which the recipe was tuned on: intervals over
label sets are too narrow for it. Repeats share the encoder, whose randomness is in no interval.
"boss" sets were chosen by eye, class centroids from all training labels.

Budgets: laptop is some ten core-minutes a training from the encoder that comes with the package;
smoke shows in minutes that every stage works.
"""

from typing import Any

from boss.study import Run, Study, grid
from boss.study.designs import LAPTOP, LAPTOP_FULL, LAPTOP_ROUNDS, laptop_chain, laptop_run

LABEL_SETS = (
    *("boss:2", "boss:4", "boss:6", "select:cifar10-kmeans-patches-class-centroid"),
    *("fixmatch:2@10", "fixmatch:3@10"),
)
SUPERVISED: dict[str, Any] = {"algorithm": "supervised", "unlabeled_ratio": 0}
ALONE: dict[str, Any] = {"start": "labels", "embedding": "", "num_start": 0}
PLAIN = ALONE | {"encoder": "", "num_images": (1 + LAPTOP_ROUNDS) * LAPTOP["num_images"]}


def runs(budget: str) -> list[Run]:
    listed: list[Run] = []
    for place in grid(repeat=range(2), label_set=LABEL_SETS):
        listed += laptop_chain(budget, {}, **place)
        listed += [
            laptop_run(budget, PLAIN, **place),
            laptop_run(budget, SUPERVISED | ALONE, **place),
            laptop_run(budget, SUPERVISED | {"encoder": "", "num_start": 5000}, **place),
        ]
    full = SUPERVISED | ALONE | {"encoder": "", "num_images": LAPTOP_FULL}
    listed += [
        laptop_run(budget, full, label_set="fixmatch:0@50000", repeat=repeat) for repeat in range(2)
    ]
    return listed


STUDY = Study(
    reproduces="Nothing published: ten labels of CIFAR-10 on two CPU cores",
    runs=runs,
    default_budget="laptop",
    budgets=("smoke", "laptop"),
)
