"""A worker process: it trains one run after another; of each run: lock, resume, train, write rows.

What it keeps between runs is a `Workbench`, and nothing else.
"""

import gc
import json
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import filelock
import torch

from boss.errors import InputError
from boss.results.read import Store
from boss.results.write import write_atomically
from boss.study.catalog import ALGORITHMS
from boss.study.run import Run
from boss.training import checkpoint
from boss.training.config import LAYOUTS
from boss.training.loop import train
from boss.training.probe import Arithmetic, conv_precision
from boss.training.state import NonFiniteLossError, Training
from boss.workers import starts
from boss.workers.build import Workbench, labeled_images, start_run, train_config, training_data
from boss.workers.process import Ended, tell
from boss.workers.rows import tables_of
from boss.workers.runtime import Runtime, configure_torch, execution_of, limit_threads

LOCK_SECONDS = 10.0  # how long to wait for another process that is about to release a run
REPORT_SECONDS = 1.0


class BusyError(RuntimeError):
    """Another process is training the same run."""


class StoppedError(Exception):
    """A stop was requested before the first step."""


def serve(runtime: Runtime, growth: int, messages: Connection) -> None:
    """In a worker process: train the runs that are sent, each as if it were the only one.

    Ends with the pipe, when a stop is requested, after a run that failed, and when it has taken
    more than `growth` bytes beyond the peak of its first run.
    """
    limit_threads(runtime.threads)
    gc.freeze()  # so that collecting garbage does not go through all that was imported
    workbench, limit = Workbench(), None
    while True:
        try:
            run = messages.recv()
        except (EOFError, OSError):
            return
        if run == "stop":
            return
        ended = _attempt(run, runtime, workbench, messages)
        if ended.state != "failed":  # a device that failed may not answer again
            workbench.clear_up()
        limit = _peak_bytes() + growth if limit is None else limit
        ended = replace(ended, leaving=ended.state == "failed" or _peak_bytes() > limit)
        tell(messages, ended)
        if ended.leaving:
            return


def _attempt(run: Run, runtime: Runtime, workbench: Workbench, messages: Connection) -> Ended:
    asked_to_stop = False

    def should_stop() -> bool:
        # Also when the parent process has gone: then the pipe reads as ended.
        nonlocal asked_to_stop
        asked_to_stop = asked_to_stop or messages.poll()
        return asked_to_stop

    try:
        state = train_run(
            run,
            runtime,
            workbench=workbench,
            should_stop=should_stop,
            report=lambda progress: tell(messages, progress),
        )
        return Ended(state)
    except BusyError as error:
        return Ended("busy", str(error))
    except Exception as error:
        # Wrong input and a loss that diverges would fail again.
        hopeless = isinstance(error, InputError | NonFiniteLossError)
        line = str(error) if hopeless else f"{type(error).__name__}: {error}"
        first = (line.splitlines() or [type(error).__name__])[0]
        return Ended("failed", first, traceback.format_exc(), again=not hopeless)


