"""One run in a worker process: build its objects, train, store its rows.

Everything here happens inside a worker process, which performs one run after another. What it
keeps between them is a `Workbench`, and nothing else.
"""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import filelock
import torch

from boss import data
from boss.errors import InputError
from boss.results.read import Store
from boss.results.write import write_atomically
from boss.study.run import Run
from boss.training import checkpoint
from boss.training.loop import train
from boss.training.state import Training
from boss.training.step import WARMUP_STEPS
from boss.workers.build import Workbench, labeled_images, start_run, train_config, training_data
from boss.workers.rows import _label_rows, _prediction_rows, _rate_rows, _run_row
from boss.workers.runtime import Runtime, configure_torch, device_name, execution_of

LOCK_SECONDS = 10.0  # how long to wait for another process that is just letting go of a run


COMPILE_SECONDS = 900.0  # how long to wait for another process that is compiling


NUM_FIRST_STEPS = WARMUP_STEPS + 1  # after which everything is compiled, and recorded


REPORT_SECONDS = 1.0


class BusyError(RuntimeError):
    """Another process is training this very run."""


def perform(
    run: Run,
    runtime: Runtime,
    *,
    workbench: "Workbench | None" = None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[dict[str, Any]], None] = lambda progress: None,
) -> Literal["finished", "interrupted"]:
    """Train a run from its checkpoint, if it has one, and store its rows.

    Args:
        workbench: of this process, so that its runs need not load the same data again and again.
        should_stop: asked before every step; if it says so, a checkpoint is written and that is it.
        report: called about once a second with step, num_steps, accuracy (None before the first
            evaluation) and resumed_at.

    Raises:
        InputError: the data, the label set, the network or the algorithm cannot be had.
        BusyError: the run is being trained elsewhere.
        NonFiniteLossError: the loss left the real numbers.
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
        labels, picks = labeled_images(run, dataset, store, workbench)
        device = torch.device(runtime.device)
        training = start_run(run, dataset, device)
        # What a checkpoint must agree with to be continued.
        basis = {
            "run_id": run.id,
            "data": dataset.fingerprint,
            "labeled images": [list(labels.indices), list(labels.labels)],
            "kind of device": device.type,
        }
        resumed_at = 0
        if (saved := _saved(run, basis, folder)) is not None:
            try:
                training.load_state_dict(saved)
                resumed_at = training.step
            except Exception:  # whatever it is, it is not a state of this training
                training = start_run(run, dataset, device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        images = training_data(run, dataset, labels, device)
        program = program_of(run, dataset, runtime)
        cache = folder if program is None else compiler_cache()
        with compile_lock(program, cache, should_stop) as has_compiled:
            saver = _Saver(run, training, basis, folder, runtime.checkpoint_seconds, report)
            saver.tell(resumed_at)

            def after_step(training: Training) -> None:
                if training.step - resumed_at == NUM_FIRST_STEPS:
                    has_compiled()
                saver(training)

            done = train(
                training,
                images,
                train_config(run),
                key=run.stream_key,
                execution=execution_of(runtime),
                since=began,
                should_stop=should_stop,
                report=after_step,
            )
        if not done:
            saver.save()
            return "interrupted"
        saver.tell()
        row = _run_row(run, runtime, training, dataset, labels, picks)
        if runtime.keep_networks:
            kept = {
                "run": run.as_dict(),
                "oracle": row["oracle"] or "",
                "teacher": training.teacher.state_dict(),
            }
            checkpoint.save(store.folder / "networks" / f"{run.id}.pt", kept)
        store.write(
            row,
            evaluations=training.evaluations,
            class_evaluations=training.class_evaluations,
            labeled_images=_label_rows(dataset, labels, picks),
            predictions=_prediction_rows(run, training, dataset, device),
            **({"augmentation_rates": _rate_rows(training)} if training.rates else {}),
        )
    shutil.rmtree(folder, ignore_errors=True)
    return "finished"


def _lock(
    run: Run, folder: Path, should_stop: Callable[[], bool]
) -> filelock.AcquireReturnProxy[Any]:
    """The lock of a run, held. Who finishes a run removes the folder, with its lock."""
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


@contextlib.contextmanager
def compile_lock(
    program: str | None, folder: Path, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Callable[[], None]]:
    """Around the first steps of a run: of all processes that need a program, one compiles it, the
    others wait and then find it in the compiler's cache on disk.

    A file lock, which ends with its process. It spares work and nothing else: whoever cannot have
    it (a folder that cannot be written, COMPILE_SECONDS of waiting) goes on without.

    Args:
        program: `program_of` the run; None: there is nothing to compile.
        folder: the compiler's cache, `compiler_cache()`.
        should_stop: asked while waiting; if it says so, the wait is over.

    Yields:
        A function to call when the first steps are done, which lets the others in; before that,
        the end of the block lets the next one try. Calling it again does nothing.
    """
    if program is None:
        yield lambda: None
        return
    done, lock = folder / f"boss-{program}.done", filelock.FileLock(folder / f"boss-{program}.lock")

    def compiled() -> None:
        if lock.is_locked:
            with contextlib.suppress(OSError):
                done.touch()
            lock.release()

    deadline = time.monotonic() + COMPILE_SECONDS
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        while not (done.exists() or should_stop() or time.monotonic() > deadline):
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0.2, poll_interval=0.05)
                break
    try:
        yield compiled
    finally:
        lock.release()


def program_of(run: Run, dataset: data.Dataset, runtime: Runtime) -> str | None:
    """A name of what the compiler makes of the steps of a run: equal names, equal programs.

    16 hex digits of a SHA-256 over all that can shape it; None if the steps are not compiled.
    """
    execution = execution_of(runtime)
    if not execution.startswith("compiled"):
        return None
    # Of a run everything but what is data to the program: more would be compiled more often than
    # needed, less would make runs wait in vain.
    names = (
        *("algorithm", "network", "batch_size", "unlabeled_ratio", "augmentation", "optimizer"),
        *("precision", "deterministic", "nesterov", "norm_momentum", "teacher_decay"),
    )
    key = {
        "run": {name: getattr(run, name) for name in names},
        "options": dict(run.options),
        "images": [*dataset.train.images.shape[1:], dataset.flip],
        "classes": dataset.num_classes,
        "execution": execution,
        "device": [device_name(torch.device(runtime.device)), runtime.device],
        "versions": [torch.__version__, runtime.versions, runtime.commit],
    }
    text = json.dumps(key, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compiler_cache() -> Path:
    """The folder in which torch's compiler keeps what it has compiled, of this user and machine."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return Path(cache_dir())


