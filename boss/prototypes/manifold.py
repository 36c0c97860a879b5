"""The sparse manifold transform: an embedding that needs no labels and no network.

Dimensions: N images, C channels, S x S pixels, s the side of a patch, D = C * s * s its values,
P x P its positions, M patches, K elements of the dictionary, A active elements of M patches
together, F dimensions of a patch's embedding, G x G cells of the grid.

Chen, Yun, Ma, Olshausen and LeCun 2022, "Minimalistic unsupervised learning with the sparse
manifold transform" (arXiv 2209.15261). Patches lose the mean of each channel, are whitened and
scaled to unit length; the code of a patch is 1 for every element of a dictionary of random patches
whose cosine with it exceeds 0.3, and 0 for the others (`codes`). A linear projection of the codes
keeps what patches near each other share (`slow_directions`). A patch is embedded by its projected
code, scaled to unit length; an image by the averages over the cells of a 4 x 4 grid (`encode`).

Deviations:

* Patches near each other are those of one cell of the grid; their moments are those of 500 images.
* Where a mirror image shows the same, half of the dictionary mirrors the other half. A mirrored
  image then costs only one more sum per patch, and its embedding is averaged with the image's.
* Features are centered, then replaced by their signed roots (`balance`).
* Images of more than 32 pixels are averaged down to 32; the patches of tiny ones have 3 pixels
  along a side instead of 6.

On CIFAR-10 (60,000 images, 2,048 elements, 256 dimensions) this takes 8 to 13 minutes on one core
of a busy Xeon; the 4,096 features fill a gigabyte. By a vote of their 30 nearest training images,
70.7% of the test images are classified correctly (74.0% if a vote counts exp(cosine / 0.03); the
paper's best is 81.1%, with larger dictionaries), and 55% of the 20 nearest neighbors of a training
image are of its class. Without centering and signed roots these are 67.5%, 71.4% and 53%. Learned
from 8,000 images, mirroring adds 2.5 points to the vote, and patches at every second position only
take away as many, which four times as many elements do not make good.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import linalg, sparse
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from boss.errors import InputError
from boss.prototypes import patches
from boss.seeds import stream

NUM_PATCHES = 100_000  # to learn the whitening from
NUM_IMAGES = 500  # to learn the projection from
WHITENING = 1e-3  # added to the eigenvalues, of gray levels in [0, 1]
FLAT = 1e-3  # whitened patches shorter than this are rounding errors, and are not blown up
DUPLICATE = 0.999  # cosine from which two patches count as one
CANDIDATES = 4  # random patches drawn for each element of the dictionary
THRESHOLD = 0.3  # of the cosine between a patch and an active element
GRID = 4  # G
RIDGE = 1e-3  # added to the second moments, as a share of their average: rare elements say little
# Cosines that one thread computes at a time: 8 MiB. Neither more nor fewer are faster.
PIECE = 2**21
GROUP = 200  # images whose codes are multiplied at a time


class Config(NamedTuple):
    """How large the dictionary and the embedding of a patch are."""

    dictionary_size: int  # K; odd ones are rounded up if mirrored
    dimension: int  # F


class Manifold(NamedTuple):
    """What is learned from the training images. All float32, on the CPU.

    Attributes:
        side: s, of a patch in pixels.
        whiten: symmetric (D, D); a whitened patch is patch @ whiten.
        dictionary: whitened patches of unit length (K, D).
        projection: of codes (K, F).
        mirrored: element k + K / 2 mirrors element k; an image is embedded as its mirror image is.
    """

    side: int
    whiten: Tensor
    dictionary: Tensor
    projection: Tensor
    mirrored: bool


class Codes(NamedTuple):
    """Sparse binary codes: the active elements of M patches, one patch after the other.

    Attributes:
        elements: of the dictionary (A,), int64.
        offsets: where each patch begins, and A (M + 1,), int64.
    """

    elements: Tensor
    offsets: Tensor


def configure(
    size: int, dictionary_size: int | None = None, dimension: int | None = None
) -> Config:
    """The configuration for images of `size` pixels.

    Args:
        dictionary_size, dimension: None for the default.

    Raises:
        InputError: there are more dimensions than elements of the dictionary.
    """
    default = Config(512, 64) if size < 16 else Config(2048, 256)
    dictionary_size = dictionary_size or default.dictionary_size
    dimension = dimension or min(default.dimension, dictionary_size)
    if dimension > dictionary_size:
        raise InputError(
            f"manifold:{dictionary_size}x{dimension}: the dimension must not exceed the size of the"
            " dictionary"
        )
    return Config(dictionary_size, dimension)


def learn(
    images: Tensor,
    config: Config,
    seed: int,
    *,
    mirrored: bool = False,
    num_images: int = NUM_IMAGES,
    progress: Callable[[float], None] = lambda share: None,
) -> Manifold:
    """Whitening, dictionary and projection.

    Args:
        images: uint8 (N, C, S, S).
        seed: of the streams that draw the patches and the images.
        mirrored: whether the mirror image of an image shows the same.
        num_images: random images to learn the projection from, or all if there are fewer.
        progress: called with the share of these images that is done in [0, 1].

    Raises:
        InputError: the images have too few distinct patches.
    """
    images = patches.shrink(images.cpu())
    channels, side = images.shape[1], patches.patch_side(images.shape[-1])
    drawn = patches.draw(images, side, NUM_PATCHES, stream("manifold", seed, "whitening"))
    if mirrored:
        drawn = torch.cat([drawn, mirror(drawn, channels)])
    whiten = whitening(center(drawn, channels))
    num = -(-config.dictionary_size // 2) if mirrored else config.dictionary_size
    generator = stream("manifold", seed, "dictionary")
    drawn = patches.draw(images, side, CANDIDATES * num, generator)
    dictionary = distinct(unit(center(drawn, channels) @ whiten), num)
    if mirrored:
        dictionary = torch.cat([dictionary, mirror(dictionary, channels)])
    order = torch.randperm(len(images), generator=stream("manifold", seed, "images"))
    moments = statistics(images[order[:num_images]], side, whiten, dictionary, progress)
    if mirrored:
        moments = Moments(*map(_add_mirrored, moments))
    return Manifold(side, whiten, dictionary, slow_directions(moments, config.dimension), mirrored)


def encode(
    images: Tensor,
    manifold: Manifold,
    progress: Callable[[float], None] = lambda share: None,
    *,
    piece: int | None = None,
) -> NDArray[np.float32]:
    """The embeddings of images.

    Each thread computes whole pieces on its own, so the result does not depend on their number.

    Args:
        images: uint8 (N, C, S, S).
        manifold: learned from images of the same C and S.
        progress: called with the share done in [0, 1].
        piece: images that one thread handles at a time; None for what suits its cache.

    Returns:
        (N, G * G * F): for each cell of the grid, row by row, the mean embedding of its patches.
    """
    images = patches.shrink(images.cpu())
    num_elements, dimension = manifold.projection.shape
    positions = images.shape[-1] - manifold.side + 1
    if piece is None:
        piece = max(1, PIECE // (positions**2 * num_elements))
    pool = cells(positions)  # (G * G, P * P)
    views = [(pool, manifold.projection)]
    if manifold.mirrored:
        # Of the mirror image: every patch is mirrored, and so is its position.
        flipped = pool.view(-1, positions, positions).flip(2).flatten(1)
        views.append((flipped, manifold.projection.roll(num_elements // 2, dims=0)))
    out = np.empty((len(images), len(pool) * dimension), dtype=np.float32)

    def encode_piece(start: int) -> int:
        x = images[start : start + piece]
        found = codes(x, manifold.side, manifold.whiten, manifold.dictionary)
        pooled = torch.zeros(len(x), len(pool), dimension)
        for average, projection in views:
            embedded = project(found, projection)  # (n * P * P, F)
            pooled += average @ embedded.view(len(x), -1, dimension) / len(views)
        torch.from_numpy(out[start : start + piece]).copy_(pooled.flatten(1))
        return start + len(x)

    patches.in_pieces(encode_piece, len(images), piece, progress)
    return out


def balance(train: NDArray[np.float32], *others: NDArray[np.float32]) -> None:
    """Center every feature on the training images, then take its signed root, all in place.

    So no few large features decide which images are near each other.

    Args:
        train: of the training images (N, G * G * F).
        others: (., G * G * F), centered like `train`.
    """
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    for part in (train, *others):
        for start in range(0, len(part), patches.ROWS):
            x = part[start : start + patches.ROWS]
            x -= mean
            np.copysign(np.sqrt(np.abs(x)), x, out=x)


def center(patches: Tensor, channels: int) -> Tensor:
    """The mean of each channel removed, and gray levels scaled to [0, 1]: (M, D) -> (M, D).

    >>> center(torch.tensor([[0.0, 255.0, 51.0, 51.0]]), channels=2)
    tensor([[-0.5000,  0.5000,  0.0000,  0.0000]])
    """
    x = patches.view(len(patches), channels, -1) / 255
    return (x - x.mean(dim=2, keepdim=True)).flatten(1)


def mirror(patches: Tensor, channels: int) -> Tensor:
    """Left and right swapped in every patch (M, D).

    >>> mirror(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), channels=1)
    tensor([[2., 1., 4., 3.]])
    """
    side = math.isqrt(patches.shape[1] // channels)
    mirrored: Tensor = patches.view(-1, channels, side, side).flip(3)
    return mirrored.flatten(1)


def whitening(patches: Tensor) -> Tensor:
    """ZCA without a mean: V (E + 0.001)^(-1/2) V' (D, D), V E V' the second moments of (M, D)."""
    x = patches.double()
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    # Second moments have no negative eigenvalue; rounding may give them one.
    scaled = vectors / (values.clamp(min=0) + WHITENING).sqrt()
    whiten: Tensor = scaled @ vectors.T
    return whiten.float()


def unit(patches: Tensor) -> Tensor:
    """Whitened patches (M, D), scaled to unit length; flat ones stay near 0."""
    return F.normalize(patches, dim=1, eps=FLAT)


def distinct(candidates: Tensor, num: int) -> Tensor:
    """The first `num` patches that are neither flat nor repeat an earlier one.

    Args:
        candidates: of unit length, or flat (M, D).

    Raises:
        InputError: there are fewer.
    """
    kept = candidates[:0]
    for start in range(0, len(candidates), 256):
        x = candidates[start : start + 256]
        repeats = (x @ kept.T > DUPLICATE).any(dim=1) | (x @ x.T > DUPLICATE).triu(1).any(dim=0)
        flat = x.norm(dim=1) < DUPLICATE
        kept = torch.cat([kept, x[~(repeats | flat)]])[:num]
    if len(kept) < num:
        raise InputError(f"a dictionary of {num} patches: the images have too few distinct ones")
    return kept


def codes(images: Tensor, side: int, whiten: Tensor, dictionary: Tensor) -> Codes:
    """The codes of all patches of images, image by image and row by row.

    Args:
        images: uint8 (n, C, S, S), S at most 32.
    """
    x = patches.unfold(images, side).float()  # (M, D)
    return active(unit(center(x, images.shape[1]) @ whiten), dictionary)


def active(patches: Tensor, dictionary: Tensor) -> Codes:
    """Which elements of the dictionary resemble a patch: cosine > 0.3.

    Args:
        patches: of unit length (M, D).
        dictionary: of unit length (K, D).
    """
    num_elements = len(dictionary)
    piece = max(1, PIECE // num_elements)
    # Where cosines are above, in the rows of the matrix laid end to end. On one thread, numpy
    # compares five times as fast as torch, and finds the positions three times as fast.
    found = [
        np.flatnonzero((patches[start : start + piece] @ dictionary.T).numpy() > THRESHOLD)
        + start * num_elements
        for start in range(0, len(patches), piece)
    ]
    flat = np.concatenate(found)  # (A,)
    offsets = np.searchsorted(flat, np.arange(len(patches) + 1) * num_elements)
    return Codes(torch.from_numpy(flat % num_elements), torch.from_numpy(offsets))


def project(codes: Codes, projection: Tensor) -> Tensor:
    """The embeddings of patches: the rows of active elements, added, to unit length (M, F).

    About 1% of a code is active: five times as fast as a product with the whole codes.

    Args:
        projection: (K, F).
    """
    sums = F.embedding_bag(
        codes.elements, projection, codes.offsets, mode="sum", include_last_offset=True
    )
    return F.normalize(sums, dim=1)


class Moments(NamedTuple):
    """Second moments of codes, as averages."""

    patches: NDArray[np.float32]  # of the codes of patches (K, K)
    cells: NDArray[np.float32]  # of the mean codes of the cells (K, K)


def statistics(
    images: Tensor,
    side: int,
    whiten: Tensor,
    dictionary: Tensor,
    progress: Callable[[float], None] = lambda share: None,
) -> Moments:
    """The second moments of the codes of all patches, and of their means in each cell.

    Args:
        images: uint8 (N, C, S, S), S at most 32.
        progress: called with the share done in [0, 1].
    """
    num_elements = len(dictionary)
    pool = sparse.csr_array(cells(images.shape[-1] - side + 1).numpy())
    of_patches = np.zeros((num_elements, num_elements), dtype=np.float32)
    of_cells = np.zeros_like(of_patches)
    progress(0.0)
    for start in range(0, len(images), GROUP):
        found = [
            _matrix(codes(image[None], side, whiten, dictionary), num_elements)
            for image in images[start : start + GROUP]
        ]
        every = sparse.vstack(found, format="csr")  # (n * P * P, K)
        of_patches += (every.T @ every).toarray()
        means = np.concatenate([(pool @ one).toarray() for one in found])  # (n * G * G, K)
        of_cells += means.T @ means
        progress(min(1.0, (start + GROUP) / len(images)))
    num_cells, num_patches = pool.shape
    return Moments(of_patches / (len(images) * num_patches), of_cells / (len(images) * num_cells))


def slow_directions(moments: Moments, dimension: int) -> Tensor:
    """The projection (K, F) that keeps what the patches of a cell share, most first.

    Of all projections w' a of a code with a mean square of 1, the first varies least between the
    patches of a cell: E (w' a - w' m)^2 = 1 - w' B w, with A the second moments of the codes a, B
    those of the means m of the cells, and w' A w = 1. So the columns are the first generalized
    eigenvectors of B w = lambda A w, with a small multiple of the identity added to A.
    """
    num = len(moments.patches)
    ridge = RIDGE * np.trace(moments.patches) / num * np.eye(num, dtype=np.float32)
    with threadpool_limits(1):
        _, vectors = linalg.eigh(
            moments.cells, moments.patches + ridge, subset_by_index=[num - dimension, num - 1]
        )
    return torch.from_numpy(vectors[:, ::-1].copy())


def cells(positions: int) -> Tensor:
    """A matrix (G * G, P * P) that averages over each cell of a grid; G is 4, or P if that is less.

    Neighboring cells share a row or column of patches where P is no multiple of G.
    """
    grid = min(GRID, positions)
    along = torch.zeros(grid, positions)
    for cell in range(grid):
        first, end = cell * positions // grid, -(-(cell + 1) * positions // grid)
        along[cell, first:end] = 1 / (end - first)
    return torch.einsum("ai,bj->abij", along, along).reshape(grid**2, positions**2)


def _matrix(codes: Codes, num_elements: int) -> sparse.csr_array:
    """The codes as a matrix (M, K) of zeros and ones."""
    ones = np.ones(len(codes.elements), dtype=np.float32)
    shape = len(codes.offsets) - 1, num_elements
    return sparse.csr_array((ones, codes.elements.numpy(), codes.offsets.numpy()), shape=shape)


def _add_mirrored(moments: NDArray[np.float32]) -> NDArray[np.float32]:
    """The moments over images and their mirror images."""
    half = len(moments) // 2
    mirrored = np.roll(moments, (half, half), axis=(0, 1))
    return ((moments + mirrored) / 2).astype(np.float32)
