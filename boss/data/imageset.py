"""Labeled images as two tensors, and a data set of two such parts.

N images, C channels, H x W pixels (H = W), K classes
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from boss.errors import InputError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square images and the class of each. Two sets are equal only if they are the same object.

    Raises:
        InputError: a wrong dtype or shape, or a label that is no class.
    """

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, each in [0, K)
    class_names: tuple[str, ...]  # (K,)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise InputError(f"images must be uint8 (N, C, H, W), not {_describe(images)}")
        if images.shape[2] != images.shape[3]:
            height, width = images.shape[2:]
            raise InputError(f"images must be square, not {height} x {width} pixels")
        if 0 in images.shape[1:]:
            raise InputError(f"images must have pixels, not {_describe(images)}")
        if labels.dtype != torch.int64 or labels.ndim != 1:
            raise InputError(f"labels must be int64 (N,), not {_describe(labels)}")
        if len(images) != len(labels):
            raise InputError(f"{len(images)} images, but {len(labels)} labels")
        if not self.class_names or len(set(self.class_names)) < len(self.class_names):
            raise InputError(f"class names must be one or more and differ: {self.class_names}")
        if len(labels):
            lowest, highest = int(labels.min()), int(labels.max())
            if lowest < 0 or highest >= self.num_classes:
                wrong = lowest if lowest < 0 else highest
                raise InputError(
                    f"label {wrong} is none of the classes 0 to {self.num_classes - 1}"
                )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """The number of classes K, whether or not each has an image here."""
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits, equal for equal images in equal order with equal labels.

        The SHA-256 of "N,C,H,W;" in ASCII, the pixels in row-major order and the labels as
        little-endian 64-bit integers: one value on every machine and device.
        """
        digest = _sha256(self.images)
        digest.update(self.labels.cpu().numpy().astype("<i8").tobytes())
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same images and labels on a device; no copy if they are there already."""
        return dataclasses.replace(
            self, images=self.images.to(device), labels=self.labels.to(device)
        )

    def subset(self, indices: Sequence[int] | Tensor) -> "ImageSet":
        """The images at these indices, in this order, with all class names.

        Args:
            indices: (M,), each in [0, N).
        """
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        return dataclasses.replace(self, images=self.images[index], labels=self.labels[index])

    def relabel(self, labels: Tensor) -> "ImageSet":
        """The same images with other classes, such as pseudo-labels.

        Args:
            labels: classes (N,) int64.
        """
        return dataclasses.replace(self, labels=labels.to(self.labels.device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images to train on and images to test on.

    Raises:
        InputError: a part is empty, a class has no training image, or the parts
            differ in their classes, channels or size.
    """

    name: str  # one of boss.data.DATASETS, the path of an .npz file, or folder:PATH[@SIZE]
    train: ImageSet
    test: ImageSet
    flip: bool  # whether a mirrored image still belongs to its class: not for digits
    unlabeled: Tensor | None = None  # further training images without a class (M, C, H, W) uint8
    folds: tuple[tuple[int, ...], ...] = ()  # predefined label sets: indices into train

    def __post_init__(self) -> None:
        train, test = self.train, self.test
        for part, images in (("training", train), ("test", test)):
            if len(images) == 0:
                raise InputError(f"the {part} part of {self.name} is empty")
        if train.class_names != test.class_names:
            raise InputError(f"the training and test parts of {self.name} differ in their classes")
        if train.images.shape[1:] != test.images.shape[1:]:
            shapes = [tuple(part.images.shape[1:]) for part in (train, test)]
            raise InputError(
                f"the training images of {self.name} are {shapes[0]} (C, H, W), "
                f"its test images {shapes[1]}"
            )
        if self.unlabeled is not None:
            self._check_unlabeled(self.unlabeled)
        counts = torch.bincount(train.labels, minlength=train.num_classes).tolist()
        if 0 in counts:
            missing = train.class_names[counts.index(0)]
            raise InputError(f"{self.name} has no training image of class {missing}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes (K,)."""
        return self.train.class_names

    @property
    def num_classes(self) -> int:
        """The number of classes K."""
        return self.train.num_classes

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the fingerprints of train and test, in hexadecimal: 64 hex digits.

        If there are unlabeled images, their SHA-256 follows those two, computed in the same way but
        without labels.
        """
        parts = self.train.fingerprint + self.test.fingerprint
        if self.unlabeled is not None:
            parts += _sha256(self.unlabeled).hexdigest()
        return hashlib.sha256(parts.encode("ascii")).hexdigest()

    def to(self, device: torch.device | str) -> "Dataset":
        """All images on a device; no copy of those that are there already."""
        return dataclasses.replace(
            self,
            train=self.train.to(device),
            test=self.test.to(device),
            unlabeled=None if self.unlabeled is None else self.unlabeled.to(device),
        )

    def _check_unlabeled(self, images: Tensor) -> None:
        shape = tuple(self.train.images.shape[1:])
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != shape:
            raise InputError(
                f"the training images of {self.name} are uint8 {shape} (C, H, W),"
                f" its unlabeled images {_describe(images)} (N, C, H, W)"
            )
        if len(images) == 0:
            raise InputError(f"the unlabeled part of {self.name} is empty")


def _sha256(images: Tensor) -> "hashlib._Hash":
    """Of "N,C,H,W;" in ASCII and the pixels in row-major order."""
    digest = hashlib.sha256((",".join(map(str, images.shape)) + ";").encode("ascii"))
    digest.update(images.contiguous().cpu().numpy().data)
    return digest


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
