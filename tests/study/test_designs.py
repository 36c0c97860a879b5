"""The studies of BOSS: which runs, with which hyperparameters, in which order."""

from collections import Counter

import numpy as np
import pytest

from boss.data.label_sets import resolve, validation_indices
from boss.prototypes import inputs
from boss.study.designs import (
    ALGORITHMS,
    FAST_BUDGETS,
    FAST_FIRST,
    FAST_ROUND,
    LAPTOP_EMBEDDING,
    LAPTOP_SELECTED,
    fast_run,
)
from boss.study.methods import METHODS
from boss.study.study import load
from tests.conftest import ROOT


def runs_of(study, budget):
    return load(study, ROOT / "studies").enumerate(budget)


def test_the_authors_grid_on_cifar10():
    runs = runs_of("boss_cifar10", "paper")
    first = [run for run in runs if run.round == 0]
    assert Counter(run.method for run in first) == {
        "fixmatch": 32, "boss-1": 32, "boss-2": 32, "boss-3": 32, "boss-4": 32, "supervised": 4,
        "flexmatch": 32, "freematch": 32,
    }  # fmt: skip
    assert {run.label_set for run in first} == {f"boss:{k}" for k in range(8)} | {
        "fixmatch:0@50000"
    }
    children = [run for run in runs if run.round == 1]
    assert len(children) == 8 * 4 * (4 + 2)
    assert Counter((c.picks_per_class, c.pick_labels, c.rank_by) for c in children) == {
        (40, "pseudo", "last"): 32, (20, "pseudo", "last"): 32, (10, "pseudo", "last"): 32,
        (5, "pseudo", "last"): 32, (40, "true", "last"): 32, (40, "pseudo", "best_test"): 32,
    }  # fmt: skip
    for child in children:
        assert child.parent in first
        assert child.parent.method == "boss-4"
        assert (child.algorithm, child.momentum, child.learning_rate) == ("fixmatch", 0.9, 0.03)
    of_method = {run.method: run for run in first}
    for number, name in enumerate(["fixmatch", "boss-1", "boss-2", "boss-3", "boss-4"]):
        run, method = of_method[name], METHODS[number]
        assert (run.learning_rate, run.weight_decay) == (method.learning_rate, method.weight_decay)
        assert (run.unlabeled_ratio, run.batch_size) == (method.unlabeled_ratio, method.batch_size)
        assert (run.momentum, run.num_images) == (0.88, 2**25)
    assert of_method["boss-4"].num_steps == 1_118_482


@pytest.mark.parametrize("budget", ["short", "smoke"])
@pytest.mark.parametrize("study", ["boss_cifar10", "boss_svhn", "boss_digits"])
def test_every_budget_has_every_stage(study, budget):
    runs = runs_of(study, budget)
    methods = {run.method for run in runs if run.round == 0}
    rivals = {"flexmatch", "freematch"}
    assert methods == {"fixmatch", "boss-1", "boss-2", "boss-3", "boss-4", "supervised", *rivals}
    children = [run for run in runs if run.round == 1]
    assert {c.pick_labels for c in children} == {"pseudo", "true"}
    assert {c.rank_by for c in children} == {"last", "best_test"}
    order = [run.id for run in runs]
    for child in children:
        assert order.index(child.parent.id) < order.index(child.id)


def test_an_early_stop_leaves_whole_repeats():
    runs = [run for run in runs_of("boss_cifar10", "paper") if run.round == 0]
    repeats = [run.repeat for run in runs if run.method != "supervised"]
    assert repeats == sorted(repeats)


def test_prototypes_differ_in_the_label_set_alone():
    runs = runs_of("prototypes_cifar10", "short")
    kinds = Counter(run.label_set.split(":")[0] for run in runs)
    assert kinds == {"carlini": 64, "fixmatch": 64, "boss": 64, "select": 40}
    settings = {
        (run.method, run.learning_rate, run.batch_size, run.weight_decay, run.num_steps)
        for run in runs
    }
    assert len(settings) == 2  # the two methods


@pytest.mark.cifar10
def test_every_label_set_of_the_studies_resolves(cifar10):
    names = set()
    for path in (ROOT / "studies").glob("*.py"):
        study = load(path.stem, ROOT / "studies")
        for budget in study.budgets:
            names |= {r.label_set for r in study.enumerate(budget) if r.dataset == "cifar10"}
    assert any("manifold" in name for name in names)
    for name in names:
        found = resolve(name, cifar10)
        if name.startswith(("boss:", "carlini:")) or name.endswith("@10"):
            assert len(set(found.labels)) == len(found) == 10
        elif name.startswith("select:"):
            assert len(found) == 10


