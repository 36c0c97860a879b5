"""The network is the reference's: parameters, initialization, padding, shortcuts."""

import math

import pytest
import torch
from torch import nn

from boss import models
from boss.errors import InputError
from boss.models.grammar import parse_network
from boss.models.wide_resnet import Block, Conv, NormActivate
from boss.seeds import stream
from boss.workers.cost import multiply_adds


def build(name="wrn-28-2", channels=3, num_classes=10, norm_momentum=0.001, seed=0):
    return models.build(
        name,
        channels=channels,
        num_classes=num_classes,
        norm_momentum=norm_momentum,
        generator=stream(seed),
    )


@pytest.mark.parametrize(
    ("name", "num_classes", "expected"),
    [("wrn-28-2", 10, 1_469_642), ("wrn-28-8", 100, 23_409_092)],
)
def test_number_of_parameters_is_the_references(name, num_classes, expected):
    network = build(name, num_classes=num_classes)
    assert sum(p.numel() for p in network.parameters()) == expected
    biases = sum(m.bias.numel() for m in network.modules() if isinstance(m, Conv))
    if name == "wrn-28-2":
        assert expected - biases == 1_467_610


def test_multiply_adds_count_what_the_network_does():
    assert multiply_adds("wrn-28-2", 3, 32) == pytest.approx(214.4e6, rel=1e-3)
    counted = 0

    def count(module, inputs, output):
        nonlocal counted
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] ** 2 * module.in_channels
            counted += kernel * output[0].numel()
        elif isinstance(module, nn.Linear):
            counted += module.in_features * module.out_features

    network = build("wrn-7-1", channels=1)
    for module in network.modules():
        module.register_forward_hook(count)
    network(torch.zeros(1, 1, 9, 9))
    assert counted == multiply_adds("wrn-7-1", 1, 9)


def test_initialization_is_fan_out_normal_and_truncated_glorot():
    network = build()
    conv = network.body[-1].conv2  # 128 -> 128
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.01)
    networks = [build(seed=seed) for seed in range(8)]
    stem = torch.cat([n.stem.weight.flatten() for n in networks])  # 3 -> 16: fan in would be 27
    assert stem.std().item() == pytest.approx(math.sqrt(2 / 144), rel=0.05)
    dense = torch.cat([n.classify.weight.flatten() for n in networks])
    glorot = math.sqrt(2 / (128 + 10))
    assert dense.std().item() == pytest.approx(glorot, rel=0.02)
    assert dense.abs().max().item() <= 2 * glorot / 0.8796
    for module in network.modules():
        if isinstance(module, Conv | nn.Linear):
            assert not module.bias.any()


def test_batch_norm_settings():
    norms = [m for m in build().modules() if isinstance(m, NormActivate)]
    assert len(norms) == 2 * 12 + 1
    assert {(n.eps, n.momentum) for n in norms} == {(1e-3, 0.001)}
    out = NormActivate(1, 0.001).eval()(torch.tensor([[[[-1.0, 2.0]]]]))
    scale = 1 / math.sqrt(1 + 1e-3)
    assert out.flatten().tolist() == pytest.approx([-0.1 * scale, 2 * scale])


def test_stride_2_pads_bottom_and_right_only():
    conv = Conv(1, 1, 3, stride=2)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(9.0).view(1, 1, 3, 3))
        conv.bias.zero_()
    image = torch.arange(16.0).view(1, 1, 4, 4)
    padded = torch.zeros(5, 5)
    padded[:4, :4] = image[0, 0]
    expected = [
        [(padded[i : i + 3, j : j + 3] * conv.weight[0, 0]).sum().item() for j in (0, 2)]
        for i in (0, 2)
    ]
    assert conv(image)[0, 0].tolist() == expected
    # Odd sizes pad one on each side, and a 1x1 convolution reads the even positions.
    assert conv(torch.zeros(1, 1, 5, 5)).shape[-1] == 3
    one = Conv(1, 1, 1, stride=2)
    with torch.no_grad():
        one.weight.fill_(1)
        one.bias.zero_()
    assert one(image)[0, 0].tolist() == [[0, 2], [8, 10]]


def test_only_the_very_first_block_activates_before_its_shortcut():
    network = build()
    blocks = [m for m in network.body if isinstance(m, Block)]
    assert [b.activate_before_residual for b in blocks] == [True] + [False] * 11
    assert [isinstance(b.shortcut, Conv) for b in blocks] == ([True] + [False] * 3) * 3

    def shortcut_input(block):
        seen = []
        block.shortcut.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        x = -torch.ones(2, block.norm1.num_features, 4, 4)
        block.eval()(x)
        return seen[0].unique().tolist()

    assert shortcut_input(blocks[4]) == [-1]  # raw
    assert shortcut_input(blocks[0])[0] == pytest.approx(-0.1, rel=1e-3)  # activated


def test_features_feed_the_classifier():
    network = build("wrn-10-1").eval()
    x = torch.randn(2, 3, 32, 32, generator=stream("x"))
    assert network.features(x).shape == (2, 64)
    assert torch.equal(network(x), network.classify(network.features(x)))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("wrn-28-2", (4, 32, 3)),
        ("wrn-37-2", (4, 32, 4)),
        ("wrn-10-1", (1, 16, 3)),
        ("wrn-7-1", (1, 16, 2)),
        ("wrn-16-4", (2, 64, 3)),
    ],
)
def test_names(name, shape):
    assert tuple(parse_network(name).values()) == shape


@pytest.mark.parametrize("name", ["wrn-28", "resnet18", "wrn-28-0", "wrn-12-1", "wrn-2-1", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(InputError, match="unknown network"):
        build(name)


def test_initialization_ignores_the_global_seed():
    torch.manual_seed(1)
    first = build("wrn-7-1").state_dict()
    torch.manual_seed(2)
    assert all(torch.equal(first[k], v) for k, v in build("wrn-7-1").state_dict().items())
