"""The authors' five methods and their numbers."""

import dataclasses

import pytest

from boss.algorithms import build, hyperparameters
from boss.balance import WEIGH_BY
from boss.study.methods import DEFAULTS, METHODS, PUBLISHED_NUM_IMAGES, SELF_TRAINING, method_name
from boss.study.run import Run


def run_of(method, **changes):
    constants = {"dataset": "digits", "label_set": "boss:6", "repeat": 0, "network": "wrn-28-2"}
    return Run(**{**constants, "num_images": PUBLISHED_NUM_IMAGES, **method.fields(), **changes})


def test_what_each_method_does():
    assert {n: (m.max_drop > 0, m.weigh_by) for n, m in METHODS.items()} == {
        0: (False, "none"),
        1: (True, "none"),
        2: (False, "predicted"),
        3: (False, "used"),
        4: (True, "used"),
    }
    assert {m.weigh_by for m in METHODS.values()} == set(WEIGH_BY)
    assert [m.number for m in METHODS.values()] == list(METHODS)


def test_the_numbers_of_the_published_scripts():
    def column(name):
        return [getattr(method, name) for method in METHODS.values()]

    assert column("max_drop") == [0, 0.25, 0, 0, 0.25]
    assert column("threshold") == [0.95, 0.95, 0.90, 0.90, 0.95]
    assert column("weight_decay") == [5e-4, 8e-4, 8e-4, 8e-4, 8e-4]
    assert column("learning_rate") == [0.03, 0.06, 0.06, 0.04, 0.06]
    assert column("unlabeled_ratio") == [7, 9, 9, 9, 9]
    assert column("batch_size") == [64, 30, 30, 30, 30]
    assert column("momentum") == [0.88] * 5
    # Equal numbers of labeled images seen: 524,288 steps of 64, 1,118,481.07 of 30.
    assert [run_of(m).num_steps for m in METHODS.values()] == [524_288] + 4 * [1_118_482]


def test_self_training_is_fixmatch_with_its_own_momentum():
    assert SELF_TRAINING.fields() == {
        "algorithm": "fixmatch",
        "options": {},
        "learning_rate": 0.03,
        "weight_decay": 5e-4,
        "unlabeled_ratio": 7,
        "batch_size": 64,
        "momentum": 0.9,
    }


@pytest.mark.parametrize("algorithm", DEFAULTS)
def test_the_defaults_here_are_those_of_the_algorithms(algorithm):
    assert DEFAULTS[algorithm].items() <= hyperparameters(algorithm).items()


def test_options_are_those_that_differ_from_the_defaults():
    assert {number: (m.algorithm, m.options()) for number, m in METHODS.items()} == {
        0: ("fixmatch", {}),
        1: ("boss", {"weigh_by": "none"}),
        2: ("boss", {"threshold": 0.9, "max_drop": 0.0, "weigh_by": "predicted"}),
        3: ("boss", {"threshold": 0.9, "max_drop": 0.0}),
        4: ("boss", {}),
    }
    assert METHODS[0].options(threshold=0.9) == {"threshold": 0.9}
    assert METHODS[3].options(threshold=0.95) == {"max_drop": 0.0}
    assert METHODS[4].options(threshold=0.95) == {}


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: str(m.number))
def test_the_algorithm_that_is_built_has_the_numbers_of_the_table(method):
    for threshold in (None, 0.8):
        algorithm = build(method.algorithm, method.options(threshold))
        assert algorithm.threshold == (method.threshold if threshold is None else threshold)
        for key in DEFAULTS[method.algorithm].keys() - {"threshold"}:
            assert getattr(algorithm, key) == getattr(method, key)
    run = run_of(method)
    for key in ("learning_rate", "weight_decay", "unlabeled_ratio", "batch_size", "momentum"):
        assert getattr(run, key) == getattr(method, key)


@pytest.mark.parametrize("number", range(5))
def test_names_of_methods(number):
    method = METHODS[number]
    complete = {"threshold": 0.7, "max_drop": method.max_drop, "weigh_by": method.weigh_by}
    assert method_name("boss", complete) == f"boss-{number}"
    expected = "fixmatch" if number == 0 else f"boss-{number}"
    assert method_name(method.algorithm, method.options()) == expected
    assert run_of(method).method == expected
    if method.max_drop > 0:  # by how much does not matter
        assert method_name("boss", complete | {"max_drop": 0.1}) == f"boss-{number}"


def test_names_of_everything_else():
    assert method_name("supervised", {}) == "supervised"
    assert method_name("fixmatch", {"threshold": 0.9, "max_drop": 0.25}) == "fixmatch"
    assert method_name("boss", {"average_over": "used", "unlabeled_weight": 0.5}) == "boss-4"
    # Lower thresholds with weights by all predictions: none of the five.
    assert method_name("boss", {"weigh_by": "predicted"}) == "boss"
    assert method_name("boss", {"weigh_by": "predicted", "max_drop": 0.0}) == "boss-2"
    # Not an option of the algorithm: a name comes before the check that refuses it.
    assert method_name("boss", {"weigh_by": None}) == "boss"


def test_rows_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        METHODS[0].threshold = 0.5