def test_table_2_of_fixmatch():
    runs = runs_of("fixmatch_table2", "paper")
    cells = Counter((run.dataset, run.label_set.partition("@")[2]) for run in runs)
    all_by_five = len(ALGORITHMS) * 5
    assert cells == {
        ("cifar10", "40"): all_by_five, ("cifar10", "250"): all_by_five,
        ("cifar10", "4000"): all_by_five, ("cifar100", "400"): all_by_five,
        ("cifar100", "2500"): all_by_five, ("cifar100", "10000"): all_by_five,
        ("svhn", "40"): all_by_five, ("svhn", "250"): all_by_five,
        ("svhn", "1000"): all_by_five, ("cifar10", "50000"): 1, ("cifar100", "50000"): 1,
        ("svhn", "604388"): 1,
    }  # fmt: skip
    assert {run.num_steps for run in runs} == {2**20}
    assert {run.num_evaluations for run in runs} == {1024}
    folds = {run.label_set.partition("@")[0] for run in runs if "604388" not in run.label_set}
    assert folds == {f"fixmatch:{fold}" for fold in range(6)}  # 0 for all labels only
    of_cifar100 = [run for run in runs if run.dataset == "cifar100"]
    assert {run.network for run in of_cifar100} == {"wrn-28-8"}
    decays = {run.algorithm: run.weight_decay for run in of_cifar100 if run.num_images}
    assert decays["fixmatch"] == decays["mixmatch"] == 1e-3
    assert decays["vat"] == 0.02
    ratios = {run.algorithm: run.unlabeled_ratio for run in runs}
    published = {
        "supervised": 0, "pi_model": 1, "pseudo_label": 1, "mean_teacher": 1, "vat": 1,
        "mixmatch": 1, "remixmatch": 1, "uda": 7, "fixmatch": 7, "flexmatch": 7, "freematch": 7,
    }  # fmt: skip
    assert ratios | published == ratios
    assert {r.augmentation for r in runs if r.algorithm == "fixmatch"} == {
        "randaugment", "ctaugment",
    }  # fmt: skip
    assert {r.augmentation for r in runs if r.algorithm == "remixmatch"} == {
        "ctaugment-without-cutout",
        "weak",
    }
    on_svhn = {r.dataset: dict(r.options) for r in runs if r.algorithm == "freematch"}
    assert on_svhn == {
        "cifar10": {}, "cifar100": {}, "svhn": {"threshold_min": 0.9, "threshold_max": 0.95},
    }  # fmt: skip
    # An early stop leaves one run of every algorithm in every cell.
    first = runs[: len(ALGORITHMS) * 9]
    assert (
        len({(r.dataset, r.label_set, r.algorithm, r.augmentation) for r in first})
        == len(ALGORITHMS) * 9
    )
    assert {run.label_set[:10] for run in first} == {"fixmatch:1"}


def test_table_3_of_fixmatch():
    runs = runs_of("fixmatch_stl10", "paper")
    assert len(runs) == len(ALGORITHMS) * 5
    assert {(run.dataset, run.network) for run in runs} == {("stl10", "wrn-37-2")}
    assert {run.label_set for run in runs} == {f"fold:{fold}" for fold in range(1, 6)}


@pytest.mark.parametrize(("study", "num"), [
    ("ablation_threshold", 20), ("ablation_augmentation", 9), ("ablation_cutout", 3),
    ("ablation_weak_strong", 9), ("ablation_unlabeled_ratio", 17), ("ablation_optimizer", 34),
    ("ablation_weight_decay", 10),
])  # fmt: skip
@pytest.mark.parametrize("budget", ["paper", "short", "smoke"])
def test_ablations_are_of_fixmatch_on_one_split_and_hold_fixmatch_itself(study, num, budget):
    runs = runs_of(study, budget)
    assert len(runs) == num
    assert {(r.dataset, r.label_set, r.algorithm, r.repeat) for r in runs} == {
        ("cifar10", "fixmatch:3@250", "fixmatch", 0)
    }
    budgets = {(r.num_images, r.network, r.batch_size) for r in runs}
    assert len(budgets) == 1
    if budget == "paper":
        assert budgets == {(2**26, "wrn-28-2", 64)}
        # The setting whose error is published as 4.84%.
        fields = {
            "augmentation": "ctaugment", "unlabeled_ratio": 7, "learning_rate": 0.03,
            "momentum": 0.9, "weight_decay": 5e-4, "optimizer": "sgd", "schedule": "cosine",
            "options": {},
        }  # fmt: skip
        found = [r for r in runs if all(getattr(r, k) == v for k, v in fields.items())]
        assert len(found) == 1 + (study == "ablation_optimizer")  # without Nesterov, too


def test_every_study_says_how_its_runs_are_drawn_beside_the_published_ones():
    for path in sorted((ROOT / "studies").glob("*.py")):
        study = load(path.stem, ROOT / "studies")
        has_numbers = path.stem.startswith(("fixmatch", "ablation"))
        assert bool(study.comparisons) == has_numbers, path.stem
        for comparison in study.comparisons:
            assert (ROOT / "analysis/published" / comparison.published).is_file()


def test_one_shot_svhn():
    runs = runs_of("oneshot_svhn", "paper")
    assert len(runs) == (6 + 4) * 4
    assert {run.dataset for run in runs} == {"svhn"}
    assert {run.num_steps for run in runs} == {2**19}


