"""What a person sees while a study runs: bars in a terminal, plain lines elsewhere."""

import threading
from collections import Counter
from contextlib import suppress
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn

from boss.study.run import Run, titles
from boss.units import duration
from boss.workers.scheduler import Outcome

PLAIN_SECONDS = 30.0  # between two plain lines about the same run


class _Bars(Progress):
    """Bars that nobody need see: training does not depend on who reads them."""

    def refresh(self) -> None:
        with suppress(OSError, SystemExit):
            super().refresh()


class StudyDisplay:
    """Progress of a study. Its methods are called from several threads.

    Args:
        waiting: the runs to be done.
        num_finished: those done before.
        num_workers: runs at a time.
        console: where it is printed; its clock is the one that counts.
        names: `titles` of all runs of the study, by id; those of the waiting ones if None.
    """

    def __init__(
        self,
        study: str,
        waiting: list[Run],
        num_finished: int,
        num_workers: int,
        console: Console,
        names: dict[str, str] | None = None,
    ) -> None:
        self.console, self.num_workers = console, num_workers
        self.titles = names or titles(waiting)
        self.num_finished, self.num_failed = num_finished, 0
        self.total = num_finished + len(waiting)
        self.active: dict[str, TaskID] = {}
        self.durations: dict[tuple[object, ...], list[float]] = {}  # seconds of finished runs
        # By kinds, not by runs: the time left is computed whenever a run ends.
        self.kinds = {_kind(run): run for run in waiting}
        self.num_waiting = Counter(map(_kind, waiting))
        self._lock = threading.RLock()
        self.is_live = console.is_terminal and not console.is_dumb_terminal
        self.bars = _Bars(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[device]}"),
            BarColumn(16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            refresh_per_second=2,
            get_time=console.get_time,
            disable=not self.is_live,
        )
        self.study = self.bars.add_task(
            study, total=self.total, completed=num_finished, device="", detail="runs"
        )

    def __enter__(self) -> "StudyDisplay":
        if self.is_live:
            with suppress(OSError, SystemExit):
                self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_live:
            with suppress(OSError, SystemExit):
                self.bars.stop()

    def started(self, run: Run, device: str) -> None:
        with self._lock:
            self.num_waiting[_kind(run)] -= 1
            self.active[run.id] = self.bars.add_task(
                self.titles[run.id], total=run.num_steps, device=device, detail="",
                run=run, resumed=None, speed=None, accuracy=None, printed=0.0,
            )  # fmt: skip

    def progressed(self, run: Run, progress: dict[str, Any]) -> None:
        now = self.bars.get_time()
        with self._lock:
            task_id = self.active[run.id]
            task = self._task(task_id)
            if "note" in progress:  # before the first step
                self.bars.update(task_id, detail=progress["note"])
                self._say_at_times(task, now, progress["note"])
                return
            step = progress["step"]
            self.bars.update(task_id, completed=step, accuracy=progress["accuracy"])
            if "resumed_at" in progress:
                task.fields.update(resumed=(now, step), speed=None, printed=now)
                if progress["resumed_at"]:
                    self._say(f"{task.description}: continues at step {progress['resumed_at']:,}")
            elif task.fields["resumed"]:
                since, first = task.fields["resumed"]
                if step > first and now > since:
                    task.fields["speed"] = (step - first) / (now - since)
            self.bars.update(task_id, detail=", ".join(_details(task)))
            steps = f"step {step:,} of {run.num_steps:,}"
            self._say_at_times(task, now, ", ".join([steps, *_details(task)]))

    def retried(self, run: Run, error: str) -> None:
        with self._lock:
            self._say(f"{self.titles[run.id]}: {error}; trying once more from the last checkpoint")

    def ended(self, outcome: Outcome) -> None:
        with self._lock:
            task_id = self.active.pop(outcome.run.id)
            task = self._task(task_id)
            seconds, accuracy = task.elapsed or 0.0, task.fields["accuracy"]
            self.bars.remove_task(task_id)
            if outcome.state == "finished":
                self.num_finished += 1
                self.durations.setdefault(_kind(outcome.run), []).append(seconds)
            elif outcome.state == "failed":
                self.num_failed += 1
            result = f"{outcome.state} after {duration(seconds)}"
            if outcome.state == "finished" and accuracy is not None:
                result += f", test accuracy {accuracy:.1%}"
            if outcome.error:
                result += f": {outcome.error}"
            failed = f", {self.num_failed} failed" if self.num_failed else ""
            left = self.seconds_left()
            time_left = f", about {duration(left)} left" if left else ""
            self.bars.update(
                self.study, completed=self.num_finished, detail=f"runs{failed}{time_left}"
            )
            summary = f"{self.num_finished}/{self.total} finished{failed}{time_left}"
            self._say(f"{task.description}: {result}  [{summary}]")

    def seconds_left(self) -> float | None:
        """For the whole study: runs like those that finished take as long as they took."""
        known = [seconds for took in self.durations.values() for seconds in took]
        overall = sum(known) / len(known) if known else None
        active = [self._task(task_id) for task_id in self.active.values()]
        speeds = {_kind(t.fields["run"]): t.fields["speed"] for t in active if t.fields["speed"]}

        def expected(run: Run) -> float | None:
            if alike := self.durations.get(_kind(run)):
                return sum(alike) / len(alike)
            speed = speeds.get(_kind(run))
            return run.num_steps / speed if speed else overall

        parts = []
        for task in active:
            left = _seconds_left(task)
            parts.append((1, expected(task.fields["run"]) if left is None else left))
        parts += [
            (num, expected(self.kinds[kind])) for kind, num in self.num_waiting.items() if num
        ]
        total = 0.0
        for num, seconds in parts:
            if seconds is None:
                return None
            total += num * seconds
        num_runs = sum(num for num, _ in parts)
        return total / max(1, min(self.num_workers, num_runs))

    def _task(self, task_id: TaskID) -> Task:
        return next(task for task in self.bars.tasks if task.id == task_id)

    def _say_at_times(self, task: Task, now: float, text: str) -> None:
        """A plain line about a run, unless there are bars or it had one a short while ago."""
        if not self.is_live and now - task.fields["printed"] >= PLAIN_SECONDS:
            task.fields["printed"] = now
            self._say(f"{task.description}: {text}")

    def _say(self, line: str) -> None:
        # Whoever read our output may have gone (`| head`): training does not depend on it.
        with suppress(OSError, SystemExit):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _seconds_left(task: Task) -> float | None:
    speed = task.fields["speed"]
    return (task.remaining or 0.0) / speed if speed else None


def _details(task: Task) -> list[str]:
    speed, accuracy, left = task.fields["speed"], task.fields["accuracy"], _seconds_left(task)
    return [
        *([f"{speed:.1f} steps/s"] if speed else []),
        *([f"test accuracy {accuracy:.1%}"] if accuracy is not None else []),
        *([f"{duration(left)} left"] if left is not None else []),
    ]


def _kind(run: Run) -> tuple[object, ...]:
    """Runs of one kind take about as long."""
    views = run.algorithm, run.augmentation, run.unlabeled_ratio, run.batch_size
    return run.dataset, run.network, run.num_steps, *views
