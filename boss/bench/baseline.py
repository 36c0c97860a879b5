"""What a user would write with PyTorch and torchvision: FixMatch in the usual way.

The pattern of the public implementations, written from scratch: Pillow transforms image by image,
data loaders with a worker process per core, an eager network, autocast, torch.optim.SGD, a plain
loop for the moving average. Torchvision is imported only here.

Dimensions: B labeled images per step, U = unlabeled_ratio * B unlabeled ones, C channels, H = W.
"""

import copy
import multiprocessing
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate
from torchvision import transforms

from boss import models
from boss.augment.randaugment import OPERATIONS
from boss.bench.clock import Sample, synchronize
from boss.seeds import seed_of, stream
from boss.study.run import Run
from boss.training.config import learning_rate_at
from boss.training.state import TrainingData

PREFETCH = 2  # batches that each worker works ahead: the data loader's default
THRESHOLD = 0.95


# Augmentation, image by image ---------------------------------------------------------------------


def operate(image: Image.Image, name: str, level: int, sign: int, size: int) -> Image.Image:
    """One operation of RandAugment on an RGBA image."""
    if name in ("color", "contrast", "brightness", "sharpness"):
        enhanced: Image.Image = getattr(ImageEnhance, name.capitalize())(image).enhance(
            0.18 * level + 0.1
        )
        return enhanced
    if name == "autocontrast":
        return ImageOps.autocontrast(image.convert("RGB")).convert("RGBA")
    if name == "equalize":
        return ImageOps.equalize(image.convert("RGB")).convert("RGBA")
    if name == "solarize":
        threshold = 256 - int(25.6 * level)
        return ImageOps.solarize(image.convert("RGB"), threshold).convert("RGBA")
    if name == "posterize":
        return ImageOps.posterize(image.convert("RGB"), 4 - int(0.4 * level)).convert("RGBA")
    if name == "rotate":
        return image.rotate(3 * sign * level)
    if name == "identity":
        return image
    shear = 0.03 * sign * level
    shift = sign * int(level * min(1, size / 32))
    matrix = {
        "shear_x": (1, shear, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, shear, 1, 0),
        "translate_x": (1, 0, shift, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, shift),
    }[name]
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


class Transforms:
    """The weak and the strong view of a Pillow image, as `boss.augment.Views` makes them.

    Args:
        channels: 1 or 3.
        size: pixels along a side.
        seed: of RandAugment's draws; the others are torchvision's, from the global generator.
    """

    def __init__(self, channels: int, size: int, *, flip: bool = True, seed: int = 0) -> None:
        self.size, self.mode = size, "L" if channels == 1 else "RGB"
        self.draw = Random(seed)
        steps = [transforms.RandomHorizontalFlip()] if flip else []
        steps += [transforms.RandomCrop(size, padding=size // 8, padding_mode="reflect")]
        self._weak = transforms.Compose(steps)
        half = (0.5,) * channels
        self.normalize = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(half, half)]
        )

    def weak(self, image: Image.Image) -> Tensor:
        """(C, H, W) in [-1, 1]."""
        view: Tensor = self.normalize(self._weak(image))
        return view

    def strong(self, image: Image.Image) -> Tensor:
        """Two operations, each with probability 0.5, then Cutout: (C, H, W) in [-1, 1]."""
        draw, size = self.draw, self.size
        image = self._weak(image).convert("RGBA")  # where alpha becomes 0, an operation left a gap
        for name in draw.choices(OPERATIONS, k=2):
            if draw.random() < 0.5:
                sign = draw.choice((-1, 1))
                image = operate(image, name, draw.randrange(1, 10), sign, size)
        x: Tensor = self.normalize(image.convert(self.mode))
        alpha = transforms.functional.pil_to_tensor(image.getchannel("A"))
        x.masked_fill_(alpha == 0, 0.0)
        half = min(16, size // 2) // 2
        row, column = draw.randrange(size), draw.randrange(size)
        rows = slice(max(0, row - half), row + half)
        x[:, rows, max(0, column - half) : column + half] = 0.0
        return x


class Pictures(Dataset[Any]):
    """Images one by one, for a data loader.

    Args:
        images: uint8 (N, C, H, W).
        labels: classes (N,).
        strong: whether to return the weak and the strong view, or the weak one and the class.
    """

    def __init__(self, images: Tensor, labels: Tensor, *, strong: bool, flip: bool) -> None:
        channels, size = images.shape[1], images.shape[-1]
        self.arrays = np.ascontiguousarray(images.movedim(1, -1).squeeze(-1).cpu().numpy())
        self.labels = labels.tolist()
        self.strong = strong
        self.transforms = Transforms(channels, size, flip=flip)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | int]:
        image = Image.fromarray(self.arrays[index])
        if self.strong:
            return self.transforms.weak(image), self.transforms.strong(image)
        return self.transforms.weak(image), self.labels[index]