def test_every_algorithm_on_digits():
    for budget in ("smoke", "short"):
        runs = runs_of("algorithms_digits", budget)
        kinds = Counter((r.algorithm, r.augmentation, r.label_set.partition("@")[2]) for r in runs)
        assert len(kinds) == (len(ALGORITHMS) + 1) * 2  # and BOSS
        assert len(set(kinds.values())) == 1
    # They share whatever does not belong to the algorithm, and so can be compared in pairs.
    shared = {(r.num_images, r.batch_size, r.learning_rate, r.teacher_decay) for r in runs}
    assert len(shared) == 1


FAST, TUNING = "oneshot_cifar10_fast", "tune_cifar10_fast"


@pytest.mark.cifar10
@pytest.mark.parametrize("budget", ["smoke", "short", "paper"])
def test_the_fast_recipe_is_reported_on_images_and_streams_that_did_not_tune_it(budget, cifar10):
    tuned, reported = runs_of(TUNING, budget), runs_of(FAST, budget)
    assert not {run.stream_key for run in tuned} & {run.stream_key for run in reported}
    images = [
        {index for run in runs for index in resolve(run.label_set, cifar10).indices}
        for runs in (tuned, reported)
    ]
    assert [len(of_study) for of_study in images] == [(3 + 1 + 1 + 3) * 10, 2 * 10]
    assert not images[0] & images[1]
    # Tuning holds images out; what is reported has nothing to be chosen by.
    assert {run.num_validation for run in tuned} == {100 if budget == "smoke" else 5000}
    # Of the images that a parent predicts, some are left to pick from.
    held_out = validation_indices(cifar10.train.labels.numpy(), tuned[0].num_validation)
    predicted = tuned[0].max_eval_images or len(cifar10.train)
    assert (~np.isin(np.arange(predicted), held_out)).sum() >= 400
    assert {run.num_validation for run in reported} == {0}


def test_the_recipe_of_the_tuning_is_the_one_that_is_reported():
    reported, tuned = runs_of(FAST, "short"), runs_of(TUNING, "short")

    def settings(run):
        fields = run.as_dict() | {"parent": run.parent and settings(run.parent)}
        return {
            k: v for k, v in fields.items() if k not in ("label_set", "repeat", "num_validation")
        }

    recipes = [settings(run) for run in reported[:2]]
    assert [recipe["algorithm"] for recipe in recipes] == ["boss", "fixmatch"]
    assert all(settings(run) in recipes for run in reported)
    assert [settings(run) in recipes for run in tuned].count(True) == 3 * 2 + 5
    assert len(reported) == 2 * 2 * 4  # rounds x label sets x repeats: at least four runs
    assert all(run.round == position % 2 for position, run in enumerate(reported))


def test_every_candidate_changes_one_thing():
    runs = [run for run in runs_of(TUNING, "short") if run.round == 0]
    by_set = Counter(run.label_set for run in runs)
    assert [by_set[f"boss:{k}"] for k in (0, 1, 3)] == [16, 16, 16]
    recipe = runs[0].as_dict()
    for run in runs[1:16]:
        assert run.label_set == "boss:0"
        changed = {k for k, v in run.as_dict().items() if v != recipe[k]}
        assert len(changed) == 1 or changed in ({"batch_size", "learning_rate"},)


def test_budgets_of_the_fast_recipe():
    place = {"label_set": "boss:2", "repeat": 0}
    first = fast_run("short", {}, **place)
    child = fast_run("short", {}, parent=first, **place)
    assert {k: getattr(first, k) for k in FAST_FIRST} == FAST_FIRST
    assert {k: getattr(child, k) for k in FAST_ROUND} == FAST_ROUND
    assert (first.num_steps, first.network, first.augmentation) == (
        16_384,
        "wrn-28-2",
        "randaugment",
    )
    # What a budget sets, a candidate cannot change.
    wide = {"network": "wrn-28-4", "learning_rate": 0.06}
    smoke = fast_run("smoke", wide, **place)
    assert {k: getattr(smoke, k) for k in FAST_BUDGETS["smoke"]} == FAST_BUDGETS["smoke"]
    assert smoke.learning_rate == 0.06
    assert fast_run("paper", wide, **place).network == "wrn-28-4"
    assert fast_run("paper", {}, **place).num_images == 2**25


def test_laptop_studies_name_the_label_sets_that_select_writes():
    name = inputs.file_name("cifar10", LAPTOP_EMBEDDING, "typiclust", settings=[])
    assert f"select:{name}" == f"{LAPTOP_SELECTED}-typiclust"
    for study, methods in (
        ("oneshot_cifar10_laptop", {"class-centroid"}),
        (
            "prototypes_cifar10",
            {"class-centroid", "kmeans-centroid", "typiclust", "k-medoids", "random"},
        ),
    ):
        label_sets = {run.label_set for run in runs_of(study, "laptop")}
        assert label_sets >= {f"{LAPTOP_SELECTED}-{method}" for method in methods}
