"""The design of Empirical Perspectives (Smith and Conovaloff 2020) on SVHN: one label per class.

FixMatch with RandAugment on SVHN, train and extra: the random splits 0 to 5 and the authors'
hand-picked sets boss:1 to boss:4 x 4 repeats. The publication has no such table: it reports
CIFAR-10, and BOSS's headline for SVHN (97.8%) is for balancing and self-training.

Budgets: paper is 2^25 labeled images seen (524,288 steps) per run; short is 1/16 of that; smoke
shows on two CPU cores, within minutes, that everything works.

Expect some label sets to reach well over 90% and others to lose single digits to ones that look
alike, as on CIFAR-10. FixMatch's own results with 40 labels vary as much: an error of
3.96 +- 2.17% with RandAugment and 7.65 +- 7.65% with CTAugment.

Class 0 is the digit 1 and class 9 the digit 0, as in the reference. Weak augmentation shifts and
never mirrors. All training images are in the unlabeled set. The short budget averages weights over
a shorter time (0.995).

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision.
"""

from boss.study import Run, Study, grid
from boss.study.designs import BUDGETS


def runs(budget: str) -> list[Run]:
    return [
        Run(**fields)
        for fields in grid(
            repeat=range(1 if budget == "smoke" else 4),
            label_set=[
                *(f"fixmatch:{seed}@10" for seed in range(6)),
                *(f"boss:{number}" for number in range(1, 5)),
            ],
            dataset="svhn",
            algorithm="fixmatch",
            **({"network": "wrn-28-2"} | BUDGETS[budget]),
        )
    ]


STUDY = Study(
    reproduces="The design of Empirical Perspectives (2020) on SVHN",
    runs=runs,
)
