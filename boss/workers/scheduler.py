"""Runs without a result -> joblib threads -> one isolated process each; an outcome for each run.

Every joblib worker is a thread that leases a device and drives a process of its own, which trains
one run after another: so the runs share its start and its CUDA context. A process that is killed
costs only its own run, which is tried once more from its checkpoint in a new process, while
joblib's own process pool would abort the whole study (TerminatedWorkerError). A new process also
follows one in which a run failed, one that has grown by more than GROWTH_BYTES, and one that was
set up for the other value of `deterministic`.

No torch in this process.
"""

import json
import multiprocessing.process
import signal
import threading
import time
import traceback
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Protocol

import joblib

from boss.results.read import Store
from boss.results.write import write_atomically
from boss.study.run import Run
from boss.workers.process import Ended, State, child, describe_exit, serve_runs, tell
from boss.workers.runtime import Runtime

ATTEMPTS = 2
POLL_SECONDS = 0.2
# What a worker process may take beyond the peak of its first run: then a new one replaces it.
GROWTH_BYTES = 2**30


@dataclass(frozen=True)
class Outcome:
    """How a run ended in this call: `error` is one line, `traceback` the whole."""

    run: Run
    state: State
    error: str = ""
    traceback: str = ""


class Display(Protocol):
    """Called when something happens to a run, from several threads."""

    def started(self, run: Run, device: str) -> None: ...
    def progressed(self, run: Run, progress: dict[str, Any]) -> None: ...
    def retried(self, run: Run, error: str) -> None: ...
    def ended(self, outcome: Outcome) -> None: ...


