"""Refining: classes that failed get the prototype of the set in which they did well."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from boss import data
from boss.data.label_sets import consulted_labels, resolve
from boss.errors import InputError
from boss.prototypes.refine import ORACLE, class_score, comparable_runs, label_free_scores, refine
from boss.prototypes.refined import Request, make_refined
from boss.results.read import Store
from boss.workers.runtime import Runtime
from boss.workers.worker import train_run
from tests.conftest import ROOT
from tests.results.test_read import a_row
from tests.training.test_loop import RUN

NAMES = ("ant", "bee", "cat")
NUM = 30  # training images; their true classes: 10 of each, in order


def predictions(guesses, doubt=0.1):
    return pd.DataFrame({"image_index": range(len(guesses)), "guess": guesses, "doubt": doubt})


def add_run(store, label_set, repeat, guesses, accuracies, *, labels=(0, 1, 2), **fields):
    """A run of made-up results: what its teacher takes the images for, and its class accuracies."""
    run_id = f"{label_set}-{repeat}-{'-'.join(map(str, fields.values()))}"
    start = int(label_set[-1]) * 3
    run = {
        "run_id": run_id, "label_set": label_set, "repeat": repeat, "algorithm": "fixmatch",
        "options": '{"threshold": 0.95}', "budget": "short", "dataset": "toy", "round": 0,
        "dataset_fingerprint": "f", "network": "n", "num_images": 10, "batch_size": 1,
        "unlabeled_ratio": 7, "learning_rate": 0.1, "num_validation": 0, "num_labels": 3,
    } | fields  # fmt: skip
    classes = [
        {
            "step": step, "network": network, "class_index": k, "class_name": NAMES[k],
            "test_accuracy": abs(accuracies[k] - ((step, network) != (9, "teacher"))),
        }
        for step, network in itertools.product((5, 9), ("teacher", "student"))
        for k in range(3)
    ]  # fmt: skip
    store.write(
        a_row("runs", **run),
        evaluations=[a_row("evaluations", step=9, network="teacher")],
        class_evaluations=classes,
        labeled_images=[
            a_row("labeled_images", position=i, image_index=start + i, label=label, is_pick=False)
            for i, label in enumerate(labels)
        ],
        predictions=[
            {"network": network, "image_index": i, "guess": guess if network == "last" else 0,
             "doubt": 0.1}
            for network in ("last", "best_test")
            for i, guess in enumerate(guesses)
        ],
    )  # fmt: skip


BALANCED = np.repeat([0, 1, 2], 10)
NO_CAT = np.repeat([0, 1, 1], 10)
NO_ANT = np.repeat([1, 1, 2], 10)


@pytest.fixture
def store(tmp_path):
    """Set s0 has no cat and is else perfect, set s1 has no ant; two repeats that agree."""
    store = Store(tmp_path, "s")
    for repeat in range(2):
        add_run(store, "s0", repeat, NO_CAT, (0.9, 0.9, 0.1))
        add_run(store, "s1", repeat, NO_ANT, (0.0, 0.8, 0.95))
    return store


def test_the_score_by_hand():
    """6 and 3 of 30 images, 3 in common; even share 10; doubts 0.1 and 0.4."""
    one = predictions([0] * 6 + [1] * 24, 0.1)
    other = predictions([1] * 3 + [0] * 3 + [1] * 24, 0.4)
    agreement, balance, confidence = 3 / 6, (0.6 + 0.3) / 2, (0.9 + 0.6) / 2
    expected = (agreement * balance * confidence) ** (1 / 3)
    assert class_score([one, other], 0, 3) == pytest.approx(expected)
    # A single repeat has no agreement to speak of; too many images are as bad as too few.
    assert class_score([one], 0, 3) == pytest.approx((0.6 * 0.9) ** 0.5)
    assert class_score([one], 1, 3) == pytest.approx((10 / 24 * 0.9) ** 0.5)
    assert class_score([one, other], 2, 3) == 0


def test_scores_agree_with_a_plain_loop(tmp_path):
    rng = np.random.default_rng(0)
    store = Store(tmp_path, "s")
    guesses = {(s, r): rng.integers(0, 3, NUM) for s in (0, 1) for r in range(3)}
    for (s, r), mine in guesses.items():
        add_run(store, f"s{s}", r, mine, (1, 1, 1))
    runs = comparable_runs(store, method="fixmatch", budget=None, label_sets=())
    scores = label_free_scores(store, runs, NAMES)
    for s in (0, 1):
        for k, name in enumerate(NAMES):
            mine = [{i for i in range(NUM) if guesses[s, r][i] == k} for r in range(3)]
            overlaps = [len(mine[a] & mine[b]) / len(mine[a] | mine[b])
                        for a, b in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
            shares = [min(len(m) / 10, 10 / len(m)) for m in mine]
            expected = (np.mean(overlaps) * np.mean(shares) * 0.9) ** (1 / 3)
            assert scores.loc[f"s{s}", name] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rule", ["label-free", "test-accuracy"])
def test_a_failed_class_gets_the_prototype_of_the_set_where_it_did_best(store, rule):
    refined = refine(store, rule=rule)
    assert refined.base == "s0" if rule == "test-accuracy" else refined.base in ("s0", "s1")
    refined = refine(store, rule=rule, base="s0")
    assert refined.sources == ("s0", "s0", "s1")
    assert refined.indices == (0, 1, 5)
    assert refined.labels == (0, 1, 2)
    assert refined.lines()[0].startswith("base: s0")
    assert len(refined.lines()) == 2
    assert "from s1" in refined.lines()[1]
    refined = refine(store, rule=rule, base="s1")
    assert refined.sources == ("s0", "s1", "s1")
    assert refined.indices == (0, 4, 5)


def test_only_the_diagnostic_is_an_oracle(store):
    assert refine(store).oracle == ""
    assert "test set" in refine(store, rule="test-accuracy").oracle


def test_the_default_rule_reads_no_test_label(store, tmp_path):
    """Other test accuracies, the same refined set."""
    other = Store(tmp_path / "other", "s")
    for repeat in range(2):
        add_run(other, "s0", repeat, NO_CAT, (0.0, 0.1, 1.0))
        add_run(other, "s1", repeat, NO_ANT, (1.0, 0.1, 0.0))
    for base in ("s0", "s1"):
        assert refine(store, base=base).indices == refine(other, base=base).indices
        diagnostic = [
            refine(s, base=base, rule="test-accuracy").indices for s in (store, other)
        ]  # fmt: skip
        assert diagnostic[0] != diagnostic[1]


def test_nothing_fails_nothing_is_replaced(store):
    refined = refine(store, base="s0", failed_below=0.0)
    assert refined.sources == ("s0",) * 3
    assert refined.lines()[1] == "no class failed: nothing is replaced"


def test_classes_are_told_by_label_not_by_position(store):
    add_run(store, "s2", 0, BALANCED, (1, 1, 1), labels=(2, 0, 1))
    refined = refine(store, base="s0", label_sets=["s0", "s2"])
    assert refined.sources == ("s0", "s0", "s2")
    assert refined.indices == (0, 1, 6)


def test_rounds_of_self_training_and_other_methods_are_left_out(store):
    add_run(store, "s2", 0, BALANCED, (1, 1, 1), round=1)
    add_run(store, "s3", 0, BALANCED, (1, 1, 1), algorithm="boss", options="{}")
    assert set(refine(store).scores.index) == {"s0", "s1"}
    assert refine(store, label_sets=["s0", "s1"]).indices == refine(store).indices


@pytest.mark.parametrize(("arguments", "message"), [
    ({"method": "boss-4"}, "unknown method"),
    ({"rule": "best"}, "unknown rule"),
    ({"base": "s9"}, "unknown base: 's9'|unknown base 's9'"),
    ({"budget": "paper"}, "unknown budget"),
    ({"label_sets": ["s0"]}, "two label sets or more"),
    ({"label_sets": ["s7"]}, "unknown label set"),
    ({"failed_below": 2}, "failed_below"),
])  # fmt: skip
def test_what_cannot_be_refined_is_refused(store, arguments, message):
    with pytest.raises(InputError, match=message):
        refine(store, **arguments)


def test_unequal_runs_and_missing_predictions_are_refused(store):
    add_run(store, "s2", 0, BALANCED, (1, 1, 1), num_images=20)
    with pytest.raises(InputError, match="differ in num_images"):
        refine(store)
    assert refine(store, label_sets=["s0", "s1"])
    next((store.folder / "predictions").glob("s0-1*")).unlink()
    with pytest.raises(InputError, match="predictions of 1 runs are missing"):
        refine(store, label_sets=["s0", "s1"])
    assert refine(store, label_sets=["s0", "s1"], rule="test-accuracy")


def test_an_oracle_in_a_source_makes_the_refined_set_one(store):
    add_run(store, "s2", 0, BALANCED, (1, 1, 1), oracle="seen before")
    assert refine(store, base="s0", label_sets=["s0", "s2"]).oracle == "seen before"
    assert refine(store, base="s0", label_sets=["s0", "s1"]).oracle == ""
    both = refine(store, base="s0", label_sets=["s0", "s2"], rule="test-accuracy").oracle
    assert both == f"{ORACLE}; seen before"


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Two label sets of digits, trained for a few steps."""
    monkeypatch.chdir(tmp_path)
    place = Runtime(results=tmp_path / "results", study="s")
    for label_set in ("fixmatch:1@10", "fixmatch:2@10"):
        train_run(RUN.with_fields(label_set=label_set), place)
    return Request(study="s", results=place.results, base="fixmatch:1@10")


