"""Small facts that every room needs: how many cores there are, how numbers are said."""

import os


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(59.6), duration(3725), duration(200000)
    ('1m00s', '1h02m', '2d07h')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"


def gigabytes(count: float) -> str:
    """Bytes as a person says them.

    >>> gigabytes(16.1e9), gigabytes(2.5e6)
    ('16.1 GB', '2.5 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
