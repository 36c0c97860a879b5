"""What an extension costs (docs/extending.md), held in a copy of the project.

An algorithm with one gradient pass, a network, a data set, a setting of a run and a column of the
results are each added by the edits of the table there and nothing else; runs that finished before
stay finished.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

# New files, by their path in the project ----------------------------------------------------------

FILES = {
    "boss/algorithms/entropy_minimization.py": '''
from typing import final

import torch

from boss.algorithms.base import Algorithm, Batch, Context, StepLoss
from boss.errors import check_interval
from boss.forward import joint
from boss.losses import cross_entropy, entropy


@final
class EntropyMinimization(Algorithm):
    """CE(y, x) + w mean H(u), in one pass.

    Args:
        unlabeled_weight: w.
    """

    title = "Entropy minimization"
    summary = "predictions on unlabeled images become confident"
    source = "Grandvalet and Bengio 2004"
    views = ("weak",)

    def __init__(self, unlabeled_weight: float = 0.1) -> None:
        super().__init__()
        check_interval("[0, inf)", unlabeled_weight=unlabeled_weight)
        self.unlabeled_weight = unlabeled_weight

    def loss(self, batch: Batch, context: Context) -> StepLoss:
        [u] = batch.u
        logits_x, logits_u = joint(context.student, (batch.x, u))
        values = entropy(logits_u)  # (U,)
        return StepLoss(
            supervised=cross_entropy(logits_x, batch.y).mean(),
            unsupervised=self.unlabeled_weight * values.mean(),
            pseudo_label=logits_u.detach().argmax(dim=1),
            used=torch.ones_like(values),
        )
''',
    "boss/models/small_cnn.py": '''
import re
from typing import final

import torch
from torch import Tensor, nn

from boss.models.base import Network, initialize_linear


@final
class SmallCNN(Network):
    """One convolution, a global mean, a linear layer."""

    grammar = "cnn-WIDTH"
    example = "cnn-16"
    summary = "one convolution of WIDTH channels"

    @classmethod
    def parse(cls, name: str) -> dict[str, int] | None:
        match = re.fullmatch(r"cnn-([1-9][0-9]*)", name)
        return match and {"width": int(match[1])}

    def __init__(
        self,
        *,
        channels: int,
        num_classes: int,
        width: int,
        norm_momentum: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.num_features = width
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width, momentum=norm_momentum)
        self.classify = nn.Linear(width, num_classes)
        nn.init.normal_(self.conv.weight, std=0.1, generator=generator)
        nn.init.zeros_(self.conv.bias)
        initialize_linear(self.classify, generator)

    def features(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images)).relu().mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))
''',
    "boss/data/stripes.py": '''
"""Stripes in two directions, drawn with noise."""

import numpy as np

from boss.data.source import Arrays, Shape, Source


def read(path: None = None) -> Arrays:
    generator = np.random.Generator(np.random.PCG64(0))
    y = np.arange(150) % 2
    stripes = np.where(np.arange(8) % 4 < 2, 60, 190)
    x = np.where(y[:, None, None] == 0, stripes[:, None], stripes[None, :])  # (150, 8, 8)
    x = (x + generator.integers(-50, 51, x.shape)).astype(np.uint8)[..., None]
    return Arrays(x[:100], y[:100], x[100:], y[100:], ("horizontal", "vertical"), flip=True)


STRIPES = Source(
    name="stripes",
    summary="stripes in two directions",
    shape=Shape(channels=1, size=8, num_classes=2),
    num_train=100,
    num_test=50,
    read=read,
    library="numpy",
)
''',
    "studies/toy.py": '''
"""One of each extension."""

from boss.study import Run, Study, grid

STUDY = Study(
    reproduces="nothing: one of each extension",
    default_budget="short",
    runs=lambda budget: [
        Run(**fields)
        for fields in grid(
            label_set=["fixmatch:0@2", "fixmatch:1@2"],
            repeat=[0],
            gradient_norm=[0.0, 0.5],
            algorithm="entropy_minimization",
            dataset="stripes",
            network="cnn-16",
            num_images=8 * 40,
            batch_size=8,
            unlabeled_ratio=2,
            num_evaluations=4,
        )
    ],
)
''',
}

# Edits: (path, a line that is there, lines put after it) ----------------------------------------

ALGORITHM = [
    (
        "boss/algorithms/__init__.py",
        "from boss.algorithms.boss import BOSS",
        "from boss.algorithms.entropy_minimization import EntropyMinimization",
    ),
    (
        "boss/algorithms/__init__.py",
        '    "boss": BOSS,',
        '    "entropy_minimization": EntropyMinimization,',
    ),
    (
        "tests/algorithms/test_contract.py",
        "CASES: dict[str, Case] = {",
        '    "entropy_minimization": Case({"unlabeled_weight": 0.5}, learned=("all",)),',
    ),
]
NETWORK = [
    (
        "boss/models/__init__.py",
        "from boss.models.base import Network",
        "from boss.models.small_cnn import SmallCNN",
    ),
    (
        "boss/models/__init__.py",
        "NETWORKS: tuple[type[Network], ...] = (WideResNet, FastCNN)",
        "NETWORKS += (SmallCNN,)",
    ),
]
DATASET = [
    (
        "boss/data/__init__.py",
        "from numpy.typing import NDArray",
        "\nfrom boss.data import stripes",
    ),
    ("boss/data/__init__.py", "        digits.DIGITS,", "        stripes.STRIPES,"),
]
SETTING = [
    (
        "boss/study/run.py",
        '        "of sgd; first decay (beta 1) of adam", interval="[0, 1)"))',
        "    gradient_norm: float = field(default=0.0, metadata=setting(\n"
        '        "largest norm of the gradient; 0: no bound", interval="[0, inf)"))',
    ),
    ("boss/training/config.py", "    momentum: float", "    gradient_norm: float"),
    (
        "boss/training/step.py",
        '        """The optimizer moves the student."""',
        "        if self.config.gradient_norm:\n"
        "            parameters = self.training.student.parameters()\n"
        "            torch.nn.utils.clip_grad_norm_(parameters, self.config.gradient_norm)",
    ),
]
COLUMN = [
    (
        "boss/results/schema.py",
        '        ("num_labels", INT, "number of labeled images"),',
        '        ("num_train", INT, "images of the training set"),',
    ),
    (
        "boss/workers/rows.py",
        '        "num_labels": len(labels.indices),',
        '        "num_train": len(dataset.train),',
    ),
]

BEFORE = """
from boss.study import Run, Study

