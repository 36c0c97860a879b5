"""The loop: schedule, decay, averaging, resume, logs; by hand and against plain code."""

import copy
import dataclasses
import json
import math
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from boss import models
from boss.algorithms import StepLoss
from boss.augment import CTAugment, RandAugment, Weak, to_float
from boss.data.label_sets import resolve, validation_indices
from boss.errors import InputError
from boss.seeds import EpochOrder, Streams, stream
from boss.study.run import Run
from boss.training import checkpoint
from boss.training.evaluate import evaluate
from boss.training.loop import train
from boss.training.state import NonFiniteLossError, Totals, make_teacher
from boss.workers.build import start_run, train_config, training_data
from tests.algorithms.test_contract import NoSynchronization

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parents[1] / "golden_losses.json"
RUN = Run(
    dataset="digits",
    algorithm="fixmatch",
    label_set="fixmatch:1@10",
    repeat=0,
    network="wrn-7-1",
    num_images=12 * 8,
    batch_size=8,
    unlabeled_ratio=2,
    teacher_decay=0.9,
    norm_momentum=0.1,
    num_evaluations=3,
    max_eval_images=100,
    options={"threshold": 0.14},
)


def prepare(run, dataset):
    return prepare_on(run, dataset, CPU)


def prepare_on(run, dataset, device):
    labels = resolve(run.label_set, dataset)
    return start_run(run, dataset, device), training_data(run, dataset, labels, device)


def train_run(run, dataset, **hooks):
    training, data = prepare(run, dataset)
    done = train(training, data, train_config(run), key=run.stream_key, **hooks)
    return training, done


def weights(network):
    return torch.cat([p.detach().flatten().double() for p in network.parameters()])


def test_learning_rate_by_hand():
    config = train_config(
        dataclasses.replace(RUN, num_images=100, batch_size=50, learning_rate=0.03)
    )
    assert config.num_steps == 2
    assert config.learning_rate_at(0) == 0.03
    assert config.learning_rate_at(1) == pytest.approx(0.03 * math.cos(7 * math.pi / 32))
    assert config.learning_rate_at(2) / 0.03 == pytest.approx(0.19509, abs=1e-5)
    assert config.learning_rate_at(99) == config.learning_rate_at(2)  # clipped at the end


def test_the_schedule_counts_images_not_steps():
    half = train_config(dataclasses.replace(RUN, num_images=960, batch_size=30))
    assert half.num_steps == 32
    assert half.progress(16) == 0.5
    assert train_config(dataclasses.replace(RUN, num_images=961, batch_size=30)).num_steps == 33


@pytest.mark.parametrize(("steps", "evaluations", "expected"), [
    (12, 3, {4, 8, 12}), (10, 4, {2, 5, 8, 10}), (2, 20, {1, 2}), (5, 1, {5}),
])  # fmt: skip
def test_evaluations_are_evenly_spaced_and_end_with_the_last_step(steps, evaluations, expected):
    run = dataclasses.replace(RUN, num_images=steps * 8, num_evaluations=evaluations)
    assert train_config(run).evaluation_steps() == expected


def test_only_kernels_decay(digits):
    training, _ = prepare(RUN, digits)
    decayed, free = training.optimizer.param_groups
    assert decayed["weight_decay"] == RUN.weight_decay
    assert free["weight_decay"] == 0
    kernels = [p for n, p in training.student.named_parameters() if n.endswith("weight")]
    kernels = [p for p in kernels if p.ndim in (2, 4)]
    assert {id(p) for p in decayed["params"]} == {id(p) for p in kernels}
    everything = {id(p) for p in training.student.parameters()}
    assert {id(p) for p in decayed["params"] + free["params"]} == everything
    assert decayed["nesterov"]
    assert decayed["dampening"] == 0


