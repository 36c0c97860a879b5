"""Weak or strong augmentation for the pseudo-label and for the prediction (FixMatch, section 5.2).

FixMatch with CTAugment on one CIFAR-10 split of 250 labels: no, weak or strong augmentation for the
label x no, weak or strong augmentation for the prediction. Weak for the label and strong for the
prediction is FixMatch.

Expect, at the paper's budget: with a strong view for the label, training diverges early; with an
unaugmented one, the network overfits its pseudo-labels; with a weak view for the prediction the
accuracy peaks near 45% and then falls to 12%.

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision. The laptop budget trains a network for CPUs for minutes, where a
difference has to be large to be seen.
"""

from boss.study import BUDGETS, Comparison, Run, Study, grid
from boss.study.designs import ablation_runs

DEFAULTS = {"label_view": "weak", "prediction_view": "strong"}


def runs(budget: str) -> list[Run]:
    views = ["none", "weak", "strong"]
    options = [
        {key: view for key, view in pair.items() if view != DEFAULTS[key]}
        for pair in grid(label_view=views, prediction_view=views)
    ]
    return ablation_runs(
        budget,
        [
            # Without a strong view there is nothing for CTAugment to do.
            {"options": values}
            | ({} if "strong" in (DEFAULTS | values).values() else {"augmentation": "randaugment"})
            for values in options
        ],
    )


STUDY = Study(
    reproduces="FixMatch (2020), section 5.2: weak and strong views",
    runs=runs,
    budgets=BUDGETS,
    comparisons=(
        Comparison(
            published="ablation_weak_strong.csv", axis=("prediction_view",), by=("label_view",)
        ),
    ),
)
