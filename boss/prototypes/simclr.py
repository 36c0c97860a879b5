"""SimCLR: an encoder trained without labels to tell images apart.

Dimensions: N training images, B of them in a batch, C channels, F features of the encoder,
Z = 128 outputs of the projection head.

Chen, Kornblith, Norouzi and Hinton 2020, "A simple framework for contrastive learning of visual
representations". Two random views of every image of a batch go through the encoder and a small
head; the loss pulls each view toward its twin and away from the other 2 (B - 1) views
(`nt_xent`). The head is then thrown away.

Deviations:

* The views are resized crops with color jitter (of three channels), as two and one matrix products
  (`boss.augment`), without blur, which the paper leaves out on CIFAR-10, too. They have three
  quarters of the resolution: a step then costs half as much, and in equal time the embedding is
  better (docs/laptop.md).
* The encoder is a network of `boss.models`, so that a run can start from its weights.
* Muon instead of LARS, which the paper needs for batches of 4,096.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from boss import models
from boss.augment import ColorJitter, ResizedCrop, to_float
from boss.errors import InputError
from boss.losses import at_least_single, cross_entropy
from boss.models import Network
from boss.seeds import EpochOrder, stream
from boss.training import checkpoint
from boss.training.config import LAYOUTS
from boss.training.optim import make_optimizer
from boss.training.probe import (
    Arithmetic,
    conv_precision,
    fastest,
    memory_format,
    precisions_of,
)
from boss.training.state import NonFiniteLossError

CHECKPOINT_SECONDS = 60.0
REPORT_SECONDS = 1.0
SMALL = 16  # pixels; images below have a smaller encoder
SMALL_VIEWS = 24  # pixels; images below are too small to be shrunk: views keep their size
NUM_PREPARING = 1024  # images that an encoder may be prepared by


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig:
    """Everything that determines the encoder, except the images and the seed."""

    network: str  # of boss.models.NETWORKS
    view_size: int  # pixels along a side of a view
    num_steps: int
    batch_size: int  # images per step (B); two views of each
    learning_rate: float = 0.02  # its peak, of Muon
    warmup: float = 0.02  # share of the steps in which the learning rate rises to its peak
    momentum: float = 0.9
    weight_decay: float = 1e-6  # on kernels only, decoupled
    temperature: float = 0.2
    min_area: float = 0.2  # of a crop, share of the image
    num_outputs: int = 128  # of the projection head (Z)
    norm_momentum: float = 0.1  # share of a batch in the running statistics of batch norm

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to 0."""
        warmup = round(self.warmup * self.num_steps)
        if step < warmup:
            return self.learning_rate * (step + 1) / (warmup + 1)
        progress = (step - warmup) / (self.num_steps - warmup)
        return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def configure(
    size: int, num_images: int, num_steps: int | None = None, network: str = ""
) -> SimCLRConfig:
    """The configuration for N images of `size` pixels.

    Its defaults are made for a CPU.

    Args:
        num_steps: None for the default.
        network: of the encoder; empty for the default.
    """
    small = size < SMALL
    batch_size = min(256 if small else 512, num_images)
    return SimCLRConfig(
        network=network or ("wrn-7-1" if small else "fast-32-128-256"),
        view_size=size if size < SMALL_VIEWS else size * 3 // 4 // 4 * 4,
        num_steps=num_steps or (2_000 if small else 6_000),
        batch_size=batch_size,
    )


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalized temperature-scaled cross entropy (Chen et al. 2020, equation 1).

    For view i with twin j, -log(exp(s_ij / T) / sum of exp(s_ik / T) over all k but i), where s is
    the cosine of the angle between two outputs.

    Args:
        first, second: outputs of the two views of B images (B, Z), not normalized.
        temperature: T.

    Returns:
        (2B,) in nats: the first views, then the second.

    >>> nt_xent(torch.eye(2), torch.eye(2), 0.5)  # log(e^2 + 2) - 2
    tensor([0.2395, 0.2395, 0.2395, 0.2395])
    """
    both = nn.functional.normalize(at_least_single(torch.cat([first, second])), dim=1)  # (2B, Z)
    num = len(both)
    itself = torch.eye(num, dtype=torch.bool, device=both.device)
    logits = (both @ both.T / temperature).masked_fill(itself, -torch.inf)
    twin = torch.arange(num, device=both.device).roll(num // 2)
    return cross_entropy(logits, twin)


class Training:
    """Everything that changes while training, and nothing else: what a checkpoint holds."""

    def __init__(
        self, config: SimCLRConfig, images: Tensor, seed: int, device: torch.device
    ) -> None:
        channels = images.shape[1]
        generator = stream("simclr", seed, "initialization")
        encoder = build_encoder(config, channels, generator)
        encoder.prepare(to_float(images[:: max(1, len(images) // NUM_PREPARING)][:NUM_PREPARING]))
        width = encoder.num_features
        hidden, outputs = nn.Linear(width, width), nn.Linear(width, config.num_outputs)
        for layer in (hidden, outputs):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        head = nn.Sequential(hidden, nn.ReLU(), outputs)
        self.arithmetic = fastest(
            encoder.to(device), channels, config.view_size, precisions=precisions_of(device)
        )
        self.encoder = to_device(encoder, device, self.arithmetic.layout)
        self.head = head.to(device)
        unused = set(encoder.classify.parameters())
        trained = [p for p in (*encoder.parameters(), *head.parameters()) if p not in unused]
        self.optimizer = make_optimizer(
            "muon",
            trained,
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            nesterov=True,
            beta2=0.0,  # no effect
            weight_decay=config.weight_decay,
            in_bf16=self.arithmetic.precision == "bf16",
        )
        self.generator = stream("simclr", seed, "augmentation", device=device)
        self.step = 0
        self.processor_seconds = 0.0  # of the steps so far, over all threads
        self.loss = torch.zeros((), device=device)  # of the last step, mean over its views

    def state_dict(self) -> dict[str, Any]:
        """A copy-free view of the state, of plain types and tensors."""
        parts = {
            name: getattr(self, name).state_dict() for name in ("encoder", "head", "optimizer")
        }
        return parts | {
            "generator": self.generator.get_state(),
            "arithmetic": tuple(self.arithmetic),
            "step": self.step,
            "processor_seconds": self.processor_seconds,
            "loss": self.loss,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become exactly what `state_dict` was taken of."""
        for name in ("encoder", "head", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"].cpu())
        self.arithmetic = Arithmetic(*state["arithmetic"])
        self.encoder = to_device(self.encoder, self.loss.device, self.arithmetic.layout)
        self.step = state["step"]
        # Unknown for good where a training was begun before it was noted.
        self.processor_seconds = state.get("processor_seconds", math.nan)
        self.loss = state["loss"].to(self.loss.device)

    def check_finite(self) -> float:
        """The loss of the last step. Waits for the device.

        Raises:
            NonFiniteLossError: it is not finite.
        """
        loss = float(self.loss)
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"the loss of SimCLR is not finite at step {self.step}")
        return loss