def test_the_teacher_shares_running_statistics_and_nothing_else(digits):
    training, _ = prepare(RUN, digits)
    student, teacher = training.student, training.teacher
    student(torch.randn(4, 1, 8, 8))
    assert torch.equal(student.norm.running_mean, teacher.norm.running_mean)
    assert student.norm.running_mean.any()
    mine = {p.data_ptr() for p in teacher.parameters()}
    assert mine.isdisjoint(p.data_ptr() for p in student.parameters())


def test_one_step_equals_plain_code(digits):
    """Batch, joint pass, loss, Nesterov step, decay and average, written out with torch basics."""
    run = dataclasses.replace(RUN, num_images=8, precision="fp64", num_evaluations=1)
    training, data = prepare(run, digits)
    network = copy.deepcopy(training.student)
    streams, key = Streams(*run.stream_key, device=CPU), run.stream_key
    train(training, data, train_config(run), key=key)

    weak, strong = Weak(8, flip=False, device=CPU), RandAugment(8, device=CPU)
    picks = torch.randint(10, (8,), generator=streams["labeled order"])
    x = data.labeled.images[picks]
    x = weak(x, weak.draw(8, streams["labeled augmentation"]))
    u = data.unlabeled.images[EpochOrder(1201, 16, *key, "unlabeled order", device=CPU)[0]]
    generator = streams["unlabeled augmentation"]
    first = weak(u, weak.draw(16, generator))
    second = weak(u, weak.draw(16, generator))
    second = to_float(*strong(second, strong.draw(16, generator)), dtype=torch.float64)
    images = torch.cat(
        [to_float(x, dtype=torch.float64), to_float(first, dtype=torch.float64), second]
    )
    logits = network(images).split([8, 16, 16])
    probs = logits[1].detach().softmax(1)
    ce = torch.nn.CrossEntropyLoss(reduction="none")
    mask = probs.max(1).values >= 0.14
    assert 0 < mask.sum() < 16
    unlabeled = ce(logits[2], probs.argmax(1))[mask].sum() / 16
    (ce(logits[0], data.labeled.labels[picks]).mean() + unlabeled).backward()
    parameters = zip(
        network.parameters(), training.student.parameters(), training.teacher.parameters(),
        strict=True,
    )  # fmt: skip
    for before, after, averaged in parameters:
        decay = 5e-4 if before.ndim > 1 else 0.0
        gradient = before.grad + decay * before.detach()
        # The first Nesterov step: the velocity is the gradient, the step gradient + momentum * it.
        expected = before.detach() - 0.03 * (gradient + 0.9 * gradient)
        torch.testing.assert_close(after.detach(), expected, rtol=1e-9, atol=1e-12)
        mean = 0.9 * before.detach() + 0.1 * expected
        torch.testing.assert_close(averaged, mean, rtol=1e-9, atol=1e-12)


# Thresholds so low that some images are used within a few steps.
PINNED = {
    "supervised": {},
    "pi_model": {},
    "pseudo_label": {"threshold": 0.14},
    "mean_teacher": {},
    "vat": {},
    "mixmatch": {},
    "remixmatch": {},
    "uda": {"threshold": 0.14},
    "fixmatch": {"threshold": 0.14},
    "flexmatch": {"threshold": 0.14},
    "freematch": {},
    "boss": {"threshold": 0.5},
}


@pytest.mark.parametrize("name", PINNED)
def test_golden_losses(digits, name):
    """A change that should not alter results leaves these as they are.

    In double precision, so that they hold on every machine. To renew them after a change that
    should: delete the entry, run this test, and say so in the commit.
    """
    run = dataclasses.replace(
        RUN, algorithm=name, options=PINNED[name], precision="fp64", num_evaluations=12,
        unlabeled_ratio=0 if name == "supervised" else RUN.unlabeled_ratio,
    )  # fmt: skip
    training, _ = train_run(run, digits)
    columns = ("supervised_loss", "unsupervised_loss", "used_share", "test_loss")
    losses = [
        [0.0 if row[column] is None else row[column] for column in columns]
        for row in training.evaluations
        if row["network"] == "teacher"
    ]
    golden = json.loads(GOLDEN.read_text())
    if name not in golden:
        GOLDEN.write_text(json.dumps(golden | {name: losses}) + "\n")
        pytest.fail(f"{GOLDEN.name} had no losses of {name}: they have been written")
    assert len(losses) == len(golden[name]) == 12
    for mine, theirs in zip(losses, golden[name], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)


