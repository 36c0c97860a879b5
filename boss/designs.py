"""The design that several studies share: BOSS's grid of label sets x methods, then self-training.

No torch here: studies are planned from it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from boss.methods import METHODS, PUBLISHED_NUM_IMAGES, SELF_TRAINING, Method
from boss.study import Run, grid

# Fields of runs on images of 32 pixels. Smoke runs have their own batch, whatever the method's is.
BUDGETS: dict[str, dict[str, Any]] = {
    "paper": {"num_images": PUBLISHED_NUM_IMAGES, "num_evaluations": 512},
    "short": {"num_images": 2**21, "num_evaluations": 64, "teacher_decay": 0.995},
    "smoke": {
        "num_images": 8 * 40,
        "batch_size": 8,
        "network": "wrn-10-1",
        "teacher_decay": 0.95,
        "norm_momentum": 0.05,
        "num_evaluations": 2,
        "max_eval_images": 500,
    },
}

# The two leaks of the released self-training, as fields of a run.
LEAKS: tuple[dict[str, Any], ...] = ({"pick_labels": "true"}, {"rank_by": "best_test"})


def boss_runs(
    *,
    label_sets: Sequence[str],
    num_repeats: int,
    picks_per_class: Sequence[int],
    all_labels: str,
    constants: Mapping[str, Any],
    in_self_training: Sequence[str] | None = None,
    unlabeled_ratio: int | None = None,
) -> list[Run]:
    """The methods 0 to 4 on every label set, the fully supervised reference, then self-training.

    Round 1 starts from method 4, with each of `picks_per_class`; the largest also with each leak.

    Args:
        all_labels: the label set of all training images, for the reference.
        constants: fields of all runs, in place of those of the methods.
        in_self_training: the label sets of round 1; all if None.
        unlabeled_ratio: in place of the methods', where there are unlabeled images.

    Returns:
        Repeats outermost in each part, so that an early stop leaves a complete design.
    """

    def run(method: Method, **fields: Any) -> Run:
        ratio = {} if unlabeled_ratio is None else {"unlabeled_ratio": unlabeled_ratio}
        return Run(**(method.fields() | dict(constants) | ratio | fields))

    repeats = range(num_repeats)
    runs = [
        run(METHODS[axes["method"]], label_set=axes["label_set"], repeat=axes["repeat"])
        for axes in grid(repeat=repeats, label_set=list(label_sets), method=list(METHODS))
    ]
    runs += [
        run(
            SELF_TRAINING,
            algorithm="supervised",
            options={},
            unlabeled_ratio=0,
            label_set=all_labels,
            repeat=repeat,
        )
        for repeat in repeats
    ]
    most = max(picks_per_class)
    rounds: list[dict[str, Any]] = [
        {"picks_per_class": n} for n in sorted(picks_per_class, reverse=True)
    ]
    rounds += [{"picks_per_class": most} | leak for leak in LEAKS]
    in_round_1 = list(label_sets if in_self_training is None else in_self_training)
    for axes in grid(repeat=repeats, label_set=in_round_1):
        parent = run(METHODS[4], **axes)
        runs += [run(SELF_TRAINING, parent=parent, **axes, **fields) for fields in rounds]
    return runs
