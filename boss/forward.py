"""What batch norm sees: which images share a forward pass, and which pass moves running statistics.

Dimensions: N images in all, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def joint(network: nn.Module, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """One pass over all parts together: batch statistics over every image, one update.

    This is the protocol of UDA, FixMatch and BOSS. The reference interleaves the rows so that each
    of several GPUs gets the same mix; on one device that changes nothing and is left out.

    Args:
        parts: images, each (n_i, C, H, W).

    Returns:
        Logits, each (n_i, K).
    """
    logits: Tensor = network(torch.cat(tuple(parts)))
    sizes = [len(part) for part in parts]
    return tuple(torch.split(logits, sizes))