class Shuffled(Sampler[int]):
    """Every position once in each epoch, in a fresh order; `num` positions in all."""

    def __init__(self, num_images: int, generator: torch.Generator) -> None:
        self.num_images, self.generator = num_images, generator
        self.num = 0

    def __iter__(self) -> Iterator[int]:
        for start in range(0, self.num, self.num_images):
            order = torch.randperm(self.num_images, generator=self.generator).tolist()
            yield from order[: self.num - start]

    def __len__(self) -> int:
        return self.num


class Collate:
    """A batch, and the processor seconds that a worker has spent since its last one."""

    def __init__(self) -> None:
        self.spent = time.process_time()

    def __call__(self, examples: list[Any]) -> tuple[Any, float]:
        batch = default_collate(examples)
        before, self.spent = self.spent, time.process_time()
        return batch, self.spent - before


class LoadedBatch(NamedTuple):
    """Of one step, in main memory."""

    x: Tensor  # (B, C, H, W)
    y: Tensor  # (B,)
    weak: Tensor  # (U, C, H, W)
    strong: Tensor  # (U, C, H, W)
    seconds: float  # of the workers' processors


def _start_worker(number: int) -> None:
    """Each worker draws on its own."""
    info = torch.utils.data.get_worker_info()
    assert info is not None
    pictures: Any = info.dataset
    pictures.transforms.draw.seed(info.seed)


# Training -----------------------------------------------------------------------------------------


