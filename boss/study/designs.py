"""The designs that several studies share: BOSS's grid, FixMatch's tables, FixMatch's ablations.

No torch here: studies are planned from it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from boss.study.methods import METHODS, PUBLISHED_NUM_IMAGES, SELF_TRAINING, Method
from boss.study.run import Run
from boss.study.study import grid

# A training of some ten core-minutes on CIFAR-10, on a network for CPUs.
LAPTOP: dict[str, Any] = {
    "network": "fast-32-128-256",
    "num_images": 64 * 600,
    "optimizer": "muon",
    "learning_rate": 0.02,
    "schedule": "linear",
    "teacher_decay": 0.99,
    "norm_momentum": 0.05,
    "num_evaluations": 8,
    "precision": "auto",
}


# Supervised training that costs as much as FixMatch, which has 7 unlabeled images beside each
# labeled one in the backward pass, and their weak views in a forward pass.
LAPTOP_FULL: dict[str, Any] = {
    "algorithm": "supervised",
    "unlabeled_ratio": 0,
    "num_images": 10 * LAPTOP["num_images"],
}


# Fields of runs on images of 32 pixels. What is meant for GPUs runs in bf16 (weights, losses and
# statistics in single precision). Smoke runs have their own batch, whatever the method's is.
#
# Why short is 2^21 images: 32,768 steps of 64. At the 5 ms a step that a GPU of today should take
# that is less than 3 minutes, and even at 10 ms five runs fit into half an hour with their 64
# evaluations. Half as long would end before one-shot training has settled which classes it loses.
BUDGETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "num_images": 8 * 40,
        "batch_size": 8,
        "network": "wrn-10-1",
        "teacher_decay": 0.95,
        "norm_momentum": 0.05,
        "num_evaluations": 2,
        "max_eval_images": 500,
    },
    "laptop": LAPTOP,
    "short": {
        "num_images": 2**21,
        "num_evaluations": 64,
        "teacher_decay": 0.995,
        "precision": "bf16",
    },
    "paper": {"num_images": PUBLISHED_NUM_IMAGES, "num_evaluations": 512, "precision": "bf16"},
}


# The same for FixMatch's own tables, whose trainings are twice as long and evaluated every 1,024
# steps of 64 images.
#
# On a laptop they keep FixMatch's optimizer and schedule, which its ablations are about.
FIXMATCH_BUDGETS: dict[str, dict[str, Any]] = {
    **BUDGETS,
    "laptop": {
        name: value
        for name, value in LAPTOP.items()
        if name not in ("optimizer", "learning_rate", "schedule")
    },
    "paper": BUDGETS["paper"] | {"num_images": 2**26, "num_evaluations": 1024},
}


# The two leaks of the released self-training, as fields of a run.
LEAKS: tuple[dict[str, Any], ...] = ({"pick_labels": "true"}, {"rank_by": "best_test"})


# FixMatch with other thresholds for each class: what users choose today. Trained as method 0.
RIVALS: dict[str, dict[str, Any]] = {"flexmatch": {}, "freematch": {}}


# FreeMatch's authors keep its thresholds in this range on SVHN.
FREEMATCH_ON_SVHN = {"threshold_min": 0.9, "threshold_max": 0.95}


def boss_runs(
    *,
    label_sets: Sequence[str],
    num_repeats: int,
    picks_per_class: Sequence[int],
    all_labels: str,
    constants: Mapping[str, Any],
    in_self_training: Sequence[str] | None = None,
    unlabeled_ratio: int | None = None,
    rivals: Mapping[str, Mapping[str, Any]] = RIVALS,
) -> list[Run]:
    """The methods 0 to 4 and their rivals on every label set, the fully supervised reference, then
    self-training.

    Round 1 starts from method 4, with each of `picks_per_class`; the largest also with each leak.

    Args:
        all_labels: the label set of all training images, for the reference.
        constants: fields of all runs, in place of those of the methods.
        in_self_training: the label sets of round 1; all if None.
        unlabeled_ratio: in place of the methods', where there are unlabeled images.
        rivals: other algorithms with their options.

    Returns:
        Repeats outermost in each part, so that an early stop leaves a complete design.
    """

    def run(method: Method, **fields: Any) -> Run:
        ratio = {} if unlabeled_ratio is None else {"unlabeled_ratio": unlabeled_ratio}
        return Run(**(method.fields() | dict(constants) | ratio | fields))

    repeats = range(num_repeats)
    runs = []
    for axes in grid(repeat=repeats, label_set=list(label_sets)):
        runs += [run(method, **axes) for method in METHODS.values()]
        runs += [
            run(METHODS[0], algorithm=name, options=options, **axes)
            for name, options in rivals.items()
        ]
    runs += [
        run(
            SELF_TRAINING,
            algorithm="supervised",
            options={},
            unlabeled_ratio=0,
            augmentation="randaugment",  # that is, none: it has no strong views
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


# How FixMatch's code runs every algorithm of its tables 2 and 3, and the ones beside them: fields
# of a run that differ from FixMatch's. The Adam family has its own rate, schedule and decay. VAT's
# direction comes from a step of 1e-6, which half precision cannot resolve.
ADAM: dict[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 0.002,
    "schedule": "constant",
    "weight_decay": 0.02,
}


ALGORITHMS: dict[str, dict[str, Any]] = {
    "Supervised": {"algorithm": "supervised", "unlabeled_ratio": 0},
    "Pi-Model": {"algorithm": "pi_model", "unlabeled_ratio": 1},
    "Pseudo-Label": {"algorithm": "pseudo_label", "unlabeled_ratio": 1},
    "Mean Teacher": {"algorithm": "mean_teacher", "unlabeled_ratio": 1},
    "VAT": {"algorithm": "vat", "unlabeled_ratio": 1, "precision": "fp32"} | ADAM,
    "MixMatch": {"algorithm": "mixmatch", "unlabeled_ratio": 1},
    "UDA": {"algorithm": "uda"},
    "ReMixMatch": {
        "algorithm": "remixmatch",
        "unlabeled_ratio": 1,
        "augmentation": "ctaugment-without-cutout",
    },
    "ReMixMatch (without CTAugment)": {
        "algorithm": "remixmatch",
        "unlabeled_ratio": 1,
        "augmentation": "weak",
    },
    "FixMatch (RandAugment)": {"algorithm": "fixmatch"},
    "FixMatch (CTAugment)": {"algorithm": "fixmatch", "augmentation": "ctaugment"},
    "FlexMatch": {"algorithm": "flexmatch"},
    "FreeMatch": {"algorithm": "freematch"},
}


def table_runs(
    cells: Sequence[Mapping[str, Any]],
    *,
    num_repeats: int = 1,
    algorithms: Sequence[str] = tuple(ALGORITHMS),
) -> list[Run]:
    """Every algorithm in every cell of a table.

    Args:
        cells: fields of the runs of each cell; among them `label_sets`, a list, and perhaps
            `changes`, fields by algorithm that differ in this cell.

    Returns:
        Repeats and label sets outermost, so that an early stop leaves one run of every algorithm in
        every cell.
    """
    most = max(len(cell["label_sets"]) for cell in cells)
    runs = []
    for repeat in range(num_repeats):
        for position in range(most):
            for cell in cells:
                if position >= len(cell["label_sets"]):
                    continue
                shared = cell.keys() - {"label_sets", "changes"}
                fields = {key: cell[key] for key in shared}
                place = {"label_set": cell["label_sets"][position], "repeat": repeat}
                for name in algorithms:
                    # The Adam family has a decay of its own; that of a data set is for the others.
                    of_algorithm = ALGORITHMS[name] | cell.get("changes", {}).get(name, {})
                    runs.append(Run(**(fields | of_algorithm | place)))
    return runs


def ablation_runs(budget: str, variants: Sequence[Mapping[str, Any]]) -> list[Run]:
    """FixMatch with CTAugment on one split of 250 labels, once for each of these changes.

    The published ablations (Sohn et al. 2020, section 5 and appendix) are on a single split, which
    is not named; the default of the reference's ablation code is seed 3.

    Args:
        variants: fields of a run that differ from those of FixMatch with CTAugment.
    """
    base = {
        "dataset": "cifar10",
        "network": "wrn-28-2",
        "label_set": "fixmatch:3@250",
        "repeat": 0,
        **ALGORITHMS["FixMatch (CTAugment)"],
    }
    return [Run(**(base | FIXMATCH_BUDGETS[budget] | dict(changes))) for changes in variants]


# The recipe of `oneshot_cifar10_fast`: method 4 of BOSS, then a round of self-training by FixMatch.
# What is not named here has FixMatch's defaults. `tune_cifar10_fast` asks what should change.
FAST_FIRST: dict[str, Any] = {
    "algorithm": "boss",
    "num_images": 2**20,
    "teacher_decay": 0.995,
    "num_evaluations": 64,
    "precision": "bf16",
}


FAST_ROUND: dict[str, Any] = FAST_FIRST | {"algorithm": "fixmatch", "picks_per_class": 40}


# The recipe is the short budget. At the paper's length it shows what its shortness costs.
FAST_BUDGETS: dict[str, dict[str, Any]] = {
    "paper": BUDGETS["paper"] | {"teacher_decay": 0.999},
    "short": {},
    "smoke": BUDGETS["smoke"] | {"precision": "fp32"},  # many CPUs crawl in bf16
}


def fast_run(budget: str, changes: Mapping[str, Any], **place: Any) -> Run:
    """A training of the fast recipe; with a `parent` in `place` its round of self-training.

    Args:
        changes: fields of a run that differ from the recipe's, unless the budget sets them.
        place: label set, repeat, parent, and what else says where the recipe is tried.
    """
    recipe = FAST_ROUND if place.get("parent") else FAST_FIRST
    fixed = {"dataset": "cifar10", "network": "wrn-28-2"}
    return Run(**(fixed | recipe | dict(changes) | FAST_BUDGETS[budget] | place))


# The recipe for ten labels on a laptop, as `tune_cifar10_laptop` tunes it. Short supervised
# trainings come first, from the weights of a SimCLR encoder: on the images that label propagation
# over its features, and beside them those of the sparse manifold transform, is most certain of;
# then in rounds on what the network before says of all images, smoothed. FixMatch from their labels
# closes it. The rest has FixMatch's defaults.
LAPTOP_ENCODER = f"simclr:6000@{LAPTOP['network']}"
LAPTOP_EMBEDDING = f"{LAPTOP_ENCODER}+manifold:2048x256"
# The label sets that `boss-study select cifar10` chooses with it, but for the method.
LAPTOP_SELECTED = "select:cifar10-simclr-6000-fast-32-128-256-manifold-2048x256"


LAPTOP_FIRST: dict[str, Any] = {
    "dataset": "cifar10",
    **LAPTOP,
    "algorithm": "supervised",
    "unlabeled_ratio": 0,
    "num_images": 64 * 150,
    "num_evaluations": 1,
    "teacher_decay": 0.95,  # of 0.99 a fifth of the average would still be the first weights
    "start": "propagation",
    "embedding": LAPTOP_EMBEDDING,
    "num_start": 3000,
    "encoder": LAPTOP_ENCODER,
}


# FixMatch from the label set alone.
LAPTOP_PLAIN: dict[str, Any] = {
    "dataset": "cifar10",
    **LAPTOP,
    "algorithm": "fixmatch",
    "unlabeled_ratio": 7,
}


# FixMatch from label propagation, without rounds before it.
LAPTOP_DIRECT: dict[str, Any] = LAPTOP_FIRST | LAPTOP_PLAIN


LAPTOP_ROUND: dict[str, Any] = {
    **{key: value for key, value in LAPTOP_FIRST.items() if key not in ("start", "num_start")},
    "picks_per_class": 3000,
    "rank_by": "smoothed",
}


# Where most images have a label already, one unlabeled image beside each labeled one is nearly
# worth seven, at a quarter of the cost.
LAPTOP_LAST: dict[str, Any] = LAPTOP_ROUND | LAPTOP_PLAIN | {"unlabeled_ratio": 1}


# The smoke budget keeps every stage and makes each small.
LAPTOP_SMOKE: dict[str, Any] = {
    **{key: value for key, value in BUDGETS["smoke"].items() if key != "network"},
    "network": "fast-8-16",
}
SMOKE_ENCODER = "simclr:2@fast-8-16"


def laptop_run(
    budget: str, recipe: Mapping[str, Any], changes: Mapping[str, Any], **place: Any
) -> Run:
    """A training of the laptop recipe.

    Args:
        recipe: LAPTOP_FIRST, LAPTOP_DIRECT or LAPTOP_PLAIN; with a `parent` in `place`
            LAPTOP_ROUND or LAPTOP_LAST.
        changes: fields of a run that differ from it, unless the smoke budget sets them.
        place: label set, repeat, parent, and what else says where the recipe is tried.
    """
    fields = dict(recipe) | dict(changes)
    if budget == "smoke":
        small = {
            name: _small(fields[name]) for name in ("embedding", "encoder") if fields.get(name)
        }
        fields = fields | LAPTOP_SMOKE | small
    return Run(**(fields | place))


def _small(embedding: str) -> str:
    """An embedding of the same kind that takes seconds.

    >>> _small("simclr:6000@fast-32-128-256+manifold:2048x256")
    'simclr:2@fast-8-16+manifold:64x16'
    """
    small = {"simclr": SMOKE_ENCODER, "manifold": "manifold:64x16"}
    names = [name.partition(":")[0] for name in embedding.split("+")]
    return "+".join(small.get(name, "kmeans-patches:16") for name in names)


LAPTOP_ROUNDS = 2  # between the first training and the last


def laptop_chain(budget: str, changes: Mapping[str, Any], **place: Any) -> list[Run]:
    """The recipe on a label set: its first training, its rounds and its last training.

    Args:
        changes: to the last training, see `laptop_run`.
        place: label set, repeat, and what else says where.
    """
    chain = [laptop_run(budget, LAPTOP_FIRST, {}, **place)]
    for _ in range(LAPTOP_ROUNDS):
        chain.append(laptop_run(budget, LAPTOP_ROUND, {}, parent=chain[-1], **place))
    return [*chain, laptop_run(budget, LAPTOP_LAST, changes, parent=chain[-1], **place)]