def test_the_same_run_gives_the_same_bits_whatever_the_global_seed(digits):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        training, _ = train_run(RUN, digits)
        results.append(
            (weights(training.teacher), training.evaluations, training.class_evaluations)
        )
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]


@pytest.mark.parametrize("stop_at", [1, 4, 5, 11])
def test_resuming_gives_the_same_bits(digits, tmp_path, stop_at):
    whole, _ = train_run(RUN, digits)
    first, data = prepare(RUN, digits)
    config, key = train_config(RUN), (RUN.label_set, RUN.repeat)
    assert not train(first, data, config, key=key, should_stop=lambda: first.step == stop_at)
    checkpoint.save(tmp_path / "c.pt", {"training": first.state_dict()})

    second, data = prepare(RUN, digits)
    second.load_state_dict(checkpoint.load(tmp_path / "c.pt")["training"])
    assert second.step == stop_at
    assert train(second, data, config, key=key)
    assert torch.equal(weights(whole.student), weights(second.student))
    assert torch.equal(weights(whole.teacher), weights(second.teacher))
    assert whole.evaluations == second.evaluations
    assert whole.class_evaluations == second.class_evaluations
    for a, b in zip(whole.student.buffers(), second.teacher.buffers(), strict=True):
        assert torch.equal(a, b)


def test_a_damaged_checkpoint_counts_as_none(tmp_path):
    path = tmp_path / "c.pt"
    assert checkpoint.load(path) is None
    checkpoint.save(path, {"x": torch.arange(1000)})
    assert checkpoint.load(path)["x"][-1] == 999
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"nonsense"):
        path.write_bytes(damaged)
        assert checkpoint.load(path) is None
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]  # no temporary file is left


def test_true_labels_of_unlabeled_images_have_no_effect_on_the_networks(digits):
    def hidden(labels):
        training, data = prepare(RUN, digits)
        data = data._replace(unlabeled=dataclasses.replace(data.unlabeled, labels=labels))
        train(training, data, train_config(RUN), key=("k",))
        return training

    truth = digits.train.labels
    noise = torch.randint(10, truth.shape, generator=stream("noise"))
    one, other = hidden(truth), hidden(noise)
    assert torch.equal(weights(one.student), weights(other.student))
    # ... but the logs do look at them.
    accuracies = [t.evaluations[-1]["pseudo_label_accuracy"] for t in (one, other)]
    assert accuracies[0] != accuracies[1]


CHANGES = {
    "label_set": "fixmatch:2@10",
    "repeat": 1,
    "network": "wrn-7-2",
    "num_images": 11 * 8,
    "batch_size": 16,
    "unlabeled_ratio": 3,
    "learning_rate": 0.02,
    "momentum": 0.8,
    "weight_decay": 0.1,
    "teacher_decay": 0.8,
    "norm_momentum": 0.2,
    "num_validation": 100,
    "num_evaluations": 4,
    "max_eval_images": 50,
    "precision": "bf16",
    "options": {"threshold": 0.5},
    "algorithm": "supervised",
    "augmentation": "ctaugment",
    "optimizer": "adam",
    "nesterov": False,
    "beta2": 0.5,
    "schedule": "constant",
    "final_learning_rate": 0.01,
}
# What else a setting needs to have an effect.
TOGETHER = {"beta2": {"optimizer": "adam"}, "final_learning_rate": {"schedule": "linear"}}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_matters(digits, name):
    changes = {name: CHANGES[name]}
    if name == "algorithm":
        changes |= {"unlabeled_ratio": 0, "options": {}}
    run = dataclasses.replace(RUN, **TOGETHER.get(name, {}))
    base, _ = train_run(run, digits)
    changed, _ = train_run(dataclasses.replace(run, **changes), digits)
    rows = (base.evaluations, changed.evaluations)
    assert rows[0] != rows[1]
    if name not in ("num_evaluations", "max_eval_images", "network"):
        if name == "norm_momentum":
            pair = [t.student.norm.running_mean for t in (base, changed)]
        else:
            pair = [weights(t.teacher) for t in (base, changed)]
        assert not torch.equal(*pair)


