"""Table 2 of FixMatch (Sohn et al. 2020, arXiv 2001.07685): every algorithm on three data sets.

CIFAR-10 with 40, 250 and 4,000 labels, CIFAR-100 with 400, 2,500 and 10,000, SVHN with 40, 250 and
1,000; 5 folds each (FixMatch's splits 1 to 5) x 13 settings: the eight columns of the table, and
beside them the supervised baseline, VAT, ReMixMatch without CTAugment, FlexMatch and FreeMatch. The
same network on all labels, once per data set, as the upper bound.

Budgets: paper is 2^26 labeled images per run (1,048,576 steps); short 1/32 of it; smoke minutes on
two CPU cores, a check that everything works: its accuracies mean nothing; laptop trains a network
for CPUs for minutes: CIFAR-10 with 250 labels, three folds.

Expect, at the paper's budget, errors as in the table; ReMixMatch ahead on CIFAR-100, FixMatch on
the other two. WRN-28-2, on CIFAR-100 WRN-28-8 with twice the weight decay.

Deviations: how UDA was sharpened in the paper's comparison is not known (temperature 1 here, the
default of its code). VAT and the fully supervised runs use Adam at a constant rate, as their files
in the reference do; the table's supervised baseline is not in the paper. SVHN is train and extra.
The short budget averages weights over a shorter time (0.995).

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision, as VAT does here.
"""

from typing import Any

from boss.study import BUDGETS, Comparison, Run, Study
from boss.study.designs import ADAM, FIXMATCH_BUDGETS, FREEMATCH_ON_SVHN, table_runs

CELLS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "cifar10": ((40, 250, 4000), {"network": "wrn-28-2"}),
    "cifar100": ((400, 2500, 10_000), {"network": "wrn-28-8", "weight_decay": 1e-3}),
    "svhn": (
        (40, 250, 1000),
        {"network": "wrn-28-2", "changes": {"FreeMatch": {"options": FREEMATCH_ON_SVHN}}},
    ),
}
# All labels; smoothing and decay as in the reference's scripts.
FULLY: dict[str, dict[str, Any]] = {
    "cifar10": {"label_set": "fixmatch:0@50000", "options": {"smoothing": 0.001}},
    "cifar100": {"label_set": "fixmatch:0@50000", "options": {"smoothing": 0.001}},
    "svhn": {
        "label_set": "fixmatch:0@604388",
        "options": {"smoothing": 0.01},
        "weight_decay": 0.002,
    },
}


def laptop_runs() -> list[Run]:
    """CIFAR-10 with 250 labels, three folds."""
    label_sets = [f"fixmatch:{fold}@250" for fold in range(1, 4)]
    cell = {"dataset": "cifar10", "label_sets": label_sets} | FIXMATCH_BUDGETS["laptop"]
    return table_runs([cell])


def runs(budget: str) -> list[Run]:
    if budget == "laptop":
        return laptop_runs()
    folds = range(1, 2 if budget == "smoke" else 6)
    cells = [
        {"dataset": dataset, "label_sets": [f"fixmatch:{fold}@{size}" for fold in folds]}
        | fields
        | FIXMATCH_BUDGETS[budget]
        for dataset, (sizes, fields) in CELLS.items()
        for size in sizes
    ]
    listed = table_runs(cells)
    for dataset, of_dataset in FULLY.items():
        network = {"network": CELLS[dataset][1]["network"]}
        fields = network | FIXMATCH_BUDGETS[budget] | ADAM | of_dataset
        listed.append(
            Run(dataset=dataset, algorithm="supervised", unlabeled_ratio=0, repeat=0, **fields)
        )
    return listed


STUDY = Study(
    reproduces="Table 2 of FixMatch (2020): error rates of every algorithm",
    runs=runs,
    budgets=BUDGETS,
    comparisons=(
        Comparison(
            published="fixmatch_table2.csv",
            axis=("algorithm", "augmentation"),
            panels=("dataset", "num_labels"),
        ),
    ),
)
