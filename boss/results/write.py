"""How files are written: whole or not at all, and so that thousands of small ones read fast."""

import os
import uuid
from pathlib import Path
from typing import Any


def part_style(table: str) -> dict[str, Any]:
    """How the parts of a table are encoded: so that thousands of small ones are read fast.

    Setting up zstd for each column took most of that time, reading the descriptions of the columns
    (`data_dictionary` has them) much of the rest.
    """
    is_large = table == "predictions"
    return {
        "compression": "zstd" if is_large else "snappy",
        "use_dictionary": is_large,
        "write_statistics": False,
        "store_schema": False,
    }


def write_atomically(path: Path, write: Any) -> None:
    """Let `write(temporary path)` make a file and rename it to `path`, so that nobody sees half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Readers of parquet folders pass over names that start with a dot.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