@pytest.mark.parametrize("rule", ["label-free", "test-accuracy"])
def test_the_file_is_a_label_set(finished, digits, rule):
    request = dataclasses.replace(finished, rule=rule)
    lines = make_refined(request)
    name = "s-fixmatch-refined" + ("" if rule == "label-free" else "-by-test-accuracy")
    assert f"label_set='select:{name}'" in " ".join(lines)
    made = resolve(f"select:{name}", digits)
    assert (
        made.labels == tuple(range(10)) == tuple(digits.train.labels[list(made.indices)].tolist())
    )
    assert bool(made.oracle) == (rule == "test-accuracy")
    sources = [resolve(f"fixmatch:{k}@10", digits).indices for k in (1, 2)]
    assert set(made.indices) <= {*sources[0], *sources[1]}
    assert set(made.indices) != set(sources[0])
    assert request.file.with_suffix(".png").stat().st_size > 1000
    row = perform_and_read(RUN.with_fields(label_set=f"select:{name}"), request)
    assert (row["oracle"] == made.oracle) if made.oracle else pd.isna(row["oracle"])
    with pytest.raises(InputError, match="exists: --force"):
        make_refined(request)
    make_refined(dataclasses.replace(request, overwrite=True))


def perform_and_read(run, request):
    train_run(run, Runtime(results=request.results, study=request.study))
    return Store(request.results, request.study).read("runs", [run.id]).iloc[0]


