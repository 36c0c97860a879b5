"""What every algorithm promises, tested on all of them alike.

A new algorithm is a row in CASES. Dimensions: B labeled, U unlabeled, K classes.
"""

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from boss import models
from boss.algorithms import ALGORITHMS, Batch, Context, Sizes, build, hyperparameters
from boss.augment import to_float
from boss.errors import InputError
from boss.seeds import stream
from boss.study import catalog
from boss.training.state import make_teacher

B, MU = 4, 7  # so that classes are predicted and used unequally often
JOINT, LABELED = "labeled and all views", "labeled"


class Case(NamedTuple):
    """What the contract has to know of an algorithm.

    Attributes:
        changes: for every hyperparameter, a value that must change the loss or the gradient.
        statistics: the one pass that moves running statistics: JOINT or LABELED, by its images, or
            the position among the student's passes of a step, such as 2 or -1.
        learned: for every view the images that get a gradient: "none", "used" (in the loss) or
            "all".
        with_options: other options that a change needs to have an effect.
        steps: of how many steps the last must differ for every hyperparameter: more than one where
            the first ones only fill the memory that it is about.
    """

    changes: dict[str, object]
    statistics: str | int = JOINT
    learned: tuple[str, ...] = ("none", "used")
    with_options: Mapping[str, dict[str, object]] = MappingProxyType({})
    steps: int = 1


CASES: dict[str, Case] = {
    "boss": Case(
        {
            "threshold": 0.999,
            "max_drop": 0.0,
            "weigh_by": "none",
            "unlabeled_weight": 0.5,
            "average_over": "used",
        }
    ),
    "fixmatch": Case(
        {
            "threshold": 0.999,
            "unlabeled_weight": 0.5,
            "temperature": 0.5,
            "labels": "soft",
            "label_view": "strong",
            "prediction_view": "weak",
        }
    ),
    "flexmatch": Case(
        {"threshold": 0.999, "unlabeled_weight": 0.5, "warmup": False, "mapping": "linear"},
        with_options={"threshold": {"warmup": False}, "mapping": {"warmup": False}},
        steps=4,
    ),
    "freematch": Case(
        {
            "unlabeled_weight": 0.5,
            "fairness_weight": 0.5,
            "decay": 0.5,
            "threshold_min": 0.9,
            "threshold_max": 0.2,
        },
        with_options={"threshold_max": {"decay": 0.0}},
    ),
    "mean_teacher": Case(
        {"unlabeled_weight": 0.5, "rampup": 1.0}, statistics=LABELED, learned=("none", "all")
    ),
    "mixmatch": Case(
        {"temperature": 1.0, "alpha": 2.0, "unlabeled_weight": 50.0, "rampup": 1.0},
        statistics=2,
        learned=("all", "all"),
    ),
    "pi_model": Case(
        {"unlabeled_weight": 0.5, "rampup": 1.0}, statistics=LABELED, learned=("none", "all")
    ),
    "pseudo_label": Case(
        {"threshold": 0.999, "unlabeled_weight": 0.5, "rampup": 1.0, "mask": "example"},
        statistics=LABELED,
        learned=("all",),  # with the reference's mask unconfident images learn as well
    ),
    "remixmatch": Case(
        {
            "temperature": 1.0,
            "alpha": 2.0,
            "num_strong": 2,
            "mixed_weight": 0.5,
            "strong_weight": 1.0,
            "rotation_weight": 1.0,
            "rampup": 1.0,
            "history": 0,
        },
        statistics=-1,
        learned=("all", "all"),
        steps=2,
    ),
    "supervised": Case({"smoothing": 0.1}, statistics=LABELED, learned=()),
    "uda": Case(
        {"threshold": 0.999, "unlabeled_weight": 0.5, "temperature": 0.5, "annealing": "exp"}
    ),
    "vat": Case(
        {
            "unlabeled_weight": 0.5,
            "epsilon": 3.0,
            "xi": 0.1,
            "num_iterations": 2,
            "entropy_weight": 0.5,
            "rampup": 1.0,
        },
        statistics=LABELED,
        learned=("all",),
    ),
}
SYNCHRONIZING = (
    *("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.unique"),
    *("aten._unique", "aten.bincount", "aten.equal", "aten.repeat_interleave.Tensor"),
)


