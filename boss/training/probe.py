"""In which layout and precision this machine computes a network fastest, by a probe of seconds.

Processors differ: bf16 convolutions are twice as fast as those in single precision where there is
AVX512_BF16 or AMX, and crawl where there is neither; which layout of memory convolutions prefer
depends on the processor and on the version of torch. The choice changes how numbers are rounded:
it is stored in the row of a run, and a resumed run keeps it.
"""

import contextlib
import copy
import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from boss.training.config import LAYOUTS, PRECISIONS

MARGIN = 1.25  # by how much a layout or precision must be faster than those preferred to it
MIN_IMAGES, MAX_IMAGES = 32, 512  # in a pass
PASS_SECONDS = 0.25  # a shorter pass is more overhead than arithmetic: it gets more images
NUM_PASSES = 3  # of which the fastest counts, after one that is not timed
SMALL = 16  # pixels: below, a pass is all overhead, and there is nothing to gain


class Arithmetic(NamedTuple):
    """How a network is computed."""

    layout: str  # of memory, one of LAYOUTS
    precision: str  # of the forward and backward passes: one of PRECISIONS, or fp64


def memory_format(layout: str) -> torch.memory_format:
    """torch's name of a layout."""
    return {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}[layout]


@contextlib.contextmanager
def conv_precision(precision: str) -> Iterator[None]:
    """Whether single-precision convolutions on CPUs round their factors to bf16, within the block.

    It is a setting of the process: what is computed outside is exact.
    """
    before = torch.backends.mkldnn.conv.fp32_precision  # type: ignore[attr-defined]
    mode = "bf16" if precision == "bf16-conv" else "ieee"
    torch.backends.mkldnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.backends.mkldnn.conv.fp32_precision = before  # type: ignore[attr-defined]


def precisions_of(device: torch.device) -> tuple[str, ...]:
    """The precisions among which a device has a choice: not all processors round convolutions."""
    rounds = device.type == "cpu" and _rounds_convolutions()
    return PRECISIONS if rounds else tuple(name for name in PRECISIONS if name != "bf16-conv")


@functools.cache
def _rounds_convolutions() -> bool:
    """By trial: what instructions a processor has does not tell.

    An AMD EPYC with AVX512_BF16 computes convolutions in bf16, and yet does not round those in
    single precision.
    """
    factor = 1 + 2.0**-12  # bf16 has 8 bits
    images, kernels = torch.full((1, 32, 8, 8), factor), torch.ones(32, 32, 3, 3)
    with torch.no_grad(), conv_precision("bf16-conv"):
        return bool((nn.functional.conv2d(images, kernels) == 9 * 32).all())


def fastest(
    network: nn.Module,
    channels: int,
    size: int,
    *,
    layouts: tuple[str, ...] = LAYOUTS,
    precisions: tuple[str, ...] = PRECISIONS,
) -> Arithmetic:
    """The layout and precision in which this machine computes a network, by `preferred`.

    Args:
        network: on its device; not changed.
        channels, size: of the images.
        layouts, precisions: to choose from, the preferred ones first.
    """
    if size < SMALL or len(layouts) * len(precisions) == 1:
        return Arithmetic(layouts[0], precisions[0])

    num_images = enough_images(
        lambda num: seconds_of_pass(
            network, (num, channels, size, size), Arithmetic(layouts[0], precisions[0]), 0.0
        )
    )

    def seconds(arithmetic: Arithmetic, give_up: float) -> float:
        return seconds_of_pass(network, (num_images, channels, size, size), arithmetic, give_up)

    return preferred(layouts, precisions, seconds)


def enough_images(seconds_of: Callable[[int], float]) -> int:
    """The fewest images, of powers of two, whose pass takes PASS_SECONDS; MAX_IMAGES if none.

    Args:
        seconds_of: how long a pass over so many images takes.
    """
    num = MIN_IMAGES
    while num < MAX_IMAGES and seconds_of(num) < PASS_SECONDS:
        num *= 2
    return num


def preferred(
    layouts: tuple[str, ...],
    precisions: tuple[str, ...],
    seconds_of: Callable[[Arithmetic, float], float],
) -> Arithmetic:
    """The first precision in the first layout, then the first layout in that precision, unless a
    later one is faster by MARGIN.

    Args:
        seconds_of: how long a candidate takes; one that is clearly slower than the second argument
            need not be measured well.
    """
    best = Arithmetic(layouts[0], precisions[0])
    seconds = seconds_of(best, math.inf)
    for precision in precisions[1:]:
        other = Arithmetic(best.layout, precision)
        took = seconds_of(other, 3 * seconds)
        if took * MARGIN < seconds:
            best, seconds = other, took
    for layout in layouts[1:]:
        other = Arithmetic(layout, best.precision)
        took = seconds_of(other, 3 * seconds)
        if took * MARGIN < seconds:
            best, seconds = other, took
    return best


def seconds_of_pass(
    network: nn.Module,
    shape: tuple[int, int, int, int],
    arithmetic: Arithmetic,
    give_up: float,
) -> float:
    """Of a forward and backward pass, the fastest of NUM_PASSES.

    Args:
        shape: of the images (N, C, S, S).
        give_up: seconds of the first pass that counts after which it is the only one.
    """
    device = next(network.parameters()).device
    tried = copy.deepcopy(network).train()
    tried = tried.to(memory_format=memory_format(arithmetic.layout))
    images = torch.zeros(shape, device=device)

    def one_pass() -> float:
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=arithmetic.precision == "bf16"):
            logits = tried(images)
        logits.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    with conv_precision(arithmetic.precision):
        one_pass()  # loads kernels
        first = one_pass()
        if first > give_up:
            return first
        return min(first, *(one_pass() for _ in range(NUM_PASSES - 1)))
