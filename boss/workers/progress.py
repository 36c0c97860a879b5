"""What a person sees while a study runs: a live table in a terminal, plain lines elsewhere."""

import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from boss.study.run import Run, titles
from boss.units import duration
from boss.workers.scheduler import Outcome

PLAIN_SECONDS = 30.0  # between two plain lines about the same run


@dataclass
class Activity:
    """A run in progress; `first` and `latest` are (monotonic seconds, step)."""

    run: Run
    device: str
    began: float
    first: tuple[float, int] | None = None
    latest: tuple[float, int] | None = None
    accuracy: float | None = None
    printed: float = 0.0

    @property
    def steps_per_second(self) -> float | None:
        if self.first is None or self.latest is None or self.latest[1] == self.first[1]:
            return None
        return (self.latest[1] - self.first[1]) / (self.latest[0] - self.first[0])

    @property
    def seconds_left(self) -> float | None:
        if self.latest is None or self.steps_per_second is None:
            return None
        return (self.run.num_steps - self.latest[1]) / self.steps_per_second


class StudyDisplay:
    """Progress of a study. Its methods are called from several threads.

    Args:
        waiting: the runs to be done.
        num_finished: those done before.
        num_workers: runs at a time.
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
        self.study, self.console, self.num_workers = study, console, num_workers
        self.waiting = {run.id: run for run in waiting}
        self.titles = names or titles(waiting)
        self.active: dict[str, Activity] = {}
        self.num_finished, self.num_failed = num_finished, 0
        self.total = num_finished + len(waiting)
        self.durations: dict[tuple[object, ...], list[float]] = {}
        # By kinds, not by runs: the time left is asked for whenever a run ends.
        self.kinds = {_kind(run): run for run in waiting}
        self.num_waiting = Counter(map(_kind, waiting))
        self._lock = threading.Lock()
        self._live = (
            Live(console=console, get_renderable=self._render, refresh_per_second=2)
            if console.is_terminal and not console.is_dumb_terminal
            else None
        )

    def __enter__(self) -> "StudyDisplay":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def started(self, run: Run, device: str) -> None:
        with self._lock:
            if self.waiting.pop(run.id, None) is not None:
                self.num_waiting[_kind(run)] -= 1
            self.active[run.id] = Activity(run, device, time.monotonic())

    def progressed(self, run: Run, progress: dict[str, Any]) -> None:
        now = time.monotonic()
        with self._lock:
            activity = self.active[run.id]
            activity.latest = (now, progress["step"])
            activity.accuracy = progress["accuracy"]
            if "resumed_at" in progress:
                activity.first, activity.printed = activity.latest, now
                if progress["resumed_at"]:
                    self._say(
                        f"{self.titles[run.id]}: continues at step {progress['resumed_at']:,}"
                    )
            elif self._live is None and now - activity.printed >= PLAIN_SECONDS:
                activity.printed = now
                self._say(f"{self.titles[run.id]}: {_describe(activity)}")

    def retried(self, run: Run, error: str) -> None:
        with self._lock:
            self._say(f"{self.titles[run.id]}: {error}; trying once more from the last checkpoint")

    def ended(self, outcome: Outcome) -> None:
        with self._lock:
            activity = self.active.pop(outcome.run.id)
            took = time.monotonic() - activity.began
            if outcome.state == "finished":
                self.num_finished += 1
                self.durations.setdefault(_kind(outcome.run), []).append(took)
            elif outcome.state == "failed":
                self.num_failed += 1
            accuracy = ""
            if outcome.state == "finished" and activity.accuracy is not None:
                accuracy = f", test accuracy {activity.accuracy:.1%}"
            detail = f": {outcome.error}" if outcome.error else ""
            title = self.titles[outcome.run.id]
            self._say(
                f"{title}: {outcome.state} after {duration(took)}{accuracy}{detail}"
                f"  [{self._summary()}]"
            )

    def seconds_left(self) -> float | None:
        """For the whole study: runs like those that finished take as long as they took."""
        known = [seconds for took in self.durations.values() for seconds in took]
        overall = sum(known) / len(known) if known else None
        total = 0.0
        for activity in self.active.values():
            left = activity.seconds_left
            if left is None:
                left = self._expected(activity.run, overall)
            if left is None:
                return None
            total += left
        for kind, num in self.num_waiting.items():
            expected = self._expected(self.kinds[kind], overall) if num else 0.0
            if expected is None:
                return None
            total += num * expected
        num_runs = len(self.active) + self.num_waiting.total()
        return total / max(1, min(self.num_workers, num_runs))

    def _expected(self, run: Run, overall: float | None) -> float | None:
        """Seconds that a run will take; `overall` if nothing is known of runs like it."""
        if alike := self.durations.get(_kind(run)):
            return sum(alike) / len(alike)
        speeds = [a.steps_per_second for a in self.active.values() if _kind(a.run) == _kind(run)]
        return run.num_steps / speeds[0] if speeds and speeds[0] else overall

    def _summary(self) -> str:
        failed = f", {self.num_failed} failed" if self.num_failed else ""
        left = self.seconds_left()
        time_left = f", about {duration(left)} left" if left else ""
        return f"{self.num_finished}/{self.total} finished{failed}{time_left}"

    def _say(self, line: str) -> None:
        # Whoever read our output may have gone (`| head`): training does not depend on it.
        with suppress(OSError, SystemExit):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _render(self) -> Group:
        with self._lock:
            table = Table(box=None, pad_edge=False)
            for column in ("run", "device", "", "step", "steps/s", "accuracy", "left"):
                right = column in ("step", "steps/s", "accuracy", "left")
                table.add_column(column, justify="right" if right else "left", no_wrap=True)
            for activity in self.active.values():
                step, speed = (activity.latest or (0, 0))[1], activity.steps_per_second
                table.add_row(
                    self.titles[activity.run.id],
                    activity.device,
                    ProgressBar(activity.run.num_steps, step, width=16),
                    f"{step:,}/{activity.run.num_steps:,}",
                    "" if speed is None else f"{speed:.1f}",
                    "" if activity.accuracy is None else f"{activity.accuracy:.1%}",
                    "" if activity.seconds_left is None else duration(activity.seconds_left),
                )
            return Group(table, Text(f"{self.study}: {self._summary()}"))


def _describe(activity: Activity) -> str:
    parts = [f"step {(activity.latest or (0, 0))[1]:,} of {activity.run.num_steps:,}"]
    if activity.steps_per_second is not None:
        parts.append(f"{activity.steps_per_second:.1f} steps/s")
    if activity.accuracy is not None:
        parts.append(f"test accuracy {activity.accuracy:.1%}")
    if activity.seconds_left is not None:
        parts.append(f"{duration(activity.seconds_left)} left")
    return ", ".join(parts)


def _kind(run: Run) -> tuple[object, ...]:
    """Runs of one kind take about as long."""
    views = run.algorithm, run.augmentation, run.unlabeled_ratio, run.batch_size
    return run.dataset, run.network, run.num_steps, *views
