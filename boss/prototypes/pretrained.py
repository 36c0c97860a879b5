"""Features of networks pretrained on ImageNet, from torchvision.

Dimensions: n images of a batch, C channels (1 or 3), S x S pixels, F features
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boss.errors import InputError

# torchvision's classifiers that end in one linear layer on the features.
FAMILIES = ("resnet", "mobilenet_v3", "efficientnet", "vit_b_", "convnext")


def newest_weights(name: str) -> Any:
    """The newest weights of a network (a member of torchvision's enum of weights)."""
    from torchvision import models as zoo  # it takes long to import

    if name not in zoo.list_models(module=zoo) or not name.startswith(FAMILIES):
        families = ", ".join(f"{family}*" for family in FAMILIES)
        raise InputError(
            f"unknown network {name!r} of torchvision: choose from {families}, such as resnet18"
        )
    return zoo.get_model_weights(name).DEFAULT


def feature_extractor(name: str, device: str) -> Callable[[Tensor], Tensor]:
    """A function from images uint8 (n, C, S, S) to features before the classifier (n, F).

    Images are resized directly to the input size of the network (bilinear, antialiased); one
    channel is repeated three times. Deviation from the transforms that come with the weights: those
    resize to a larger size, some bicubically, and crop the center; small images have no margin.

    Raises:
        InputError: the weights are damaged or cannot be downloaded.
    """
    from torchvision import models as zoo

    weights = newest_weights(name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / Path(urlparse(weights.url).path).name
    try:
        network = zoo.get_model(name, weights=weights, progress=False)
    except Exception as error:  # no network, no space; damaged pickles raise almost anything
        if file.exists():
            raise InputError(
                f"torchvision:{name}: {file} is damaged: remove it, or replace it by {weights.url}"
            ) from error
        raise InputError(
            f"torchvision:{name} needs its weights: download {weights.url} and put it into {folder}"
        ) from error
    drop_classifier(network, len(weights.meta["categories"]))
    network = network.eval().to(device)
    transforms = weights.transforms()
    [size] = transforms.crop_size
    mean, std = (
        torch.tensor(values, device=device)[:, None, None]
        for values in (transforms.mean, transforms.std)
    )

    def extract(images: Tensor) -> Tensor:
        x = images.float().div_(255).expand(-1, 3, -1, -1)
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
        features: Tensor = network((x - mean) / std)
        return features

    return extract


def drop_classifier(network: nn.Module, num_classes: int) -> None:
    """Replace the last linear layer, which makes the logits, by the identity."""
    name, last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    assert last.out_features == num_classes, "the last linear layer is not the classifier"
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