def test_every_field_of_a_run_is_covered():
    fields = {f.name for f in dataclasses.fields(Run)}
    # The data set is in every test; the budget is a name; determinism does not change a CPU.
    plain = {"dataset", "budget", "deterministic"}
    # These have tests of their own.
    of_self_training = {"parent", "picks_per_class", "pick_labels", "rank_by"}
    of_start = {"start", "embedding", "num_start", "encoder", "embedding_seed"}
    assert fields - set(CHANGES) == plain | of_self_training | of_start


def test_the_best_weights_are_those_of_the_highest_test_accuracy(digits):
    """Of either network, at the evaluation that reached it first; kept by a checkpoint."""
    for repeat in range(8):  # processors round differently: which run peaks early is theirs
        run = dataclasses.replace(
            RUN, repeat=repeat, num_images=40 * 8, num_evaluations=20, learning_rate=0.2
        )
        training, _ = train_run(run, digits)
        accuracies = [row["test_accuracy"] for row in training.evaluations]
        best = training.evaluations[accuracies.index(max(accuracies))]
        if best["step"] < 40:
            break
    assert best["step"] < 40
    again, data = prepare(run, digits)
    train(again, data, train_config(run), key=run.stream_key,
          should_stop=lambda: again.step == best["step"])  # fmt: skip
    network = getattr(again, best["network"])
    for key, value in network.state_dict().items():
        assert torch.equal(training.best_weights[key], value), key
    assert training.best_accuracy == max(accuracies)
    other, _ = prepare(run, digits)
    other.load_state_dict(training.state_dict())
    assert other.best_weights.keys() == training.best_weights.keys()
    assert other.best_accuracy == training.best_accuracy


def test_the_best_weights_stay_while_nothing_is_better(digits):
    """Equal accuracies: the first evaluation, of the teacher, keeps its place."""
    run = dataclasses.replace(RUN, learning_rate=1e-9, max_eval_images=3)
    training, _ = train_run(run, digits)
    assert len({row["test_accuracy"] for row in training.evaluations}) == 1
    first = training.evaluations[0]
    again, data = prepare(run, digits)
    train(again, data, train_config(run), key=run.stream_key,
          should_stop=lambda: again.step == first["step"])  # fmt: skip
    for key, value in again.teacher.state_dict().items():
        assert torch.equal(training.best_weights[key], value), key
    assert not torch.equal(training.best_weights["norm.running_mean"],
                           training.teacher.norm.running_mean)  # fmt: skip


def test_nothing_in_a_step_waits_for_the_device(digits):
    run = dataclasses.replace(RUN, num_images=16)
    training, data = prepare(run, digits)
    config = dataclasses.replace(train_config(run), num_evaluations=1)
    steps = []

    def stop():
        return training.step == 1  # before the evaluation, which may wait

    with NoSynchronization():
        try:
            train(training, data, config, key=("k",), should_stop=stop, report=steps.append)
        except AssertionError:
            if training.step == 0:
                raise
    assert len(steps) == 1


def test_a_loss_that_is_not_finite_names_its_step(digits):
    training, data = prepare(RUN, digits)

    def spoil(t):
        if t.step == 5:
            with torch.no_grad():
                next(t.student.parameters()).fill_(math.inf)

    with pytest.raises(NonFiniteLossError, match="at step 6"):
        train(training, data, train_config(RUN), key=("k",), report=spoil)


