"""Progress of a computation in stages, as lines of text."""

import time
from collections.abc import Callable

from boss.units import duration

REPORT_SECONDS = 5.0  # between two lines


class StageProgress:
    """Reports the share done and the time left, one line every few seconds."""

    def __init__(self, title: str, report: Callable[[str], None]) -> None:
        self.title, self.report = title, report
        self.stage = ""
        self.start: tuple[float, float] | None = None  # time and share when the stage began
        self.reported_at = 0.0

    def begin(self, stage: str) -> None:
        """Start the next stage."""
        self.stage, self.start, self.reported_at = stage, None, time.monotonic()
        self.report(f"{self.title}: {stage}")

    def __call__(self, share: float, detail: str = "") -> None:
        now = time.monotonic()
        if self.start is None:  # a resumed training does not start at 0
            self.start = now, share
        began, share_then = self.start
        if now - self.reported_at < REPORT_SECONDS or share <= share_then:
            return
        left = (now - began) * (1 - share) / (share - share_then)
        detail = f" ({detail})" if detail else ""
        self.report(f"{self.title}: {self.stage} {share:.0%}{detail}, {duration(left)} left")
        self.reported_at = now
