"""SimCLR: its loss by hand and as a plain loop, one step as plain code, resume, what it learns."""

import dataclasses
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from boss.augment import ColorJitter, ResizedCrop, to_float
from boss.errors import InputError
from boss.prototypes import embeddings, forms, progress, simclr
from boss.prototypes.embeddings import embed, encoder
from boss.prototypes.simclr import (
    SimCLRConfig,
    Training,
    build_encoder,
    configure,
    nt_xent,
    train_encoder,
)
from boss.seeds import EpochOrder, stream
from boss.study.designs import LAPTOP_ENCODER
from boss.training import checkpoint
from boss.training.muon import orthogonalized
from boss.training.probe import Arithmetic
from boss.training.state import NonFiniteLossError
from tests.conftest import ROOT

CPU = torch.device("cpu")
CONFIG = SimCLRConfig(
    network="wrn-7-1",
    view_size=8,
    num_steps=8,
    batch_size=32,
    learning_rate=0.1,
    warmup=0.25,
    num_outputs=16,
    temperature=0.5,
)


class Interruption(Exception):
    pass


@pytest.fixture(autouse=True)
def report_every_step(monkeypatch):
    monkeypatch.setattr(simclr, "REPORT_SECONDS", 0.0)


@pytest.fixture(scope="module")
def images(digits):
    return digits.train.images[:200]


def run(images, config=CONFIG, **options):
    return train_encoder(images, config, **{"flip": True, "seed": 0, "device": CPU} | options)


def equal(a, b):
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def test_loss_by_hand():
    """Two images at right angles, each view like its twin: e^2 against itself and two of e^0."""
    first = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # lengths do not matter
    second = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    expected = math.log(math.exp(2) + 2) - 2
    assert nt_xent(first, second, 0.5).tolist() == pytest.approx([expected] * 4)
    # The twins exchanged: the twin has cosine 0, one of the others 1.
    expected = math.log(math.exp(2) + 2)
    assert nt_xent(first, second.flip(0), 0.5).tolist() == pytest.approx([expected] * 4)


def test_loss_equals_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    z = torch.cat([first, second])
    z = z / z.norm(dim=1, keepdim=True)
    expected = []
    for i in range(10):
        twin = i + 5 if i < 5 else i - 5
        others = [math.exp(float(z[i] @ z[k]) / 0.3) for k in range(10) if k != i]
        expected.append(-math.log(math.exp(float(z[i] @ z[twin]) / 0.3) / sum(others)))
    loss = nt_xent(first, second, 0.3)
    assert loss.dtype == torch.float64
    assert loss.tolist() == pytest.approx(expected)


def test_loss_in_half_precision_is_single():
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    assert nt_xent(half, half, 0.5).dtype == torch.float32


def test_learning_rate_by_hand():
    config = dataclasses.replace(CONFIG, num_steps=10, warmup=0.2, learning_rate=3.0)
    rates = [config.learning_rate_at(step) for step in (0, 1, 2, 6, 10)]
    assert rates == pytest.approx([1, 2, 3, 1.5, 0])
    assert dataclasses.replace(config, warmup=0.0).learning_rate_at(0) == 3


def test_defaults():
    large, small = configure(32, 50_000), configure(8, 1_000, num_steps=7)
    assert (large.network, large.batch_size, large.view_size) == ("fast-32-128-256", 512, 24)
    assert (small.network, small.batch_size, small.view_size) == ("wrn-7-1", 256, 8)
    assert small.num_steps == 7
    assert large.learning_rate == 0.02
    assert configure(32, 50_000, network="wrn-28-2").network == "wrn-28-2"
    sizes = {size: configure(size, 100).view_size for size in (8, 16, 20, 24, 28, 32, 64, 96)}
    assert sizes == {8: 8, 16: 16, 20: 20, 24: 16, 28: 20, 32: 24, 64: 48, 96: 72}
    for view_size in (16, 20):  # the network has room for its three stages
        encoder = build_encoder(configure(view_size, 100), 3, torch.Generator())
        assert encoder.features(torch.zeros(2, 3, view_size, view_size)).shape == (2, 256)
    assert configure(8, 10).batch_size == 10  # no image twice in a batch