def test_logs_by_hand(digits):
    """The rows of the first evaluation, from the sums of the steps before it."""
    seen = []
    # Evaluated after steps 4, 8 and 12; some of the pseudo-labels are used.
    run = dataclasses.replace(RUN, num_evaluations=3, options={"threshold": 0.2})
    training, data = prepare(run, digits)
    original = training.algorithm.loss

    def spy(batch, context):
        losses = original(batch, context)
        seen.append((losses, data.unlabeled.labels[batch.u_index]))
        return losses

    training.algorithm.loss = spy
    train(training, data, train_config(run), key=("k",))
    assert any(0 < losses.used.sum() < 16 for losses, _ in seen)
    for i, row in enumerate(training.evaluations[::2]):
        steps = seen[4 * i : 4 * i + 4]
        used = torch.cat([s.used for s, _ in steps]).bool()
        guess = torch.cat([s.pseudo_label for s, _ in steps])
        truth = torch.cat([t for _, t in steps])
        assert (row["step"], row["images_seen"]) == (4 * i + 4, 32 * i + 32)
        assert row["supervised_loss"] == pytest.approx(
            sum(s.supervised.item() for s, _ in steps) / 4
        )
        mean = sum(s.unsupervised.item() for s, _ in steps) / 4
        assert row["unsupervised_loss"] == pytest.approx(mean)
        assert row["used_share"] == pytest.approx(used.sum().item() / 64)
        right = (guess == truth)[used].double()
        expected = right.mean().item() if used.any() else None
        assert row["pseudo_label_accuracy"] == (expected and pytest.approx(expected))
        classes = training.class_evaluations[20 * i : 20 * i + 10]
        for k, of_class in enumerate(classes):
            assert of_class["class_index"] == k
            assert of_class["predicted_count"] == (guess == k).sum()
            assert of_class["pseudo_label_count"] == (guess[used] == k).sum()
        assert sum(c["test_count"] for c in classes) == 100
    confusion = evaluate(training.teacher, data.test).confusion.tolist()
    for k, row in enumerate(training.class_evaluations[-20:-10]):  # the teacher, at the end
        wrong = [count if j != k else 0 for j, count in enumerate(confusion[k])]
        assert row["confused_count"] == max(wrong)
        assert row["confused_with"] == (wrong.index(max(wrong)) if any(wrong) else None)
        assert row["test_accuracy"] * row["test_count"] == pytest.approx(confusion[k][k])


def test_evaluation_equals_a_plain_loop(digits):
    network = models.build(
        "wrn-7-1", channels=1, num_classes=10, norm_momentum=0.1, generator=stream(0)
    )
    network.train()(torch.randn(8, 1, 8, 8))  # so that statistics are not the initial ones
    result = evaluate(network, digits.test, batch_size=77)
    assert network.training
    network.eval()
    confusion, loss = [[0] * 10 for _ in range(10)], 0.0
    with torch.no_grad():
        for image, y in zip(digits.test.images, digits.test.labels.tolist(), strict=True):
            logits = network(to_float(image[None]))[0]
            confusion[y][int(logits.argmax())] += 1
            loss -= float(logits.log_softmax(0)[y])
    correct = [confusion[k][k] for k in range(10)]
    assert 0 < sum(correct) < len(digits.test)
    assert result.confusion.tolist() == confusion
    assert result.correct.tolist() == correct
    assert result.total.tolist() == torch.bincount(digits.test.labels).tolist()
    assert result.mean_loss == pytest.approx(loss / len(digits.test), rel=1e-4)
    assert result.accuracy == sum(correct) / len(digits.test)


