"""BOSS on CIFAR-10 from one labeled image per class (Smith and Conovaloff 2020, arXiv 2006.09363).

The grid of the authors' scripts: the prototype sets boss:0 to boss:7 x the balancing
methods 0 (FixMatch) to 4 x 4 repeats, with CTAugment; beside them FlexMatch and FreeMatch, whose
class thresholds serve the same purpose, trained as method 0; then self-training from method 4 with
the 5, 10, 20 and 40 most confident images per class. Further the same network fully supervised, and
the two leaks of the released self-training at 40 per class: true labels of the selected images, and
selection by the network of the best test accuracy. Their rows are marked as oracles.

Of the paper's results only the headline is known: 95% on CIFAR-10, beside 94.5% fully supervised.
Its tables by prototype set and method are not available.

Budgets: paper is 2^25 labeled images per run (524,288 steps for method 0, 1,118,482 for the others,
whose batch is 30, and 524,288 more for a round of self-training); short is 1/16 of that; smoke
shows on two CPU cores, in minutes, that every stage works; its accuracies mean nothing. laptop is
another study, on a network for CPUs: methods 0 and 4 and FlexMatch from label propagation
(docs/laptop.md), then a round of self-training after method 4, once on each set.

Expect, at the paper's budget, single classes near 0% with method 0, fewer with 1 to 4, and a large
gain by self-training wherever no class has failed. Sets 6 and 7 are sets 2 and 4 with the
prototypes of weak classes replaced, most likely by test accuracy: read their results with that in
mind.

Deviations: all training images are in the unlabeled set, where the authors take one out; images are
selected by the last teacher and carry its pseudo-labels. How the fully supervised number of the
paper was trained is not known: here it is the same network and schedule as FixMatch's, on all
labels with weak augmentation. The short budget averages weights over a shorter time (0.995).

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision.
"""

from typing import Any

from boss.study import Run, Study
from boss.study.designs import (
    BUDGETS,
    LAPTOP_DIRECT,
    LAPTOP_FULL,
    LAPTOP_LAST,
    LAPTOP_PLAIN,
    boss_runs,
    laptop_run,
)
from boss.study.methods import METHODS

LABEL_SETS = tuple(f"boss:{number}" for number in range(8))
ALL_LABELS = "fixmatch:0@50000"


def laptop_runs() -> list[Run]:
    """From label propagation: methods 0 and 4 and FlexMatch, and a round of self-training after
    method 4; beside them the same network fully supervised."""
    method_4 = METHODS[4]
    balanced = {"algorithm": method_4.algorithm, "options": method_4.options()}
    listed: list[Run] = []
    for label_set in LABEL_SETS:
        place: dict[str, Any] = {"label_set": label_set, "repeat": 0}
        methods: list[dict[str, Any]] = [{}, {"algorithm": "flexmatch"}, balanced]
        listed += [laptop_run("laptop", LAPTOP_DIRECT, changes, **place) for changes in methods]
        listed.append(laptop_run("laptop", LAPTOP_LAST, {}, parent=listed[-1], **place))
    full = laptop_run("laptop", LAPTOP_PLAIN, LAPTOP_FULL, label_set=ALL_LABELS, repeat=0)
    return [*listed, full]


def runs(budget: str) -> list[Run]:
    if budget == "laptop":
        return laptop_runs()
    is_smoke = budget == "smoke"
    return boss_runs(
        label_sets=LABEL_SETS,
        num_repeats=1 if is_smoke else 4,
        picks_per_class=(5, 10, 20, 40),
        in_self_training=("boss:6", "boss:7") if is_smoke else None,
        all_labels=ALL_LABELS,
        constants={"dataset": "cifar10", "network": "wrn-28-2", "augmentation": "ctaugment"}
        | BUDGETS[budget],
        unlabeled_ratio=7 if is_smoke else None,
    )


STUDY = Study(
    reproduces="The CIFAR-10 experiments of BOSS (2020): prototypes, balancing, self-training",
    runs=runs,
    budgets=tuple(BUDGETS),
)
