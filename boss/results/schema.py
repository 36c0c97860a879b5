"""What is stored: the tables, a line per column.

The columns of `runs` that are settings follow from the fields of `boss.study.run.Run`. A column may
be added at any time: a part that lacks it reads as empty there (`EMPTY` has the exceptions).
"""

import dataclasses
from typing import Any, NamedTuple

import pyarrow as pa

from boss.study.run import DEFAULTS, SETTINGS, Run

TEXT, INT, FLOAT, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()


class Kind(NamedTuple):
    """The type of a column, and where its numbers lie (`boss.errors.check_interval`)."""

    type: pa.DataType
    interval: str


COUNT, POSITIVE = Kind(INT, "[0, inf)"), Kind(INT, "[1, inf)")
SHARE, AMOUNT = Kind(FLOAT, "[0, 1]"), Kind(FLOAT, "[0, inf)")
Column = tuple[str, pa.DataType | Kind, str]  # name, type, meaning


def _schema(*columns: Column) -> pa.Schema:
    fields = []
    for name, kind, text in columns:
        type_, interval = kind if isinstance(kind, Kind) else (kind, "")
        fields.append(pa.field(name, type_, metadata={"description": text, "interval": interval}))
    return pa.schema(fields)


def _settings() -> list[Column]:
    """The columns that are fields of a run; what is no number is stored as text."""
    kinds: dict[Any, pa.DataType] = {
        str: TEXT,
        int: INT,
        float: FLOAT,
        bool: BOOL,
        (int | None): INT,
    }
    types = {declared.name: declared.type for declared in dataclasses.fields(Run)}
    return [
        (name, Kind(kinds.get(types[name], TEXT), found.interval), _meaning(name))
        for name, found in SETTINGS.items()
    ]


def _meaning(name: str) -> str:
    found = SETTINGS[name]
    return f"{found.meaning}: {', '.join(found.choices)}" if found.choices else found.meaning


# An empty value means: not defined here.
TABLES: dict[str, pa.Schema] = {
    "runs": _schema(
        ("run_id", TEXT, "first 16 hex digits of the SHA-256 of the settings of the run"),
        ("study", TEXT, "name of the study"),
        *_settings(),
        ("num_steps", POSITIVE, "optimizer steps"),
        ("round", COUNT, "round of self-training; 0: no parent"),
        ("dataset_fingerprint", TEXT, "SHA-256 over all images, also unlabeled ones, and labels"),
        ("labels", pa.list_(INT), "positions of the label set's images in the training set"),
        ("label_classes", pa.list_(INT), "class of each: the true one, unless a file gives it"),
        ("num_labels", POSITIVE, "number of labeled images"),
        ("num_picks", COUNT,
         "how many of the labeled images a parent or label propagation selected"),
        ("num_wrong_picks", COUNT, "selected images whose predicted class is wrong: a diagnostic"),
        ("stop_reason", TEXT, "enough, or too few: which classes had fewer images than asked for"),
        ("oracle", TEXT, "hidden labels that the run profited from; empty: none"),
        ("num_parameters", COUNT, "trainable parameters of one network"),
        ("seconds", AMOUNT, "wall-clock seconds of training and evaluation, without interruptions"),
        ("processor_seconds", AMOUNT, "processor time of the same, summed over threads"),
        ("start_processor_seconds", AMOUNT,
         "of what it started from; an ancestor's is not its own"),
        ("first_step_seconds", AMOUNT, "to the end of the first step, with loading and compiling"),
        ("execution", TEXT, "eager, compiled, graph or compiled-graph; several, joined by +"),
        ("layout", TEXT, "of the memory of images: channels_last or contiguous"),
        ("computed_in", TEXT, "precision of the passes: fp32, bf16-conv, bf16 or fp64"),
        ("peak_device_bytes", COUNT, "most memory that torch allocated on the GPU; empty on a CPU"),
        ("device", TEXT, "name of the processor or GPU that trained"),
        ("threads", COUNT, "processor threads used by torch"),
        ("versions", TEXT, "versions of Python and of the libraries, as JSON"),
        ("commit", TEXT, "git commit of boss, -dirty if the code was changed; empty: unknown"),
        ("finished_at", TEXT, "UTC, ISO 8601"),
        ("last_accuracy", SHARE, "teacher's test accuracy after the last step"),
        ("median_last_20_accuracy", SHARE, "median of the teacher's last 20 test accuracies"),
        ("best_test_accuracy", SHARE, "maximum over all evaluations of both networks: an oracle"),
    ),
    "evaluations": _schema(
        ("run_id", TEXT, "joins with runs"),
        ("step", POSITIVE, "steps trained so far"),
        ("images_seen", COUNT, "labeled images seen so far, repetitions counted"),
        ("network", TEXT, "teacher (averaged weights) or student (the trained ones)"),
        ("test_accuracy", SHARE, "share of the test images classified correctly"),
        ("test_loss", AMOUNT, "mean cross entropy on the test images, in nats"),
        ("validation_accuracy", SHARE, "the same on the held-out images that are not labeled"),
        ("supervised_loss", FLOAT, "mean over the steps since the last evaluation"),
        ("unsupervised_loss", FLOAT, "mean over the steps since the last evaluation"),
        ("used_share", SHARE, "share of the unlabeled images whose pseudo-label was used"),
        ("pseudo_label_accuracy", SHARE, "share of the pseudo-labels used that are right"),
        ("learning_rate", AMOUNT, "of the last step"),
    ),
    "class_evaluations": _schema(
        ("run_id", TEXT, "joins with runs"),
        ("step", POSITIVE, "steps trained so far"),
        ("network", TEXT, "teacher or student"),
        ("class_index", COUNT, "0 to K - 1"),
        ("class_name", TEXT, "name of the class"),
        ("test_accuracy", SHARE, "share of the test images of this class classified correctly"),
        ("test_count", COUNT, "test images of this class"),
        ("confused_with", COUNT, "index of the class that most of its misclassified images got"),
        ("confused_count", COUNT, "how many of them; of classes with equally many, the first"),
        ("predicted_count", COUNT, "pseudo-labels of this class since the last evaluation"),
        ("pseudo_label_count", COUNT, "pseudo-labels of this class that were used since then"),
        ("pseudo_label_accuracy", SHARE, "share of those used that are right"),
    ),
    "labeled_images": _schema(
        ("run_id", TEXT, "joins with runs"),
        ("position", COUNT, "place in the list of labeled images, from 0"),
        ("image_index", COUNT, "position in the training set"),
        ("label", COUNT, "the class it was trained as"),
        ("true_label", COUNT, "its class in the data set"),
        ("class_name", TEXT, "name of the class it was trained as"),
        ("is_pick", BOOL, "selected by a parent or by label propagation, not of the label set"),
        ("doubt", SHARE, "of a selected image: 1 - the confidence in its prediction, 4 decimals"),
        ("image", pa.binary(), "the image as PNG; empty for selected images"),
    ),
    "predictions": _schema(
        ("run_id", TEXT, "joins with runs"),
        ("network", TEXT, "last (teacher after the last step) or best_test (an oracle)"),
        ("image_index", pa.int32(), "position in the training set (up to max_eval_images)"),
        ("guess", pa.int16(), "predicted class, image not augmented"),
        ("doubt", pa.float32(), "1 - confidence, the probability of that class"),
    ),
    "augmentation_rates": _schema(
        ("run_id", TEXT, "joins with runs; rows of runs with CTAugment only"),
        ("step", POSITIVE, "steps trained so far"),
        ("operation", TEXT, "name of the distortion"),
        ("parameter", COUNT, "0 or 1: which of its parameters"),
        ("bin", COUNT, "which part of the parameter's range, from 0"),
        ("rate", SHARE, "moving average of the teacher's probability of the true class"),
    ),
}  # fmt: skip


