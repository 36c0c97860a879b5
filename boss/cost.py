"""What a run costs before it is run: multiply-adds by arithmetic, hours by a stated estimate.

No torch here, so that `boss-study list` answers at once.
"""

import re
from collections.abc import Iterable

from boss.errors import InputError
from boss.study import Run

STEM_FILTERS = 16
IMAGE_SHAPES = {  # channels, pixels along a side, classes
    "digits": (1, 8, 10),
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "svhn": (3, 32, 10),
    "svhn_noextra": (3, 32, 10),
    "stl10": (3, 96, 10),
}

# How often an unlabeled image passes through a network in a step, if not twice: once for each view,
# and again where guesses, mixtures, rotations or perturbations have passes of their own.
UNLABELED_PASSES = {"pseudo_label": 1, "vat": 3, "mixmatch": 4, "remixmatch": 5}

# The fastest full FixMatch run that a public PyTorch implementation reports: WRN-28-2, B 64, mu 7,
# on one A100. The step time is taken to grow with multiply-adds, from a floor for the launches.
REFERENCE_MS_PER_STEP = 20.6
REFERENCE_MULTIPLY_ADDS = 214.4e6 * 960
LAUNCH_MS_PER_STEP = 5.0
ESTIMATE = "estimated from 20.6 ms per step of WRN-28-2 reported for an A100"


def parse_network(name: str) -> dict[str, int]:
    """`wrn-DEPTH-WIDTH` -> blocks, filters and stages, where depth = 1 + stages * (2 * blocks + 1).

    Three stages if the depth allows them (28: 4 blocks each; 10: one block each), else four
    (37, for STL-10), else two (7: for images of 8 pixels).

    >>> parse_network("wrn-28-2")
    {'blocks': 4, 'filters': 32, 'stages': 3}

    Raises:
        InputError: not of this form, or no such network.
    """
    match = re.fullmatch(r"wrn-([1-9]\d*)-([1-9]\d*)", name)
    if match:
        depth, width = int(match[1]), int(match[2])
        for stages in (3, 4, 2):
            per_stage, rest = divmod(depth - 1, stages)
            if rest == 0 and per_stage % 2 == 1 and per_stage >= 3:
                return {"blocks": per_stage // 2, "filters": 16 * width, "stages": stages}
    raise InputError(
        f"unknown network {name!r}: use wrn-DEPTH-WIDTH with a depth such as 7, 10, 16, 22, 28"
        " or 37 (wrn-28-2 is FixMatch's, wrn-10-1 suits a CPU)"
    )


def multiply_adds(network: str, channels: int, size: int, num_classes: int = 10) -> int:
    """Multiply-adds of one forward pass of one image: convolutions and the final matrix."""
    shape = parse_network(network)
    total = channels * STEM_FILTERS * 9 * size**2
    width = STEM_FILTERS
    for stage in range(shape["stages"]):
        out = shape["filters"] << stage
        size = size if stage == 0 else -(-size // 2)
        for _ in range(shape["blocks"]):
            total += (width * 9 + out * 9 + (width if width != out else 0)) * out * size**2
            width = out
    return total + width * num_classes


def images_per_step(run: Run) -> int:
    """Images in all forward passes of a step, those for targets and CTAugment's probes included."""
    passes = UNLABELED_PASSES.get(run.algorithm, 2) * run.unlabeled_ratio
    return run.batch_size * (1 + passes + run.augmentation.startswith("ctaugment"))


def gpu_hours(runs: Iterable[Run]) -> float | None:
    """Hours on one GPU, an estimate (see `ESTIMATE`); None if a data set's shape is unknown."""
    hours = 0.0
    for run in runs:
        if run.dataset not in IMAGE_SHAPES:
            return None
        images = images_per_step(run)
        work = multiply_adds(run.network, *IMAGE_SHAPES[run.dataset]) * images
        ms = max(LAUNCH_MS_PER_STEP, REFERENCE_MS_PER_STEP * work / REFERENCE_MULTIPLY_ADDS)
        hours += run.num_steps * ms / 3.6e6
    return hours


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(59.6), duration(3725), duration(200000)
    ('1m00s', '1h02m', '2d07h')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"
