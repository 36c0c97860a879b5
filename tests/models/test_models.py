"""The contract of networks, for every member of NETWORKS; the Wide ResNet is the reference's."""

import math

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from boss import models
from boss.augment import to_float
from boss.errors import InputError
from boss.models import NETWORKS, Network
from boss.models.base import initialize_linear
from boss.models.fast_cnn import FastCNN
from boss.models.wide_resnet import Block, Conv, NormActivate, WideResNet
from boss.seeds import stream
from boss.training.state import make_teacher


def build(name="wrn-28-2", channels=3, num_classes=10, norm_momentum=0.001, seed=0):
    return models.build(
        name,
        channels=channels,
        num_classes=num_classes,
        norm_momentum=norm_momentum,
        generator=stream(seed),
    )


class Tiny(Network):
    """A toy: the mean of each channel, normalized, then linear."""

    grammar = "tiny"
    example = "tiny"
    summary = "channel means, then linear"

    @classmethod
    def parse(cls, name):
        return {} if name == "tiny" else None

    def __init__(self, *, channels, num_classes, norm_momentum, generator):
        super().__init__()
        self.num_features = channels
        self.norm = nn.BatchNorm1d(channels, momentum=norm_momentum)
        self.classify = nn.Linear(channels, num_classes)
        initialize_linear(self.classify, generator)

    def features(self, images):
        return self.norm(images.mean(dim=(2, 3)))

    def forward(self, images):
        return self.classify(self.features(images))


# FastCNN ---------------------------------------------------------------------------------------


def test_fast_cnn_by_hand():
    """Parameters of fast-32-64 on 3 channels: 24 shifts; stages without biases; batch norms."""
    network = build("fast-32-64")
    stages = 9 * (24 * 32 + 32 * 32) + 9 * (32 * 64 + 64 * 64)
    norms = 2 * 2 * 32 + 2 * 2 * 64
    expected = 24 + stages + norms + 64 * 10 + 10
    assert sum(p.numel() for p in network.parameters()) == expected
    assert network.num_features == 64
    # 32 pixels: 31 after whitening, 15, 7.
    shapes = []
    network.stages.register_forward_hook(lambda module, x, y: shapes.append((x[0].shape, y.shape)))
    network(torch.zeros(2, 3, 32, 32))
    assert shapes == [((2, 24, 31, 31), (2, 64, 7, 7))]


def test_features_of_fast_cnn_by_hand():
    """One channel, one stage of one filter, all convolutions the identity: a pixel's way."""
    network = build("fast-1", channels=1).eval()
    with torch.no_grad():
        network.whitening.zero_()
        network.whitening[0, 0, 0, 0] = 1  # the pixel at the upper left of a patch
        for module in network.stages:
            if isinstance(module, torch.nn.Conv2d):
                module.weight.zero_()
                module.weight[0, 0, 1, 1] = 1
    images = torch.full((1, 1, 5, 5), -1.0)
    images[0, 0, 1, 2] = 0.5
    images[0, 0, 4, 4] = 1.0  # in the last row and column: no patch begins there

    def gelu(x):
        return 0.5 * x * (1 + math.erf(x / 2**0.5))

    normed = 1 / math.sqrt(1 + 1e-5)  # by the statistics that batch norm begins with
    expected = gelu(normed * gelu(normed * gelu(0.5))) / 9  # the maximum of all positions
    assert network.features(images).item() == pytest.approx(expected, rel=1e-5)


def test_weights_of_fast_cnn_by_hand():
    """Convolutions: uniform with the variance of 1 / (27 inputs), the first filters the identity.

    The bound 1 / sqrt(9 C) has the variance (2 bound)^2 / 12.
    """
    network = build("fast-32-64")
    second = network.stages[4].weight  # 32 -> 32: all of them the identity
    assert torch.equal(second, torch.nn.init.dirac_(torch.empty_like(second)))
    third = network.stages[7].weight  # 32 -> 64
    assert torch.equal(third[:32], second)
    drawn = third[32:].flatten()
    bound = 1 / math.sqrt(9 * 32)
    assert 0.98 * bound < drawn.abs().max() <= bound
    assert drawn.var().item() == pytest.approx(1 / (27 * 32), rel=0.05)