def _saved(run: Run, basis: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """The state of the training in the checkpoint of this run, if there is one.

    Raises:
        InputError: it stands on other data, labels or devices.
    """
    saved = checkpoint.load(folder / "checkpoint.pt")
    before = None if saved is None else saved.get("basis")
    if saved is None or not isinstance(before, dict) or before.keys() != basis.keys():
        return None
    if before["run_id"] != run.id:
        return None
    for name, now in basis.items():
        if before[name] != now:
            raise InputError(
                f"the checkpoint of {run.title} was made with another {name}: continue with that,"
                f" or remove {folder} to start over"
            )
    return dict(saved.get("training") or {})


class _Saver:
    """Called after every step: reports about once a second, saves every `checkpoint_seconds`."""

    def __init__(
        self,
        run: Run,
        training: Training,
        basis: dict[str, Any],
        folder: Path,
        every: float,
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        self.run, self.training, self.basis, self.folder = run, training, basis, folder
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
        self.training.totals.check_finite()  # never replace a sound checkpoint by a spoilt one
        content = {
            "run": self.run.as_dict(),
            "basis": self.basis,
            "training": self.training.state_dict(),
        }
        checkpoint.save(self.folder / "checkpoint.pt", content)
        progress = {"step": self.training.step, "num_steps": self.run.num_steps}
        write_atomically(
            self.folder / "progress.json", lambda path: path.write_text(json.dumps(progress))
        )
