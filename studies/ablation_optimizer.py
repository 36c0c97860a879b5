"""FixMatch's ablation of optimizer and schedule (Sohn et al. 2020, Table 7 and text).

FixMatch with CTAugment on one CIFAR-10 split of 250 labels: SGD with momentum from 0 to 0.999, with
Nesterov's and without, and with five learning rates where there is no momentum; averaged SGD;
AdaGrad; Adam with four second decays and with seven learning rates; and, for SGD with momentum 0.9,
a cosine, two linear and a constant schedule.

Expect, at the paper's budget, SGD with momentum 0.9 near the best (4.84%), Nesterov or not, SGD to
fail with more momentum, Adam to come close at a rate of 0.0003 only, and little difference between
cosine and linear decay.

Deviations: averaged SGD takes the mean of the weights of all steps for its teacher, in place of the
moving average; at which rates the paper tried it and AdaGrad is not known.

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision. The laptop budget trains a network for CPUs for minutes, where a
difference has to be large to be seen.
"""

from typing import Any

from boss.study import BUDGETS, Comparison, Run, Study
from boss.study.designs import ablation_runs

ADAM_RATES = (0.0008, 0.0006, 0.0005, 0.0004, 0.0003, 0.0002, 0.0001)


def runs(budget: str) -> list[Run]:
    variants: list[dict[str, Any]] = [
        {"momentum": momentum, "nesterov": nesterov}
        for nesterov in (True, False)
        for momentum in (0.25, 0.5, 0.9, 0.99, 0.999)
    ]
    variants += [{"momentum": 0.0, "learning_rate": rate} for rate in (0.03, 0.05, 0.1, 0.2, 0.5)]
    variants += [
        {"optimizer": "asgd", "momentum": 0.0, "teacher_decay": 0.0, "learning_rate": rate}
        for rate in (0.03, 0.1)
    ]
    variants += [
        {"optimizer": "adagrad", "momentum": 0.0, "learning_rate": rate} for rate in (0.001, 0.01)
    ]
    variants += [
        {"optimizer": "adam", "learning_rate": 0.002, "beta2": beta2}
        for beta2 in (0.0, 0.9, 0.99, 0.999)
    ]
    variants += [{"optimizer": "adam", "learning_rate": rate} for rate in ADAM_RATES]
    variants += [{"schedule": "linear", "final_learning_rate": rate} for rate in (0.0, 0.01, 0.02)]
    variants += [{"schedule": "constant"}]
    return ablation_runs(budget, variants)


STUDY = Study(
    reproduces="FixMatch (2020), Table 7: optimizers; text: schedules",
    runs=runs,
    budgets=BUDGETS,
    comparisons=(
        Comparison(
            published="ablation_optimizer.csv",
            axis=(
                "optimizer",
                "nesterov",
                "momentum",
                "beta2",
                "learning_rate",
                "schedule",
                "final_learning_rate",
            ),
        ),
    ),
)
