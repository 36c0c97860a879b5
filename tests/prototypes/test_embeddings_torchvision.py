"""Networks pretrained on ImageNet: the classifier removed, images prepared, weights missing."""

import dataclasses
import pickle
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import models as zoo

from boss.data import Dataset, ImageSet
from boss.errors import InputError
from boss.prototypes.embeddings import check, embed
from boss.prototypes.pretrained import drop_classifier

NAME = "mobilenet_v3_small"
WEIGHTS = zoo.MobileNet_V3_Small_Weights.DEFAULT
FILE = "mobilenet_v3_small-047dcff4.pth"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty folder for weights, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def download(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    return tmp_path


@pytest.fixture
def network(home):
    """A network whose weights, random ones, are where torchvision looks for them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = zoo.mobilenet_v3_small()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():  # else the signal is lost on its way through random layers
            network(torch.randn(8, 3, 64, 64))
    network.eval()
    (home / "hub/checkpoints").mkdir(parents=True)
    torch.save(network.state_dict(), home / "hub/checkpoints" / FILE)
    return network


@pytest.fixture(scope="module")
def few(digits) -> Dataset:
    return dataclasses.replace(
        digits, train=digits.train.subset(range(12)), test=digits.test.subset(range(2))
    )


@pytest.mark.parametrize(("name", "width"), [
    ("resnet18", 512), ("resnet50", 2048), ("mobilenet_v3_large", 1280), ("efficientnet_b0", 1280),
    ("efficientnet_v2_s", 1280), ("vit_b_16", 768), ("convnext_tiny", 768),
])  # fmt: skip
def test_the_classifier_is_removed(name, width):
    with torch.device("meta"):  # shapes without numbers
        network = zoo.get_model(name).eval()
        drop_classifier(network, 1000)
        assert network(torch.empty(2, 3, 224, 224)).shape == (2, width)


def test_what_remains_is_what_the_classifier_gets():
    network = zoo.resnet18(num_classes=5).eval()
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, classify = network(x), network.fc
        drop_classifier(network, 5)
        torch.testing.assert_close(classify(network(x)), logits)


def large_images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (12, 1, 256, 256), generator=generator).to(torch.uint8)
    images = ImageSet(pixels, torch.arange(12) % 2, ("a", "b"))
    return Dataset("large", images, images, flip=True)


@pytest.mark.parametrize("large", [False, True])
def test_features_of_prepared_images(large, network, few):
    """Three equal channels, scaled to 224 pixels, normalized as ImageNet was."""
    dataset = large_images() if large else few
    [features] = embed(f"torchvision:{NAME}", dataset)
    x = dataset.train.images.repeat(1, 3, 1, 1).float() / 255
    x = torch.nn.functional.interpolate(x, size=224, mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    network.classifier[3] = torch.nn.Identity()
    with torch.no_grad():
        expected = network((x - mean[:, None, None]) / std[:, None, None]).numpy()
    assert features.shape == (12, 1024)
    assert features.dtype == np.float32
    assert expected.std() > 1  # there is something to compare
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-3 * expected.std())


def test_the_cache_spares_the_network(network, home, few, tmp_path):
    cache = tmp_path / "cache"
    [features] = embed(f"torchvision:{NAME}", few, cache=cache)
    (home / "hub/checkpoints" / FILE).unlink()
    assert np.array_equal(embed(f"torchvision:{NAME}", few, cache=cache, seed=9)[0], features)


def test_missing_weights_without_a_network(home, few):
    check(f"torchvision:{NAME}", few)
    with pytest.raises(InputError) as error:
        embed(f"torchvision:{NAME}", few)
    assert str(error.value) == (
        f"torchvision:{NAME} needs its weights: download {WEIGHTS.url} and put it into"
        f" {home / 'hub/checkpoints'}"
    )
    assert WEIGHTS.url.endswith(FILE)


@pytest.mark.parametrize("damage", ["text", "another network", "pickle"])
def test_damaged_weights(damage, network, home, few):
    file = home / "hub/checkpoints" / FILE
    if damage == "text":
        file.write_text("damaged")
    elif damage == "pickle":
        file.write_bytes(pickle.dumps({"weights": 1}))
    else:
        torch.save({"fc.weight": torch.zeros(2)}, file)
    with pytest.raises(InputError, match=f"{FILE} is damaged: remove it, or replace it by https"):
        embed(f"torchvision:{NAME}", few)


@pytest.mark.parametrize("name", ["resnet", "resnet18_quantized", "vgg11", "deeplabv3_resnet50"])
def test_unknown_networks(name, few):
    with pytest.raises(InputError, match=r"choose from resnet\*, mobilenet_v3\*, .*, such as res"):
        check(f"torchvision:{name}", few)
