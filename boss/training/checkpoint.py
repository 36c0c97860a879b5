"""Exact resume: a file that holds all that a training is, written so that it is whole or absent."""

from pathlib import Path
from typing import Any

import torch

from boss.results.write import write_atomically

FORMAT = 3


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, lists and dicts of them) under a temporary name,
    flush it to disk and rename it."""
    write_atomically(path, lambda temporary: torch.save({"format": FORMAT} | content, temporary))


def load(path: Path) -> dict[str, Any] | None:
    """What `save` wrote, on the CPU, or None if there is no file, or one that cannot be used.

    An unreadable checkpoint costs the steps it held, never the study: the caller starts
    the run from the beginning.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # damaged pickles and archives raise almost anything
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None
