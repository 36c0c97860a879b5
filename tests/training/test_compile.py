"""Every algorithm compiles: its loss as one graph, which computes what plain PyTorch computes."""

import shutil

import pytest
import torch
import torch._dynamo
import torch._inductor.config
from torch import nn

from boss.algorithms import ALGORITHMS, Batch, Context
from boss.seeds import stream
from boss.training.state import make_teacher
from tests.algorithms import test_contract
from tests.algorithms.test_contract import B, made, step_of, total

STEPS = 3
# Options that take another way through the code than the defaults.
VARIANTS = [
    ("boss", {"max_drop": 0.0, "weigh_by": "predicted", "average_over": "used"}),
    ("fixmatch", {"labels": "soft", "temperature": 0.5}),
    ("flexmatch", {"warmup": False, "mapping": "concave"}),
    ("remixmatch", {"num_strong": 2, "history": 0}),
    ("uda", {"annealing": "exp"}),
    ("vat", {"num_iterations": 2}),
]
# Where other roundings are allowed: the default finds little but rounding errors.
OPTIONS = {"vat": {"xi": 1.0}}


class Small(nn.Module):
    """A network with batch norm that compiles fast."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Linear(64, 32), nn.BatchNorm1d(32)
        self.classify = nn.Linear(32, 10)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=stream("network"))

    def features(self, x):
        return self.norm(self.embed(x.flatten(1))).relu()

    def forward(self, x):
        return self.classify(self.features(x))


@pytest.fixture(autouse=True)
def _fresh_compiler():
    """One graph for all steps: neither a break nor a second compilation goes unnoticed."""
    torch._dynamo.reset()
    with (
        torch._dynamo.config.patch(error_on_recompile=True),
        torch._inductor.config.patch(compile_threads=1),
    ):
        yield
    torch._dynamo.reset()


def train(name, options, network, digits, *, backend=None, precision="fp64"):
    """Losses, gradients, parameters and buffers of some steps, one list for each step.

    Args:
        backend: of the compiler; None computes step by step.
    """
    double = precision == "fp64"
    algorithm = made(name, options, double=double)
    network = network.double() if double else network.float()
    loss = algorithm.loss
    if backend is not None:
        loss = torch.compile(loss, fullgraph=True, dynamic=False, backend=backend)
    batch = test_contract.batch_of(digits, algorithm)
    u = tuple(u[: 2 * B].to(torch.float64 if double else torch.float32) for u in batch.u)
    x = batch.x.to(torch.float64 if double else torch.float32)
    batch = Batch(x, batch.y, u, batch.u_index[: 2 * B])
    teacher, generator = make_teacher(network), stream("algorithm")
    parameters = [*network.parameters(), *algorithm.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    results = []
    for i in range(STEPS):
        now = step_of(batch, i)
        context = Context(
            network, teacher, torch.tensor((i + 1) / 10), algorithm.draw(now, generator)
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            losses = loss(now, context)
        optimizer.zero_grad()
        total(losses).backward()
        gradients = torch.cat([p.grad.flatten() for p in parameters])
        optimizer.step()
        state = [*parameters, *network.buffers(), *algorithm.buffers()]
        results.append([*losses, gradients, *(t.detach().clone() for t in state)])
    return results


def check(found, expected, tolerance):
    """Entries differ by no more than this share of the largest one of their tensor."""
    assert len(found) == len(expected) == STEPS
    for mine, theirs in zip(found, expected, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            largest = float(b.detach().abs().max()) if b.numel() else 0.0
            torch.testing.assert_close(a, b, rtol=0, atol=tolerance * largest)


# "aot_eager" is the first two stages of the compiler, which leave every operation as it is.


ONE_FAST = ["fixmatch"]  # the representative that every test run compiles


@pytest.mark.parametrize(
    "name",
    [n if n in ONE_FAST else pytest.param(n, marks=pytest.mark.slow) for n in ALGORITHMS],
)
def test_the_loss_is_one_graph(name, digits):
    networks = (test_contract.network() for _ in range(2))
    expected, found = (
        train(name, {}, network, digits, backend=backend)
        for network, backend in zip(networks, (None, "aot_eager"), strict=True)
    )
    check(found, expected, tolerance=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_so_it_is_with_other_options(name, options, digits):
    expected, found = (
        train(name, options, Small(), digits, backend=backend) for backend in (None, "aot_eager")
    )
    check(found, expected, tolerance=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fixmatch", "mean_teacher", "remixmatch", "vat"])
def test_so_it_is_in_half_precision(name, digits):
    options = OPTIONS.get(name, {})
    expected, found = (
        train(name, options, Small(), digits, backend=backend, precision="bf16")
        for backend in (None, "aot_eager")
    )
    check(found, expected, tolerance=0.02)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", ["boss", "fixmatch", "freematch", "remixmatch", "vat"])
def test_compiled_code_computes_the_same(name, digits):
    expected, found = (
        train(name, OPTIONS.get(name, {}), Small(), digits, backend=backend)
        for backend in (None, "inductor")
    )
    check(found, expected, tolerance=1e-9)