def build_encoder(config: SimCLRConfig, channels: int, generator: torch.Generator) -> Network:
    """The network whose `features` are the embedding. Its classifier, of one class, is not used."""
    return models.build(
        config.network,
        channels=channels,
        num_classes=1,
        norm_momentum=config.norm_momentum,
        generator=generator,
    )


def to_device(encoder: Network, device: torch.device, layout: str = LAYOUTS[0]) -> Network:
    """The encoder on a device, in a layout of memory."""
    moved = encoder.to(device, memory_format=memory_format(layout))  # type: ignore[call-overload]
    assert isinstance(moved, Network)
    return moved


def train_encoder(
    images: Tensor,
    config: SimCLRConfig,
    *,
    flip: bool,
    seed: int,
    device: torch.device,
    file: Path | None = None,
    basis: str = "",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    progress: Callable[[float, str], None] = lambda share, detail: None,
) -> Network:
    """Train an encoder, or resume or load it from `file`.

    Args:
        images: uint8 (N, C, S, S).
        flip: whether a mirrored image still belongs to its class.
        file: where the state is saved every `checkpoint_seconds` and when `progress` raises, and
            finally the encoder.
        basis: identifies the images (their fingerprint); a file with another one is ignored.
        progress: called about once a second with the share done in [0, 1] and a string.

    Raises:
        InputError: the training was begun on another kind of device, where it cannot be continued
            exactly.
        NonFiniteLossError: found at the next report or checkpoint.
    """
    channels, size = images.shape[1:3]
    identity = {"config": asdict(config), "seed": seed, "flip": flip, "basis": basis}
    saved = None if file is None else checkpoint.load(file)
    if saved is not None and saved.get("identity") != identity:
        saved = None
    if saved is not None and "encoder" in saved:
        encoder = build_encoder(config, channels, stream("simclr", seed, "initialization"))
        encoder.load_state_dict(saved["encoder"])
        return to_device(encoder, device)
    training = Training(config, images, seed, device)
    if saved is not None:
        if saved["kind of device"] != device.type:
            raise InputError(
                f"simclr was begun on {saved['kind of device']}, not on {device.type}: continue"
                f" there, or remove {file} to start over"
            )
        training.load_state_dict(saved["training"])

    images = images.to(device)
    crop = ResizedCrop(
        size, out=config.view_size, min_area=config.min_area, flip=flip, device=device
    )
    color = ColorJitter(device=device) if channels == 3 else None
    order = EpochOrder(len(images), config.batch_size, "simclr", seed, "order", device=device)

    def view(x: Tensor) -> Tensor:  # (B, C, S, S) in [-1, 1] -> (B, C, Z, Z)
        x = crop(x, crop.draw(len(x), training.generator))
        return x if color is None else color(x, color.draw(len(x), training.generator))

    precision = training.arithmetic.precision
    in_bf16 = precision == "bf16"
    training.encoder.train()
    progress(training.step / config.num_steps, f"step {training.step:,}")
    reported_at = saved_at = time.monotonic()

    def save() -> None:
        training.check_finite()  # never replace a sound checkpoint by a spoilt one
        state = {"kind of device": device.type, "training": training.state_dict()}
        if file is not None:
            checkpoint.save(file, {"identity": identity} | state)

    began = time.process_time() - training.processor_seconds
    while training.step < config.num_steps:
        x = to_float(images[order[training.step]])  # (B, C, S, S)
        # One pass: batch norm sees both views.
        with conv_precision(precision):
            with torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
                features = training.encoder.features(torch.cat([view(x), view(x)]))  # (2B, F)
                first, second = training.head(features).chunk(2)  # each (B, Z)
            loss = nt_xent(first, second, config.temperature).mean()
            training.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        for group in training.optimizer.param_groups:
            group["lr"] = group["scale"] * config.learning_rate_at(training.step)
        training.optimizer.step()
        training.loss = loss.detach()
        training.step += 1
        training.processor_seconds = time.process_time() - began

        now = time.monotonic()
        if now - reported_at >= REPORT_SECONDS:
            detail = f"step {training.step:,} of {config.num_steps:,}"
            detail += f", loss {training.check_finite():.3f}"
            try:
                progress(training.step / config.num_steps, detail)
            except BaseException:  # a stop
                save()
                raise
            reported_at = now
        if now - saved_at >= checkpoint_seconds:
            save()
            saved_at = time.monotonic()
    training.check_finite()
    if file is not None:
        content = {
            "encoder": training.encoder.state_dict(),
            "processor_seconds": training.processor_seconds,
            "arithmetic": tuple(training.arithmetic),
        }
        checkpoint.save(file, {"identity": identity} | content)
    return training.encoder
