"""FixMatch with nine kinds of strong augmentation.

FixMatch on one CIFAR-10 split of 250 labels, with RandAugment and CTAugment (each with and without
Cutout, CTAugment also with the paper's translations), Cutout alone, another weak view, mirroring
alone, and no augmentation.

Expect, at the paper's budget, errors around 5% with either policy, worse without Cutout and with
Cutout alone, and a collapse where the strong view is as weak as the one that gives the pseudo-
label: the network is then trained on its own prediction.

Deviations: the paper reports the policies on five splits (Table 2), not on this one; its code's
translations of CTAugment move nothing, hence the variant ctaugment-paper.

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision. The laptop budget trains a network for CPUs for minutes, where a
difference has to be large to be seen.
"""

from boss.study import BUDGETS, Comparison, Run, Study
from boss.study.designs import ablation_runs
from boss.study.run import AUGMENTATIONS


def runs(budget: str) -> list[Run]:
    return ablation_runs(budget, [{"augmentation": name} for name in AUGMENTATIONS])


STUDY = Study(
    reproduces="FixMatch (2020), section 5: kinds of strong augmentation",
    runs=runs,
    budgets=BUDGETS,
    comparisons=(Comparison(published="ablation_augmentation.csv", axis=("augmentation",)),),
)
