"""The state of every run of a study, from its files: what `boss-study status` prints."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import filelock

from boss.results.read import Store
from boss.study.run import Run


def states(runs: Iterable[Run], store: Store) -> list[tuple[Run, str, str]]:
    """Every run with its state and, where there is one, a detail.

    finished; running (another process holds its lock); failed (with its error); interrupted (with
    the step of its checkpoint); not started.
    """
    finished = set(store.finished()["run_id"])
    return [(run, *_state(run, store, finished)) for run in runs]


def _state(run: Run, store: Store, finished: set[str]) -> tuple[str, str]:
    if run.id in finished:
        return "finished", ""
    folder = store.state_folder(run.id)
    progress = _read_json(folder / "progress.json", {"step", "num_steps"})
    detail = f"step {progress['step']} of {progress['num_steps']}" if progress else ""
    if (folder / "lock").exists():
        try:
            filelock.FileLock(folder / "lock").acquire(timeout=0).lock.release()
        except filelock.Timeout:
            return "running", detail
        except OSError:  # a read-only folder: whether a process trains there is unknown
            pass
    if error := _read_json(folder / "error.json", {"error", "traceback"}):
        return "failed", error["error"]
    return ("interrupted", detail) if detail else ("not started", "")


def _read_json(path: Path, keys: set[str]) -> dict[str, Any]:
    """A JSON object with these keys, or nothing."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and keys <= content.keys() else {}
