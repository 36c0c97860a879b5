"""What a run costs before it is run: multiply-adds, bytes and memory by arithmetic, hours by a
stated estimate.

No torch here, so that `boss-study list` answers at once.

Dimensions: C channels, H = W = size in pixels, K classes, P trained parameters.
"""

from collections.abc import Iterable
from typing import NamedTuple

from boss import models
from boss.models.wide_resnet import STEM_FILTERS, WideResNet
from boss.study.run import Run

IMAGE_SHAPES = {  # channels, pixels along a side, classes
    "digits": (1, 8, 10),
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "svhn": (3, 32, 10),
    "svhn_noextra": (3, 32, 10),
    "stl10": (3, 96, 10),
}


NUM_IMAGES = {  # training, unlabeled and test images together
    "digits": 1_797,
    "cifar10": 60_000,
    "cifar100": 60_000,
    "svhn": 73_257 + 531_131 + 26_032,
    "svhn_noextra": 73_257 + 26_032,
    "stl10": 5_000 + 100_000 + 8_000,
}


class Passes(NamedTuple):
    """How many images go through a network in a step, per unlabeled image or in all."""

    forward: int = 2  # in all forward passes
    backward: int = 2  # of these, whose gradient reaches the weights
    input_only: int = 0  # of these, whose gradient reaches the images and no weight
    saved: int = 2  # whose activations are in memory at the same time


# Of an unlabeled image, if not two passes with gradient: once for each view, and again where
# guesses, mixtures, rotations or perturbations have passes of their own. VAT's perturbed pass, for
# the images' gradient, has been forgotten when the next begins. With the defaults of the options
# in `PASSES_OF_OPTIONS`.
UNLABELED_PASSES = {
    "supervised": Passes(0, 0, 0, 0),
    "pseudo_label": Passes(1, 1, 0, 1),
    "pi_model": Passes(2, 1, 0, 1),
    "mean_teacher": Passes(2, 1, 0, 1),
    "vat": Passes(3, 2, 1, 2),
    "mixmatch": Passes(4, 2, 0, 2),
    "remixmatch": Passes(5, 4, 0, 4),
}


# The options of algorithms on which the number of passes depends: their defaults, and what one more
# adds. Every strong view of ReMixMatch is mixed; every iteration of VAT perturbs.
PASSES_OF_OPTIONS = {
    "remixmatch": ("num_strong", 1, Passes(1, 1, 0, 1)),
    "vat": ("num_iterations", 1, Passes(1, 0, 1, 0)),
}


# The fastest full FixMatch run that a public PyTorch implementation reports: WRN-28-2, B 64, mu 7,
# on one A100. The step time is taken to grow with multiply-adds, from a floor for the launches.
REFERENCE_MS_PER_STEP = 20.6


REFERENCE_MULTIPLY_ADDS = 214.4e6 * 960


LAUNCH_MS_PER_STEP = 5.0


ESTIMATE = "estimated from 20.6 ms per step of WRN-28-2 reported for an A100"