class Baseline:
    """A training of FixMatch in this way.

    Args:
        data: where it is; images come from there to the workers once.
        num_workers: processes that load the unlabeled images; the few labeled ones have one of
            their own. 0: this process loads.
        autocast: whether to compute in bf16 where autocast does.
    """

    def __init__(
        self,
        run: Run,
        data: TrainingData,
        *,
        flip: bool,
        device: torch.device,
        num_workers: int,
        autocast: bool,
    ) -> None:
        self.run, self.device, self.autocast = run, device, autocast
        self.num_workers = num_workers
        labeled, unlabeled = data.labeled, data.unlabeled
        self._labeled = Pictures(labeled.images, labeled.labels, strong=False, flip=flip)
        self._unlabeled = Pictures(unlabeled.images, unlabeled.labels, strong=True, flip=flip)
        self._loaders: tuple[DataLoader[Any], DataLoader[Any]] | None = None
        self.student: nn.Module = models.build(
            run.network,
            channels=labeled.images.shape[1],
            num_classes=labeled.num_classes,
            norm_momentum=run.norm_momentum,
            generator=stream(*run.stream_key, "initialization"),
        ).to(device)
        self.teacher = copy.deepcopy(self.student).eval().requires_grad_(False)
        kernels = [p for p in self.student.parameters() if p.ndim > 1]
        others = [p for p in self.student.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.SGD(
            [
                {"params": kernels, "weight_decay": run.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=run.learning_rate,
            momentum=run.momentum,
            nesterov=True,
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_at("cosine", step / run.num_steps, 1.0, 0.0)
        )
        self.losses: list[float] = []

    @property
    def work_ahead(self) -> int:
        """Batches that the workers make before they are asked for."""
        return self.num_workers * PREFETCH

    def batches(self, num: int) -> Iterator[LoadedBatch]:
        """`num` batches. The workers stay; they are idle when the last one has been made."""
        if self._loaders is None:
            self._loaders = self._start_loaders()
        for loader in self._loaders:
            sampler = loader.sampler
            assert isinstance(sampler, Shuffled)
            assert loader.batch_size is not None
            sampler.num = num * loader.batch_size
        for ((x, y), one), ((weak, strong), other) in zip(*self._loaders, strict=True):
            yield LoadedBatch(x, y, weak, strong, one + other)

    def _start_loaders(self) -> tuple[DataLoader[Any], DataLoader[Any]]:
        # Forked from a server, not from here: this process has threads and perhaps a GPU.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])

        def loader(pictures: Pictures, batch_size: int, num_workers: int) -> DataLoader[Any]:
            return DataLoader(
                pictures,
                batch_size=batch_size,
                sampler=Shuffled(len(pictures), stream("baseline order", batch_size)),
                num_workers=num_workers,
                drop_last=True,
                pin_memory=self.device.type == "cuda",
                collate_fn=Collate(),
                persistent_workers=num_workers > 0,
                prefetch_factor=PREFETCH if num_workers else None,
                multiprocessing_context=context if num_workers else None,
                worker_init_fn=_start_worker,
                generator=stream("baseline workers", batch_size),
            )

        num, workers = self.run.batch_size, self.num_workers
        return (
            loader(self._labeled, num, min(1, workers)),
            loader(self._unlabeled, self.run.unlabeled_ratio * num, workers),
        )

    def close(self) -> None:
        """End the workers."""
        self._loaders = None

    def learn(self, batch: LoadedBatch) -> None:
        """A training step on a batch from `batches`."""
        loss = self.loss(batch)
        self.backward(loss)
        self.update()
        self.average()
        self.losses.append(loss.item())  # for the log, as is usual: it waits for the device

    def loss(self, batch: LoadedBatch) -> Tensor:
        """Forward pass and loss, a scalar."""
        x, y, weak, strong, _ = batch
        inputs = torch.cat([x, weak, strong]).to(self.device, non_blocking=True)
        y = y.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            logits = self.student(inputs)
        logits_x, logits_weak, logits_strong = logits.float().split([len(x), len(weak), len(weak)])
        confidence, pseudo_label = logits_weak.detach().softmax(dim=1).max(dim=1)
        mask = (confidence >= THRESHOLD).float()
        unsupervised = F.cross_entropy(logits_strong, pseudo_label, reduction="none") * mask
        loss: Tensor = F.cross_entropy(logits_x, y) + unsupervised.mean()
        return loss

    def backward(self, loss: Tensor) -> None:
        """Gradients."""
        loss.backward()  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """The optimizer moves the student."""
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def average(self) -> None:
        """The teacher moves, parameter by parameter, and takes over the running statistics."""
        decay = self.run.teacher_decay
        for averaged, trained in zip(
            self.teacher.parameters(), self.student.parameters(), strict=True
        ):
            averaged.mul_(decay).add_(trained, alpha=1 - decay)
        for kept, moved in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            kept.copy_(moved)


def measure(baseline: Baseline, num_steps: int) -> Sample:
    """Of `num_steps` steps in the middle of a training, the workers running.

    Before them, steps until the workers are past their first batches; behind them, batches that
    nobody trains on, so that the workers work during the last steps as during the others.
    """
    warmup, ahead = baseline.work_ahead + 1, baseline.work_ahead
    batches = baseline.batches(warmup + num_steps + ahead)
    for _ in range(warmup):
        baseline.learn(next(batches))
    synchronize(baseline.device)
    began, processor = time.perf_counter(), time.process_time()
    waiting = in_workers = 0.0
    for _ in range(num_steps):
        asked = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - asked
        in_workers += batch.seconds if baseline.num_workers else 0.0
        baseline.learn(batch)
    synchronize(baseline.device)
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    for _ in batches:
        pass
    return Sample(seconds / num_steps, (processor + in_workers) / num_steps, waiting / num_steps)


def pillow_views(images: Tensor, *, flip: bool = True) -> Callable[[], tuple[Tensor, Tensor]]:
    """Both views of all images, image by image in this process: (N, C, H, W) each.

    Args:
        images: uint8 (N, C, H, W).
    """
    channels, size = images.shape[1], images.shape[-1]
    views = Transforms(channels, size, flip=flip, seed=seed_of("pillow views"))
    arrays = [image.squeeze(-1).numpy() for image in images.movedim(1, -1)]

    def run() -> tuple[Tensor, Tensor]:
        pictures = [Image.fromarray(array) for array in arrays]
        return (
            torch.stack([views.weak(picture) for picture in pictures]),
            torch.stack([views.strong(picture) for picture in pictures]),
        )

    return run
