"""The time left of a study, and that asking for it stays cheap."""

import dataclasses
import io
import time

import pytest
from rich.console import Console

from boss.workers.progress import StudyDisplay
from boss.workers.scheduler import Outcome
from tests.training.test_loop import RUN

SHORT = [dataclasses.replace(RUN, repeat=i) for i in range(4)]  # 12 steps each
LONG = [dataclasses.replace(RUN, repeat=i, num_images=8 * 120) for i in range(3)]


@pytest.fixture
def clock():
    """Seconds that pass only when told to."""
    return [1000.0]


def make(runs, clock, num_workers=1):
    console = Console(file=io.StringIO(), get_time=lambda: clock[0])
    return StudyDisplay("s", runs, 0, num_workers, console)


def finish(display, run, clock, seconds):
    display.started(run, "cpu")
    clock[0] += seconds
    display.ended(Outcome(run, "finished"))


def test_the_time_left_by_hand(clock):
    display = make([*SHORT, *LONG], clock)
    assert display.seconds_left() is None
    finish(display, SHORT[0], clock, 10)
    # Six wait, of which nothing but the mean is known, or the mean of their kind, the same.
    assert display.seconds_left() == 60
    finish(display, SHORT[1], clock, 20)
    assert display.seconds_left() == 2 * 15 + 3 * 15
    display.started(LONG[0], "cpu")
    assert display.seconds_left() == 5 * 15
    display.progressed(LONG[0], {"step": 0, "accuracy": None, "resumed_at": 0})
    clock[0] += 2
    display.progressed(LONG[0], {"step": 20, "accuracy": 0.5})
    # 10 steps a second: 100 are left of this one, and two more of 120 wait.
    assert display.seconds_left() == 2 * 15 + 10 + 2 * 12
    clock[0] += 10
    display.ended(Outcome(LONG[0], "finished"))
    assert display.seconds_left() == 2 * 15 + 2 * 12


def test_a_run_that_writes_its_rows_has_no_time_left(clock):
    display = make(LONG[:1], clock)
    display.started(LONG[0], "cpu")
    display.progressed(LONG[0], {"step": 0, "accuracy": None, "resumed_at": 0})
    clock[0] += 12
    display.progressed(LONG[0], {"step": 120, "accuracy": 0.5})
    assert display.seconds_left() == 0


def test_the_time_left_counts_workers_but_no_more_than_runs(clock):
    display = make(SHORT, clock, num_workers=2)
    finish(display, SHORT[0], clock, 10)
    assert display.seconds_left() == 15
    finish(display, SHORT[1], clock, 10)
    finish(display, SHORT[2], clock, 10)
    assert display.seconds_left() == 10
    finish(display, SHORT[3], clock, 10)
    assert display.seconds_left() == 0


def test_the_display_of_many_runs_costs_little_for_each():
    """Four times as many runs take less than eight times as long, not sixteen times."""

    def seconds(num):
        runs = [dataclasses.replace(RUN, repeat=i) for i in range(num)]
        display = make(runs, [0.0])
        began = time.process_time()
        for run in runs:
            display.started(run, "cpu")
            display.ended(Outcome(run, "finished"))
        return time.process_time() - began

    seconds(100)
    assert seconds(2000) < 8 * min(seconds(500) for _ in range(3))