def test_what_is_trained_and_what_decays(images):
    training = Training(CONFIG, images, 0, CPU)
    convolutions, matrices, free = training.optimizer.param_groups
    assert convolutions["weight_decay"] == matrices["weight_decay"] == CONFIG.weight_decay
    assert free["weight_decay"] == 0
    named = [*training.encoder.named_parameters(), *training.head.named_parameters()]
    named = [(name, p) for name, p in named if not name.startswith("classify")]
    kernels = {id(p) for name, p in named if name.endswith("weight") and p.ndim > 1}
    assert {id(p) for p in convolutions["params"] + matrices["params"]} == kernels
    assert {id(p) for p in free["params"]} == {id(p) for _, p in named} - kernels


def test_one_step_equals_plain_code(images):
    """Order, two views, head, loss and the first step of Muon with decay, written out."""
    config = dataclasses.replace(CONFIG, num_steps=1, weight_decay=0.01)
    shades = torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None]
    images = images // shades  # in color (N, 3, 8, 8)
    training = Training(config, images, 3, CPU)
    x = to_float(images[EpochOrder(len(images), 32, "simclr", 3, "order", device=CPU)[0]])
    crop, color = ResizedCrop(8, out=8, flip=True, device=CPU), ColorJitter(device=CPU)
    generator = stream("simclr", 3, "augmentation")
    views = []
    for _ in range(2):
        cropped = crop(x, crop.draw(32, generator))
        views.append(color(cropped, color.draw(32, generator)))
    hidden = training.encoder.train().features(torch.cat(views))
    first, _, last = training.head
    z = (hidden @ first.weight.T + first.bias).relu() @ last.weight.T + last.bias
    nt_xent(z[:32], z[32:], 0.5).mean().backward()
    expected = {}
    for name, p in training.encoder.named_parameters():
        if not name.startswith("classify"):
            if p.ndim == 4:
                stretch = max(1, len(p) / p[0].numel()) ** 0.5
                # The look-ahead is 0.1 G + 0.9 (0.1 G), in the direction of G.
                after = p * (1 - 0.1 * 0.01) - 0.1 * stretch * orthogonalized(p.grad)
            else:
                after = p - 10 * 0.1 * (1 + 0.9) * p.grad
            expected[name] = after.detach()
    encoder = run(images, config, seed=3)
    trained = dict(encoder.named_parameters())
    for name, value in expected.items():
        torch.testing.assert_close(trained[name], value, atol=1e-6, rtol=1e-5)


def test_an_epoch_shows_every_image_twice(images, monkeypatch):
    seen = []

    class Recorder(ResizedCrop):
        def __call__(self, x, draws):
            seen.extend(x)
            return super().__call__(x, draws)

    monkeypatch.setattr(simclr, "ResizedCrop", Recorder)
    run(images, dataclasses.replace(CONFIG, batch_size=25))  # 8 steps of 200 images
    assert len(seen) == 400
    shown = sorted(x.flatten().tolist() for x in seen)
    assert shown == sorted([x.flatten().tolist() for x in to_float(images)] * 2)


def test_equal_seeds_give_equal_encoders(images):
    encoders = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        encoders.append(run(images, seed=seed))
    assert equal(encoders[0], encoders[1])
    assert not equal(encoders[0], encoders[2])


def test_every_setting_matters(images):
    base = run(images)
    for change in (
        {"num_steps": 7}, {"batch_size": 31}, {"learning_rate": 0.2}, {"warmup": 0.0},
        {"momentum": 0.5}, {"weight_decay": 0.1}, {"temperature": 0.1}, {"num_outputs": 8},
        {"norm_momentum": 0.2}, {"view_size": 16}, {"min_area": 0.5},
    ):  # fmt: skip
        assert not equal(base, run(images, dataclasses.replace(CONFIG, **change))), change
    assert not equal(base, run(images, flip=False))