@pytest.mark.parametrize("name", ["fast-4", "fast-4-4", "fast-4-4-4"])
def test_the_smallest_images_of_fast_cnn(name):
    [(network, numbers)] = [(n, found) for n in NETWORKS if (found := n.parse(name)) is not None]
    smallest = network.min_size(**numbers)
    models.check(name, smallest)
    build(name).eval()(torch.zeros(2, 3, smallest, smallest))
    with pytest.raises(InputError, match=f"^{name} is too deep for images of {smallest - 1} pix"):
        models.check(name, smallest - 1)
    with pytest.raises(RuntimeError):
        build(name).eval()(torch.zeros(2, 3, smallest - 1, smallest - 1))


@pytest.mark.parametrize(
    "name", ["fast", "fast-", "fast-0", "fast-8-", "fast-8-8-8-8-8-8", "fast-08"]
)
def test_names_that_are_no_fast_cnn(name):
    assert FastCNN.parse(name) is None


def test_whitening_by_a_plain_loop(cifar10):
    """Each direction of the 2 x 2 patches gets variance v / (v + eps), and none correlate."""
    network = build("fast-8-8")
    images = to_float(cifar10.train.images[:64])
    network.prepare(images)
    patches = [
        image[:, i : i + 2, j : j + 2].reshape(-1).double()
        for image in images
        for i in range(31)
        for j in range(31)
    ]
    patches = torch.stack(patches)  # (n, 12)
    whitened = patches @ network.whitening[:12].reshape(12, 12).T.double()
    second = whitened.T @ whitened / len(whitened)
    variances = torch.linalg.eigvalsh(patches.T @ patches / len(patches)).flip(0)
    expected = torch.diag(variances / (variances + 5e-4))
    torch.testing.assert_close(second, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(network.whitening[12:], -network.whitening[:12])


def test_whitening_is_kept_in_checkpoints_and_by_teachers(cifar10):
    network = build("fast-8-8")
    network.prepare(to_float(cifar10.train.images[:8]))
    other = build("fast-8-8", seed=1)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.whitening, network.whitening)
    assert make_teacher(network).whitening is network.whitening


# The contract ---------------------------------------------------------------------------------


@pytest.fixture(params=[*NETWORKS, Tiny], ids=lambda network: network.grammar)
def name(request, monkeypatch):
    """The toy is added as any other network is: by a line in NETWORKS."""
    monkeypatch.setattr(models, "NETWORKS", (*NETWORKS, Tiny))
    return request.param.example


@pytest.mark.parametrize(("channels", "num_classes"), [(1, 10), (3, 7)])
def test_shapes(name, channels, num_classes):
    network = build(name, channels, num_classes).eval()
    images = torch.randn(4, channels, 8, 8, generator=stream("images"))
    features, logits = network.features(images), network(images)
    assert features.shape == (4, network.num_features)
    assert logits.shape == (4, num_classes)
    assert torch.equal(network(images[2:])[0], logits[2])  # evaluated, images do not interact


def test_weights_come_from_the_generator_alone(name):
    states = []
    for global_seed, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(global_seed)
        states.append(torch.cat([p.flatten() for p in build(name, seed=seed).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_batch_norm_takes_its_momentum(name):
    norms = [m for m in build(name, norm_momentum=0.25).modules() if isinstance(m, _BatchNorm)]
    assert {norm.momentum for norm in norms} == {0.25}


def test_a_gradient_reaches_every_parameter(name):
    network = build(name).train()
    images = torch.randn(8, 3, 8, 8, generator=stream("images"))
    weights = torch.randn(8, 10, generator=stream("weights"))
    (network(images) * weights).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), key


def test_names_belong_to_one_network(name):
    assert sum(network.parse(name) is not None for network in models.NETWORKS) == 1
    models.check(name)


@pytest.mark.parametrize("unknown", ["wrn-28", "resnet18", "wrn-28-0", "wrn-12-1", "wrn-2-1", ""])
def test_unknown_names_are_refused_with_all_grammars(name, unknown):
    for function in (models.check, build):
        with pytest.raises(InputError, match=f"unknown network '{unknown}': use wrn") as error:
            function(unknown)
        for network in models.NETWORKS:
            assert f"{network.grammar}, for example {network.example}" in str(error.value)


# The Wide ResNet ------------------------------------------------------------------------------


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
def test_names_say_blocks_filters_and_stages(name, shape):
    assert tuple(WideResNet.parse(name).values()) == shape
