"""Runs without a result -> joblib threads -> one isolated process per run; an outcome for each.

Every joblib worker is a thread that leases a device and drives a process of its own: a process that
is killed costs its own run only, which is tried once more from its checkpoint, while joblib's own
process pool would give up the whole study (TerminatedWorkerError). The processes are forked from
a server that has imported torch and run nothing, so each starts in milliseconds.

No torch in this process.
"""

import json
import multiprocessing
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol

import filelock
import joblib

from boss import data
from boss.errors import InputError
from boss.place import Place
from boss.store import Store, write_atomically
from boss.study import Run

State = Literal["finished", "interrupted", "failed", "busy", "not started"]
ATTEMPTS = 2
POLL_SECONDS = 0.2
# What the fork server imports once: torch's optimizers import its compiler, in seconds.
PRELOAD = ["boss.perform", "sklearn.datasets", "torch._dynamo"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended in this call: `error` is one line, `traceback` the whole."""

    run: Run
    state: State
    error: str = ""
    traceback: str = ""


class Display(Protocol):
    """Told what happens, from several threads."""

    def started(self, run: Run, device: str) -> None: ...
    def progressed(self, run: Run, progress: dict[str, Any]) -> None: ...
    def retried(self, run: Run, error: str) -> None: ...
    def ended(self, outcome: Outcome) -> None: ...


class Stop:
    """Why to stop: a signal, or the time limit. Asked by every worker about five times a second."""

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
        """Count Ctrl-C and SIGTERM instead of dying of them."""

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
    place: Place,
    devices: list[str],
    display: Display,
    stop: Stop,
    finished: Collection[str] = (),
) -> list[Outcome]:
    """Perform the runs, as many at a time as there are leases in `devices`.

    A run of self-training starts as soon as its parent has finished, whatever else is going on.

    Args:
        runs: those without a result, no two the same, in the order to start them.
        finished: ids of the runs with a result: parents among them need no training.
        place: where; its `device` is filled in from the lease.
        devices: one entry per worker: ["cpu", "cpu"] or ["cuda:0", "cuda:0", "cuda:1"].

    Returns:
        One outcome per run, in order.
    """
    leases: queue.Queue[str] = queue.Queue()
    for device in devices:
        leases.put(device)
    graph = _Graph(runs, finished)

    def serve() -> Outcome:
        run, reason = graph.take(stop)
        if reason or stop.requested:
            outcome = Outcome(run, "not started", reason)
            graph.ended(outcome)
            return outcome
        device = leases.get()
        display.started(run, device)
        outcome = Outcome(run, "failed", "the worker thread ended")  # unless the next lines say so
        try:
            outcome = _attempts(run, replace(place, device=device), display, stop)
        except Exception as error:  # a defect here, or the system's: the other runs go on
            line = f"{type(error).__name__}: {error}".splitlines()[0]
            outcome = Outcome(run, "failed", line, traceback.format_exc())
        finally:
            leases.put(device)
            graph.ended(outcome)
        display.ended(outcome)
        return outcome

    workers = joblib.Parallel(n_jobs=len(devices), backend="threading", batch_size=1)
    ended = {o.run.id: o for o in workers(joblib.delayed(serve)() for _ in range(len(graph.runs)))}
    return [ended[run.id] for run in graph.runs]


class _Graph:
    """Which run is next: the first in the list whose parent has finished.

    As many workers call `take` as there are runs, from several threads. While no run is ready a
    worker waits: then some parent is being trained in another thread, so it ends.
    """

    def __init__(self, runs: Iterable[Run], finished: Collection[str]) -> None:
        self.runs = list(dict.fromkeys(runs))
        self._waiting = dict.fromkeys(self.runs)  # in order
        self._active: set[str] = set()
        self._finished = set(finished)
        self._changed = threading.Condition()

    def take(self, stop: Stop) -> tuple[Run, str]:
        """The next run, and why it cannot be started if it cannot."""
        with self._changed:
            while True:
                for run in self._waiting:
                    reason = self._reason(run)
                    if reason is not None or stop.requested:
                        del self._waiting[run]
                        self._active.add(run.id)
                        return run, reason or ""
                self._changed.wait(POLL_SECONDS)

    def _reason(self, run: Run) -> str | None:
        """Empty: it can be started; None: wait; a text: it cannot."""
        parent = run.parent
        if parent is None or parent.id in self._finished:
            return ""
        if parent.id in self._active or parent in self._waiting:
            return None
        return f"its parent {parent.title} has not finished"

    def ended(self, outcome: Outcome) -> None:
        """Tell those who wait."""
        with self._changed:
            self._active.discard(outcome.run.id)
            if outcome.state == "finished":
                self._finished.add(outcome.run.id)
            self._changed.notify_all()


def _attempts(run: Run, place: Place, display: Display, stop: Stop) -> Outcome:
    for attempt in range(1, ATTEMPTS + 1):
        outcome, again = _attempt(run, place, display, stop)
        if outcome.state != "failed" or not again or attempt == ATTEMPTS or stop.requested:
            break
        display.retried(run, outcome.error)
    if outcome.state == "failed":
        record = {"error": outcome.error, "traceback": outcome.traceback}
        path = Store(place.results, place.study).state_folder(run.id) / "error.json"
        with suppress(OSError):  # a full disk, perhaps; the outcome says it all
            write_atomically(path, lambda temporary: temporary.write_text(json.dumps(record)))
    return outcome


def _attempt(run: Run, place: Place, display: Display, stop: Stop) -> tuple[Outcome, bool]:
    """One process for one run; also says whether a failure is worth another attempt."""
    with _child(_work, run, place) as (process, messages):
        told = False
        while True:
            if stop.requested and not told:
                told = True
                _tell(messages, "stop")
            if stop.at_once:
                process.kill()
            if not messages.poll(POLL_SECONDS):
                continue
            try:
                kind, content = messages.recv()
            except (EOFError, OSError):
                process.join()
                if told:
                    return Outcome(run, "interrupted"), False
                error = f"the worker process ended without a word ({_how(process.exitcode)})"
                return Outcome(run, "failed", error, traceback=error), True
            if kind == "progress":
                display.progressed(run, content)
            elif kind == "failed":
                return Outcome(run, "failed", content["error"], content["traceback"]), content[
                    "again"
                ]
            else:
                return Outcome(run, kind, content), False


def _work(run: Run, place: Place, messages: Connection) -> None:
    """In the worker process: perform one run and send what becomes of it."""
    from boss.perform import BusyError, perform
    from boss.training import NonFiniteLossError

    asked_to_stop = False

    def should_stop() -> bool:
        # A parent that is gone stops us too: the pipe then reads as ended.
        nonlocal asked_to_stop
        asked_to_stop = asked_to_stop or messages.poll()
        return asked_to_stop

    try:
        state = perform(
            run,
            place,
            should_stop=should_stop,
            report=lambda progress: _tell(messages, ("progress", progress)),
        )
        message: tuple[str, Any] = (state, "")
    except BusyError as error:
        message = ("busy", str(error))
    except Exception as error:
        # What is wrong with the input or the numbers stays wrong.
        hopeless = isinstance(error, InputError | NonFiniteLossError)
        line = str(error) if hopeless else f"{type(error).__name__}: {error}"
        content = {
            "error": (line.splitlines() or [type(error).__name__])[0],
            "traceback": traceback.format_exc(),
            "again": not hopeless,
        }
        message = ("failed", content)
    _tell(messages, message)


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that needs torch in a process of its own and return what it returns.

    Raises:
        InputError: as raised there.
        RuntimeError: anything else that was raised there, with its traceback.
    """
    with _child(_call, function, arguments) as (process, messages):
        try:
            kind, content = messages.recv()
        except (EOFError, OSError):
            process.join()
            raise RuntimeError(f"a helper process ended ({_how(process.exitcode)})") from None
    if kind == "returned":
        return content
    raise InputError(content) if kind == "input" else RuntimeError(content)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], messages: Connection) -> None:
    try:
        message = ("returned", function(*arguments))
    except InputError as error:
        message = ("input", str(error))
    except Exception:
        message = ("raised", traceback.format_exc())
    _tell(messages, message)


