"""FixMatch's ablation of the unlabeled ratio mu (Sohn et al. 2020, Figure 5a).

FixMatch with CTAugment on one CIFAR-10 split of 250 labels: mu from 1 to 10, with a learning rate
of 0.03 throughout, and with one in proportion to the number of unlabeled images, 0.03 at mu = 7.

Expect, at the paper's budget, errors to fall as mu grows, and with small mu less so when the rate
is scaled. Published is a curve, whose numbers are not known.

Deviations: that the paper scales by mu / 7 is our reading of "in proportion to the batch".

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision. The laptop budget trains a network for CPUs for minutes, where a
difference has to be large to be seen.
"""

from boss.study import BUDGETS, Comparison, Run, Study
from boss.study.designs import ablation_runs

RATIOS = (1, 2, 3, 4, 5, 6, 7, 8, 10)


def runs(budget: str) -> list[Run]:
    fixed = [{"unlabeled_ratio": mu} for mu in RATIOS]
    scaled = [{"unlabeled_ratio": mu, "learning_rate": 0.03 * mu / 7} for mu in RATIOS if mu != 7]
    return ablation_runs(budget, [*fixed, *scaled])


STUDY = Study(
    reproduces="FixMatch (2020), Figure 5a: the ratio of unlabeled to labeled images",
    runs=runs,
    budgets=BUDGETS,
    comparisons=(
        Comparison(
            published="ablation_unlabeled_ratio.csv",
            axis=("unlabeled_ratio",),
            scale="linear",
        ),
    ),
)
