"""Timing: repeats that alternate between what is compared, and their spread."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch

MAX_STEPS = 500  # of a repeat

T = TypeVar("T")


class Spread(NamedTuple):
    """Of repeated measurements."""

    n: int
    median: float
    lower: float  # quartiles
    upper: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """
        >>> Spread.of([4.0, 1.0, 2.0, 3.0, 9.0])
        Spread(n=5, median=3.0, lower=2.0, upper=4.0, least=1.0, most=9.0)
        """
        several = len(values) > 1
        quartiles = statistics.quantiles(values, method="inclusive") if several else [*values] * 3
        lower, median, upper = quartiles
        return cls(len(values), median, lower, upper, min(values), max(values))

    def as_dict(self, values: Sequence[float]) -> dict[str, Any]:
        """For JSON, with the measurements themselves."""
        return self._asdict() | {"repeats": list(values)}


class Sample(NamedTuple):
    """A measurement, per step."""

    seconds: float  # of the clock on the wall
    processor_seconds: float  # of all cores together, those of worker processes included
    waiting_seconds: float = 0.0  # for images


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_call(call: Callable[[], None], num_calls: int, device: torch.device) -> float:
    """Wall-clock seconds, the device waited for before and after all the calls."""
    synchronize(device)
    began = time.perf_counter()
    for _ in range(num_calls):
        call()
    synchronize(device)
    return (time.perf_counter() - began) / num_calls


def sample(call: Callable[[], None], num_calls: int, device: torch.device) -> Sample:
    """Seconds per call, by the clock and of the processor."""
    before = time.process_time()
    seconds = seconds_per_call(call, num_calls, device)
    return Sample(seconds, (time.process_time() - before) / num_calls)


def calls_for(call: Callable[[], None], seconds: float, device: torch.device) -> int:
    """How many calls take about that long, judged by one after one; at least 2."""
    call()
    once = seconds_per_call(call, 1, device)
    return max(2, min(MAX_STEPS, round(seconds / max(once, 1e-9))))


def alternate(
    measurements: Mapping[str, Callable[[], T]],
    repeats: int,
    report: Callable[[int], None] = lambda repeat: None,
) -> dict[str, list[T]]:
    """Every measurement once, then every one again: a machine that is busy for a while slows all of
    them, and ratios within a repeat stay what they are. Every other repeat goes backwards.

    Returns:
        What each returned, by repeat.
    """
    found: dict[str, list[T]] = {name: [] for name in measurements}
    for repeat in range(repeats):
        names = list(measurements)
        for name in reversed(names) if repeat % 2 else names:
            found[name].append(measurements[name]())
        report(repeat)
    return found


class PartTimer:
    """Time within the parts of a step: a clock on CPUs, events in the stream on GPUs.

    On a GPU the time between two events is that of the kernels and of the gaps between them, in
    which the device waits for launches.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, Any, Any]] = []

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with its time added to that of the part `name`."""
        if self.device.type == "cuda":

            def timed(*arguments: Any) -> Any:
                start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                start.record()
                result = function(*arguments)
                end.record()
                self._events.append((name, start, end))
                return result

        else:

            def timed(*arguments: Any) -> Any:
                began = time.perf_counter()
                result = function(*arguments)
                self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - began
                return result

        return timed

    def take(self) -> dict[str, float]:
        """Seconds by part since the last call. Waits for the device."""
        synchronize(self.device)
        for name, start, end in self._events:
            elapsed = start.elapsed_time(end) / 1e3
            self._seconds[name] = self._seconds.get(name, 0.0) + elapsed
        taken, self._seconds, self._events = self._seconds, {}, []
        return taken
