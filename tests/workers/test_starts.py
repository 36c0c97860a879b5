"""A start from an embedding: which images join, with which labels, and what is never looked at."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from boss.api import prepare
from boss.augment import to_float
from boss.data import Dataset
from boss.data.label_sets import resolve, validation_indices
from boss.errors import InputError
from boss.prototypes import embeddings, propagation
from boss.prototypes.propagation import (
    half_whitened,
    neighbor_graph,
    propagate,
)
from boss.results.read import Store
from boss.seeds import stream
from boss.study.study import Study
from boss.training import checkpoint
from boss.training.config import LAYOUTS
from boss.training.probe import Arithmetic
from boss.workers import build, starts
from boss.workers.build import check, labeled_images, start_run
from boss.workers.runtime import Runtime
from boss.workers.scheduler import Stop, execute
from boss.workers.worker import train_run
from tests.training.test_loop import RUN
from tests.workers.test_scheduler import LONG, Recorder, assert_equal_tables, tables

SPEC = "kmeans-patches:16"
ALL = dataclasses.replace(RUN, max_eval_images=None)
STARTED = dataclasses.replace(ALL, start="propagation", embedding=SPEC, num_start=40)
BY_GRAPH = dataclasses.replace(ALL, parent=STARTED, picks_per_class=4, rank_by="graph")
SMOOTHED = dataclasses.replace(BY_GRAPH, rank_by="smoothed", embedding=SPEC)
ENCODED = dataclasses.replace(RUN, encoder="simclr:3@wrn-7-1")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Embeddings that the tests of this file share."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def place(tmp_path, cache):
    (tmp_path / "embeddings").symlink_to(embeddings.cache_of(cache))
    embeddings.cache_of(cache).mkdir(exist_ok=True)
    return Runtime(results=tmp_path, study="s", checkpoint_seconds=0.5)


def expected_selection(found, prototypes, per_class, left_out=()):
    """The plain loop."""
    chosen = []
    for k in range(10):
        mine = [
            (-found.certainty[i], i)
            for i in range(len(found.predictions))
            if found.predictions[i] == k and i not in {*prototypes.indices, *left_out}
        ]
        chosen += [int(i) for _, i in sorted(mine)[:per_class]]
    return chosen


@pytest.mark.parametrize("embedding", [SPEC, f"{SPEC}+manifold:32x8"])
def test_the_most_certain_images_join_the_label_set(embedding, place, digits):
    run = dataclasses.replace(STARTED, embedding=embedding)
    train_run(run, place)
    store = Store(place.results, "s")
    row = store.read("runs", [run.id]).iloc[0]
    labeled = store.read("labeled_images", [run.id])
    prototypes = resolve(RUN.label_set, digits)
    [features] = embeddings.embed(embedding, digits)
    features = features if "+" in embedding else half_whitened(features)
    indices, classes = np.array(prototypes.indices), np.array(prototypes.labels)
    found = propagate(neighbor_graph(features), indices, classes, 10)
    expected = expected_selection(found, prototypes, 40)
    assert row["labels"].tolist() == [*prototypes.indices]
    assert row["label_classes"].tolist() == [*prototypes.labels]
    assert labeled["image_index"].tolist() == [*prototypes.indices, *expected]
    assert labeled["label"].tolist() == [*prototypes.labels, *found.predictions[expected]]
    assert (row["start"], row["embedding"], row["num_start"]) == ("propagation", embedding, 40)
    assert (row["num_picks"], row["round"], row["pick_labels"]) == (400, 0, "pseudo")
    picks = labeled[labeled["is_pick"]]
    assert picks["doubt"].to_numpy() == pytest.approx(1 - found.certainty[expected], abs=5.1e-5)
    wrong = (picks["label"] != picks["true_label"]).sum()
    assert 0 < row["num_wrong_picks"] == wrong < 100
    assert pd.isna(row["oracle"])


@pytest.mark.parametrize("rank_by", ["", "graph", "both", "smoothed"])
def test_images_held_out_and_beyond_the_limit_do_not_join(rank_by, place, digits):
    run = dataclasses.replace(STARTED, num_validation=400, max_eval_images=900)
    if rank_by:
        train_run(run, dataclasses.replace(place, keep_networks=True))
        run = dataclasses.replace(
            run, start="labels", embedding="", num_start=0, parent=run, rank_by=rank_by,
            picks_per_class=40,
        )  # fmt: skip
    labels, selection = labeled_images(run, digits, Store(place.results, "s"))
    held_out = validation_indices(digits.train.labels.numpy(), 400)
    assert len(selection) > 20
    assert not {*selection.indices.tolist()} & {*held_out, *labels.indices[:10]}
    assert selection.indices.max() < 900


def test_another_seed_is_another_embedding(place, digits):
    store = Store(place.results, "s")
    other = dataclasses.replace(STARTED, embedding_seed=1)
    selected = [labeled_images(run, digits, store)[1].indices for run in (STARTED, other)]
    assert selected[0].tolist() != selected[1].tolist()
    first = starts.encoder_for(ENCODED, digits, store, print)
    second = starts.encoder_for(
        dataclasses.replace(ENCODED, embedding_seed=1), digits, store, print
    )
    assert not torch.equal(first.state_dict()["stem.weight"], second.state_dict()["stem.weight"])


def test_hidden_labels_have_no_effect(digits, tmp_path, monkeypatch):
    """All labels but those of the label set replaced by noise: the same training, in both rounds,
    however the second is ranked."""
    prototypes = resolve(RUN.label_set, digits)
    noise = torch.randint(10, digits.train.labels.shape, generator=stream("noise"))
    noise[list(prototypes.indices)] = torch.tensor(prototypes.labels)
    hidden = Dataset(digits.name, digits.train.relabel(noise), digits.test, flip=digits.flip)
    monkeypatch.setattr(build, "resolve", lambda *_: prototypes)  # its choice may use labels
    rounds = [dataclasses.replace(BY_GRAPH, rank_by=by) for by in ("graph", "both")]
    rounds.append(SMOOTHED)
    seen = []
    for name, dataset in (("truth", digits), ("noise", hidden)):
        monkeypatch.setattr(build.data, "load", lambda *_, dataset=dataset: dataset)
        monkeypatch.setattr(build.data, "stamp", lambda *_, name=name: name)
        where = Runtime(results=tmp_path / name, study="s", keep_networks=True)
        for run in (STARTED, *rounds):
            train_run(run, where)
        store = Store(where.results, "s")
        runs = [STARTED, *rounds]
        rows = store.read("runs", [run.id for run in runs]).set_index("run_id")
        seen.append(
            [
                (
                    [rows.loc[run.id, c].tolist() for c in ("labels", "label_classes")],
                    checkpoint.load(store.network(run.id))["teacher"],
                )
                for run in runs
            ]
        )
    for (labels, weights), (other_labels, other_weights) in zip(*seen, strict=True):
        assert labels == other_labels
        assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


@pytest.mark.parametrize("embedding", ["", SPEC, f"{SPEC}+manifold:32x8"])
@pytest.mark.parametrize("rank_by", ["graph", "both", "smoothed"])
def test_a_round_ranked_by_the_graph_of_the_teachers_features(rank_by, embedding, place, digits):
    """The plain loop."""
    where = dataclasses.replace(place, networks_needed=frozenset([STARTED.id]))
    train_run(STARTED, where)
    store = Store(place.results, "s")
    child = dataclasses.replace(BY_GRAPH, rank_by=rank_by, embedding=embedding)
    labels, selection = labeled_images(child, digits, store)
    prototypes = resolve(RUN.label_set, digits)
    teacher = start_run(RUN, digits, torch.device("cpu")).teacher
    teacher.load_state_dict(checkpoint.load(store.network(STARTED.id))["teacher"])
    with torch.no_grad():
        features = teacher.features(to_float(digits.train.images))
        probs = teacher.classify(features).double().softmax(dim=1).numpy()
    features = half_whitened(features.numpy())
    if embedding:
        [other] = embeddings.embed(embedding, digits)
        both = features, other if "+" in embedding else half_whitened(other)
        lengths = [np.sqrt((kind**2).sum(axis=1).mean()) for kind in both]
        features = np.hstack([kind / length for kind, length in zip(both, lengths, strict=True)])
    graph = neighbor_graph(features)
    balanced = probs / probs.sum(axis=0)
    balanced /= balanced.sum(axis=1, keepdims=True)
    if rank_by == "smoothed":
        for index, label in zip(prototypes.indices, prototypes.labels, strict=True):
            balanced[index] = np.eye(10)[label]
        scores = np.linalg.solve(np.eye(len(probs)) - 0.9 * graph.toarray(), balanced)
        scores /= scores.sum(axis=0)
    else:
        indices, classes = np.array(prototypes.indices), np.array(prototypes.labels)
        scores = propagate(graph, indices, classes, 10).scores
        if rank_by == "both":
            scores = scores * balanced
    found = propagation.of_scores(scores / scores.sum(axis=1, keepdims=True))
    assert selection.indices.tolist() == expected_selection(found, prototypes, 4)
    assert labels.labels[10:] == tuple(found.predictions[selection.indices])


def test_the_scheduler_keeps_the_networks_that_children_read(place):
    study = Study(reproduces="", runs=lambda budget: [BY_GRAPH], name="s")
    plan = prepare(study, study.enumerate(), results=place.results, device="cpu", workers=1)
    assert plan.runs == [STARTED, BY_GRAPH]
    outcomes = execute(plan.waiting, plan.runtime, plan.devices, Recorder(), Stop())
    assert [outcome.state for outcome in outcomes] == ["finished"] * 2
    assert plan.store.network(STARTED.id).exists()
    assert not plan.store.network(BY_GRAPH.id).exists()


def test_a_finished_parent_without_its_network_is_one_line(place):
    train_run(STARTED, place)
    study = Study(reproduces="", runs=lambda budget: [BY_GRAPH], name="s")
    with pytest.raises(
        InputError, match=r"'graph' needs the network of .* train it again"
    ) as error:
        prepare(study, study.enumerate(), results=place.results, device="cpu")
    assert "\n" not in str(error.value)


def test_a_run_starts_from_the_weights_of_an_encoder(place, digits):
    store = Store(place.results, "s")
    encoder = starts.encoder_for(ENCODED, digits, store, print)
    training = start_run(ENCODED, digits, torch.device("cpu"), encoder)
    fresh = start_run(RUN, digits, torch.device("cpu"))
    own, random = training.student.state_dict(), fresh.student.state_dict()
    for name, value in encoder.state_dict().items():
        if name.startswith("classify."):
            assert torch.equal(own[name], random[name])
        else:
            assert torch.equal(own[name], value)
            assert torch.equal(training.teacher.state_dict()[name], value)
    train_run(ENCODED, place)
    row = store.read("runs", [ENCODED.id]).iloc[0]
    assert (row["encoder"], row["num_picks"]) == (ENCODED.encoder, 0)


@pytest.mark.parametrize("run", [STARTED, ENCODED], ids=["propagation", "encoder"])
def test_a_stop_while_the_embedding_is_computed(run, tmp_path, cache):
    """Nothing is lost but the embedding, and the rows are those of a run without the stop."""
    run = dataclasses.replace(run, embedding_seed=3)
    stopped = Runtime(results=tmp_path / "stopped", study="s", checkpoint_seconds=0.5)
    notes = []
    assert train_run(run, stopped, should_stop=lambda: True, report=notes.append) == "interrupted"
    assert "note" in notes[0]
    assert not Store(stopped.results, "s").has_parts(run.id)
    assert train_run(run, stopped) == "finished"
    whole = dataclasses.replace(stopped, results=tmp_path / "whole")
    train_run(run, whole)
    assert_equal_tables(tables(stopped), tables(whole))


def test_a_stop_while_training_resumes_exactly(place, tmp_path):
    run = dataclasses.replace(
        LONG, start="propagation", embedding=SPEC, num_start=5, encoder=ENCODED.encoder
    )
    steps = []

    def report(progress):
        if "step" in progress:
            steps.append(progress["step"])

    assert train_run(run, place, should_stop=lambda: len(steps) > 1, report=report) == "interrupted"
    assert checkpoint.load(Store(place.results, "s").state_folder(run.id) / "checkpoint.pt")
    reached = steps[-1]
    steps.clear()
    assert train_run(run, place, report=report) == "finished"
    assert 0 < reached <= steps[0]
    whole = dataclasses.replace(place, results=tmp_path / "whole")
    train_run(run, whole)
    assert_equal_tables(tables(place), tables(whole))


def test_the_layout_of_the_first_attempt_is_kept(place, tmp_path):
    """A resumed run does not probe again: it might find otherwise."""
    asked = iter([False, False, True])
    first = dataclasses.replace(place, layout="contiguous")
    assert train_run(LONG, first, should_stop=lambda: next(asked)) == "interrupted"
    train_run(LONG, dataclasses.replace(place, layout="channels_last"))
    row = Store(place.results, "s").read("runs").iloc[0]
    assert (row["layout"], row["computed_in"]) == ("contiguous", "fp32")
    train_run(LONG, dataclasses.replace(place, results=tmp_path / "other"))
    row = Store(tmp_path / "other", "s").read("runs").iloc[0]
    assert row["layout"] == LAYOUTS[0]


def test_auto_trains_in_what_the_row_says(place, digits, tmp_path, monkeypatch):
    """As the same run does whose precision is named."""
    run = dataclasses.replace(RUN, precision="auto")
    monkeypatch.setattr(build, "fastest", lambda *_, **__: Arithmetic("contiguous", "bf16"))
    train_run(run, place)
    row = Store(place.results, "s").read("runs").iloc[0]
    assert (row["precision"], row["layout"], row["computed_in"]) == ("auto", "contiguous", "bf16")
    named = dataclasses.replace(place, results=tmp_path / "named", layout="contiguous")
    train_run(dataclasses.replace(RUN, precision="bf16"), named)
    mine, theirs = (Store(w.results, "s").read("evaluations") for w in (place, named))
    assert mine["test_loss"].tolist() == theirs["test_loss"].tolist()


def test_networks_are_kept_for_rounds_that_are_asked_for_later(place):
    study = Study(reproduces="", runs=lambda budget: [STARTED, BY_GRAPH], name="s")
    plan = prepare(study, [STARTED], results=place.results, device="cpu", workers=1)
    execute(plan.waiting, plan.runtime, plan.devices, Recorder(), Stop())
    assert plan.store.network(STARTED.id).exists()
    assert prepare(study, study.enumerate(), results=place.results, device="cpu").waiting == [
        BY_GRAPH
    ]


@pytest.mark.parametrize(("changes", "message"), [
    ({"start": "embedding"}, "start"),
    ({"deterministic": True, "precision": "auto"}, "a deterministic run names its precision"),
    ({"start": "propagation"}, "needs an embedding"),
    ({"start": "propagation", "embedding": SPEC}, "needs num_start, at least 1"),
    ({"embedding": SPEC}, "an embedding is for start='propagation' and for rounds with rank_by="),
    ({"num_start": 3}, "num_start is for start='propagation'"),
    ({"embedding_seed": 1}, "embedding_seed has no effect"),
    ({"parent": RUN, "picks_per_class": 1, "rank_by": "smoothed", "embedding": SPEC,
      "num_start": 1}, "num_start is for start='propagation'"),
    ({"parent": RUN, "picks_per_class": 1, "embedding": SPEC}, "rank_by=graph, both, smoothed"),
    ({"start": "propagation", "embedding": SPEC, "num_start": 3, "parent": RUN,
      "picks_per_class": 1}, "leave start out"),
])  # fmt: skip
def test_settings_that_have_no_effect_or_lack_another(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(RUN, **changes)


@pytest.mark.parametrize(("changes", "message"), [
    ({"embedding": "resnet"}, "unknown embedding 'resnet'"),
    ({"embedding": "teacher:x.pt"}, "depends on a file, by which no run can be repeated"),
    ({"encoder": SPEC}, "kmeans-patches:16 trains no encoder"),
    ({"embedding": "kmeans-patches"}, "write kmeans-patches:400 in place of kmeans-patches, so"),
    ({"embedding": "manifold:99"}, "write manifold:99x64 in place of manifold:99"),
    ({"encoder": "simclr@wrn-7-1"}, "write simclr:2000@wrn-7-1 in place of simclr@wrn-7-1"),
    ({"encoder": "simclr:3@fast-8-16"}, "is a fast-8-16, the network of the run a wrn-7-1"),
])  # fmt: skip
def test_what_cannot_be_started_from_is_said_before_training(changes, message, place):
    with pytest.raises(InputError, match=message):
        check([dataclasses.replace(STARTED, **changes)], place)


def test_a_device_that_does_not_round_convolutions_says_so(place, monkeypatch):
    run = dataclasses.replace(RUN, precision="bf16-conv")
    monkeypatch.setattr(build, "precisions_of", lambda device: ("fp32", "bf16"))
    with pytest.raises(InputError, match="bf16-conv: cpu does not round convolutions"):
        check([run], place)
    check([dataclasses.replace(RUN, precision="bf16")], place)


def test_ids_and_titles():
    """Runs without a start keep the ids that they had."""
    assert RUN.id == "e7f7f05ee19c1ae5"
    assert len({RUN.id, STARTED.id, ENCODED.id, BY_GRAPH.id}) == 4
    assert STARTED.title == f"{RUN.title} (+40 by propagation)"
    assert BY_GRAPH.title == f"{RUN.title} (round 1 of fixmatch, +4, by graph)"


def test_what_a_start_cost_is_noted_once(digits, tmp_path):
    """An encoder whose features are the embedding counts once; what is cached counts, too."""
    run = dataclasses.replace(STARTED, embedding=ENCODED.encoder, encoder=ENCODED.encoder)
    where = Runtime(results=tmp_path, study="s")
    train_run(run, where)
    row = Store(tmp_path, "s").read("runs").iloc[0]
    assert 0 < row["processor_seconds"] < 60
    assert 0 < row["start_processor_seconds"] < 60
    cache = embeddings.cache_of(tmp_path)
    [features], [network] = cache.glob("simclr-*.json"), cache.glob("simclr-*.pt")
    trained = checkpoint.load(network)
    assert 0 < trained["processor_seconds"] < row["start_processor_seconds"]
    checkpoint.save(network, trained | {"processor_seconds": 5000.0})
    noted = json.loads(features.read_text())
    features.write_text(json.dumps(noted | {"processor_seconds": 1000.0}))
    store = Store(tmp_path, "s")
    _, selection = labeled_images(run, digits, store)
    took = starts.processor_seconds(run, digits, selection, store)
    neighbors = selection.neighbors_seconds  # noted when they were found
    assert 0 < neighbors < 60
    assert took == pytest.approx(6000 + neighbors + selection.processor_seconds)
    assert 0 < selection.processor_seconds < 60
    alone = dataclasses.replace(RUN, encoder=ENCODED.encoder)
    assert starts.processor_seconds(alone, digits, None, store) == 5000
    assert starts.processor_seconds(RUN, digits, None, store) is None
    of_child = dataclasses.replace(selection, neighbors_seconds=0.0)
    seconds = pytest.approx(of_child.processor_seconds)
    child = dataclasses.replace(BY_GRAPH, parent=run, rank_by="last", encoder=run.encoder)
    assert starts.processor_seconds(child, digits, of_child, store) == seconds
    both = f"{run.embedding}+manifold:32x8"
    embeddings.embed(both, digits, cache=cache)
    costs = [
        json.loads(path.read_text())["processor_seconds"]
        for name in ("joined", "manifold")
        for path in cache.glob(f"{name}-*.json")
    ]
    assert len(costs) == 2
    child = dataclasses.replace(child, rank_by="both", embedding=both)  # its first part is paid
    took = starts.processor_seconds(child, digits, of_child, store)
    assert took == pytest.approx(sum(costs) + of_child.processor_seconds)
    grandchild = dataclasses.replace(child, parent=child)
    assert starts.processor_seconds(grandchild, digits, of_child, store) == seconds
    features.unlink()  # as from before costs were noted
    assert starts.processor_seconds(run, digits, selection, store) is None
