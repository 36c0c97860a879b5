"""The studies of BOSS: which runs, with which hyperparameters, in which order."""

from collections import Counter

import pytest

from boss.methods import METHODS
from boss.study import load

from .conftest import ROOT


def runs_of(study, budget):
    return load(study, ROOT / "studies").enumerate(budget)


def test_the_authors_grid_on_cifar10():
    runs = runs_of("boss_cifar10", "paper")
    first = [run for run in runs if run.round == 0]
    assert Counter(run.method for run in first) == {
        "fixmatch": 32, "boss-1": 32, "boss-2": 32, "boss-3": 32, "boss-4": 32, "supervised": 4,
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
    assert methods == {"fixmatch", "boss-1", "boss-2", "boss-3", "boss-4", "supervised"}
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
    from boss.data.label_sets import resolve

    names = {
        r.label_set for s in ("boss_cifar10", "prototypes_cifar10") for r in runs_of(s, "smoke")
    }
    for name in names - {"fixmatch:0@50000"}:
        found = resolve(name, cifar10)
        assert len(found) == 10
        assert len(set(found.labels)) == 10 or name.startswith("select:")
