"""What batch norm sees: which images share a forward pass, and which pass moves running statistics.

Dimensions: N images in all, n in a pass, K classes.

In training every pass normalizes by the statistics of its own images. Of the passes of a step, one
also moves the running statistics, by which the networks are evaluated. Which one it is differs
between algorithms, and changes their results.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


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


@contextlib.contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Passes within normalize by the statistics of their own images and move no running ones.

    Both of a student in training mode and of a teacher in evaluation mode, whose modes are
    restored afterwards. The reference applies the updates of one pass of a step only; this is for
    the others.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, (training, tracks) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, tracks


def interleave(parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Swap slices of the first part with slices of each other one, so that every pass sees a mix.

    Each of the k parts is cut into k slices as equal as can be, the longer ones last; slice i of
    the first part and slice i of part i change places. Done twice it is undone. MixMatch and
    ReMixMatch forward their mixed batches in separate passes: without this, the labeled images
    would be normalized apart from the unlabeled ones.

    Source: MixMatch (Berthelot et al. 2019, arXiv 1905.02249), reference implementation.

    Args:
        parts: k tensors of equal shape (n, ...).

    >>> interleave([torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]), torch.tensor([7, 8, 9])])
    (tensor([1, 5, 9]), tensor([4, 2, 6]), tensor([7, 8, 3]))
    """
    num, size = len(parts), len(parts[0])
    assert all(part.shape == parts[0].shape for part in parts), "equal shapes"
    short, longer = divmod(size, num)
    sizes = [short] * (num - longer) + [short + 1] * longer
    slices = [list(torch.split(part, sizes)) for part in parts]
    for i in range(1, num):
        slices[0][i], slices[i][i] = slices[i][i], slices[0][i]
    return tuple(torch.cat(part) for part in slices)


def separate_passes(network: nn.Module, images: Tensor, size: int, *, moving: int) -> Tensor:
    """Logits of each `size` images in a pass of their own, with rows interleaved among the passes.

    Args:
        images: (N, C, H, W), N a multiple of `size`.
        moving: which pass alone moves the running statistics, 0 for the first, -1 for the last.

    Returns:
        (N, K), in the order of the images.
    """
    passes = interleave(torch.split(images, size))
    moving %= len(passes)
    with frozen_statistics(network):
        before = [network(part) for part in passes[:moving]]
    moved = network(passes[moving])
    with frozen_statistics(network):
        after = [network(part) for part in passes[moving + 1 :]]
    return torch.cat(interleave([*before, moved, *after]))
