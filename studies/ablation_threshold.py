"""FixMatch's ablation of confidence threshold and sharpening (Sohn et al. 2020, section 5.1).

FixMatch with CTAugment on one CIFAR-10 split of 250 labels: hard labels with eight thresholds; soft
labels, softmax(logits / T), with five temperatures, with and without a threshold of 0.95; and hard
labels whose confidence is sharpened before it meets the threshold. These are the two ways of
sharpening in the reference's code.

Expect, at the paper's budget, the best errors with thresholds from 0.85 on, few wrong pseudo-labels
with high thresholds, and no gain from sharpening where there is a threshold: the
temperature matters where there is none.

Deviations: which temperatures the paper's figure has is not known.

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision. The laptop budget trains a network for CPUs for minutes, where a
difference has to be large to be seen.
"""

from typing import Any

from boss.study import BUDGETS, Comparison, Run, Study
from boss.study.designs import ablation_runs

THRESHOLDS = (0.25, 0.5, 0.75, 0.85, 0.9, 0.95, 0.97, 0.99)
TEMPERATURES = (0.1, 0.25, 0.5, 0.75, 1.0)


def runs(budget: str) -> list[Run]:
    variants: list[dict[str, Any]] = [{"threshold": threshold} for threshold in THRESHOLDS]
    variants += [
        {"threshold": threshold, "labels": "soft", "temperature": temperature}
        for threshold in (0.0, 0.95)
        for temperature in TEMPERATURES
    ]
    variants += [{"temperature": temperature} for temperature in (0.25, 0.5)]
    defaults = {"threshold": 0.95, "temperature": 1.0}
    options = [
        {key: value for key, value in variant.items() if value != defaults.get(key)}
        for variant in variants
    ]
    return ablation_runs(budget, [{"options": values} for values in options])


STUDY = Study(
    reproduces="FixMatch (2020), Table 5 and Figure 3: threshold and sharpening",
    runs=runs,
    budgets=BUDGETS,
    comparisons=(
        Comparison(
            published="ablation_threshold.csv",
            axis=("threshold",),
            by=("labels", "temperature"),
            scale="linear",
        ),
    ),
)
