"""A fast recipe for CIFAR-10 from ten labels, with 90% as its target, and runs of it.

The recipe (`FAST_FIRST` and `FAST_ROUND` of boss/study/designs.py): WRN-28-2 trains on one hand-
picked image per class by BOSS's method 4 with RandAugment, 2^20 labeled images (16,384 steps of
64). Then a new network trains as long by FixMatch on the ten images and the 40 of each class on
which the first was most confident, with their pseudo-labels. All 50,000 training images are
unlabeled, none is held out, and no accuracy is used before the last step.

The recipe is a starting point, not a result: it was put together from what is published, and no
part of it has been tuned. `tune_cifar10_fast` is the study that tunes it, on other label sets, by
the accuracy on held-out training images.

Label sets: boss:2 and boss:4, two of those that BOSS's authors picked by eye, x 4 repeats, all of
them reported. No image of theirs is labeled in the tuning. Sets 6 and 7, most likely chosen by test
accuracy, are left out. A recipe that is changed after these runs were looked at
needs other label sets, or a report of every version.

Budgets: short is the recipe. paper runs it at 2^25 images a round, to show what its shortness
costs. smoke shows on two CPU cores, in minutes, that it works; its accuracies mean nothing.

Expect, from longer trainings, that one or two classes of a set fail in the first round, and that
self-training improves the others but cannot recover those. The report says when each level of
accuracy was reached, at what cost, and which classes keep a run below 90%.
"""

from boss.study import Run, Study, grid
from boss.study.designs import fast_run

LABEL_SETS = ("boss:2", "boss:4")


def runs(budget: str) -> list[Run]:
    listed = []
    for axes in grid(repeat=range(1 if budget == "smoke" else 4), label_set=LABEL_SETS):
        first = fast_run(budget, {}, **axes)
        listed += [first, fast_run(budget, {}, parent=first, **axes)]
    return listed


STUDY = Study(
    reproduces="95% from ten labels (BOSS, 2020) is the aim; 90% within minutes on one GPU",
    runs=runs,
    default_budget="short",
)