class Stop:
    """Whether to stop: after a signal, or at the time limit. Workers ask five times a second."""

    def __init__(self, seconds: float | None = None) -> None:
        self.signals = 0
        self.last_signal = 0
        self.deadline = None if seconds is None else time.monotonic() + seconds

    @property
    def requested(self) -> bool:
        return self.signals > 0 or self.time_is_up

    @property
    def time_is_up(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    @property
    def at_once(self) -> bool:
        """A second signal: do not wait for checkpoints."""
        return self.signals > 1

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Count Ctrl-C and SIGTERM, which then end nothing by themselves."""

        def count(number: int, frame: object) -> None:
            self.signals += 1
            self.last_signal = number

        handled = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, count) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def execute(
    runs: Iterable[Run],
    runtime: Runtime,
    devices: list[str],
    display: Display,
    stop: Stop,
    finished: Collection[str] = (),
) -> list[Outcome]:
    """Train the runs, as many at a time as there are entries in `devices`.

    A run of self-training starts as soon as its parent has finished.

    Args:
        runs: those without a result, no two the same, in the order to start them.
        finished: ids of the runs with a result: parents among them need no training.
        runtime: of all runs; its `device` is replaced by that of the worker.
        devices: one entry per worker: ["cpu", "cpu"] or ["cuda:0", "cuda:0", "cuda:1"].

    Returns:
        One outcome per run, in order.
    """
    graph = _Graph(runs, finished)
    ended: dict[str, Outcome] = {}

    def serve(device: str) -> None:
        with _Worker(replace(runtime, device=device)) as worker:
            while (taken := graph.take(stop)) is not None:
                run, reason = taken
                if reason or stop.requested:
                    ended[run.id] = Outcome(run, "not started", reason)
                    graph.ended(ended[run.id])
                    continue
                outcome = Outcome(run, "failed", "the worker thread ended")
                try:
                    display.started(run, device)
                    outcome = _attempts(run, worker, display, stop)
                except Exception as error:  # the other runs go on
                    worker.close()
                    line = f"{type(error).__name__}: {error}".splitlines()[0]
                    outcome = Outcome(run, "failed", line, traceback.format_exc())
                finally:
                    ended[run.id] = outcome
                    graph.ended(outcome)
                display.ended(outcome)

    workers = joblib.Parallel(n_jobs=len(devices), backend="threading", batch_size=1)
    workers(joblib.delayed(serve)(device) for device in devices)
    return [ended[run.id] for run in graph.runs]


class _Graph:
    """Which run is next: the first in the list whose parent has finished.

    Several threads call `take` until nothing is left. While no run is ready a worker waits: then
    some parent is being trained in another thread, so it ends.
    """

    def __init__(self, runs: Iterable[Run], finished: Collection[str]) -> None:
        self.runs = list(dict.fromkeys(runs))
        self._waiting = dict.fromkeys(self.runs)  # in order
        self._active: set[str] = set()
        self._finished = set(finished)
        self._changed = threading.Condition()

    def take(self, stop: Stop) -> tuple[Run, str] | None:
        """The next run, and why it cannot be started if it cannot; None if no run is left."""
        with self._changed:
            while self._waiting:
                for run in self._waiting:
                    reason = self._reason(run)
                    if reason is not None or stop.requested:
                        del self._waiting[run]
                        self._active.add(run.id)
                        return run, reason or ""
                self._changed.wait(POLL_SECONDS)
        return None

    def _reason(self, run: Run) -> str | None:
        """Why a run cannot be started; empty: it can; None: not yet."""
        parent = run.parent
        if parent is None or parent.id in self._finished:
            return ""
        if parent.id in self._active or parent in self._waiting:
            return None
        return f"its parent {parent.title} has not finished"

    def ended(self, outcome: Outcome) -> None:
        """A run has ended: threads that wait for a parent look again."""
        with self._changed:
            self._active.discard(outcome.run.id)
            if outcome.state == "finished":
                self._finished.add(outcome.run.id)
            self._changed.notify_all()


def _attempts(run: Run, worker: "_Worker", display: Display, stop: Stop) -> Outcome:
    for attempt in range(1, ATTEMPTS + 1):
        outcome, again = worker.attempt(run, display, stop)
        if outcome.state != "failed" or not again or attempt == ATTEMPTS or stop.requested:
            break
        display.retried(run, outcome.error)
    if outcome.state == "failed":
        record = {"error": outcome.error, "traceback": outcome.traceback}
        path = (
            Store(worker.runtime.results, worker.runtime.study).state_folder(run.id) / "error.json"
        )
        with suppress(OSError):  # the disk may be full; the outcome has the error as well
            write_atomically(path, lambda temporary: temporary.write_text(json.dumps(record)))
    return outcome


class _Worker:
    """One run at a time on one device, in a process that is kept from run to run."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._child: tuple[multiprocessing.process.BaseProcess, Connection] | None = None
        self._deterministic = False  # what the process is set up for
        self._open = ExitStack()

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, if there is one; the next attempt starts another."""
        self._child = None
        self._open.close()

    def _ready(self, run: Run) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        """A living process that is set up for the run."""
        if self._child is not None and (
            # cuBLAS reads its settings once, so a process is for deterministic runs or for others.
            # An idle process sends nothing: if its pipe can be read, it has died.
            self._deterministic != run.deterministic or self._child[1].poll()
        ):
            self.close()
        if self._child is None:
            self._deterministic = run.deterministic
            self._child = self._open.enter_context(child(serve_runs, self.runtime, GROWTH_BYTES))
        return self._child

    def attempt(self, run: Run, display: Display, stop: Stop) -> tuple[Outcome, bool]:
        """Train a run. Also returns whether a failure is worth another attempt."""
        process, messages = self._ready(run)
        tell(messages, run)
        asked_to_stop = False
        while True:
            if stop.requested and not asked_to_stop:
                asked_to_stop = True
                tell(messages, "stop")
            if stop.at_once:
                process.kill()
            if not messages.poll(POLL_SECONDS):
                continue
            try:
                message = messages.recv()
            except (EOFError, OSError):
                process.join()
                self.close()
                if asked_to_stop:
                    return Outcome(run, "interrupted"), False
                error = f"the worker process ended ({describe_exit(process.exitcode)})"
                return Outcome(run, "failed", error, traceback=error), True
            if not isinstance(message, Ended):
                display.progressed(run, message)
                continue
            if message.leaving:
                self.close()
            outcome = Outcome(run, message.state, message.error, message.traceback)
            return outcome, message.again
