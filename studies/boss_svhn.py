"""BOSS on SVHN from one labeled image per class (Smith and Conovaloff 2020, arXiv 2006.09363).

The prototype sets boss:1 to boss:4 of the authors' scripts x the balancing methods 0 to 4,
FlexMatch and FreeMatch x 4 repeats, with CTAugment, then self-training of method 4 with 5, 10, 20
and 40 images per class and the two leaks at 40, and the same network fully supervised.
Hyperparameters are those for CIFAR-10, as in the scripts.

Of the paper's results only the headline is known: 97.8%, beside 98.27% fully supervised.

Budgets: as in boss_cifar10: paper 2^25 labeled images per run, short 1/16 of it, smoke minutes on
two CPU cores, a check that it works.

Expect method 0 to lose classes less often than on CIFAR-10, and most remaining errors between
digits that look alike. SVHN's classes are not equally frequent (twice as many ones as nines), so
methods 1 to 4, which even out the pseudo-labels, make a wrong assumption here; the authors used
them nevertheless. Class 0 is the digit 1 and class 9 the digit 0, as in the reference.

Deviations: those of boss_cifar10. Weak augmentation shifts and never mirrors.

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision.
"""

from boss.study import Run, Study
from boss.study.designs import BUDGETS, FREEMATCH_ON_SVHN, RIVALS, boss_runs


def runs(budget: str) -> list[Run]:
    is_smoke = budget == "smoke"
    return boss_runs(
        label_sets=[f"boss:{number}" for number in range(1, 5)],
        num_repeats=1 if is_smoke else 4,
        picks_per_class=(5, 10, 20, 40),
        in_self_training=("boss:1",) if is_smoke else None,
        all_labels="fixmatch:0@604388",
        constants={"dataset": "svhn", "network": "wrn-28-2", "augmentation": "ctaugment"}
        | BUDGETS[budget],
        unlabeled_ratio=7 if is_smoke else None,
        rivals=RIVALS | {"freematch": FREEMATCH_ON_SVHN},
    )


STUDY = Study(
    reproduces="The SVHN experiments of BOSS (2020): prototypes, balancing, self-training",
    runs=runs,
)
