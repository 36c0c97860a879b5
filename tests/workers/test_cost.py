"""Counts of multiply-adds, bytes and memory: by hand, and against what torch counts and keeps."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from boss import models
from boss.algorithms import ALGORITHMS, hyperparameters
from boss.data.label_sets import resolve
from boss.seeds import stream
from boss.study.run import Run
from boss.training.loop import train
from boss.workers.build import start_run, train_config, training_data
from boss.workers.cost import (
    IMAGE_SHAPES,
    NUM_IMAGES,
    PASSES_OF_OPTIONS,
    Passes,
    gpu_memory,
    layers,
    multiply_adds,
    passes_per_step,
    saved_bytes,
    step_bytes,
    step_multiply_adds,
)

CPU = torch.device("cpu")
FIXMATCH = Run(
    dataset="cifar10",
    algorithm="fixmatch",
    label_set="fixmatch:0@10",
    repeat=0,
    network="wrn-28-2",
    num_images=2**26,
)
RUN = dataclasses.replace(
    FIXMATCH, dataset="digits", network="wrn-7-1", num_images=10**6, batch_size=4
)


def build(name, channels=3, num_classes=10):
    return models.build(
        name,
        channels=channels,
        num_classes=num_classes,
        norm_momentum=0.001,
        generator=stream(0),
    )


# wrn-7-1 on gray images of 8 pixels, ten classes, worked out by hand:
#
#                          weights   in   out  (values per image)   multiply-adds
# stem      1 -> 16  3x3      144     64  1024                       144 * 64 =   9216
# block 1  16 -> 16  3x3     2304   1024  1024                      2304 * 64 = 147456
#          16 -> 16  3x3     2304   1024  1024                      2304 * 64 = 147456
# block 2  16 -> 32  3x3 /2  4608   1024   512                      4608 * 16 =  73728
#          32 -> 32  3x3     9216    512   512                      9216 * 16 = 147456
#          16 -> 32  1x1 /2   512    256   512                       512 * 16 =   8192
# matrix   32 -> 10           320                                                 320
#                                   ----  ----                                 ------
#                                   3904  4608                                 533824
# norms: 16 x 8 x 8 three times (1024), 32 x 4 x 4 twice (512): 4096; sums: 1024 + 512 = 1536
ONCE, STEM = 533_824, 9_216
NUM_PARAMETERS = (
    *(144 + 16, 2304 + 16, 2304 + 16, 4608 + 32, 9216 + 32, 512 + 32),
    *(2 * 16, 2 * 16, 2 * 16, 2 * 32, 2 * 32, 320 + 10),
)


def test_multiply_adds_by_hand():
    assert multiply_adds("wrn-7-1", 1, 8) == ONCE
    work = step_multiply_adds("wrn-7-1", (1, 8, 10), Passes(7, 5, 2, 7))
    assert work == {
        "forward": 7 * ONCE,
        "input gradient": 5 * (ONCE - STEM) + 2 * ONCE,
        "weight gradient": 5 * ONCE,
    }


def test_bytes_by_hand():
    parts = layers("wrn-7-1", 1, 8)
    num = sum(NUM_PARAMETERS)
    assert parts.num_parameters(10) == num
    assert step_bytes("wrn-7-1", (1, 8, 10), Passes(3, 2, 0, 3), value=2) == {
        "convolutions": 2 * 3 * (3904 + 4608),
        "statistics": 2 * 3 * 4096,
        # The last one's output is averaged on the spot.
        "normalize, activate": 2 * 3 * (2 * 4096 - 512),
        "residual sums": 2 * 3 * 3 * 1536,
        "input gradients": 2 * 2 * (3904 - 64 + 4608 - 1024),
        "weight gradients": 2 * 2 * (3904 + 4608) + 4 * num,
        "norms, sums of gradients": 2 * 2 * 2 * 4096,
        "norms, gradients": 2 * 2 * 3 * 4096,
        # Twice in the first block, a quarter in the second.
        "joining branches": 2 * 2 * (2 * 1024 + 256),
        "images": 3 * 64 * (1 + 2),
        "weights": (4 + 2 + 2 + 2) * num,  # read, converted; read twice
        "update": 8 * 4 * num,
    }
    single = step_bytes("wrn-7-1", (1, 8, 10), Passes(3, 2, 0, 3), value=4)
    assert single["statistics"] == 4 * 3 * 4096
    assert single["weights"] == 8 * num


@pytest.mark.parametrize("name", ["wrn-7-1", "wrn-10-2", "wrn-28-2", "wrn-37-2"])
@pytest.mark.parametrize(("channels", "num_classes"), [(1, 10), (3, 7)])
def test_parameters_are_those_of_the_network(name, channels, num_classes):
    network = build(name, channels, num_classes)
    counted = layers(name, channels, 32).num_parameters(num_classes)
    assert counted == sum(p.numel() for p in network.parameters())


def test_activations_by_themselves_would_move_three_tenths_more():
    passes, shape = passes_per_step(FIXMATCH), (3, 32, 10)
    normed = sum(c * size**2 for c, size in layers("wrn-28-2", 3, 32).norms)
    more = 2 * (2 * passes.forward + 3 * passes.backward) * normed
    assert more / sum(step_bytes("wrn-28-2", shape, passes).values()) == pytest.approx(
        0.30, abs=0.005
    )


def test_options_that_change_the_passes():
    def passes(algorithm, **options):
        run = dataclasses.replace(
            RUN, algorithm=algorithm, options=options, batch_size=1, unlabeled_ratio=1
        )
        return passes_per_step(run)

    # Labeled: one pass. ReMixMatch: guess, first view, turned, and of all nine views the mixtures.
    assert passes("remixmatch", num_strong=8) == Passes(1 + 12, 1 + 11, 0, 1 + 11)
    assert passes("remixmatch") == passes("remixmatch", num_strong=1) == Passes(6, 5, 0, 5)
    assert passes("vat", num_iterations=3) == Passes(1 + 5, 1 + 2, 3, 1 + 2)
    assert passes("vat") == Passes(4, 3, 1, 3)
    for algorithm, (option, default, _) in PASSES_OF_OPTIONS.items():
        assert hyperparameters(algorithm)[option] == default


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        *((name, {}) for name in ALGORITHMS),
        ("remixmatch", {"num_strong": 3}),
        ("vat", {"num_iterations": 2}),
    ],
    ids=str,
)
def test_multiply_adds_of_a_step_are_what_torch_counts(algorithm, options, digits):
    """A real step of every algorithm, probes of CTAugment included."""
    ratio = {"supervised": 0, "mixmatch": 1, "remixmatch": 1}.get(algorithm, 3)
    strong = algorithm in ("fixmatch", "boss", "uda", "flexmatch", "freematch", "remixmatch")
    run = dataclasses.replace(
        RUN,
        algorithm=algorithm,
        options=options,
        unlabeled_ratio=ratio,
        augmentation="ctaugment" if strong else "randaugment",
    )
    training = start_run(run, digits, CPU)
    images = training_data(run, digits, resolve(run.label_set, digits), CPU)
    config = train_config(run)
    with FlopCounterMode(display=False) as counter:
        train(training, images, config, key=(0,), should_stop=lambda: training.step == 1)
    counted = counter.get_total_flops() / 2
    work = sum(step_multiply_adds(run.network, (1, 8, 10), passes_per_step(run)).values())
    # The rest is the matrix product in the sums for the logs, and ReMixMatch's rotation head.
    assert work <= counted <= 1.002 * work


@pytest.mark.parametrize(("size", "name"), [(32, "wrn-28-2"), (9, "wrn-10-1"), (33, "wrn-16-2")])
def test_gradients_take_what_torch_counts(size, name):
    with torch.device("meta"):
        x = torch.zeros(5, 3, size, size)
    network = build(name).to("meta")
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    work = step_multiply_adds(name, (3, size, 10), Passes(5, 5, 0, 5))
    assert counter.get_total_flops() == 2 * sum(work.values())


def kept_bytes(network, x, precision="fp32"):
    """What autograd keeps: every storage once, without those of parameters and buffers."""
    own = {t.untyped_storage()._cdata for t in [*network.parameters(), *network.buffers()]}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        logits = network(x)
    assert logits.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp64"])
@pytest.mark.parametrize(
    ("name", "shape", "num"),
    [("wrn-7-1", (1, 8, 10), 3), ("wrn-10-1", (3, 32, 10), 2), ("wrn-10-2", (3, 13, 7), 5)],
)
def test_saved_bytes_are_what_autograd_keeps(name, shape, num, precision):
    channels, size, num_classes = shape
    network = build(name, channels, num_classes).to(memory_format=torch.channels_last)
    x = torch.zeros(num, channels, size, size)
    if precision == "fp64":
        network, x = network.double(), x.double()
    assert kept_bytes(network, x, precision) == saved_bytes(name, shape, num, precision)


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("wrn-28-2", "cifar10"), ("wrn-28-8", "cifar100"), ("wrn-37-2", "stl10")],
)
def test_a_published_run_fits_80_gigabytes(name, dataset):
    """FixMatch's batch through the real network, without storage."""
    channels, size, num_classes = shape = IMAGE_SHAPES[dataset]
    for precision in ("fp32", "bf16"):
        run = dataclasses.replace(FIXMATCH, network=name, dataset=dataset, precision=precision)
        needed = gpu_memory(run)
        assert sum(needed.values()) < 80e9
        assert needed["activations"] == saved_bytes(name, shape, 960, precision)
        assert needed["data set"] > NUM_IMAGES[dataset] * channels * size**2
    network = build(name, channels, num_classes).to("meta")
    x = torch.zeros(960, channels, size, size, device="meta")
    assert kept_bytes(network, x) == saved_bytes(name, shape, 960)


