"""Accuracy of a network on a set of images.

Dimensions: N images, K classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from boss.augment import to_float
from boss.data import ImageSet
from boss.losses import cross_entropy


class Evaluation(NamedTuple):
    """Counts, so that every mean can be taken from them."""

    confusion: Tensor  # images by true class and predicted class (K, K)
    loss: Tensor  # summed cross entropy in nats, a scalar

    @property
    def correct(self) -> Tensor:
        """Images classified correctly, by class (K,)."""
        return self.confusion.diagonal()

    @property
    def total(self) -> Tensor:
        """Images by class (K,)."""
        return self.confusion.sum(dim=1)

    @property
    def accuracy(self) -> float:
        """Share of the images classified correctly."""
        return int(self.correct.sum()) / int(self.total.sum())

    @property
    def mean_loss(self) -> float:
        """Mean cross entropy in nats."""
        return float(self.loss) / int(self.total.sum())


@torch.inference_mode()
def evaluate(
    network: nn.Module, images: ImageSet, *, precision: str = "fp32", batch_size: int = 500
) -> Evaluation:
    """Classify every image, unaugmented, with the running statistics of batch norm.

    Args:
        network: images in [-1, 1] -> logits (N, K); its mode is restored afterwards.
        images: on the device of the network.
    """
    training = network.training
    network.eval()
    num_classes, device = images.num_classes, images.labels.device
    cells = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    for start in range(0, len(images), batch_size):
        y = images.labels[start : start + batch_size]
        logits = forward_in(precision, network, images.images[start : start + batch_size])
        cell = y * num_classes + logits.argmax(dim=1)  # (n,)
        cells.scatter_add_(0, cell, torch.ones_like(cell))
        loss += cross_entropy(logits, y).sum()
    network.train(training)
    return Evaluation(cells.reshape(num_classes, num_classes), loss)


@torch.inference_mode()
def predict(
    network: nn.Module, images: Tensor, *, precision: str = "fp32", batch_size: int = 500
) -> tuple[Tensor, Tensor]:
    """Predictions on unaugmented images, by the running statistics of batch norm.

    Args:
        network: images in [-1, 1] -> logits (N, K); its mode is restored afterwards.
        images: uint8 (N, C, H, W), on the device of the network.

    Returns:
        The predicted classes (N,).
        1 - confidence, float64 (N,): the sum of all other probabilities, which still orders images
            whose confidence rounds to 1.
    """
    training = network.training
    network.eval()
    predictions, uncertainties = [], []
    for start in range(0, len(images), batch_size):
        logits = forward_in(precision, network, images[start : start + batch_size])
        probs = logits.double().softmax(dim=1)  # (n, K)
        predicted = probs.argmax(dim=1, keepdim=True)  # (n, 1)
        predictions.append(predicted.squeeze(1))
        uncertainties.append(probs.scatter(1, predicted, 0.0).sum(dim=1))
    network.train(training)
    return torch.cat(predictions), torch.cat(uncertainties)


def forward_in(precision: str, network: nn.Module, images: Tensor) -> Tensor:
    """Logits of uint8 images (N, C, H, W), computed in "fp32", "bf16" or "fp64"."""
    dtype = torch.float64 if precision == "fp64" else torch.float32
    x = to_float(images, dtype=dtype)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits: Tensor = network(x)
    return logits
