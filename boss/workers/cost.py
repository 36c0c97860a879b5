"""What runs cost: one step is measured, hours and memory on a GPU are estimated from that.

A step is measured without computing anything: the losses of the algorithm and their gradients, on
fake tensors, which have shapes and no values, under torch's FlopCounterMode. So the cost of any
algorithm and network is known, also of those added later. Costs are kept in a file of the user
(`cache_file`), by all that they depend on. No torch at the top.
"""

import functools
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from boss.results.write import write_atomically
from boss.study.run import Run

if TYPE_CHECKING:
    import torch

# The fastest full FixMatch run that a public PyTorch implementation reports: WRN-28-2 on 32 x 32
# pixels, B 64, mu 7, on one A100. The time of a step is taken as proportional to its FLOPs, with a
# floor for launching its kernels.
REFERENCE_MS_PER_STEP = 20.6
REFERENCE_FLOPS = 1.2338e12
LAUNCH_MS_PER_STEP = 5.0
ESTIMATE = "estimated from 20.6 ms per step of WRN-28-2 reported for an A100"

# For the CUDA context (about 0.5 GiB), the workspaces of convolutions and the images.
MARGIN_BYTES = 2 * 2**30
FIELDS = ("dataset", "algorithm", "network", "batch_size", "unlabeled_ratio")


class Cost(NamedTuple):
    """Of one training step."""

    flops: (
        float  # floating point operations of convolutions and matrix products; 2 per multiply-add
    )
    saved_bytes: float  # of activations that the backward pass needs
    num_parameters: float


def gpu_hours(runs: Iterable[Run], costs: Mapping[str, Cost]) -> float | None:
    """Hours on one GPU, an estimate (see `ESTIMATE`); None if the cost of a run is unknown."""
    hours = 0.0
    for run in runs:
        if (cost := costs.get(key(run))) is None:
            return None
        ms = max(LAUNCH_MS_PER_STEP, REFERENCE_MS_PER_STEP * cost.flops / REFERENCE_FLOPS)
        hours += run.num_steps * ms / 3.6e6
    return hours


def gpu_memory(run: Run, costs: Mapping[str, Cost]) -> float | None:
    """Bytes of GPU memory of a run, an estimate; None if its cost is unknown.

    Saved activations (half as large in bf16), six times the parameters (student, teacher, best
    weights, gradients, two states of the optimizer), and a margin.
    """
    if (cost := costs.get(key(run))) is None:
        return None
    activations = cost.saved_bytes / (2 if run.precision == "bf16" else 1)
    return activations + 6 * 4 * cost.num_parameters + MARGIN_BYTES


def missing(runs: Iterable[Run], costs: Mapping[str, Cost]) -> list[Run]:
    """One run for each cost that is unknown and can be measured."""
    found: dict[str, Run] = {}
    for run in runs:
        if _shape(run) is not None and key(run) not in costs:
            found.setdefault(key(run), run)
    return list(found.values())


def measure(run: Run) -> dict[str, Cost]:
    """The cost of a step by its key, measured in a child process; cached. Empty if that fails."""
    from boss.workers.process import in_child

    try:
        found = {key(run): Cost(*in_child(step_cost, run))}
    except (RuntimeError, ValueError):  # an unknown network, say: `run` says what is wrong
        return {}
    content = {name: cost._asdict() for name, cost in (read_cache() | found).items()}
    with suppress(OSError, RuntimeError):  # no home, or one that cannot be written: no cache
        write_atomically(cache_file(), lambda path: path.write_text(json.dumps(content, indent=1)))
    return found