def test_memory_follows_what_a_run_does():
    def need(**changes):
        return gpu_memory(dataclasses.replace(FIXMATCH, **changes))

    plain = need()
    num = layers("wrn-28-2", 3, 32).num_parameters(10)
    assert plain["weights and their states"] == 4 * num * 5
    assert need(optimizer="adam")["weights and their states"] == 4 * num * 6
    assert need(algorithm="pi_model")["activations"] < 0.6 * plain["activations"]
    assert need(algorithm="vat")["activations"] == plain["activations"]
    assert need(precision="bf16")["activations"] == pytest.approx(
        plain["activations"] / 2, rel=0.01
    )
    assert need(batch_size=32)["batch"] == plain["batch"] // 2
    assert gpu_memory(dataclasses.replace(FIXMATCH, dataset="mine.npz")) is None
    known = gpu_memory(dataclasses.replace(FIXMATCH, dataset="mine.npz"), (3, 32, 10), 60_000)
    assert known == plain


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        *((name, {}) for name in ("fixmatch", "vat", "mixmatch", "remixmatch", "mean_teacher")),
        ("remixmatch", {"num_strong": 3}),
        ("vat", {"num_iterations": 2}),
    ],
    ids=str,
)
def test_activations_that_are_kept_at_the_same_time(algorithm, options, digits, monkeypatch):
    """The largest sum of living activations in a real step, by the norms' outputs alone."""
    ratio = 1 if algorithm in ("mixmatch", "remixmatch") else 3
    run = dataclasses.replace(RUN, algorithm=algorithm, options=options, unlabeled_ratio=ratio)
    training = start_run(run, digits, CPU)
    images = training_data(run, digits, resolve(run.label_set, digits), CPU)
    alive, most = 0, 0

    def grad(function):
        """torch.func.grad, which takes no hooks, by autograd."""

        @torch.enable_grad()
        def gradient(x):
            x = x.detach().requires_grad_()
            return torch.autograd.grad(function(x), x)[0]

        return gradient

    monkeypatch.setattr(torch.func, "grad", grad)

    def pack(tensor):
        nonlocal alive, most
        # The input of the classifier has a row per image, whatever the pass.
        if isinstance(tensor, torch.Tensor) and tensor.shape[1:] == (32,) and tensor.ndim == 2:
            return Kept(tensor)
        return tensor

    class Kept:
        def __init__(self, tensor):
            nonlocal alive, most
            self.tensor = tensor
            alive += len(tensor)
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= len(self.tensor)

    def unpack(kept):
        return kept.tensor if isinstance(kept, Kept) else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        train(training, images, train_config(run), key=(0,), should_stop=lambda: training.step == 1)
    assert most == passes_per_step(run).saved


def test_norms_in_the_network_are_those_that_are_counted():
    network = build("wrn-16-2")
    seen = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda m, i, o: seen.append(tuple(i[0].shape[1:3])))
    network(torch.zeros(2, 3, 32, 32))
    assert sorted(seen) == sorted(layers("wrn-16-2", 3, 32).norms)