class NoSynchronization(TorchDispatchMode):
    """Raises where an operation would wait for the device or have a shape that depends on data."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        assert not name.startswith(SYNCHRONIZING), f"{name} waits for the device"
        if name.startswith(("aten.index.", "aten.index_put")):
            indices = [i for i in args[1] if i is not None]
            masks = (torch.bool, torch.uint8)
            assert all(i.dtype not in masks for i in indices), f"{name} with a mask"
        return func(*args, **(kwargs or {}))


def network(seed=0, *, double=True):
    built = models.build(
        "wrn-7-1", channels=1, num_classes=10, norm_momentum=0.1, generator=stream(seed)
    )
    built = built.double() if double else built
    with torch.no_grad():
        built.classify.weight.mul_(30)  # so that some predictions are confident
    return built.train()


def batch_of(digits, algorithm, *, requires_grad=False, seed=()):
    images, labels = digits.train.images, digits.train.labels
    pick = torch.randperm(len(images), generator=stream("pick", *seed))
    u_index = pick[B : B + B * MU] if algorithm.views else pick[:0]
    views = []
    for i, kind in enumerate(algorithm.views):
        x = to_float(images[u_index], dtype=torch.float64)
        # Views differ, as augmented ones do, and strong ones more.
        noise = torch.randn(x.shape, generator=stream("view", i), dtype=x.dtype)
        x = x + {"none": 0.0, "weak": 0.2, "strong": 0.21}[kind] * noise
        views.append(x.requires_grad_(requires_grad))
    x = to_float(images[pick[:B]], dtype=torch.float64)
    x = x + (0.1 if algorithm.labeled_view == "strong" else 0.0)
    return Batch(x, labels[pick[:B]], tuple(views), u_index)


def made(name, options=None, *, num_features=32, double=True):
    """An algorithm, ready for its first step."""
    algorithm = build(name, options or {})
    sizes = Sizes(num_classes=10, num_features=num_features, num_unlabeled=1201)
    algorithm.allocate(sizes, stream("allocate"))
    return algorithm.double() if double else algorithm


class Linear(nn.Module):
    """A network without batch norm, whose rows do not see each other."""

    def __init__(self):
        super().__init__()
        self.classify = nn.Linear(64, 10).double()
        with torch.no_grad():
            self.classify.weight.normal_(0, 1, generator=stream("weights"))

    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return self.classify(self.features(x))


def context_of(algorithm, batch, student, generator=None):
    draws = algorithm.draw(batch, generator or stream("algorithm"))
    return Context(student, make_teacher(student), torch.tensor(0.5), draws)


def loss_of(algorithm, batch, student):
    return algorithm.loss(batch, context_of(algorithm, batch, student))


def total(losses):
    return losses.supervised + losses.unsupervised


@pytest.fixture(params=list(ALGORITHMS))
def name(request):
    return request.param


def test_every_algorithm_has_a_row_here():
    assert CASES.keys() == ALGORITHMS.keys()
    for name, case in CASES.items():
        assert case.changes.keys() == hyperparameters(name).keys()
        views = build(name, {}).views
        assert len(case.learned) == len(views), f"{name}: one entry of `learned` for each view"


def test_the_catalog_says_what_the_classes_say():
    assert catalog.ALGORITHMS.keys() == ALGORITHMS.keys()
    for name, facts in catalog.ALGORITHMS.items():
        for fact in ("title", "summary", "source", "balances"):
            assert getattr(facts, fact) == getattr(ALGORITHMS[name], fact), (name, fact)
        assert facts.options == hyperparameters(name)


def test_a_gradient_reaches_every_parameter(name, digits):
    algorithm, student = made(name), network()
    total(loss_of(algorithm, batch_of(digits, algorithm), student)).backward()
    for key, parameter in [*student.named_parameters(), *algorithm.named_parameters()]:
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


def test_the_teacher_is_left_alone(name, digits):
    algorithm, student = made(name), network()
    batch = batch_of(digits, algorithm)
    context = context_of(algorithm, batch, student)
    before = copy.deepcopy(list(context.teacher.parameters()))
    total(algorithm.loss(batch, context)).backward()
    for old, new in zip(before, context.teacher.parameters(), strict=True):
        assert torch.equal(old, new)
        assert new.grad is None
        assert not new.requires_grad


def test_targets_carry_no_gradient(name, digits):
    algorithm = made(name, num_features=64)
    if not algorithm.views:
        pytest.skip("no targets")
    batch = batch_of(digits, algorithm, requires_grad=True)
    losses = loss_of(algorithm, batch, Linear())
    assert losses.used.sum() > 0
    total(losses).backward()
    expected = {"none": torch.zeros(B * MU) > 0, "used": losses.used > 0, "all": losses.used >= 0}
    for view, learned in zip(batch.u, CASES[name].learned, strict=True):
        gradient = torch.zeros_like(view) if view.grad is None else view.grad
        assert torch.equal(gradient.flatten(1).abs().sum(1) > 0, expected[learned])


def test_the_global_random_state_has_no_say(name, digits):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        algorithm = made(name)
        batch = batch_of(digits, algorithm)
        results.append(total(loss_of(algorithm, batch, network())).item())
    assert results[0] == results[1]


def test_nothing_waits_for_the_device(name, digits):
    algorithm, student = made(name), network()
    batch = batch_of(digits, algorithm)
    with NoSynchronization():
        total(loss_of(algorithm, batch, student)).backward()


def test_the_detector_of_synchronization_detects():
    ones = torch.ones(3, dtype=torch.int64)
    for offense in (
        lambda: ones[0].item(),
        lambda: ones.bincount(),
        lambda: ones.unique(),
        lambda: torch.equal(ones, ones),
        lambda: ones.nonzero(),
        lambda: ones.masked_select(ones > 0),
        lambda: torch.repeat_interleave(ones),
        lambda: ones[ones > 0],
        lambda: bool(ones[0]),
        lambda: torch.is_nonzero(ones[0]),
        lambda: ones.repeat_interleave(ones),
    ):
        with pytest.raises(AssertionError, match=r"waits|mask"), NoSynchronization():
            offense()


def step_of(batch, i):
    """The batch of step i: the same images, in another order, always in one memory layout."""
    layout = torch.contiguous_format
    x, y, *u = (t.roll(i, 0).clone(memory_format=layout) for t in (batch.x, batch.y, *batch.u))
    return Batch(x, y, tuple(u), batch.u_index.roll(i, 0))


def state_of(*modules):
    """Copies of everything that a step may change besides gradients."""
    return [t.clone() for module in modules for t in module.state_dict().values()]


def addresses(*modules):
    named = [[*m.named_parameters(), *m.named_buffers()] for m in modules]
    return [(name, t.data_ptr()) for pairs in named for name, t in pairs]


def plain_attributes(*modules):
    tensors = ("_parameters", "_buffers", "_modules")
    found = [
        (path, key, value)
        for module in modules
        for path, child in module.named_modules()
        for key, value in vars(child).items()
        if key not in tensors
    ]
    assert not any(isinstance(leaf, Tensor) for leaf in tree_leaves(found)), "no buffer"
    return copy.deepcopy(found)


def test_state_changes_in_place_and_never_on_the_host(name, digits):
    algorithm, student = made(name), network()
    batch, generator = batch_of(digits, algorithm), stream("algorithm")
    context = context_of(algorithm, batch, student, generator)
    modules = algorithm, student, context.teacher
    # Compiled by torch 2.11, what is written to a scalar of double precision on the CPU is lost.
    assert all(b.ndim > 0 for b in algorithm.buffers())
    before, plain = addresses(*modules), plain_attributes(*modules)
    for i in range(2):
        draws = algorithm.draw(step_of(batch, i), generator)
        total(algorithm.loss(step_of(batch, i), context._replace(draws=draws))).backward()
        assert addresses(*modules) == before
        assert plain_attributes(*modules) == plain


def test_a_step_recorded_once_can_be_replayed(name, digits):
    """As a CUDA graph does: the operations of one step again, on whatever the memory holds now."""
    algorithm, student = made(name), network()
    whole = batch_of(digits, algorithm)
    whole = whole._replace(u=tuple(u[: 2 * B] for u in whole.u), u_index=whole.u_index[: 2 * B])
    teacher = make_teacher(student)
    parameters = [*student.parameters(), *algorithm.parameters()]
    start = copy.deepcopy((student.state_dict(), algorithm.state_dict()))

    def step(batch, progress, draws):
        losses = algorithm.loss(Batch(*batch), Context(student, teacher, progress, draws))
        return tuple(losses), torch.autograd.grad(total(losses), parameters)

    def inputs(i, generator):
        batch = step_of(whole, i)
        return tuple(batch), torch.tensor(0.2 * i), algorithm.draw(batch, generator)

    recorded = make_fx(step)(*inputs(0, stream("algorithm")))
    results = []
    for function in (step, recorded):
        student.load_state_dict(start[0])
        algorithm.load_state_dict(start[1])
        generator = stream("algorithm")
        results.append([])
        for i in range(1, 4):
            results[-1] += tree_leaves(function(*inputs(i, generator)))
            results[-1] += state_of(student, algorithm)
    for mine, theirs in zip(*results, strict=True):
        assert torch.equal(mine, theirs)


def test_draws_are_made_from_the_generator_given(name, digits):
    """Of as many numbers as it takes, the same ones for the same state, others for another."""
    algorithm = made(name)
    batch, generator = batch_of(digits, algorithm), stream("algorithm")
    first, second = (algorithm.draw(batch, generator) for _ in range(2))
    again = algorithm.draw(batch, stream("algorithm"))
    for mine, same, other in zip(first, again, second, strict=True):
        assert torch.equal(mine, same)
        assert not torch.equal(mine, other)
        assert mine.shape == other.shape
        assert not mine.requires_grad


def test_running_statistics_come_from_one_pass(name, digits):
    algorithm, student = made(name), network()
    batch = batch_of(digits, algorithm)
    context = context_of(algorithm, batch, student)
    passes = []  # images, and whether the statistics moved
    before = [student.norm.running_mean.clone()]

    def note(module, inputs, output):
        moved = not torch.equal(before[-1], module.running_mean)
        before.append(module.running_mean.clone())
        passes[-1] = (passes[-1], moved)

    student.register_forward_pre_hook(lambda module, inputs: passes.append(inputs[0]))
    student.norm.register_forward_hook(note)
    features = student.features
    student.features = lambda x: (
        features(x)
        if passes and isinstance(passes[-1], Tensor)
        else (passes.append(x), features(x))[1]
    )
    algorithm.loss(batch, context)
    moving = [i for i, (_, moved) in enumerate(passes) if moved]
    assert len(moving) == 1
    images = passes[moving[0]][0]
    match CASES[name].statistics:
        case int(position):
            assert moving == [range(len(passes))[position]]
        case "labeled":
            assert torch.equal(images, batch.x)
        case _:
            assert torch.equal(images, torch.cat([batch.x, *batch.u]))
    assert student.norm.num_batches_tracked == 1
    # What the reference's batch norm comes to: a share of this pass, the rest as it was.
    expected = network()
    expected(images)
    torch.testing.assert_close(student.norm.running_mean, expected.norm.running_mean)
    torch.testing.assert_close(student.norm.running_var, expected.norm.running_var)
    assert all(m.track_running_stats for m in student.modules() if isinstance(m, _BatchNorm))


def test_every_hyperparameter_matters(name, digits):
    def gradient(options, seed):
        algorithm, student = made(name, options), network(seed)
        batch, generator = batch_of(digits, algorithm, seed=(seed,)), stream("algorithm")
        optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
        for _ in range(case.steps):
            optimizer.step()
            optimizer.zero_grad()
            context = context_of(algorithm, batch, student, generator)
            total(algorithm.loss(batch, context)).backward()
        return torch.cat([p.grad.flatten() for p in student.parameters()])

    case = CASES[name]
    for key, value in case.changes.items():
        others = case.with_options.get(key, {})
        # A threshold matters where an image lies between the two: not in every small batch.
        assert any(
            not torch.equal(gradient(others, seed), gradient({**others, key: value}, seed))
            for seed in range(12)
        ), key


def test_shapes_and_types(name, digits):
    algorithm = made(name)
    losses = loss_of(algorithm, batch_of(digits, algorithm), network())
    num = B * MU if algorithm.views else 0
    assert losses.supervised.shape == losses.unsupervised.shape == ()
    assert losses.pseudo_label.shape == losses.used.shape == (num,)
    assert losses.pseudo_label.dtype == torch.int64
    assert set(losses.used.unique().tolist()) <= {0.0, 1.0}


def test_half_precision_logits_give_single_precision_losses(name, digits):
    algorithm, student = made(name, double=False), network(double=False)
    batch = batch_of(digits, algorithm)
    batch = batch._replace(x=batch.x.float(), u=tuple(u.float() for u in batch.u))
    with torch.autocast("cpu", torch.bfloat16):
        losses = loss_of(algorithm, batch, student)
    assert losses.supervised.dtype == losses.unsupervised.dtype == torch.float32


def test_unknown_names_and_options_are_refused(name):
    names = ", ".join(ALGORITHMS)
    with pytest.raises(InputError, match=f"unknown algorithm 'x': choose from {names}$"):
        build("x", {})
    with pytest.raises(InputError, match=f"{name} has no option 'tau'"):
        build(name, {"tau": 0.9})
