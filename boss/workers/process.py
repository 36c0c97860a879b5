"""Child processes and the pipes to them, from a fork server that has imported torch.

The server has run nothing of torch, so that each child starts in milliseconds. No torch here.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Literal

from boss.errors import InputError
from boss.workers.memory import keep_memory, use_large_pages
from boss.workers.runtime import Runtime

State = Literal["finished", "interrupted", "failed", "busy", "not started"]

# What the fork server imports once: torch's optimizers import its compiler, in seconds.
PRELOAD = ["boss.workers.worker", "sklearn.datasets", "torch._dynamo"]


@dataclass(frozen=True)
class Ended:
    """The last message of a worker process about a run."""

    state: State
    error: str = ""
    traceback: str = ""
    again: bool = False  # whether a failed run is worth another attempt
    leaving: bool = False  # whether the process ends now


def serve_runs(runtime: Runtime, growth: int, messages: Connection) -> None:
    """What a worker process executes: `boss.workers.worker.serve`, which imports torch."""
    from boss.workers.worker import serve

    serve(runtime, growth, messages)


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that needs torch in a child process and return what it returns.

    Raises:
        InputError: as raised there.
        RuntimeError: anything else that was raised there, with its traceback.
    """
    with child(_call, function, arguments) as (process, messages):
        try:
            kind, content = messages.recv()
        except (EOFError, OSError):
            process.join()
            raise RuntimeError(
                f"a helper process ended ({describe_exit(process.exitcode)})"
            ) from None
    if kind == "returned":
        return content
    raise InputError(content) if kind == "input" else RuntimeError(content)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], messages: Connection) -> None:
    threading.Thread(target=_end_with, args=(messages,), daemon=True).start()
    try:
        message = ("returned", function(*arguments))
    except InputError as error:
        message = ("input", str(error))
    except Exception:
        message = ("raised", traceback.format_exc())
    # Not as `send` would: it hands tensors over as files that only a living process can give away.
    with suppress(OSError):
        messages.send_bytes(pickle.dumps(message))


def _end_with(messages: Connection) -> None:
    """End this process when the other end of the pipe, which sends nothing, is closed: its process
    was killed, and nobody waits for the result."""
    with suppress(OSError):
        messages.poll(None)
    os._exit(1)


@contextmanager
def child(
    target: Callable[..., None], *arguments: Any
) -> Iterator[tuple[multiprocessing.process.BaseProcess, Connection]]:
    """A child process, which has ended after the block, and our end of a pipe to it.

    Args:
        target: called there with the arguments and the other end of the pipe.
    """
    context = multiprocessing.get_context("forkserver")
    use_large_pages()  # the fork server imports torch
    context.set_forkserver_preload(PRELOAD)
    ours, theirs = context.Pipe()
    process = context.Process(target=_run_child, args=(target, arguments, theirs), daemon=True)
    # A batch system signals all processes of a job: children wait for the parent's message instead.
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
    keep_memory()
    target(*arguments, messages)


def tell(messages: Connection, message: Any) -> None:
    """Send a message, unless the other process has gone: it is noticed when the pipe is read."""
    with suppress(OSError):
        messages.send(message)


def describe_exit(exitcode: int | None) -> str:
    """How a process ended: "killed by SIGKILL", "exit code 1"."""
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"
