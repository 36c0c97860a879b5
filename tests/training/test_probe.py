"""The probe for layout and precision: its choice by hand, and what it leaves alone."""

import math

import pytest
import torch

from boss import models
from boss.training.probe import (
    Arithmetic,
    conv_precision,
    enough_images,
    fastest,
    precisions_of,
    preferred,
    seconds_of_pass,
)

LAYOUTS, PRECISIONS = ("channels_last", "contiguous"), ("fp32", "bf16-conv", "bf16")


@pytest.fixture
def network():
    return models.build(
        "fast-8-16",
        channels=3,
        num_classes=10,
        norm_momentum=0.1,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize(("seconds", "expected"), [
    # In the order in which they are asked for: three precisions, then the other layout.
    ([1.0, 1.0, 1.0, 1.0], ("channels_last", "fp32")),
    ([1.0, 0.85, 0.79, 1.0], ("channels_last", "bf16")),  # 1 / 1.25 = 0.8 is the limit
    ([1.0, 0.81, 0.81, 0.81], ("channels_last", "fp32")),
    ([1.0, 0.5, 0.45, 0.45], ("channels_last", "bf16-conv")),  # bf16 gains too little over that
    ([1.0, 9.0, 9.0, 0.7], ("contiguous", "fp32")),
    ([1.0, 0.9, 0.5, 0.3], ("contiguous", "bf16")),
])  # fmt: skip
def test_choice_by_hand(seconds, expected):
    asked, left = [], iter(seconds)

    def seconds_of(arithmetic, give_up):
        asked.append((arithmetic, give_up))
        return next(left)

    assert preferred(LAYOUTS, PRECISIONS, seconds_of) == expected
    assert [a.precision for a, _ in asked[:3]] == [*PRECISIONS]
    assert asked[3][0] == ("contiguous", expected[1])
    assert asked[0][1] == math.inf
    assert asked[1][1] == 3 * seconds[0]


def test_nothing_to_choose_is_not_measured(network, monkeypatch):
    def never(*arguments):
        raise AssertionError

    monkeypatch.setattr("boss.training.probe.seconds_of_pass", never)
    only = {"layouts": ("contiguous",), "precisions": ("fp64",)}
    assert fastest(network, 3, 16, **only) == ("contiguous", "fp64")
    assert fastest(network, 3, 8) == ("channels_last", "fp32")  # tiny images


def test_the_network_is_left_alone(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    training = network.eval().training
    found = fastest(network, 3, 16)
    assert found.layout in LAYOUTS
    assert found.precision in PRECISIONS
    assert network.training == training
    assert all(p.grad is None for p in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("seconds_an_image", "num"),
    [(1.0, 32), (0.25 / 32, 32), (0.25 / 33, 64), (0.001, 256), (1e-6, 512)],
)
def test_a_pass_is_long_enough_to_tell_arithmetic_from_overhead(seconds_an_image, num):
    assert enough_images(lambda images: images * seconds_an_image) == num


def test_a_slow_candidate_takes_one_pass(network):
    passes = []
    handle = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: passes.append(1) if type(module) is type(network) else None
    )
    try:
        slow = seconds_of_pass(network, (32, 3, 16, 16), Arithmetic("channels_last", "fp32"), 0.0)
        assert (len(passes), slow > 0) == (2, True)  # the first is not timed
        seconds_of_pass(network, (32, 3, 16, 16), Arithmetic("contiguous", "bf16"), math.inf)
        assert len(passes) == 2 + 4
    finally:
        handle.remove()


def test_precision_of_convolutions(network):
    """bf16-conv rounds what convolutions multiply, where the processor can, within its block."""
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    network = network.eval().double()
    exact = network(images.double())
    network = network.float()

    def error():
        return (network(images) - exact).abs().max().item()

    with conv_precision("bf16-conv"):
        rounded = error()
        with conv_precision("fp32"):
            assert error() < 1e-5
        assert error() == rounded
    assert error() < 1e-5
    assert rounded < 0.05
    assert (rounded > 1e-4) == ("bf16-conv" in precisions_of(torch.device("cpu")))


def test_a_probe_leaves_the_precision_of_convolutions(network):
    before = torch.backends.mkldnn.conv.fp32_precision
    fastest(network, 3, 16)
    assert torch.backends.mkldnn.conv.fp32_precision == before
