"""Table 3 of FixMatch (Sohn et al. 2020, arXiv 2001.07685): every algorithm on STL-10.

1,000 labels, 5 of the predefined folds (1 to 5) x 13 settings: those of fixmatch_table2.
The unlabeled images are the 5,000 of the training set and the 100,000 that come without a label.
Images of 96 x 96 pixels; WRN-37-2, which has a fourth stage.

Budgets: paper is 2^26 labeled images per run; short 1/32 of it; smoke a check that it works,
slow on a CPU because of the large images.

Expect, at the paper's budget, errors as in the table: ReMixMatch and FixMatch with CTAugment ahead.

Deviations: those of fixmatch_table2. RandAugment translates by up to 9 pixels and cuts out 16
whatever the size, CTAugment cuts out half of the side, as in the reference. Self-training, if you
add any, selects from the 5,000 images only.

Paper and short budgets run in bf16 (weights, losses and statistics in single precision), the
publication in single precision, as VAT does here.
"""

from boss.study import Comparison, Run, Study
from boss.study.designs import FIXMATCH_BUDGETS, table_runs


def runs(budget: str) -> list[Run]:
    smoke = {"network": "wrn-13-1", "num_images": 8 * 10, "max_eval_images": 200}
    folds = range(1, 2 if budget == "smoke" else 6)
    cell = {
        "dataset": "stl10",
        "network": "wrn-37-2",
        "label_sets": [f"fold:{fold}" for fold in folds],
    }
    fields = FIXMATCH_BUDGETS[budget] | (smoke if budget == "smoke" else {})
    return table_runs([cell | fields])


STUDY = Study(
    reproduces="Table 3 of FixMatch (2020): error rates on STL-10",
    runs=runs,
    comparisons=(Comparison(published="fixmatch_stl10.csv", axis=("algorithm", "augmentation")),),
)
