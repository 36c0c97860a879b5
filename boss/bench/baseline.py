"""The usual way to write FixMatch with PyTorch and torchvision: the baseline of the benchmark.

The pattern of the public implementations: worker processes of data loaders apply torchvision's
transforms to Pillow images one by one; an eager network under autocast, torch.optim.SGD, a loop
over the parameters for the moving average, and `loss.item()` for the log.

Deviation: torchvision's RandAugment has other operations and magnitudes than FixMatch's, and
RandomErasing stands for Cutout. The work is of the same kind; only its time is used.

Dimensions: B labeled images per step, U = unlabeled_ratio * B unlabeled ones, C channels, H = W.
"""

import copy
import multiprocessing
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from boss.seeds import stream
from boss.study.run import Run
from boss.training.state import Training, TrainingData

PREFETCH = 2  # batches that each worker prepares in advance: the default of a data loader
THRESHOLD = 0.95


def weak_and_strong(channels: int, size: int, *, flip: bool) -> tuple[Any, Any]:
    """Two functions from a Pillow image to a tensor (C, H, W) in [-1, 1]."""
    shift = transforms.RandomCrop(size, padding=size // 8, padding_mode="reflect")
    weak = [transforms.RandomHorizontalFlip()] * flip + [shift]
    half = (0.5,) * channels
    to_tensor = [transforms.ToTensor(), transforms.Normalize(half, half)]
    cutout = transforms.RandomErasing(p=1.0, scale=(0.25, 0.25), ratio=(1.0, 1.0))
    strong = [*weak, transforms.RandAugment(), *to_tensor, cutout]
    return transforms.Compose([*weak, *to_tensor]), transforms.Compose(strong)


class AugmentedImages(Dataset[Any]):
    """Images one by one, each with all its views.

    Args:
        images: uint8 (N, C, H, W).
        labels: classes (N,).
        views: functions from a Pillow image to a tensor.
    """

    def __init__(self, images: Tensor, labels: Tensor, views: tuple[Any, ...]) -> None:
        self.arrays = images.movedim(1, -1).cpu().numpy()  # (N, H, W, C)
        self.labels = labels.tolist()
        self.views = views

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image = transforms.functional.to_pil_image(self.arrays[index])
        return *(view(image) for view in self.views), self.labels[index]


class RandomIndices(Sampler[int]):
    """`num` positions at random, with replacement; `num` may change from epoch to epoch."""

    def __init__(self, num_images: int, generator: torch.Generator) -> None:
        self.num_images, self.generator, self.num = num_images, generator, 0

    def __iter__(self) -> Iterator[int]:
        yield from torch.randint(self.num_images, (self.num,), generator=self.generator).tolist()

    def __len__(self) -> int:
        return self.num


class Baseline:
    """FixMatch written in the usual way, from the same initial weights as `training`.

    Args:
        training: at step 0; left alone.
        flip: whether images may be mirrored.
        num_workers: processes that load the unlabeled images; the labeled ones have one of their
            own.
    """

    def __init__(
        self, run: Run, training: Training, data: TrainingData, *, flip: bool, num_workers: int
    ) -> None:
        self.run, self.num_workers = run, num_workers
        self.device = data.labeled.images.device
        self.student = copy.deepcopy(training.student).to(memory_format=torch.contiguous_format)
        self.teacher = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.optimizer = torch.optim.SGD(
            self.student.parameters(),
            lr=run.learning_rate,
            momentum=run.momentum,
            weight_decay=run.weight_decay,
            nesterov=True,
        )
        self.losses: list[float] = []
        weak, strong = weak_and_strong(*data.labeled.images.shape[1:3], flip=flip)
        labeled = AugmentedImages(data.labeled.images, data.labeled.labels, (weak,))
        unlabeled = AugmentedImages(data.unlabeled.images, data.unlabeled.labels, (weak, strong))
        num_unlabeled = run.unlabeled_ratio * run.batch_size
        self.loaders = (
            self._loader(labeled, run.batch_size, 1),
            self._loader(unlabeled, num_unlabeled, num_workers),
        )

    def _loader(self, images: AugmentedImages, batch_size: int, num_workers: int) -> Any:
        return DataLoader(
            images,
            batch_size=batch_size,
            sampler=RandomIndices(len(images), stream("baseline order", batch_size)),
            num_workers=num_workers,
            prefetch_factor=PREFETCH,
            pin_memory=self.device.type == "cuda",
            persistent_workers=True,
            # Forked from a server: this process has threads, and perhaps a GPU.
            multiprocessing_context=multiprocessing.get_context("forkserver"),
            generator=stream("baseline workers", batch_size),
        )

    def measure(self, num_steps: int, threads: int) -> float:
        """Seconds per step in the middle of a training.

        The batches that the workers prepared in advance are used up before, and as many are
        prepared after, so the workers are busy during the measured steps and idle when it returns.
        """
        ahead = PREFETCH * self.num_workers + 1
        for loader in self.loaders:  # the timer makes 2 steps, or 1% of them, to warm up
            loader.sampler.num = (2 * ahead + num_steps + max(2, num_steps // 100)) * (
                loader.batch_size
            )
        batches = zip(*self.loaders, strict=True)
        for _ in range(ahead):
            self.step(next(batches))
        timer = Timer(
            "step(next(batches))",
            globals={"step": self.step, "batches": batches},
            num_threads=threads,
        )
        seconds = timer.timeit(num_steps).mean
        for _ in batches:
            pass
        return float(seconds)

    def step(self, batch: Any) -> None:
        """One training step on what both loaders returned."""
        loss = self.loss(batch)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average()
        self.losses.append(loss.item())  # waits for the device

    def loss(self, batch: Any) -> Tensor:
        """FixMatch's loss, a scalar: x (B, C, H, W), y (B,), weak and strong (U, C, H, W)."""
        (x, y), (weak, strong, _) = batch
        inputs = torch.cat([x, weak, strong]).to(self.device, non_blocking=True)
        y = y.to(self.device, non_blocking=True)
        bf16 = self.run.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            logits = self.student(inputs)
        logits_x, logits_weak, logits_strong = logits.float().split([len(x), len(weak), len(weak)])
        confidence, pseudo_label = logits_weak.detach().softmax(dim=1).max(dim=1)
        used = (confidence >= THRESHOLD).float()
        unsupervised = F.cross_entropy(logits_strong, pseudo_label, reduction="none") * used
        loss: Tensor = F.cross_entropy(logits_x, y) + unsupervised.mean()
        return loss

    @torch.no_grad()
    def average(self) -> None:
        """The teacher follows the student, one parameter at a time; running statistics too."""
        decay = self.run.teacher_decay
        for averaged, trained in zip(
            self.teacher.parameters(), self.student.parameters(), strict=True
        ):
            averaged.mul_(decay).add_(trained, alpha=1 - decay)
        for kept, moved in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            kept.copy_(moved)
