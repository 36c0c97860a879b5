"""TODO"""

import gc
import multiprocessing
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Literal

from boss.errors import InputError
from boss.study.run import Run
from boss.workers.runtime import Runtime

State = Literal["finished", "interrupted", "failed", "busy", "not started"]


# What the fork server imports once: torch's optimizers import its compiler, in seconds.
PRELOAD = ["boss.workers.worker", "sklearn.datasets", "torch._dynamo"]


@dataclass(frozen=True)
class _Ended:
    """The last word of a worker process on a run."""

    state: State
    error: str = ""
    traceback: str = ""
    again: bool = False  # whether a failure is worth another attempt
    leaving: bool = False  # whether the process ends now


def _serve(runtime: Runtime, growth: int, messages: Connection) -> None:
    """In a worker process: perform the runs that are sent, each as if it were the only one.

    Ends with the pipe, when told to stop, after a run that failed, and when it has taken more than
    `growth` bytes beyond the peak of its first run.
    """
    from boss.workers.build import Workbench
    from boss.workers.runtime import limit_threads

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
        ended = _perform(run, runtime, workbench, messages)
        if ended.state != "failed":  # what is wrong with a device may be wrong for good
            workbench.clear_up()
        limit = _peak_bytes() + growth if limit is None else limit
        ended = replace(ended, leaving=ended.state == "failed" or _peak_bytes() > limit)
        _tell(messages, ended)
        if ended.leaving:
            return


def _perform(run: Run, runtime: Runtime, workbench: Any, messages: Connection) -> _Ended:
    from boss.training.state import NonFiniteLossError
    from boss.workers.worker import BusyError, perform

    asked_to_stop = False

    def should_stop() -> bool:
        # A parent that is gone stops us too: the pipe then reads as ended.
        nonlocal asked_to_stop
        asked_to_stop = asked_to_stop or messages.poll()
        return asked_to_stop

    try:
        state = perform(
            run,
            runtime,
            workbench=workbench,
            should_stop=should_stop,
            report=lambda progress: _tell(messages, progress),
        )
        return _Ended(state)
    except BusyError as error:
        return _Ended("busy", str(error))
    except Exception as error:
        # What is wrong with the input or the numbers stays wrong.
        hopeless = isinstance(error, InputError | NonFiniteLossError)
        line = str(error) if hopeless else f"{type(error).__name__}: {error}"
        first = (line.splitlines() or [type(error).__name__])[0]
        return _Ended("failed", first, traceback.format_exc(), again=not hopeless)


def _peak_bytes() -> int:
    """The most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


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
    # Not as `send` would: it hands tensors over as files that only a living process can give away.
    with suppress(OSError):
        messages.send_bytes(pickle.dumps(message))


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
        ours.close()  # to a process that waits for more the pipe reads as ended
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