def _peak_bytes() -> int:
    """The most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def train_run(
    run: Run,
    runtime: Runtime,
    *,
    workbench: Workbench | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[dict[str, Any]], None] = lambda progress: None,
) -> Literal["finished", "interrupted"]:
    """Train a run from its checkpoint, if it has one, and store its rows.

    Args:
        workbench: of this process: its runs share a loaded data set.
        should_stop: asked before every step; if true, a checkpoint is written and training ends.
        report: called about once a second with step, num_steps, accuracy (None before the first
            evaluation) and resumed_at; before the first step with a note on what is computed.

    Raises:
        InputError: the data, the label set, the network or the algorithm is unavailable or wrong.
        BusyError: the run is being trained elsewhere.
        NonFiniteLossError: the loss became infinite or not a number.
    """
    began = time.perf_counter()
    workbench = workbench or Workbench()
    store = Store(runtime.results, runtime.study)
    folder = store.state_folder(run.id)
    with _lock(run, folder, should_stop):
        if store.has_parts(run.id):  # by the process that held the lock until now
            shutil.rmtree(folder, ignore_errors=True)
            return "finished"
        (folder / "error.json").unlink(missing_ok=True)
        configure_torch(run, runtime)
        dataset = workbench.dataset(run.dataset, runtime.data)
        if runtime.fingerprints.get(run.dataset, dataset.fingerprint) != dataset.fingerprint:
            raise InputError(f"the files of {run.dataset} have changed since the study was started")
        device = torch.device(runtime.device)

        def note(line: str) -> None:  # while what the run starts from is computed
            report({"note": line})
            if should_stop():
                raise StoppedError

        try:
            labels, selection = labeled_images(run, dataset, store, workbench, note, runtime.device)
            encoder = starts.encoder_for(run, dataset, store, note, runtime.device)
        except StoppedError:
            return "interrupted"
        # A checkpoint must agree with these to be continued.
        basis = {
            "run_id": run.id,
            "data": dataset.fingerprint,
            "labeled images": [list(labels.indices), list(labels.labels)],
            "kind of device": device.type,
            "set of options": ALGORITHMS[run.algorithm].complete(run.options),
        }
        saved, arithmetic = _saved(run, basis, folder)
        if arithmetic is None:
            arithmetic = workbench.arithmetic(run, dataset, device, runtime.layout)
        resolved = replace(run, precision=arithmetic.precision)

        def at_step_0() -> Training:
            return start_run(resolved, dataset, device, encoder, arithmetic.layout)

        training, resumed_at = at_step_0(), 0
        if saved is not None:
            try:
                training.load_state_dict(saved)
                resumed_at = training.step
            except Exception:  # not a state of this training
                training = at_step_0()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        images = training_data(run, dataset, labels, device)
        saver = _Saver(run, training, arithmetic, basis, folder, runtime.checkpoint_seconds, report)
        saver.tell(resumed_at)
        with conv_precision(arithmetic.precision):
            done = train(
                training,
                images,
                train_config(resolved),
                key=run.stream_key,
                execution=execution_of(runtime),
                since=began,
                should_stop=should_stop,
                report=saver,
            )
        if not done:
            saver.save()
            return "interrupted"
        saver.tell()
        with conv_precision(arithmetic.precision):
            found = tables_of(run, runtime, arithmetic, training, dataset, labels, selection)
        row, tables = found
        row["start_processor_seconds"] = starts.processor_seconds(
            run, dataset, selection, store, runtime.device
        )
        if runtime.keep_networks or run.id in runtime.networks_needed:
            kept = {
                "run": run.as_dict(),
                "oracle": row["oracle"] or "",
                "teacher": training.teacher.state_dict(),
            }
            checkpoint.save(store.network(run.id), kept)
        store.write(row, **tables)
    shutil.rmtree(folder, ignore_errors=True)
    return "finished"


def _lock(
    run: Run, folder: Path, should_stop: Callable[[], bool]
) -> filelock.AcquireReturnProxy[Any]:
    """The lock of a run, held. The process that finishes a run removes its folder and the lock."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return filelock.FileLock(folder / "lock").acquire(timeout=0.5, poll_interval=0.05)
        except FileNotFoundError:
            continue
        except filelock.Timeout as error:
            if time.monotonic() > deadline or should_stop():
                raise BusyError(f"{run.title} is being trained by another process") from error


def _saved(
    run: Run, basis: dict[str, Any], folder: Path
) -> tuple[dict[str, Any] | None, Arithmetic | None]:
    """The state of the training in the checkpoint of this run, and how it was computed.

    Raises:
        InputError: it was made with other data, labels or devices.
    """
    saved = checkpoint.load(folder / "checkpoint.pt")
    before = None if saved is None else saved.get("basis")
    if isinstance(before, dict):  # checkpoints from before had no options
        options = ALGORITHMS[run.algorithm].complete_stored(run.options)
        before.setdefault("set of options", options)
    if saved is None or not isinstance(before, dict) or before.keys() != basis.keys():
        return None, None
    if before["run_id"] != run.id:
        return None, None
    for name, now in basis.items():
        if before[name] != now:
            raise InputError(
                f"the checkpoint of {run.title} was made under other conditions ({name}): continue"
                f" under those, or remove {folder} to start over"
            )
    # Checkpoints from before the probe.
    arithmetic = saved.get("arithmetic") or (LAYOUTS[0], run.precision)
    return dict(saved.get("training") or {}), Arithmetic(*arithmetic)


class _Saver:
    """Called after every step: reports about once a second, saves every `checkpoint_seconds`."""

    def __init__(
        self,
        run: Run,
        training: Training,
        arithmetic: Arithmetic,
        basis: dict[str, Any],
        folder: Path,
        every: float,
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        self.run, self.training, self.arithmetic = run, training, arithmetic
        self.basis, self.folder = basis, folder
        self.every, self.report = every, report
        self.reported_at = self.saved_at = time.monotonic()

    def __call__(self, training: Training) -> None:
        now = time.monotonic()
        if now - self.reported_at >= REPORT_SECONDS:
            training.totals.check_finite()
            self.tell()
            self.reported_at = now
        if now - self.saved_at >= self.every:
            self.save()
            self.saved_at = time.monotonic()

    def tell(self, resumed_at: int | None = None) -> None:
        last = [r for r in self.training.evaluations[-2:] if r["network"] == "teacher"]
        progress: dict[str, Any] = {
            "step": self.training.step,
            "num_steps": self.run.num_steps,
            "accuracy": last[0]["test_accuracy"] if last else None,
        }
        self.report(progress if resumed_at is None else progress | {"resumed_at": resumed_at})

    def save(self) -> None:
        self.training.totals.check_finite()  # never replace a good checkpoint by a bad one
        content = {
            "run": self.run.as_dict(),
            "basis": self.basis,
            "arithmetic": tuple(self.arithmetic),
            "training": self.training.state_dict(),
        }
        checkpoint.save(self.folder / "checkpoint.pt", content)
        progress = {"step": self.training.step, "num_steps": self.run.num_steps}
        write_atomically(
            self.folder / "progress.json", lambda path: path.write_text(json.dumps(progress))
        )