@contextmanager
def _child(
    target: Callable[..., None], *arguments: Any
) -> Iterator[tuple[multiprocessing.process.BaseProcess, Connection]]:
    """A process from the fork server, and our end of a pipe to it. It is gone afterwards."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    ours, theirs = context.Pipe()
    process = context.Process(target=_run_child, args=(target, arguments, theirs), daemon=True)
    # Who stops a batch job may signal all its processes: ours wait for the parent's word instead.
    # Blocked signals are inherited, by the fork server too, which starts with the first child,
    # after the resource tracker, whose start would unblock them.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()  # so that its end reads as ended when the process is gone
    try:
        yield process, ours
        process.join(timeout=30)
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        ours.close()


def _run_child(
    target: Callable[..., None], arguments: tuple[Any, ...], messages: Connection
) -> None:
    target(*arguments, messages)


def _tell(messages: Connection, message: Any) -> None:
    # Nobody may be listening any more: who is gone finds out by the end of the pipe.
    with suppress(OSError):
        messages.send(message)


def _how(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"


def on_data(runs: Iterable[Run], place: Path | None) -> list[Run]:
    """The runs on the data the user brought (`boss.data.OWN`), which takes the place of every named
    set.

    A file that holds CIFAR-10 counts as cifar10, by its checksum, whatever it is called: the same
    runs on it are the same runs.
    """
    runs = list(runs)
    if place is None or not data.is_own(str(place)):
        return runs
    name = data.identify(place)
    moved = [run.with_fields(dataset=name) for run in runs]
    if len(set(moved)) < len(moved):
        raise InputError(
            f"on {place}, several runs of the study become one: it trains on more than one data"
            " set, choose with --only dataset=..."
        )
    return moved


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
        except OSError:  # a folder that may only be read: who trains there cannot be told
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
