"""The views of a run: one augmentation for the weak ones, a policy for the strong ones.

N images, C channels (1 or 3), H = W = size in pixels.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from boss.augment.ctaugment import CTADraws, CTAugment
from boss.augment.cutout import Cutout
from boss.augment.pixels import to_float
from boss.augment.randaugment import RandAugment, StrongDraws
from boss.augment.weak import Weak, WeakDraws
from boss.errors import choose
from boss.study.run import AUGMENTATIONS


class ViewDraws(NamedTuple):
    """What is random in a view of N images; tensors without numbers where a view draws none."""

    weak: WeakDraws
    strong: StrongDraws | CTADraws | Tensor


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
        augmentation: one of `boss.study.run.AUGMENTATIONS`.
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
        self.device = torch.device(device)
        self._weak = Weak(size, flip=flip, device=device)
        # What a view of each kind starts from: nothing, or a transform with draws of its own.
        strong: dict[str, Weak | None] = {
            "flip": Weak(size, flip=flip, device=device, pad=0),
            "none": None,
        }
        self._bases = {
            "none": None,
            "weak": self._weak,
            "strong": strong.get(augmentation, self._weak),
        }
        self._cutout = Cutout(size, device=device)
        cutout = not augmentation.endswith("-without-cutout")
        self._randaugment, self.ctaugment = None, None
        if augmentation.startswith("randaugment"):
            side = None if cutout else 0
            self._randaugment = RandAugment(size, device=device, cutout=side)
        elif augmentation.startswith("ctaugment"):
            translation = "paper" if augmentation == "ctaugment-paper" else "reference"
            self.ctaugment = CTAugment(size, device=device, cutout=cutout, translation=translation)

    def draw_weak(self, num: int, generator: torch.Generator) -> WeakDraws:
        """Independent draws for `num` images; `generator` lives where the images do."""
        return self._weak.draw(num, generator)

    def draw_strong(self, num: int, generator: torch.Generator) -> StrongDraws | CTADraws | Tensor:
        """What `distort` takes; without any numbers if the policy draws none."""
        if self._randaugment is not None:
            return self._randaugment.draw(num, generator)
        if self.ctaugment is not None:
            return self.ctaugment.draw(num, generator)
        if self.augmentation == "cutout":
            return self._cutout.draw(num, generator)
        return torch.empty(0, device=self.device)

    def draw(self, kind: str, num: int, generator: torch.Generator) -> ViewDraws:
        """What `view` takes, for `num` images."""
        none, base = torch.empty(0, device=self.device), self._bases[kind]
        weak = WeakDraws(none, none) if base is None else base.draw(num, generator)
        return ViewDraws(weak, self.draw_strong(num, generator) if kind == "strong" else none)

    def view(self, kind: str, images: Tensor, draws: ViewDraws) -> Tensor:
        """A view of each image: a pure function of these tensors.

        Args:
            kind: "none" (as it is), "weak" or "strong".
            images: uint8 (N, C, H, W), as stored.
            draws: for this kind and these N images.

        Returns:
            (N, C, H, W) in [-1, 1].
        """
        base = self._bases[kind]
        if base is not None:
            images = base(images, draws.weak)
        if kind == "strong":
            return self.distort(images, draws.strong)
        return to_float(images, dtype=self.dtype)

    def weak(self, images: Tensor, draws: WeakDraws) -> Tensor:
        """Mirrored and shifted: uint8 (N, C, H, W) of the same shape."""
        return self._weak(images, draws)

    def distort(self, images: Tensor, draws: StrongDraws | CTADraws | Tensor) -> Tensor:
        """The rest of a strong view: weakly augmented uint8 (N, C, H, W), to [-1, 1]."""
        if self._randaugment is not None:
            assert isinstance(draws, StrongDraws)
            return to_float(*self._randaugment(images, draws), dtype=self.dtype)
        if self.ctaugment is not None:
            assert isinstance(draws, CTADraws)
            images = self.ctaugment(images, draws)
        elif self.augmentation == "cutout":
            assert isinstance(draws, Tensor)
            return to_float(images, self._cutout(draws)[:, None] == 0, dtype=self.dtype)
        return to_float(images, dtype=self.dtype)

    def state_dict(self) -> dict[str, Tensor]:
        """What is learned: the rates of CTAugment, if that is the policy."""
        return {} if self.ctaugment is None else self.ctaugment.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where `state_dict` was taken."""
        if self.ctaugment is not None:
            self.ctaugment.load_state_dict(dict(state))