# What a finished run may lack: predictions serve self-training and refining only, so a published
# store may leave them out; the others came after the first results.
OPTIONAL_TABLES = ("predictions", "labeled_images", "augmentation_rates")
SPARSE_TABLES = ("augmentation_rates",)  # some runs have no rows of these, and so no part
# What every part has had from the first version on: one that lacks it is damaged.
REQUIRED: dict[str, tuple[str, ...]] = {
    "runs": (
        *(n for n, found in SETTINGS.items() if found.in_id == "always" and n != "max_eval_images"),
        *("num_steps", "dataset_fingerprint", "labels", "label_classes", "num_labels"),
        *("last_accuracy", "median_last_20_accuracy", "best_test_accuracy"),
    ),
    "evaluations": ("step", "images_seen", "network", "test_accuracy"),
    "class_evaluations": ("step", "network", "class_index", "class_name", "test_accuracy"),
    "labeled_images": ("position", "image_index", "label", "class_name"),
    "predictions": ("network", "image_index", "guess", "doubt"),
    "augmentation_rates": ("step", "operation", "parameter", "bin", "rate"),
}
# What a column of `runs` holds in parts from before it: the default of its field, or this.
EMPTY: dict[str, Any] = {name: value for name, value in DEFAULTS.items() if value is not None} | {
    "round": 0,
    "num_picks": 0,
    "num_wrong_picks": 0,
}


def intervals(table: str) -> dict[str, str]:
    """Where the numbers of a table lie, by column; only of bounded ones."""
    found = {field.name: field.metadata[b"interval"].decode() for field in TABLES[table]}
    return {name: interval for name, interval in found.items() if interval}


INTRODUCTION = """\
# Results

`<study>/` holds your own runs (ignored by git), in one file per run and table;
`reference/<study>/` the committed ones; `report/` in each what `boss-study report <study>` makes
of them (committed for studies with more than smoke runs).

```python
from pathlib import Path

from boss.api import read_results

runs = read_results("oneshot_digits", Path("results/reference"))
```

`pandas.read_parquet` reads these folders, too, but with the columns of one file only: in a folder
with older and newer files it leaves out what the older ones lack.

Accuracies and shares lie in [0, 1]. An empty value means: not defined here. A run counts as
finished when it is in `runs/`; `state/` holds the checkpoints of unfinished runs.

`boss-study publish <study>` adds finished runs to `reference/`, in one file per table, and
`boss-study run <study> --results results/reference` goes on from there. Of `predictions` (0.2 MB
for a network on CIFAR-10) it takes those that self-training of this study reads;
`--predictions last` adds what `boss-study refine` reads, `all` the rest. Commit what was published
before you train again: runs of a changed checkout are refused."""


def data_dictionary() -> str:
    """What every column means, as Markdown: the text of results/README.md."""
    lines = [INTRODUCTION]
    for table, schema in TABLES.items():
        lines += ["", f"## {table}", "", "| column | type | meaning |", "| --- | --- | --- |"]
        for column in schema:
            text = column.metadata[b"description"].decode()
            lines.append(f"| {column.name} | {column.type} | {text} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":  # > results/README.md
    print(data_dictionary(), end="")