def cache_file() -> Path:
    """$XDG_CACHE_HOME/boss/costs.json, by default in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "boss" / "costs.json"


def read_cache() -> dict[str, Cost]:
    """All costs in the cache, by key; none if it cannot be read."""
    try:
        content = json.loads(cache_file().read_text())
        costs = {str(name): Cost(*map(float, Cost(**c))) for name, c in content.items()}
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError):  # or no home
        return {}
    return {name: cost for name, cost in costs.items() if all(map(math.isfinite, cost))}


def key(run: Run) -> str:
    """Equal for runs whose steps cost the same: 16 hex digits."""
    options = json.dumps(dict(run.options), sort_keys=True)
    probes = run.augmentation.startswith("ctaugment")
    return _key(*(getattr(run, name) for name in FIELDS), options, probes)


@functools.cache
def _key(*parts: object) -> str:
    text = json.dumps([*parts, _code()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _code() -> str:
    """A checksum of the code that costs depend on."""
    package = Path(__file__).parents[1]
    files = sorted(package.glob("algorithms/*.py")) + sorted(package.glob("models/*.py"))
    names = ("losses.py", "balance.py", "mixup.py", "forward.py", "data/__init__.py")
    contents = [path.read_bytes() for path in [*files, *(package / name for name in names)]]
    return hashlib.sha256(b"".join(contents)).hexdigest()


def _shape(run: Run) -> Any:
    """`boss.data.Shape` of the run's data set; None for custom ones."""
    from boss.data import DATASETS  # imports numpy

    source = DATASETS.get(run.dataset)
    return None if source is None else source.shape


def step_cost(run: Run) -> tuple[float, float, int]:
    """Measure one step of a run on a data set with a known shape. Imports torch.

    Returns:
        The fields of `Cost`.

    Raises:
        InputError: there is no such network or algorithm.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from boss import algorithms, models
    from boss.algorithms import Batch, Context, Sizes
    from boss.data import DATASETS
    from boss.training.state import make_teacher

    source = DATASETS[run.dataset]
    channels, size, num_classes = source.shape
    generator = torch.Generator()
    num_images = 0  # through the student, with gradients

    def count(network: object, arguments: tuple[torch.Tensor, ...]) -> None:
        nonlocal num_images
        num_images += len(arguments[0]) if torch.is_grad_enabled() else 0

    student = models.build(
        run.network,
        channels=channels,
        num_classes=num_classes,
        norm_momentum=run.norm_momentum,
        generator=generator,
    )
    algorithm = algorithms.build(run.algorithm, run.options)
    num_unlabeled = source.num_train + source.num_unlabeled
    algorithm.allocate(Sizes(num_classes, student.num_features, num_unlabeled), generator)
    teacher = make_teacher(student)
    num = run.batch_size * run.unlabeled_ratio
    batch = Batch(
        x=torch.zeros(run.batch_size, channels, size, size),
        y=torch.zeros(run.batch_size, dtype=torch.int64),
        u=tuple(torch.zeros(num, channels, size, size) for _ in algorithm.views),
        u_index=torch.zeros(num, dtype=torch.int64),
    )
    draws = algorithm.draw(batch, generator)  # of real tensors: fake ones take no generator
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for module in (*student.modules(), *teacher.modules(), *algorithm.modules()):
            for name, old in [*module.named_parameters(recurse=False)]:
                fake = torch.nn.Parameter(mode.from_tensor(old), requires_grad=old.requires_grad)
                module.register_parameter(name, fake)
            for name, buffer in [*module.named_buffers(recurse=False)]:
                module.register_buffer(name, mode.from_tensor(buffer))
        batch, draws = torch.utils._pytree.tree_map(mode.from_tensor, (batch, draws))
        saved_per_image = _saved_bytes(student, batch.x) / run.batch_size
        student.register_forward_pre_hook(count)
        with FlopCounterMode(display=False) as counter:
            losses = algorithm.loss(batch, Context(student, teacher, torch.zeros(()), draws))
            (losses.supervised + losses.unsupervised).backward()  # type: ignore[no-untyped-call]
            if run.augmentation.startswith("ctaugment"):  # its probe of labeled images
                with torch.no_grad():
                    teacher(batch.x)
    num_parameters = sum(parameter.numel() for parameter in student.parameters())
    return float(counter.get_total_flops()), num_images * saved_per_image, num_parameters


def _saved_bytes(network: "torch.nn.Module", images: "torch.Tensor") -> int:
    """Bytes of the tensors that a backward pass through the network needs, parameters apart."""
    import torch

    saved: dict[torch.UntypedStorage, int] = {}
    own = {id(parameter) for parameter in network.parameters()}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in own:
            storage = tensor.untyped_storage()
            saved[storage] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        network(images)
    return sum(saved.values())
