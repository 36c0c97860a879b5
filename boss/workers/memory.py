"""How a process that trains on a CPU takes its memory from the operating system. No torch here.

A step frees gigabytes and takes them again. Handed back to the system, which clears every page
before it gives it out again, this costs a tenth to a fifth of the time (docs/performance.md).
"""

import ctypes
import os
from contextlib import suppress

# mallopt's names for the sizes from which memory is given back to, and taken from, the system.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def use_large_pages() -> None:
    """Let torch ask for pages of 2 MiB, on Linux; before it allocates for the first time."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def keep_memory() -> None:
    """Let this process keep what torch frees, where the C library is glibc."""
    with suppress(OSError, AttributeError, TypeError):  # another system, another C library
        library = ctypes.CDLL(None)
        # Older versions refuse more than half a heap.
        library.mallopt(M_MMAP_THRESHOLD, 2**30) or library.mallopt(M_MMAP_THRESHOLD, 2**25)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