STUDY = Study(
    reproduces="nothing: runs from before",
    default_budget="short",
    runs=lambda budget: [
        Run(algorithm="fixmatch", label_set="fixmatch:0@10", repeat=repeat, dataset="digits",
            network="wrn-7-1", num_images=8 * 10, batch_size=8, num_evaluations=2)
        for repeat in range(2)
    ],
)
"""


class Project:
    """A copy of the project, and its commands."""

    def __init__(self, root: Path) -> None:
        self.root = root
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        for name in ("boss", "analysis", "studies", "tests"):
            shutil.copytree(ROOT / name, root / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, root / name)

    def python(self, *arguments: str) -> str:
        """Standard output of Python in this copy, in a folder without a git commit."""
        environment = os.environ | {"PYTHONPATH": str(self.root), "HOME": str(self.root / "home")}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def boss(self, *arguments: str) -> str:
        return self.python("-m", "boss", *arguments)

    def rows(self, study: str, table: str = "runs") -> pd.DataFrame:
        """A table, as the package reads it."""
        code = (
            "from pathlib import Path; from boss.results.read import Store;"
            f" Store(Path('results'), {study!r}).read({table!r}).to_json('rows.json')"
        )
        self.python("-c", code)
        return pd.read_json(self.root / "rows.json")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """With two runs that finished before anything was added, and one of each extension."""
    project = Project(tmp_path_factory.mktemp("project"))
    (project.root / "before.py").write_text(BEFORE)
    assert "2 of 2 runs finished" in project.boss("run", "before.py")
    for name, text in FILES.items():
        path = project.root / name
        assert not path.exists()
        path.write_text(text.lstrip())
    for name, line, added in [*ALGORITHM, *NETWORK, *DATASET, *SETTING, *COLUMN]:
        path = project.root / name
        text = path.read_text()
        assert text.count(f"{line}\n") == 1, (name, line)
        path.write_text(text.replace(f"{line}\n", f"{line}\n{added}\n"))
    return project


def test_finished_runs_stay_finished(project: Project) -> None:
    assert "2 finished before, 0 to do" in project.boss("run", "before.py")
    runs = project.rows("before")
    assert runs["num_train"].isna().all()
    assert (runs["gradient_norm"] == 0).all()


def test_the_study_is_listed_and_its_cost_is_known(project: Project) -> None:
    """Nothing has to be known of the algorithm and the network but themselves."""
    listed = project.boss("list")
    block = listed[listed.index("\ntoy\n") :]
    line = next(line for line in block.splitlines() if "short (default)" in line)
    assert "4 runs on stripes (Entropy minimization), cnn-16, 40 steps each" in line
    planned = project.boss("run", "toy", "--dry-run", "--only", "gradient_norm=0.5")
    assert "2 runs on stripes (Entropy minimization)" in planned
    assert "on one GPU (estimate)" in planned


def test_it_runs_and_is_reported_under_its_title(project: Project) -> None:
    assert "4 of 4 runs finished" in project.boss("run", "toy")
    assert "2 finished before, 0 to do" in project.boss("run", "toy", "--only", "gradient_norm=0.5")
    runs = project.rows("toy").set_index("run_id")
    assert (runs["num_train"] == 100).all()
    assert sorted(runs["gradient_norm"]) == [0.0, 0.0, 0.5, 0.5]
    losses = project.rows("toy", "evaluations")
    losses = losses.assign(bound=losses["run_id"].map(runs["gradient_norm"]))
    free, bounded = (losses.loc[losses["bound"] == b, "test_loss"].sum() for b in (0.0, 0.5))
    assert free != bounded  # the setting has an effect
    project.boss("report", "toy")
    page = (project.root / "results/toy/report/report.md").read_text()
    assert "Entropy minimization, predictions on unlabeled images become confident" in page
    assert "entropy_minimization (gradient_norm = 0.5)" in page
    assert "stripes, cnn-16" in page
    dictionary = project.python("-m", "boss.results.schema")
    assert "| num_train | int64 | images of the training set |" in dictionary
    assert "| gradient_norm | double | largest norm of the gradient; 0: no bound |" in dictionary


def test_the_tests_of_contracts_take_them(project: Project) -> None:
    """With a row for the algorithm, and none for the network; no test counts what there is."""
    pytest_ = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
    one = project.python(
        *pytest_, "-k", "entropy_minimization", "tests/algorithms/test_contract.py"
    )
    assert "passed" in one
    two = project.python(*pytest_, "-k", "cnn or tiny", "tests/models/test_models.py")
    assert "passed" in two
    tests = ("tests/study/test_designs.py", "tests/study/test_methods.py", "tests/test_errors.py")
    project.python(*pytest_, *tests)