def test_refining_on_other_data_is_refused(finished, digits, monkeypatch):
    other = data.Dataset("digits", digits.test, digits.train, flip=False)
    monkeypatch.setattr(data, "load", lambda *_: other)
    with pytest.raises(InputError, match="on other data called digits"):
        make_refined(finished)
    with pytest.raises(InputError, match=r"ends in \.json"):
        make_refined(dataclasses.replace(finished, out=Path("x.txt")))


def test_only_repeats_that_all_label_sets_have_count(store):
    """With one repeat there is no agreement, so a set with fewer would look better than it is."""
    before = refine(store).scores
    add_run(store, "s0", 2, NO_CAT, (0.9, 0.9, 0.1))
    pd.testing.assert_frame_equal(refine(store).scores, before)
    add_run(store, "s2", 7, BALANCED, (1, 1, 1))
    with pytest.raises(InputError, match="no repeat of fixmatch has finished on every label set"):
        refine(store)


@pytest.mark.parametrize("name", ["weight_decay", "teacher_decay", "precision", "num_evaluations"])
def test_runs_that_differ_in_any_setting_are_refused(store, name):
    value = "bf16" if name == "precision" else 3
    add_run(store, "s2", 0, BALANCED, (1, 1, 1), **{name: value})
    with pytest.raises(InputError, match=f"differ in {name}"):
        refine(store)


def test_the_file_to_be_written_is_no_source(finished):
    """A refined set that was trained is left out when it is made anew, as before."""
    first = make_refined(finished)
    train_run(
        RUN.with_fields(label_set="select:s-fixmatch-refined"),
        Runtime(results=finished.results, study="s"),
    )
    assert make_refined(dataclasses.replace(finished, overwrite=True)) == first


def test_a_selection_of_the_package_is_not_hidden_by_default(finished):
    with pytest.raises(InputError, match="is a selection of this package"):
        make_refined(dataclasses.replace(finished, study="boss_digits"))


def test_the_refined_set_says_whether_labels_were_consulted(finished):
    assert consulted_labels("fixmatch:1@10")
    assert consulted_labels("select:digits-kmeans-patches-class-centroid")
    assert not consulted_labels("select:digits-kmeans-patches-typiclust")
    assert consulted_labels("select:nowhere")
    make_refined(finished)
    assert json.loads(finished.file.read_text())["consulted_labels"]


def test_nothing_finished_is_said(tmp_path):
    with pytest.raises(InputError, match="no finished run in"):
        refine(Store(tmp_path, "none"))


def test_the_refined_set_of_the_package_is_made_of_the_reference_results(digits):
    store = Store(ROOT / "results" / "reference", "boss_digits")
    refined = refine(store, label_sets=[f"fixmatch:{seed}@10" for seed in range(6)])
    made = resolve("select:boss_digits-fixmatch-refined", digits)
    assert (refined.indices, refined.labels) == (made.indices, made.labels)
