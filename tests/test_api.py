"""The same from Python: studies run, are interrupted, and are read."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boss import api
from boss.errors import InputError
from boss.study import Run, Study
from tests.conftest import ROOT

SCRIPT = """
from boss import api
from boss.study import Run, Study

if __name__ == "__main__":
    runs = [
        Run(algorithm="fixmatch", label_set="fixmatch:0@10", repeat=repeat, dataset="digits",
            network="wrn-7-1", num_images=8 * {steps}, batch_size=8, num_evaluations=2)
        for repeat in range(2)
    ]
    study = Study(reproduces="x", runs=lambda budget: runs, name="mine", default_budget="short")
    table = api.run_study(study, workers=1)
    print(len(table), len(api.read_results("mine", "results", "evaluations")))
"""


def start(folder: Path, steps: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(steps=steps)],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_study_is_run_and_read(tmp_path: Path) -> None:
    process = start(tmp_path, steps=6)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "2 8"  # evaluations: of 2 runs, 2 of teacher and student


@pytest.mark.slow
def test_ctrl_c_ends_it_with_a_checkpoint(tmp_path: Path) -> None:
    process = start(tmp_path, steps=100_000)
    state = tmp_path / "results/mine/state"
    try:
        deadline = time.monotonic() + 60
        while not [*state.glob("*/lock")]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(3)  # it trains
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0 and "KeyboardInterrupt" in err
    assert len([*state.glob("*/checkpoint.pt")]) == 1  # the second was not started


@pytest.mark.parametrize("name", ["", "reference"])
def test_a_study_needs_a_name_of_its_own(name: str) -> None:
    run = Run(
        algorithm="supervised", label_set="fixmatch:0@10", repeat=0, dataset="digits",
        network="wrn-7-1", num_images=8, unlabeled_ratio=0,
    )  # fmt: skip
    study = Study(reproduces="nothing", runs=lambda budget: [run], name=name)
    with pytest.raises(InputError, match="needs a name of its own"):
        api.run_study(study)
