"""FixMatch's ablation of Cutout (Sohn et al. 2020; Table 7 of the preprint, Table 3 at NeurIPS).

FixMatch on one CIFAR-10 split of 250 labels: CTAugment and Cutout, Cutout alone, CTAugment alone.
Published errors: 4.84%, 6.15% and 6.15%: both are needed.

Deviations: Cutout is also one of the 19 operations of CTAugment, and stays one "without Cutout", as
in the reference's code.

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision. The laptop budget trains a network for CPUs for minutes, where a
difference has to be large to be seen.
"""

from boss.study import BUDGETS, Comparison, Run, Study
from boss.study.designs import ablation_runs


def runs(budget: str) -> list[Run]:
    names = ("ctaugment", "cutout", "ctaugment-without-cutout")
    return ablation_runs(budget, [{"augmentation": name} for name in names])


STUDY = Study(
    reproduces="FixMatch (2020), ablation of Cutout",
    runs=runs,
    budgets=BUDGETS,
    comparisons=(Comparison(published="ablation_cutout.csv", axis=("augmentation",)),),
)
