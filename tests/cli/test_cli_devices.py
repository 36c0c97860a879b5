"""Where runs go: threads, execution of steps, what a person is told of the devices."""

import re
import subprocess
from pathlib import Path

import pytest

from boss.errors import InputError
from boss.training.config import EXECUTIONS
from boss.workers import runtime as place
from boss.workers.runtime import Runtime, execution_of, threads_of


@pytest.mark.parametrize(("devices", "cores", "threads"), [
    (["cpu"], 8, 1), (["cpu", "cpu"], 8, 1), (["cuda:0"], 8, 8), (["cuda:0"] * 3, 8, 2),
    (["cuda:0", "cuda:1"], 7, 3), (["cuda:0"] * 5, 4, 1),
])  # fmt: skip
def test_threads_never_exceed_the_cores_and_a_cpu_has_one_each(
    devices, cores, threads, monkeypatch
):
    monkeypatch.setattr(place, "num_cores", lambda: cores)
    assert threads_of(devices) == threads
    assert threads == 1 or threads * len(devices) <= cores


@pytest.mark.parametrize(("device", "wanted", "found"), [
    ("cpu", "auto", "eager"), ("cpu", "eager", "eager"), ("cpu", "compiled", "compiled"),
    ("cuda:1", "auto", "compiled-graph"), ("cuda:0", "eager", "eager"),
    ("cuda:0", "compiled", "compiled"), ("cuda:0", "graph", "graph"),
    ("cuda:0", "compiled-graph", "compiled-graph"),
])  # fmt: skip
def test_execution_of_steps(device, wanted, found):
    where = Runtime(results=Path(), study="s", device=device, execution=wanted)
    assert execution_of(where) == found
    assert found in EXECUTIONS


@pytest.mark.parametrize(("wanted", "message"), [
    ("graph", "as a graph on CUDA devices only"), ("compiled-graph", "choose auto, eager or"),
    ("fast", "unknown execution of steps 'fast'"),
])  # fmt: skip
def test_execution_that_a_cpu_cannot_do_is_refused(wanted, message):
    with pytest.raises(InputError, match=message) as caught:
        execution_of(Runtime(results=Path(), study="s", execution=wanted))
    assert "\n" not in str(caught.value)


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_the_commit_is_dirty_if_code_has_changed_and_not_if_results_have(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "boss").mkdir()
    (tmp_path / "results").mkdir()
    files = {name: tmp_path / name for name in ("boss/a.py", "results/b.md", "README.md")}
    for path in files.values():
        path.write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "all")
    clean = place.commit(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", clean)
    assert place.commit(tmp_path, {"BOSS_COMMIT": "0" * 40}) == clean  # its own history is better
    files["results/b.md"].write_text("2")
    files["README.md"].write_text("2")
    (tmp_path / "new.txt").write_text("untracked")
    assert place.commit(tmp_path) == clean
    (tmp_path / "boss/new.py").write_text("untracked, but found by its name")
    assert place.commit(tmp_path) == f"{clean}-dirty"
    (tmp_path / "boss/new.py").unlink()
    assert place.commit(tmp_path) == clean
    files["boss/a.py"].write_text("2")
    assert place.commit(tmp_path) == f"{clean}-dirty"
    # Its history is there, but cannot be read:
    (tmp_path / ".git/HEAD").unlink()
    assert place.commit(tmp_path, {}) == ""
    assert place.commit(tmp_path, {"BOSS_COMMIT": "0" * 40}) == "0" * 40


def test_a_copy_without_history_is_told_its_commit(tmp_path):
    assert place.commit(tmp_path, {}) == ""
    for told in ("a" * 40, f"{'b' * 40}-dirty"):
        assert place.commit(tmp_path, {"BOSS_COMMIT": told}) == told
    for wrong in ("main", "A" * 40, "a" * 39, f"{'a' * 40}\n"):
        with pytest.raises(InputError, match="BOSS_COMMIT must be the 40 digits"):
            place.commit(tmp_path, {"BOSS_COMMIT": wrong})
