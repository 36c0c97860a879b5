"""How long `boss-study report` takes on a store of many runs, and how much memory.

    python -m benchmarks.report [--runs 10000] [--compact]

Makes a store as a one-shot study leaves it: 4 methods x 50 label sets x repeats, 10 classes, 40
evaluations of teacher and student, the labeled images as PNG, no predictions, one part per run and
table. Then reports it in a fresh process and prints seconds (wall clock and processor, those of the
processes that it starts included), the peak of its resident memory, the number of files, and the
seconds of every stage.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from boss.results.publish import publish
from boss.results.schema import TABLES
from boss.results.write import part_style
from boss.study.methods import METHODS
from boss.study.run import Run
from boss.study.study import Study

STUDY = "benchmark"
NUM_LABEL_SETS, NUM_CLASSES, NUM_EVALUATIONS = 50, 10, 40
TEST_COUNT = 1000  # test images per class
CLASSES = [f"class {i}" for i in range(NUM_CLASSES)]
NETWORKS = ("teacher", "student")
METHODS_RUN: tuple[dict[str, Any], ...] = (
    {"algorithm": "supervised"},
    {"algorithm": "fixmatch"},
    {"algorithm": "flexmatch"},
    METHODS[4].fields(),
)
STAGES = {"load": "reading", "contents": "tables"}  # functions of analysis.report; then writing


def runs(num_runs: int) -> Iterator[Run]:
    """The settings of at least so many runs: whole repeats of all methods and label sets."""
    num_repeats = -(-num_runs // (len(METHODS_RUN) * NUM_LABEL_SETS))
    for fields in METHODS_RUN:
        for label_set in range(NUM_LABEL_SETS):
            for repeat in range(num_repeats):
                yield Run(
                    dataset="cifar10",
                    label_set=f"fixmatch:{label_set}@10",
                    repeat=repeat,
                    network="wrn-28-2",
                    num_images=2**21,
                    num_evaluations=NUM_EVALUATIONS,
                    **fields,
                )


def tables_of(run: Run, images: list[bytes], rng: np.random.Generator) -> dict[str, pa.Table]:
    """The parts of one finished run.

    Args:
        images: PNG files, one for each labeled image.
    """
    num_networks, has_guesses = len(NETWORKS), run.algorithm != "supervised"
    shape = (NUM_EVALUATIONS, num_networks, NUM_CLASSES)
    progress = np.linspace(0, 1, NUM_EVALUATIONS)[:, None, None]
    final = rng.beta(1.2, 0.9, NUM_CLASSES)
    right = TEST_COUNT * (0.1 + (final - 0.1) * progress) + rng.normal(0, 10, shape)
    right = np.clip(np.round(right), 0, TEST_COUNT)
    guesses = np.round(right * 9).astype(int).ravel() if has_guesses else None
    accuracy = right.mean(axis=2) / TEST_COUNT
    steps = np.round(run.num_steps * (progress[:, 0, 0] * 39 + 1) / 40).astype(int)
    share = accuracy.ravel() if has_guesses else None
    evaluations = {
        "step": np.repeat(steps, num_networks),
        "images_seen": np.repeat(steps, num_networks) * run.batch_size,
        "network": list(NETWORKS) * NUM_EVALUATIONS,
        "test_accuracy": accuracy.ravel(),
        "test_loss": 2.3 * (1 - accuracy.ravel()),
        "supervised_loss": rng.random(accuracy.size),
        "unsupervised_loss": share,
        "used_share": share,
        "pseudo_label_accuracy": share,
        "learning_rate": np.full(accuracy.size, 0.03),
    }
    classes = {
        "step": np.repeat(steps, num_networks * NUM_CLASSES),
        "network": np.tile(np.repeat(NETWORKS, NUM_CLASSES), NUM_EVALUATIONS),
        "class_index": np.tile(np.arange(NUM_CLASSES), NUM_EVALUATIONS * num_networks),
        "class_name": CLASSES * (NUM_EVALUATIONS * num_networks),
        "test_accuracy": right.ravel() / TEST_COUNT,
        "test_count": np.full(right.size, TEST_COUNT),
        "predicted_count": guesses,
        "pseudo_label_count": guesses,
        "pseudo_label_accuracy": None if guesses is None else rng.random(right.size),
    }
    positions = [1000 * int(run.label_set.split(":")[1].split("@")[0]) + k for k in range(10)]
    labeled = {
        "position": np.arange(NUM_CLASSES),
        "image_index": positions,
        "label": np.arange(NUM_CLASSES),
        "true_label": np.arange(NUM_CLASSES),
        "class_name": CLASSES,
        "is_pick": np.zeros(NUM_CLASSES, dtype=bool),
        "image": images,
    }
    teacher = accuracy[:, 0]
    row = run.as_dict() | {
        "study": STUDY,
        "dataset_fingerprint": "0" * 64,
        "labels": positions,
        "label_classes": list(range(NUM_CLASSES)),
        "num_labels": NUM_CLASSES,
        "parent": None,
        "round": 0,
        "num_picks": 0,
        "num_wrong_picks": 0,
        "num_parameters": 1_469_642,
        "num_steps": run.num_steps,
        "options": json.dumps(dict(run.options), sort_keys=True),
        "seconds": float(rng.uniform(3000, 3100)),
        "device": "a device",
        "threads": 1,
        "versions": json.dumps({"python": "3.11", "torch": "2.11"}),
        "finished_at": f"2020-04-01T12:{run.repeat % 60:02}:00+00:00",
        "last_accuracy": float(teacher[-1]),
        "median_last_20_accuracy": float(np.median(teacher[-20:])),
        "best_test_accuracy": float(accuracy.max()),
    }
    whole = {name: [row.get(name)] for name in TABLES["runs"].names}
    columns: dict[str, dict[str, Any]] = {
        "evaluations": evaluations,
        "class_evaluations": classes,
        "labeled_images": labeled,
        "runs": whole,
    }
    return {
        table: as_part(table, values | {"run_id": [run.id] * len(next(iter(values.values())))})
        for table, values in columns.items()
    }


def as_part(table: str, values: dict[str, Any]) -> pa.Table:
    """Columns as a part of a table; those that are not given are empty."""
    schema, size = TABLES[table], len(values["run_id"])
    arrays = [
        pa.nulls(size, field.type)
        if values.get(field.name) is None
        else pa.array(values[field.name], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def make_store(folder: Path, num_runs: int) -> int:
    """Write the parts of so many runs, and return how many runs it became."""
    from PIL import Image

    rng = np.random.default_rng(0)
    images: dict[str, list[bytes]] = {}
    count = 0
    for run in runs(num_runs):
        if run.label_set not in images:
            files = []
            for _ in range(NUM_CLASSES):
                path = folder / "image.png"
                pixels = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
                files.append(path.read_bytes())
                path.unlink()
            images[run.label_set] = files
        for table, part in tables_of(run, images[run.label_set], rng).items():
            path = folder / STUDY / table / f"{run.id}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(part, path, **part_style(table))
        count += 1
    return count


def compact(folder: Path) -> None:
    """Replace the parts of every table by one that holds all runs."""
    publish(Study(reproduces="nothing", runs=lambda budget: [], name=STUDY), [], folder)


def report(results: Path) -> None:
    """Report the store in this process, and print the seconds of every stage as JSON."""
    from boss import cli

    module = cli._import_analysis()
    seconds: dict[str, float] = {}

    def timed(name: str, stage: str) -> None:
        function: Callable[..., Any] = getattr(module, name)

        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **named)
            seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
            return result

        setattr(module, name, call)

    for name, stage in STAGES.items():
        timed(name, stage)
    began = time.perf_counter()
    status = cli.main(["report", "--results", str(results)])
    seconds["writing"] = time.perf_counter() - began - sum(seconds.values())
    print(json.dumps(seconds), file=sys.stderr)
    sys.exit(status)


def measure(results: Path) -> dict[str, Any]:
    """Report a store in a fresh process: seconds, processor seconds, peak memory, stages."""
    errors = results / "stages.json"
    began = time.perf_counter()
    actions = [
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, str(errors), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
    ]
    command = [sys.executable, "-m", "benchmarks.report", "--report", str(results)]
    process = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - began
    text = errors.read_text()
    if status:
        sys.exit(text)
    unit = 1 if platform.system() == "Darwin" else 1024  # bytes there, KiB on Linux
    return {
        "wall": wall,
        "processor": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * unit / 1e9,
        "stages": json.loads(text.splitlines()[-1]),
    }


def main(argv: list[str] | None = None) -> None:
    """Print a table with a row per repeat."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compact", action="store_true", help="one part per table, not per run")
    parser.add_argument("--store", type=Path, help="keep the store here, or use the one there is")
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.report:
        report(arguments.report)
    with tempfile.TemporaryDirectory() as temporary:
        results = arguments.store or Path(temporary)
        if not (results / STUDY).exists():
            make_store(results, arguments.runs)
            if arguments.compact:
                compact(results)
        num_runs = pq.ParquetDataset(results / STUDY / "runs").read(["run_id"]).num_rows
        num_files = sum(1 for _ in (results / STUDY).glob("*/*.parquet"))
        print("| runs | files | wall, s | processor, s | peak, GB | stages, s |")
        print("| --: | --: | --: | --: | --: | --- |")
        for _ in range(arguments.repeats):
            found = measure(results)
            stages = ", ".join(f"{name} {wall:.1f}" for name, wall in found["stages"].items())
            print(
                f"| {num_runs:,} | {num_files:,} | {found['wall']:.1f} | {found['processor']:.1f}"
                f" | {found['memory']:.2f} | {stages} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
