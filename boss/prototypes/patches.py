"""Features of patches and k-means: an embedding that needs no labels and no network.

Dimensions: N images, C channels, S x S pixels, s the side of a patch, D = C * s * s its values,
P x P = (S - s + 1)^2 its positions, K centroids, M patches, F = 4 K features.

Coates, Lee and Ng 2011, "An analysis of single-layer networks in unsupervised feature learning":
random patches are normalized for brightness and contrast (their section 3.1.1), whitened and
clustered; each patch of an image is then described by how much nearer than on average it lies to
each centroid ("triangle", section 3.2.2), and the descriptions are pooled over the four quadrants
(section 3.2.3). `learn` does the first, `encode` the second, `standardize` what precedes their
linear classifier.

Deviations: mini-batch k-means instead of the full one; quadrants are averaged, not summed, and
features standardized without their constant of 0.01 below the root. Both change only the scale.

On CIFAR-10 (60,000 images, 400 centroids) this takes a minute on two idle cores and 1.3 GiB, the
images included; a linear classifier on the 1,600 features reaches 71.5% on the test images.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from boss.errors import InputError
from boss.seeds import seed_of, stream
from boss.units import num_cores

NUM_CENTROIDS = 400
MAX_SIZE = 32  # pixels along a side; larger images are averaged down to it
NUM_PATCHES = 100_000  # to learn from, or PATCHES_PER_CENTROID for each centroid if that is more
PATCHES_PER_CENTROID = 100
CONTRAST = 10.0  # added to the variance of a patch in gray levels: flat patches are not blown up
WHITENING = 0.1  # added to the eigenvalues
# Distances (P * P * K for each image) that one thread handles at a time: 1 MiB, which stays in its
# cache. Forty times as many take twice as long.
PIECE = 2**18
ROWS = 1000  # of a feature matrix that are converted to float64 at a time


class Dictionary(NamedTuple):
    """What is learned from the training images. All float32, on the CPU.

    Attributes:
        side: s, of a patch in pixels.
        mean: of the normalized patches (D,).
        whiten: symmetric (D, D); a whitened patch is (patch - mean) @ whiten.
        centroids: of the whitened patches (K, D).
    """

    side: int
    mean: Tensor
    whiten: Tensor
    centroids: Tensor


def patch_side(size: int) -> int:
    """Pixels along a patch: 6 as in the paper, 3 if the images have fewer than 16.

    >>> patch_side(32), patch_side(8)
    (6, 3)
    """
    return 6 if size >= 16 else 3


def learn(images: Tensor, num_centroids: int, seed: int) -> Dictionary:
    """Whitening and centroids of random patches.

    Args:
        images: uint8 (N, C, S, S).
        num_centroids: K.
        seed: of the stream that draws the patches and starts k-means.

    Raises:
        InputError: the images have fewer than K patches.
    """
    images = shrink(images.cpu())
    size = images.shape[-1]
    side = patch_side(size)
    available = len(images) * (size - side + 1) ** 2
    if num_centroids > available:
        raise InputError(
            f"kmeans-patches:{num_centroids}: there are only {available} patches to cluster"
        )
    num = max(NUM_PATCHES, PATCHES_PER_CENTROID * num_centroids)
    patches = normalize(
        draw(images, side, num, stream("kmeans-patches", seed, "patches"))
    )  # (M, D)
    mean, whiten = whitening(patches)
    whitened = (patches - mean) @ whiten
    kmeans = MiniBatchKMeans(
        num_centroids,
        n_init=1,
        batch_size=4096,
        max_iter=20,
        max_no_improvement=None,  # always all 20 epochs
        random_state=seed_of("kmeans-patches", seed, "centroids") % 2**32,
    )
    # Seconds on one thread; on several, they can wait for each other for minutes on a busy machine.
    with threadpool_limits(1):
        kmeans.fit(whitened.numpy())
    return Dictionary(side, mean, whiten, torch.from_numpy(kmeans.cluster_centers_).float())


def encode(
    images: Tensor,
    dictionary: Dictionary,
    progress: Callable[[float], None] = lambda share: None,
    *,
    piece: int | None = None,
) -> NDArray[np.float32]:
    """The features of images, not yet standardized.

    Each thread computes whole pieces on its own, so the result does not depend on their number.

    Args:
        images: uint8 (N, C, S, S).
        dictionary: learned from images of the same C and S.
        progress: called with the share done in [0, 1].
        piece: images that one thread handles at a time; None for what fits its cache.

    Returns:
        (N, F): for each quadrant (top left, top right, bottom left, bottom right) the mean
        activation of every centroid.
    """
    images = shrink(images.cpu())
    side, num_centroids = dictionary.side, len(dictionary.centroids)
    positions = (images.shape[-1] - side + 1) ** 2
    if piece is None:
        piece = max(1, PIECE // (positions * num_centroids))
    pool = quadrants(images.shape[-1] - side + 1)  # (4, P * P)
    table = _distance_table(dictionary.centroids)
    shift = -dictionary.mean @ dictionary.whiten  # (D,)
    out = np.empty((len(images), 4 * num_centroids), dtype=np.float32)

    def encode_piece(start: int) -> int:
        x = images[start : start + piece].float()
        whitened = torch.addmm(shift, normalize(unfold(x, side)), dictionary.whiten)
        activations = triangle(_distances(whitened, table))  # (n * P * P, K)
        pooled = pool @ activations.view(len(x), positions, num_centroids)  # (n, 4, K)
        torch.from_numpy(out[start : start + piece]).copy_(pooled.flatten(1))
        return start + len(x)

    in_pieces(encode_piece, len(images), piece, progress)
    return out


def in_pieces(
    do: Callable[[int], int], num: int, piece: int, progress: Callable[[float], None]
) -> None:
    """Work on N images, piece by piece, each on one thread.

    A thread for each piece beats all threads on one piece: they never wait for each other.

    Args:
        do: given the first image of a piece, returns the number of images done with it.
        num: N.
        piece: images in a piece.
        progress: called with the share done in [0, 1].
    """
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            num_cores(), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            progress(0.0)
            for done in pool.map(do, range(0, num, piece)):
                progress(done / num)
    finally:
        torch.set_num_threads(threads)


def standardize(train: NDArray[np.float32], *others: NDArray[np.float32]) -> None:
    """Shift and scale every feature, in place, to mean 0 and variance 1 over the training images.

    A feature that is constant becomes 0.

    Args:
        train: (N, F).
        others: (., F), shifted and scaled like `train`.
    """
    pieces = [train[start : start + ROWS] for start in range(0, len(train), ROWS)]
    mean = sum(x.sum(axis=0, dtype=np.float64) for x in pieces) / len(train)  # (F,)
    variance = sum(((x - mean) ** 2).sum(axis=0) for x in pieces) / len(train)
    # Treat features that vary only by rounding as constant.
    constant = variance <= (1e-6 * np.abs(mean)) ** 2
    scale = np.where(constant, 0.0, 1 / np.sqrt(np.where(constant, 1.0, variance)))
    for part in (train, *others):
        for start in range(0, len(part), ROWS):
            part[start : start + ROWS] = (part[start : start + ROWS] - mean) * scale


def shrink(images: Tensor) -> Tensor:
    """Images of more than 32 pixels along a side, averaged down to 32 pixels and rounded.

    A patch then covers the same share of an object, and large images cost no more.

    Args:
        images: uint8 (N, C, S, S).
    """
    if images.shape[-1] <= MAX_SIZE:
        return images
    out = torch.empty(*images.shape[:2], MAX_SIZE, MAX_SIZE, dtype=torch.uint8)
    for start in range(0, len(images), ROWS):
        x = F.adaptive_avg_pool2d(images[start : start + ROWS].float(), MAX_SIZE)
        out[start : start + ROWS] = x.round_().to(torch.uint8)
    return out


def draw(images: Tensor, side: int, num: int, generator: torch.Generator) -> Tensor:
    """`num` random patches, with replacement, as gray levels (M, D), D as (C, s, s)."""
    image = torch.randint(len(images), (num, 1, 1), generator=generator)
    corner = torch.randint(images.shape[-1] - side + 1, (num, 2), generator=generator)
    row = corner[:, 0, None, None] + torch.arange(side)[:, None]  # (M, s, 1)
    column = corner[:, 1, None, None] + torch.arange(side)  # (M, 1, s)
    patches = images[image, :, row, column]  # (M, s, s, C)
    return patches.permute(0, 3, 1, 2).flatten(1).float()


def unfold(images: Tensor, side: int) -> Tensor:
    """Every patch of every image, row by row: (n, C, S, S) -> (n * P * P, D), D as (C, s, s)."""
    windows = images.unfold(2, side, 1).unfold(3, side, 1)  # (n, C, P, P, s, s)
    patches = windows.permute(0, 2, 3, 1, 4, 5)
    return patches.reshape(-1, patches.shape[3:].numel())


def normalize(patches: Tensor) -> Tensor:
    """Brightness and contrast removed: (x - mean) / sqrt(variance + 10) of each patch.

    The variance divides by D - 1, as in the authors' code.

    Args:
        patches: gray levels 0 to 255 (M, D).

    >>> normalize(torch.tensor([[0.0, 2.0, 4.0]]))  # variance 4
    tensor([[-0.5345,  0.0000,  0.5345]])
    """
    centered = patches - patches.mean(dim=1, keepdim=True)
    variance = centered.square().sum(dim=1, keepdim=True) / (patches.shape[1] - 1)
    return centered.div_(variance.add_(CONTRAST).sqrt_())


def whitening(patches: Tensor) -> tuple[Tensor, Tensor]:
    """ZCA: the mean (D,) and V (E + 0.1)^(-1/2) V' (D, D), V E V' the covariance of (M, D)."""
    values, vectors = torch.linalg.eigh(torch.cov(patches.double().T))
    # A covariance has no negative eigenvalue; rounding may give it one.
    scaled = vectors / (values.clamp(min=0) + WHITENING).sqrt()
    return patches.mean(dim=0), (scaled @ vectors.T).float()


def distances(whitened: Tensor, centroids: Tensor) -> Tensor:
    """Euclidean distances between patches (M, D) and centroids (K, D): (M, K)."""
    return _distances(whitened, _distance_table(centroids))


def triangle(distances: Tensor) -> Tensor:
    """max(0, mean(z) - z): how much nearer than on average; about half of them are 0.

    Args:
        distances: z (..., K), of one patch in each row.

    >>> triangle(torch.tensor([[1.0, 2.0, 6.0]]))
    tensor([[2., 1., 0.]])
    """
    return distances.mean(dim=-1, keepdim=True).sub(distances).relu_()


def quadrants(positions: int) -> Tensor:
    """A matrix (4, P * P) that averages over each quadrant; the middle row is of the upper half."""
    half = (positions + 1) // 2
    halves = torch.zeros(2, positions)
    halves[0, :half] = 1 / half
    halves[1, half:] = 1 / (positions - half)
    return torch.einsum("ai,bj->abij", halves, halves).reshape(4, positions**2)


def _distance_table(centroids: Tensor) -> Tensor:
    """(D + 2, K) such that [w, |w|^2, 1] @ table = |w|^2 - 2 w c + |c|^2: all in one product."""
    ones = torch.ones(1, len(centroids))
    squares = centroids.square().sum(dim=1)[None]
    return torch.cat([-2 * centroids.T, ones, squares])


def _distances(whitened: Tensor, table: Tensor) -> Tensor:
    num, width = whitened.shape
    extended = torch.empty(num, width + 2)
    extended[:, :width] = whitened
    torch.sum(whitened.square(), dim=1, out=extended[:, width])
    extended[:, width + 1] = 1
    return (extended @ table).clamp_(min=0).sqrt_()  # rounding may give a square below 0