def test_the_teacher_is_a_copy_with_shared_buffers():
    student = torch.nn.BatchNorm1d(2)
    teacher = make_teacher(student)
    student.train()(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert torch.equal(teacher.running_mean, student.running_mean)
    assert not teacher.weight.requires_grad
    assert not teacher.training


def counter(images):
    return Counter(image.numpy().tobytes() for image in images.images)


@pytest.mark.parametrize("label_set", ["fixmatch:0@10", "fixmatch:1@10"])
def test_who_is_in_which_set(digits, label_set):
    """Image by image: pool, held-out, labeled and validation images; on a file sorted by class."""
    by_class = digits.train.labels.argsort(stable=True)
    digits = dataclasses.replace(digits, train=digits.train.subset(by_class))
    everything = counter(digits.train)
    labels = resolve(label_set, digits)
    data = training_data(RUN, digits, labels, CPU)
    assert counter(data.unlabeled) == everything  # the labeled ones stay in
    assert data.validation is None
    assert counter(data.labeled) == counter(digits.train.subset(labels.indices))
    assert data.labeled.labels.tolist() == digits.train.labels[list(labels.indices)].tolist()

    data = training_data(dataclasses.replace(RUN, num_validation=100), digits, labels, CPU)
    held_out = validation_indices(digits.train.labels.numpy(), 100).tolist()
    assert counter(data.unlabeled) == everything - counter(digits.train.subset(held_out))
    not_labeled = [i for i in held_out if i not in labels.indices]
    assert len(not_labeled) == (90 if label_set == "fixmatch:0@10" else 98)
    assert counter(data.validation) == counter(digits.train.subset(not_labeled))
    assert counter(data.test) == counter(digits.test.subset(range(100)))  # max_eval_images

    few = dataclasses.replace(RUN, num_validation=100, max_eval_images=7)
    assert len(training_data(few, digits, labels, CPU).validation) == 7


def test_labels_from_a_file_are_the_ones_trained_on(digits):
    labels = resolve("fixmatch:1@10", digits)
    labels = dataclasses.replace(labels, labels=tuple(9 - k for k in labels.labels))
    data = training_data(RUN, digits, labels, CPU)
    assert data.labeled.labels.tolist() == list(labels.labels)


def test_validation_accuracy_and_learning_rate_in_the_rows(digits):
    run = dataclasses.replace(RUN, num_validation=300, max_eval_images=None)
    training, data = prepare(run, digits)
    train(training, data, train_config(run), key=("k",))
    for row in training.evaluations[-2:]:
        network = getattr(training, row["network"])
        assert row["validation_accuracy"] == evaluate(network, data.validation).accuracy
        assert row["test_accuracy"] == evaluate(network, data.test).accuracy
        assert row["learning_rate"] == train_config(run).learning_rate_at(11)
    assert (
        training.evaluations[-1]["validation_accuracy"] != training.evaluations[-1]["test_accuracy"]
    )


def test_a_last_update_that_spoils_the_network_is_found(digits):
    training, data = prepare(RUN, digits)
    step = training.optimizer.step

    def spoil():
        step()
        if training.step == 11:
            with torch.no_grad():
                next(training.student.parameters()).fill_(math.nan)

    training.optimizer.step = spoil
    with pytest.raises(NonFiniteLossError, match="test loss is not finite after step 12"):
        train(training, data, train_config(RUN), key=("k",))


def test_seconds_are_those_on_the_wall(digits):
    training, data = prepare(RUN, digits)
    began = time.perf_counter()
    train(training, data, train_config(RUN), key=("k",), report=lambda t: time.sleep(0.02))
    wall = time.perf_counter() - began
    assert 11 * 0.02 < training.seconds < wall


def test_unlabeled_images_of_unknown_class_are_learned_from_and_not_scored(digits):
    """Twice as many unlabeled images, of which half have no class."""
    extra = digits.train.images.flip(0)
    with_extra = dataclasses.replace(digits, unlabeled=extra)
    training, data = prepare(RUN, with_extra)
    assert torch.equal(data.unlabeled.images, torch.cat([digits.train.images, extra]))
    assert torch.equal(data.unlabeled.labels[:1201], digits.train.labels)
    assert (data.unlabeled.labels[1201:] == -1).all()
    assert train(training, data, train_config(RUN), key=("k",))
    seen = torch.cat(
        [EpochOrder(2402, 16, "k", "unlabeled order", device=CPU)[step] for step in range(12)]
    )
    assert 0 < (seen >= 1201).sum() < len(seen)
    everyone = [r for r in training.class_evaluations if r["network"] == "teacher"]
    assert sum(row["predicted_count"] for row in everyone) == len(seen)
    assert 0 < sum(row["pseudo_label_count"] for row in everyone) <= len(seen)
    rates = [row["pseudo_label_accuracy"] for row in training.evaluations]
    assert all(0 < rate < 1 for rate in rates)
    # Where no class is known there is no accuracy, and all else is as before.
    other, data = prepare(RUN, with_extra)
    nothing = dataclasses.replace(data.unlabeled, labels=torch.full((2402,), -1))
    data = data._replace(unlabeled=nothing)
    assert train(other, data, train_config(RUN), key=("k",))
    for table in ("evaluations", "class_evaluations"):
        for known, unknown in zip(getattr(training, table), getattr(other, table), strict=True):
            assert unknown == known | {"pseudo_label_accuracy": None}


@pytest.mark.parametrize("num_validation", [0, 100])
@pytest.mark.parametrize("has_extra", [False, True])
def test_state_is_made_for_as_many_unlabeled_images_as_there_are(digits, num_validation, has_extra):
    run = dataclasses.replace(
        RUN, algorithm="flexmatch", options={}, num_validation=num_validation, num_images=80 * 8
    )
    if has_extra:
        digits = dataclasses.replace(digits, unlabeled=digits.train.images.flip(0))
    training, data = prepare(run, digits)
    assert len(training.algorithm.last_label) == len(data.unlabeled)
    # Every image once, the last ones included.
    assert train(training, data, train_config(run), key=("k",), should_stop=lambda: False)


def test_the_head_of_an_algorithm_is_trained_and_its_kernel_decays(digits):
    run = dataclasses.replace(RUN, algorithm="remixmatch", options={}, unlabeled_ratio=1)
    training, data = prepare(run, digits)
    head = training.algorithm.rotation
    before = copy.deepcopy(head.state_dict())
    decayed, free = training.optimizer.param_groups
    assert any(p is head.weight for p in decayed["params"])
    assert any(p is head.bias for p in free["params"])
    train(training, data, train_config(run), key=("k",))
    for name, value in head.state_dict().items():
        assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("augmentation", ["flip", "none"])
def test_labeled_images_that_are_distorted_start_from_a_weak_view(digits, augmentation):
    run = dataclasses.replace(
        RUN, algorithm="remixmatch", options={}, unlabeled_ratio=1, augmentation=augmentation
    )
    with pytest.raises(InputError, match=f"augmentation must not be {augmentation}"):
        prepare(run, digits)


def test_the_accuracy_of_pseudo_labels_is_over_those_of_known_class():
    totals = Totals.zero(2, CPU)
    losses = StepLoss(
        supervised=torch.zeros(()),
        unsupervised=torch.zeros(()),
        pseudo_label=torch.tensor([0, 0, 0, 1, 1]),
        used=torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]),
    )
    totals.add(losses, torch.tensor([0, 1, -1, -1, 1]), torch.arange(2), torch.tensor(0.0))
    predicted, used, known, right = totals.pseudo_labels.tolist()
    assert predicted == [3, 2]
    assert used == [3, 1]
    assert known == [2, 0]
    assert right == [1, 0]