@pytest.mark.parametrize("checkpoint_seconds", [0.0, 3600.0])
def test_an_interrupted_training_continues_exactly(checkpoint_seconds, images, tmp_path):
    whole, file = run(images), tmp_path / "simclr.pt"
    shares = []

    def interrupt_at(*stops):
        def progress(share, detail):
            shares.append(share)
            if share in stops:
                raise Interruption

        return progress

    options = {"file": file, "basis": "digits", "checkpoint_seconds": checkpoint_seconds}
    for stop in (3 / 8, 6 / 8):
        with pytest.raises(Interruption):
            run(images, progress=interrupt_at(stop), **options)
    resumed = run(images, progress=interrupt_at(), **options)
    assert equal(whole, resumed)
    assert [8 * share for share in shares] == [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8]
    assert shares[-1] == 1


def test_a_finished_training_is_kept(images, tmp_path):
    options = {"file": tmp_path / "simclr.pt", "basis": "digits"}
    whole = run(images, **options)

    def forbidden(share, detail):
        raise AssertionError

    kept = run(images, progress=forbidden, **options)
    assert equal(whole, kept)
    x = to_float(images)
    assert torch.equal(whole.eval().features(x), kept.eval().features(x))
    for change in ({"basis": "others"}, {"seed": 1}, {"flip": False}):
        with pytest.raises(AssertionError):
            run(images, progress=forbidden, **options | change)
    (tmp_path / "simclr.pt").write_bytes(b"damaged")
    assert equal(whole, run(images, **options))


def test_a_training_of_another_kind_of_device_is_not_continued(images, tmp_path):
    def interrupt(share, detail):
        if share > 0.5:
            raise Interruption

    file = tmp_path / "simclr.pt"
    with pytest.raises(Interruption):
        run(images, file=file, checkpoint_seconds=0.0, progress=interrupt)
    checkpoint.save(file, checkpoint.load(file) | {"kind of device": "cuda"})
    with pytest.raises(InputError, match=r"begun on cuda, not on cpu: .* remove .*simclr.pt"):
        run(images, file=file)


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_loss_that_is_not_finite_is_told_and_not_saved(seconds, images, monkeypatch, tmp_path):
    monkeypatch.setattr(simclr, "REPORT_SECONDS", seconds)
    config = dataclasses.replace(CONFIG, learning_rate=1e30)
    with pytest.raises(NonFiniteLossError, match="not finite at step"):
        run(images, config, file=tmp_path / "simclr.pt", checkpoint_seconds=0.0)
    saved = checkpoint.load(tmp_path / "simclr.pt")
    assert saved is None or math.isfinite(saved["training"]["loss"])


# As an embedding.


def part_of(digits, num):
    return dataclasses.replace(
        digits, train=digits.train.subset(range(num)), test=digits.test.subset(range(50))
    )


def test_the_loss_falls_on_digits(digits, monkeypatch):
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    lines = []
    dataset = part_of(digits, 200)
    train, test = embed("simclr:50", dataset, parts=("train", "test"), report=lines.append)
    losses = [float(m[1]) for line in lines if (m := re.search(r"loss (\d\.\d+)", line))]
    assert len(losses) == 50
    # log 399 = 5.99 is what indifference costs
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3
    assert train.shape == (200, 32)
    assert test.shape == (50, 32)
    assert train.std(axis=0).min() > 0


def test_embedding_is_that_of_the_encoder_and_of_no_label(digits, tmp_path):
    dataset = part_of(digits, 64)
    [features] = embed("simclr:3", dataset, cache=tmp_path)
    encoder = run(dataset.train.images, configure(8, 64, 3), flip=dataset.flip).eval()
    with torch.no_grad():
        expected = encoder.features(to_float(dataset.train.images)).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-6)
    labels = dataset.train.labels.roll(1)
    other = dataclasses.replace(dataset, train=dataset.train.relabel(labels))
    assert np.array_equal(embed("simclr:3", other)[0], features)


def test_the_other_part_needs_no_second_training(digits, tmp_path, monkeypatch):
    dataset = part_of(digits, 64)
    _, test = embed("simclr:3", dataset, parts=("train", "test"))
    embed("simclr:3", dataset, cache=tmp_path)
    monkeypatch.setattr(simclr, "nt_xent", None)  # cannot train
    assert np.array_equal(embed("simclr:3", dataset, parts=("test",), cache=tmp_path)[0], test)


