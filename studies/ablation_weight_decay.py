"""FixMatch's ablation of weight decay (Sohn et al. 2020, Figure 5b).

FixMatch with CTAugment on one CIFAR-10 split of 250 labels, ten coefficients from 5e-6 to 5e-2.

Expect, at the paper's budget, the best error near the default 5e-4, and ten points or more of it an
order of magnitude away. Published is a curve, whose numbers are not known.

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision. The laptop budget trains a network for CPUs for minutes, where a
difference has to be large to be seen.
"""

from boss.study import BUDGETS, Comparison, Run, Study
from boss.study.designs import ablation_runs

DECAYS = (5e-6, 5e-5, 1e-4, 2e-4, 5e-4, 8e-4, 1e-3, 2e-3, 5e-3, 5e-2)


def runs(budget: str) -> list[Run]:
    return ablation_runs(budget, [{"weight_decay": decay} for decay in DECAYS])


STUDY = Study(
    reproduces="FixMatch (2020), Figure 5b: weight decay",
    runs=runs,
    budgets=BUDGETS,
    comparisons=(
        Comparison(published="ablation_weight_decay.csv", axis=("weight_decay",), scale="log"),
    ),
)
