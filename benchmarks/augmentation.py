"""Weak and strong views on one CPU core: this package against Pillow and torchvision.

    python -m benchmarks.augmentation [--repeats 15]

Both turn the same uint8 images into the same two float tensors (weak view; strong view on an
independent weak view), draws included; the baseline does it image by image, as the data
loaders of semi-supervised libraries do. Times are those of the process on its core, not of the
clock on the wall, and repeats alternate, so that a busy machine slows both. A row is a batch of
(N images, C channels, H, W).

Expect 8 to 11 times the baseline's images per second at 32 pixels, 20 times or more at 8 (where
the cost is that of calling torch) and twice at 96 (where Pillow's cost per image hardly counts).
Takes about 10 to 20 seconds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from boss.augment import RandAugment, Weak, to_float
from boss.bench.baseline import pillow_views

SHAPES = ((448, 3, 32, 32), (112, 1, 8, 8), (112, 3, 96, 96))
Pipeline = Callable[[], tuple[Tensor, Tensor]]


def ours(images: Tensor) -> Pipeline:
    """One call: both views of all images."""
    size = images.shape[-1]
    weak = Weak(size, flip=True, device="cpu")
    strong = RandAugment(size, device="cpu")
    generator = torch.Generator().manual_seed(0)
    num = len(images)

    def run() -> tuple[Tensor, Tensor]:
        view = weak(images, weak.draw(num, generator))
        base = weak(images, weak.draw(num, generator))
        transformed, keep = strong(base, strong.draw(num, generator))
        return to_float(view), to_float(transformed, keep)

    return run


def measure(pipelines: tuple[Pipeline, ...], repeats: int) -> list[list[float]]:
    """CPU seconds of each pipeline in each repeat, alternating, after one warm-up."""
    seconds: list[list[float]] = [[] for _ in pipelines]
    for repeat in range(repeats + 1):
        for pipeline, times in zip(pipelines, seconds, strict=True):
            start = time.process_time()
            pipeline()
            if repeat:
                times.append(time.process_time() - start)
    return seconds


def main(argv: list[str] | None = None) -> None:
    """Print one line per shape: milliseconds per batch (median, quartiles) and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args(argv).repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"weak + strong views, 1 thread, milliseconds per batch, {repeats} repeats")
    print(
        f"{'images':>18} {'ours (quartiles)':>24} {'Pillow (quartiles)':>28} {'ratio (range)':>20}"
    )
    for shape in SHAPES:
        images = torch.randint(256, shape, dtype=torch.uint8)
        fast, slow = measure((ours(images), pillow_views(images)), repeats)
        ratios = [b / a for a, b in zip(fast, slow, strict=True)]
        cells = []
        for times in (fast, slow):
            low, median, high = (1e3 * t for t in statistics.quantiles(times, n=4))
            cells.append(f"{median:.2f} ({low:.2f} to {high:.2f})")
        ratio = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        print(f"{shape!s:>18} {cells[0]:>24} {cells[1]:>28} {ratio:>20}")


if __name__ == "__main__":
    main()