class Convolution(NamedTuple):
    """A convolution of the network."""

    channels_in: int
    channels_out: int
    kernel: int  # pixels along a side
    size_in: int  # pixels along a side of its input
    size_out: int

    @property
    def multiply_adds(self) -> int:
        return self.kernel**2 * self.channels_in * self.channels_out * self.size_out**2

    @property
    def num_weights(self) -> int:
        return self.kernel**2 * self.channels_in * self.channels_out

    @property
    def values_in(self) -> int:
        """Of its input, per image: those it reads, a quarter in a 1x1 convolution of stride 2."""
        return self.channels_in * (self.size_in if self.kernel > 1 else self.size_out) ** 2

    @property
    def values_out(self) -> int:
        return self.channels_out * self.size_out**2

    @property
    def values_padded(self) -> int:
        """Of the padded copy of its input, per image; 0 where padding is the same on all sides."""
        stride = -(-self.size_in // self.size_out)
        total = max((self.size_out - 1) * stride + self.kernel - self.size_in, 0)
        return self.channels_in * (self.size_in + total) ** 2 if total % 2 else 0


class Layers(NamedTuple):
    """What the network of `boss.models.wide_resnet` is made of, in the sizes that cost."""

    convolutions: list[Convolution]  # the stem first
    norms: list[tuple[int, int]]  # channels and pixels along a side; the last before the mean
    blocks: list[int]  # values that the sum at the end of a block has, per image
    num_features: int

    def num_parameters(self, num_classes: int) -> int:
        """P: kernels and biases, scales and shifts of the norms, the classifier."""
        return (
            sum(c.num_weights + c.channels_out for c in self.convolutions)
            + sum(2 * channels for channels, _ in self.norms)
            + (self.num_features + 1) * num_classes
        )


def layers(network: str, channels: int, size: int) -> Layers:
    """The layers of a network for images of this many channels and pixels along a side.

    >>> layers("wrn-28-2", 3, 32).num_parameters(num_classes=10)
    1469642
    """
    models.check(network)
    shape = WideResNet.parse(network)
    assert shape is not None
    convolutions = [Convolution(channels, STEM_FILTERS, 3, size, size)]
    norms, blocks = [], []
    width = STEM_FILTERS
    for stage in range(shape["stages"]):
        out = shape["filters"] << stage
        for block in range(shape["blocks"]):
            smaller = -(-size // 2) if stage > 0 and block == 0 else size
            norms += [(width, size), (out, smaller)]
            convolutions += [
                Convolution(width, out, 3, size, smaller),
                Convolution(out, out, 3, smaller, smaller),
            ]
            if width != out:
                convolutions.append(Convolution(width, out, 1, size, smaller))
            blocks.append(out * smaller**2)
            width, size = out, smaller
    norms.append((width, size))
    return Layers(convolutions, norms, blocks, width)


def multiply_adds(network: str, channels: int, size: int, num_classes: int = 10) -> int:
    """Multiply-adds of one forward pass of one image: convolutions and the final matrix."""
    parts = layers(network, channels, size)
    return sum(c.multiply_adds for c in parts.convolutions) + parts.num_features * num_classes


def passes_per_step(run: Run) -> Passes:
    """Images in a step: labeled ones and CTAugment's probes, which have no gradient, included."""
    per_image = UNLABELED_PASSES.get(run.algorithm, Passes())
    if run.algorithm in PASSES_OF_OPTIONS:
        option, default, further = PASSES_OF_OPTIONS[run.algorithm]
        value = run.options.get(option, default)
        more = int(value) - default if isinstance(value, int | float) else 0
        per_image = Passes(*(a + more * b for a, b in zip(per_image, further, strict=True)))
    num = run.unlabeled_ratio * run.batch_size
    forward, backward, input_only, saved = (num * count for count in per_image)
    probes = run.batch_size * run.augmentation.startswith("ctaugment")
    return Passes(
        forward=forward + run.batch_size + probes,
        backward=backward + run.batch_size,
        input_only=input_only,
        saved=saved + run.batch_size,
    )


def images_per_step(run: Run) -> int:
    """Images in all forward passes of a step, those for targets and CTAugment's probes included."""
    return passes_per_step(run).forward


def step_multiply_adds(network: str, shape: tuple[int, int, int], passes: Passes) -> dict[str, int]:
    """Multiply-adds of a step; an operation of peak rates is half of one.

    The gradient of a layer's input and that of its weights take as many as the layer itself; nobody
    asks for the gradient of the images, but VAT. Norms, activations, losses, optimizer and heads
    beside the classifier are not counted: together below a hundredth.

    Args:
        shape: channels, pixels along a side and classes of the images.
    """
    channels, size, num_classes = shape
    once = multiply_adds(network, channels, size, num_classes)
    stem = layers(network, channels, size).convolutions[0].multiply_adds
    return {
        "forward": once * passes.forward,
        "input gradient": (once - stem) * passes.backward + once * passes.input_only,
        "weight gradient": once * passes.backward,
    }


def step_bytes(
    network: str, shape: tuple[int, int, int], passes: Passes, value: int = 2
) -> dict[str, int]:
    """Bytes between the chip and its memory in a step that runs as the following plan.

    Every kernel reads its inputs from memory and writes its outputs there, once each; nothing
    stays in a cache from one kernel to the next. Batch norm in training mode cannot be part of a
    convolution, since its statistics are complete only when the whole output is there; its end
    and the activation are one kernel. For each value of an activation:

    =====================  ======================================================================
    convolution            reads its input, writes its output
    statistics             reads the input of a norm
    normalize, activate    reads the input of a norm, writes what the convolution reads
    residual sum           reads both branches, writes the sum
    input gradient         reads the output's gradient, writes the input's (not of the images)
    weight gradient        reads the output's gradient and the input
    norm, sums             reads the activation's gradient and the norm's input
    norm, gradient         reads the same, writes the gradient of the norm's input
    joining branches       the last kernel of the first norm of a block also reads the gradient of
                           the shortcut (in the very first block, where the shortcut starts behind
                           the activation, both kernels do); behind a 1x1 convolution of stride 2 a
                           quarter, the others being 0, which nobody writes or reads
    images                 read as bytes, written as values
    weights                converted, if values are narrower; read by forward and input gradient
    update                 weights, gradients and momentum read, weights and momentum written, the
                           average read and written and the weights read for it: single precision
    =====================  ======================================================================

    A plan, and no bound: less can be moved. A residual sum could be the end of the convolution
    before it (which saves a value written and one read), the statistics of a norm and the sums of
    its gradient could be accumulated by the kernel that writes what they are taken of (a value read
    each), and a cache may hold what one kernel hands to the next.

    Kernels that do less move more. Activations by themselves would add 2 values forward (read,
    written) and 3 backward (gradient and activation read, gradient written) for each value of a
    norm's input: 30% for FixMatch with wrn-28-2 in bf16. Gradients joined by a kernel of its own
    and types converted by one come on top.

    Args:
        shape: channels, pixels along a side and classes of the images.
        passes: of a step. Passes for the images' gradient alone are counted like others.
        value: bytes of an activation: 2 (bf16), 4 (fp32).
    """
    channels, size, num_classes = shape
    parts = layers(network, channels, size)
    num_parameters = parts.num_parameters(num_classes)
    normed = sum(c * s**2 for c, s in parts.norms)
    # The input of a block is normed by its first norm, its output has the size of its second.
    blocks = zip(parts.norms[:-1:2], parts.norms[1::2], strict=True)
    joined = sum(c * s**2 for (c, _), (_, s) in blocks) + parts.norms[0][0] * size**2
    ins = [c.values_in for c in parts.convolutions]
    outs = [c.values_out for c in parts.convolutions]
    there = value * passes.forward
    back = value * (passes.backward + passes.input_only)
    convert = (4 + value) * num_parameters if value < 4 else 0
    return {
        "convolutions": there * (sum(ins) + sum(outs)),
        "statistics": there * normed,
        "normalize, activate": there * (2 * normed - parts.norms[-1][0] * parts.norms[-1][1] ** 2),
        "residual sums": there * 3 * sum(parts.blocks),
        "input gradients": back * (sum(ins[1:]) + sum(outs[1:])),
        "weight gradients": back * (sum(ins) + sum(outs)) + 4 * num_parameters,
        "norms, sums of gradients": back * 2 * normed,
        "norms, gradients": back * 3 * normed,
        "joining branches": back * joined,
        "images": (1 + value) * channels * size**2 * passes.forward,
        "weights": convert + 2 * value * num_parameters,
        "update": 8 * 4 * num_parameters,
    }


VALUE_BYTES = {"bf16": 2, "fp32": 4, "fp64": 8}


def saved_bytes(
    network: str, shape: tuple[int, int, int], num_images: int, precision: str = "fp32"
) -> int:
    """Bytes that the eager network keeps for its gradients, parameters not counted.

    The images; the input of every norm; what its activation, in place, makes of it, which is also
    the input of the next convolution; the padded copies of these where stride is 2 (`Conv`); the
    features; mean and deviation of every channel in a norm. With bf16, copies of the weights.
    `boss.losses` keeps some tens of bytes per image and class, which are left out.

    Args:
        shape: channels, pixels along a side and classes of the images.
        num_images: in the pass, or in several whose gradients are taken together.
        precision: "fp32", "bf16" (autocast) or "fp64".
    """
    channels, size, num_classes = shape
    parts = layers(network, channels, size)
    value = VALUE_BYTES[precision]
    values = (
        channels * size**2
        + 2 * sum(c * s**2 for c, s in parts.norms)
        + sum(c.values_padded for c in parts.convolutions)
        + parts.num_features
    )
    statistics = sum(2 * c for c, _ in parts.norms) * max(value, 4)
    copies = 0
    if precision == "bf16":  # of the kernels and of the final matrix
        kernels = sum(c.num_weights for c in parts.convolutions)
        copies = value * (kernels + parts.num_features * num_classes)
    return value * values * num_images + statistics + copies


# For the libraries: the context of a process (about 0.5 GiB), the workspaces of convolutions, code.
MARGIN_BYTES = 2 * 2**30


def gpu_memory(
    run: Run, shape: tuple[int, int, int] | None = None, num_images: int | None = None
) -> dict[str, int] | None:
    """Bytes of GPU memory that the largest moment of an eager step needs, by purpose.

    Compiled steps keep less; a CUDA graph holds what a step needs at its largest, all the time.
    The algorithms' own buffers are small and left out.

    Args:
        shape: channels, pixels along a side and classes; None: of the run's data set.
        num_images: of the whole data set, all of which lies on the device; None: likewise.

    Returns:
        None if the data set's shape is unknown.
    """
    if shape is None or num_images is None:
        if run.dataset not in IMAGE_SHAPES:
            return None
        shape = IMAGE_SHAPES[run.dataset] if shape is None else shape
        num_images = NUM_IMAGES[run.dataset] if num_images is None else num_images
    channels, size, num_classes = shape
    passes = passes_per_step(run)
    parts = layers(run.network, channels, size)
    value = VALUE_BYTES[run.precision]
    of_images = max(value, 4)  # also those of parameters
    num_parameters = parts.num_parameters(num_classes)
    # Student, gradients, teacher and the best weights so far; what the optimizer remembers.
    moments = {"adam": 2, "adamw": 2, "asgd": 0}.get(run.optimizer, 1)
    largest = max(max(c * s**2 for c, s in parts.norms), *parts.blocks)
    return {
        "activations": saved_bytes(run.network, shape, passes.saved, run.precision),
        # Three tensors as large as the largest activation meet in a residual sum or its gradient.
        "gradients of activations": 3 * value * largest * passes.saved,
        "weights and their states": of_images * num_parameters * (4 + moments),
        "batch": of_images * channels * size**2 * passes.saved,
        # Pixels, a label each, and two epochs' orders.
        "data set": num_images * (channels * size**2 + 3 * 8),
        "margin": MARGIN_BYTES,
    }


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
