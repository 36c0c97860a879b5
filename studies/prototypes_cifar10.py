"""How much the choice of the labeled images matters: one label per class of CIFAR-10.

FixMatch and BOSS's method 4 on five kinds of label sets, 4 repeats each: the 8 buckets of
prototypicality (carlini:0 are outliers, carlini:7 the most prototypical; Sohn et al. 2020, section
4.4), FixMatch's random splits 0 to 7, the authors' hand-picked sets boss:0 to boss:7 (Smith and
Conovaloff 2020), and one set of each method of `boss-study select` on the embedding kmeans-patches,
or, on a laptop, on the embedding of the recipe there.

Published, of FixMatch at 2^26 labeled images per run: on the buckets a median of 78% for the most
prototypical, 65% for the middle and 10% for the outliers; on four random sets 48.6% to 85.3%. Known
from second sources only.

Budgets: paper is 2^25 labeled images per run, short 1/16 of it, smoke minutes on two CPU cores, a
check that it works; laptop is the recipe of docs/laptop.md, on a network for CPUs, once on each
set. Expect accuracy to rise with the bucket, and to spread widely over random sets.

The kinds use different knowledge: the buckets come from a model trained on all labels,
class-centroid uses the label of every training image, boss:N was chosen by eye, and the other
selections use no label, so that some classes may have no image (see the contact sheets).
Deviations: those of boss_cifar10; strong views are CTAugment's, as there (which policy FixMatch's
own one-shot experiments used is not known); both methods are trained with the hyperparameters of
FixMatch, so that they differ in nothing but the balancing.

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision.
"""

from boss.study import Run, Study, grid
from boss.study.designs import BUDGETS, LAPTOP_SELECTED, laptop_chain
from boss.study.methods import METHODS, SELF_TRAINING

SELECTIONS = ("class-centroid", "kmeans-centroid", "typiclust", "k-medoids", "random")


def label_sets(selected: str) -> list[str]:
    """Of all kinds.

    Args:
        selected: what the names of those that `select` chooses begin with.
    """
    return [
        *(f"carlini:{number}" for number in reversed(range(8))),
        *(f"fixmatch:{seed}@10" for seed in range(8)),
        *(f"boss:{number}" for number in range(8)),
        *(f"{selected}-{method}" for method in SELECTIONS),
    ]


def runs(budget: str) -> list[Run]:
    if budget == "laptop":
        return [
            run
            for name in label_sets(LAPTOP_SELECTED)
            for run in laptop_chain(budget, {}, label_set=name, repeat=0)
        ]
    constants = {"dataset": "cifar10", "network": "wrn-28-2", "augmentation": "ctaugment"}
    constants |= BUDGETS[budget]
    listed = []
    for axes in grid(
        repeat=range(1 if budget == "smoke" else 4),
        method=[0, 4],
        label_set=label_sets("select:cifar10-kmeans-patches"),
    ):
        method = METHODS[axes.pop("method")]
        of_method = {"algorithm": method.algorithm, "options": method.options()}
        listed.append(Run(**(SELF_TRAINING.fields() | constants | of_method | axes)))
    return listed


STUDY = Study(
    reproduces="The choice of prototypes: FixMatch (2020) section 4.4, BOSS (2020)",
    runs=runs,
    budgets=tuple(BUDGETS),
)