def test_ctaugment_learns_from_what_the_teacher_makes_of_labeled_images(digits):
    """Two steps, the rates written out with plain code."""
    run = dataclasses.replace(RUN, num_images=16, augmentation="ctaugment", num_evaluations=2)
    training, data = prepare(run, digits)
    teachers = []
    train(
        training, data, train_config(run), key=run.stream_key,
        report=lambda state: teachers.append(copy.deepcopy(state.teacher)),
    )  # fmt: skip

    streams = Streams(*run.stream_key, device=CPU)
    policy, weak = CTAugment(8, device=CPU), Weak(8, flip=False, device=CPU)
    for teacher in teachers:
        picks = torch.randint(10, (8,), generator=streams["labeled order"])
        x = data.labeled.images[picks]
        x = weak(x, weak.draw(8, streams["labeled augmentation"]))
        draws = policy.draw_probe(8, streams["probes"])
        probs = teacher.eval()(to_float(policy(x, draws))).softmax(1)  # as it is after the step
        policy.update(draws, probs[torch.arange(8), data.labeled.labels[picks]].detach())
    torch.testing.assert_close(training.views.ctaugment.rates, policy.rates)
    assert (policy.rates < 1).any()
    assert [step for step, _ in training.rates] == [1, 2]
    assert torch.equal(training.rates[-1][1], policy.rates)