@pytest.mark.parametrize("spec", ["simclr:3@wrn-7-1", "simclr:3@wrn-7-1+kmeans-patches:4"])
def test_features_are_those_of_the_encoder_that_is_there(spec, digits, tmp_path):
    """Removed and trained anew, or replaced: what was kept of the old one does not count."""
    dataset = part_of(digits, 64)
    [before] = embed(spec, dataset, cache=tmp_path)
    [file] = tmp_path.glob("simclr*.pt")
    content = checkpoint.load(file)
    content["encoder"]["stem.weight"] += 1
    checkpoint.save(file, content)
    [after] = embed(spec, dataset, cache=tmp_path)
    assert not np.array_equal(before, after)
    file.unlink()
    assert np.array_equal(embed(spec, dataset, cache=tmp_path)[0], before)


def test_a_resumed_training_keeps_its_arithmetic(images, tmp_path, monkeypatch):
    """It does not probe again: it might find otherwise."""
    options = {"file": tmp_path / "simclr.pt", "basis": "digits"}
    found = iter([Arithmetic("contiguous", "bf16"), Arithmetic("channels_last", "fp32")])
    monkeypatch.setattr(simclr, "fastest", lambda *_, **__: next(found))

    def interrupt(share, detail):
        if share > 0.5:
            raise Interruption

    with pytest.raises(Interruption):
        run(images, progress=interrupt, **options)
    run(images, **options)
    assert checkpoint.load(options["file"])["arithmetic"] == ("contiguous", "bf16")


def test_an_encoder_that_comes_with_the_package_is_not_trained_again(digits, tmp_path, monkeypatch):
    spec, mine = "simclr:3@wrn-7-1", tmp_path / "mine" / "embeddings"
    monkeypatch.setattr(embeddings, "bundled", lambda name: tmp_path / name)
    encoder(spec, digits, cache=tmp_path / "reference" / "embeddings")
    [published] = (tmp_path / "reference" / "embeddings").glob("*.pt")
    content = checkpoint.load(published)
    content["encoder"]["stem.weight"] += 1  # so that we know it again
    checkpoint.save(published, content | {"processor_seconds": 1234.0})
    found = encoder(spec, digits, cache=mine)
    assert torch.equal(found.state_dict()["stem.weight"], content["encoder"]["stem.weight"])
    assert embeddings.processor_seconds(embeddings.Used(encoder=spec), digits, mine) == 1234
    other = encoder(spec, digits, cache=mine, seed=1)
    assert not torch.equal(other.state_dict()["stem.weight"], content["encoder"]["stem.weight"])


def test_a_training_from_before_costs_were_noted_goes_on(images, tmp_path):
    whole = run(images)
    file = tmp_path / "encoder.pt"

    def stop(share, detail):
        if detail.startswith("step 4 of"):
            raise Interruption

    with pytest.raises(Interruption):
        run(images, file=file, checkpoint_seconds=0.0, progress=stop)
    saved = checkpoint.load(file)
    assert saved["training"].pop("processor_seconds") > 0
    checkpoint.save(file, saved)
    assert equal(run(images, file=file), whole)
    assert math.isnan(checkpoint.load(file)["processor_seconds"])


class Cifar10:
    """The training images, as far as the name of an encoder depends on them."""

    images = torch.empty(50_000, 3, 32, 32, device="meta")
    fingerprint = "e72f89f4f5871b9afbf7679633f7d43016c557756b60d564c326819fa6ceabaf"

    def __len__(self):
        return len(self.images)


def test_the_encoder_that_comes_with_the_package_is_the_one_asked_for():
    """Its file is found by its name, so the name must stay while the file does."""
    [file] = (ROOT / "results" / "reference" / "embeddings").glob("simclr-*.pt")
    content, dataset = checkpoint.load(file), SimpleNamespace(train=Cifar10(), flip=True)
    form = forms.parse(LAPTOP_ENCODER)
    assert file.stem == embeddings._name(form, dataset, 0, dataset.train, "cpu")
    assert content["identity"] == {
        "config": dataclasses.asdict(configure(32, 50_000, 6000)),
        "seed": 0,
        "flip": True,
        "basis": Cifar10.fingerprint,
    }
    assert content["processor_seconds"] > 3600
