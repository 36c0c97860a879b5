"""The views of a run: one augmentation for the weak ones, a policy for the strong ones.

N images, C channels (1 or 3), H = W = size in pixels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from boss.augment.ctaugment import CTAugment
from boss.augment.cutout import Cutout
from boss.augment.pixels import to_float
from boss.augment.randaugment import RandAugment
from boss.augment.weak import Weak
from boss.errors import choose
from boss.study import AUGMENTATIONS


class Views:
    """Augments uint8 images and scales them to [-1, 1].

    A weak view is mirrored and shifted (`Weak`). A strong view starts from a weak draw of its own
    and goes on as `augmentation` says:

    ==========================  ===================================================================
    randaugment                 two operations of `RandAugment`, then Cutout
    randaugment-without-cutout  the operations alone
    ctaugment                   two operations of `CTAugment`, which learns how strong, then Cutout
    ctaugment-without-cutout    the operations alone
    ctaugment-paper             ctaugment with translations by up to 0.3 of the side, as the paper
                                says, where its code moves by up to 0.3 pixels
    cutout                      Cutout alone
    weak                        nothing: another weak view
    flip                        mirrored only; not shifted
    none                        nothing at all; neither mirrored nor shifted
    ==========================  ===================================================================

    Args:
        augmentation: one of `boss.study.AUGMENTATIONS`.
        size: height and width of the images in pixels.
        flip: whether a mirrored image is still one of its class.
        device: where images and draws lie.
        dtype: of the result.
    """

    def __init__(
        self,
        augmentation: str,
        size: int,
        *,
        flip: bool,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        choose(augmentation, dict.fromkeys(AUGMENTATIONS), what="augmentation")
        self.augmentation = augmentation
        self.dtype = dtype
        self._weak = Weak(size, flip=flip, device=device)
        self._flip = Weak(size, flip=flip, device=device, pad=0)
        self._cutout = Cutout(size, device=device)
        cutout = not augmentation.endswith("-without-cutout")
        self._randaugment, self.ctaugment = None, None
        if augmentation.startswith("randaugment"):
            side = None if cutout else 0
            self._randaugment = RandAugment(size, device=device, cutout=side)
        elif augmentation.startswith("ctaugment"):
            translation = "paper" if augmentation == "ctaugment-paper" else "reference"
            self.ctaugment = CTAugment(size, device=device, cutout=cutout, translation=translation)

    def view(self, kind: str, images: Tensor, generator: torch.Generator) -> Tensor:
        """A view of each image.

        Args:
            kind: "none" (as it is), "weak" or "strong".
            images: uint8 (N, C, H, W), as stored.

        Returns:
            (N, C, H, W) in [-1, 1].
        """
        if kind == "none" or (kind == "strong" and self.augmentation == "none"):
            return to_float(images, dtype=self.dtype)
        if kind == "strong" and self.augmentation == "flip":
            flipped = self._flip(images, self._flip.draw(len(images), generator))
            return to_float(flipped, dtype=self.dtype)
        images = self.weak(images, generator)
        if kind == "strong":
            return self.distort(images, generator)
        assert kind == "weak"
        return to_float(images, dtype=self.dtype)

    def weak(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mirrored and shifted: uint8 (N, C, H, W) of the same shape."""
        return self._weak(images, self._weak.draw(len(images), generator))

    def distort(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The rest of a strong view: weakly augmented uint8 (N, C, H, W), to [-1, 1]."""
        if self._randaugment is not None:
            draws = self._randaugment.draw(len(images), generator)
            return to_float(*self._randaugment(images, draws), dtype=self.dtype)
        if self.ctaugment is not None:
            images = self.ctaugment(images, self.ctaugment.draw(len(images), generator))
        elif self.augmentation == "cutout":
            keep = self._cutout(self._cutout.draw(len(images), generator))[:, None] == 0
            return to_float(images, keep, dtype=self.dtype)
        return to_float(images, dtype=self.dtype)

    def state_dict(self) -> dict[str, Tensor]:
        """What is learned: the rates of CTAugment, if that is the policy."""
        return {} if self.ctaugment is None else self.ctaugment.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where `state_dict` was taken."""
        if self.ctaugment is not None:
            self.ctaugment.load_state_dict(dict(state))