def test_only_ctaugment_draws_probes_so_other_draws_are_shared(digits):
    runs = [RUN, dataclasses.replace(RUN, augmentation="ctaugment")]
    states = [train_run(run, digits)[0].streams.state_dict() for run in runs]
    same = {name: torch.equal(states[0][name], states[1][name]) for name in states[0]}
    assert same["labeled order"] and same["labeled augmentation"]
    assert not same["probes"]


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_a_resumed_run_with_ctaugment_and_state_in_the_algorithm_gives_the_same_bits(
    digits, tmp_path, stop_at
):
    """ReMixMatch has a head and two averages, FlexMatch a table."""
    for name in ("remixmatch", "flexmatch"):
        run = dataclasses.replace(
            RUN, algorithm=name, options={}, unlabeled_ratio=1, augmentation="ctaugment"
        )
        whole, _ = train_run(run, digits)
        first, data = prepare(run, digits)
        config, key = train_config(run), run.stream_key
        assert not train(
            first, data, config, key=key, should_stop=lambda f=first: f.step == stop_at
        )
        checkpoint.save(tmp_path / "c.pt", {"training": first.state_dict()})
        second, data = prepare(run, digits)
        second.load_state_dict(checkpoint.load(tmp_path / "c.pt")["training"])
        assert train(second, data, config, key=key)
        assert torch.equal(weights(whole.teacher), weights(second.teacher))
        assert torch.equal(whole.views.ctaugment.rates, second.views.ctaugment.rates)
        assert whole.evaluations == second.evaluations
        for (key, mine), theirs in zip(
            whole.algorithm.state_dict().items(),
            second.algorithm.state_dict().values(),
            strict=True,
        ):
            assert torch.equal(mine, theirs), key
        assert [step for step, _ in whole.rates] == [step for step, _ in second.rates]


def test_labeled_images_are_strongly_augmented_for_remixmatch_only(digits):
    seen = {}
    for name in ("remixmatch", "fixmatch"):
        run = dataclasses.replace(
            RUN, algorithm=name, options={}, unlabeled_ratio=1, num_images=8, num_evaluations=1
        )
        training, data = prepare(run, digits)
        loss = training.algorithm.loss
        training.algorithm.loss = lambda batch, context, name=name, loss=loss: (
            seen.setdefault(name, batch.x) is None or loss(batch, context)
        )
        train(training, data, train_config(run), key=("k",))
    streams = Streams(*RUN.stream_key, device=CPU)
    weak, strong = Weak(8, flip=False, device=CPU), RandAugment(8, device=CPU)
    picks = torch.randint(10, (8,), generator=streams["labeled order"])
    generator = streams["labeled augmentation"]
    x = weak(data.labeled.images[picks], weak.draw(8, generator))
    assert torch.equal(seen["fixmatch"], to_float(x))
    assert torch.equal(seen["remixmatch"], to_float(*strong(x, strong.draw(8, generator))))
