"""Writes figures to files, several at a time: laying out and writing takes most of a report.

As a script this file is one of the processes that do it: figures come in, none of the data they
were drawn from. matplotlib cannot do it in threads.
"""

import os
import pickle
import queue
import subprocess
import sys
import traceback
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

# Metadata of each kind of file: the time of day is in none.
ENDINGS: dict[str, dict[str, None]] = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
FIGURES_PER_PROCESS = 6  # fewer are written sooner than a further process has started


def paths_of(stem: Path) -> list[Path]:
    """The files of a figure."""
    return [stem.with_name(f"{stem.name}.{ending}") for ending in ENDINGS]


def save(figure: Figure, stem: Path, style: Mapping[str, Any]) -> None:
    """Write the files of a figure, in the style that it was drawn with."""
    with matplotlib.style.context(["default", dict(style)]):
        for path, metadata in zip(paths_of(stem), ENDINGS.values(), strict=True):
            figure.savefig(path, metadata=metadata)
            figure.set_layout_engine("none")  # laid out once: the second file need not do it again


class Saver:
    """Writes figures in processes of its own, or in this one if there are few figures or cores.

    Leaving the context waits for all of them.

    Args:
        num_figures: about how many there will be.

    Raises:
        OSError: a figure cannot be written.
        RuntimeError: a process failed otherwise; it holds the traceback.
    """

    def __init__(self, num_figures: int) -> None:
        cores = os.cpu_count() or 1
        self.num_processes = min(cores, num_figures // FIGURES_PER_PROCESS, 4)
        if cores < 2 or not sys.executable:
            self.num_processes = 0
        self.processes: list[subprocess.Popen[bytes]] = []
        self.idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self.waiting: list[Future[None]] = []

    def __enter__(self) -> "Saver":
        for _ in range(self.num_processes):
            # -P: the modules beside this file are not to hide those of the standard library.
            process = subprocess.Popen(
                [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self.processes.append(process)
            self.idle.put(process)
        self.threads = ThreadPoolExecutor(max(1, self.num_processes))
        return self

    def save(self, figure: Figure, stem: Path, style: Mapping[str, Any]) -> list[Path]:
        """Have the files of a figure written, and return their paths.

        A figure is to hold nothing that cannot be pickled, or is defined in this package.
        """
        if self.processes:
            job = pickle.dumps((figure, stem, dict(style)))
            self.waiting.append(self.threads.submit(self._send, job))
        else:
            save(figure, stem, style)
        return paths_of(stem)

    def _send(self, job: bytes) -> None:
        process = self.idle.get()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(job)
            process.stdin.flush()
            error = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError):
            error = RuntimeError(f"a process that writes figures ended with {process.wait()}")
        finally:
            self.idle.put(process)
        if error is not None:
            raise error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                for job in self.waiting:
                    job.result()
        finally:
            for process in self.processes:
                process.kill()  # each is idle, or its figure is not wanted any more
                process.communicate()
            self.threads.shutdown(cancel_futures=True)


def main() -> None:
    """Write figures from standard input until it ends; tell of each on standard output."""
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # so that nothing else is said there
    while True:
        try:
            figure, stem, style = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        error: Exception | None = None
        try:
            save(figure, stem, style)
        except OSError as found:
            error = found
        except Exception:
            error = RuntimeError(traceback.format_exc())
        pickle.dump(error, answers)
        answers.flush()


if __name__ == "__main__":
    main()
