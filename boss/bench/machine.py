"""What the device can do: bytes per second of a large copy, operations per second of a product."""

from collections.abc import Callable

import torch

from boss.bench.clock import calls_for, seconds_per_call
from boss.seeds import stream


def copy_rate(device: torch.device, seconds: float) -> Callable[[], float]:
    """A measurement of bytes per second, read and written both counted.

    Args:
        seconds: that a measurement takes, roughly.
    """
    num = 2**30 if device.type == "cuda" else 2**26  # values of 4 bytes: larger than any cache
    source = torch.ones(num, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    num_calls = calls_for(copy, seconds, device)
    return lambda: 2 * 4 * num / seconds_per_call(copy, num_calls, device)


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float) -> Callable[[], float]:
    """A measurement of operations per second, two for each multiply-add, on random numbers.

    Zeros would be faster: a device that draws less power runs at a higher clock.

    Args:
        seconds: that a measurement takes, roughly.
    """
    size = 8192 if device.type == "cuda" else 1024
    generator = stream("matrix rate", device=device)
    a, b = (torch.randn(size, size, generator=generator, device=device) for _ in range(2))
    a, b = a.to(dtype), b.to(dtype)
    out = torch.empty_like(a)

    def multiply() -> None:
        torch.mm(a, b, out=out)

    num_calls = calls_for(multiply, seconds, device)
    return lambda: 2 * size**3 / seconds_per_call(multiply, num_calls, device)
