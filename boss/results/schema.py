"""TODO"""

import dataclasses
from typing import Any

import pyarrow as pa

from boss.study.run import YOUNGER as YOUNGER_FIELDS
from boss.study.run import Run

TEXT, INT, FLOAT, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def _schema(*columns: tuple[str, pa.DataType, str]) -> pa.Schema:
    return pa.schema(
        [pa.field(name, kind, metadata={"description": text}) for name, kind, text in columns]
    )


# Accuracies and shares lie in [0, 1]. An empty value means: not defined here.
TABLES: dict[str, pa.Schema] = {
    "runs": _schema(
        ("run_id", TEXT, "first 16 hex digits of the SHA-256 of the settings of the run"),
        ("study", TEXT, "name of the study"),
        ("budget", TEXT, "smoke, short or paper"),
        ("dataset", TEXT, "name of the data set, path of an .npz file, or folder:PATH[@SIZE]"),
        ("dataset_fingerprint", TEXT, "SHA-256 over all images, also unlabeled ones, and labels"),
        ("algorithm", TEXT, "key of boss.algorithms.ALGORITHMS"),
        ("label_set", TEXT, "id of the labeled images (boss:3, fixmatch:3@10, ...)"),
        ("labels", pa.list_(INT), "positions of the labeled images in the training set"),
        ("label_classes", pa.list_(INT), "class of each: the true one, unless a file gives it"),
        ("num_labels", INT, "number of labeled images"),
        ("repeat", INT, "same settings, other random streams"),
        ("parent", TEXT, "run_id of the run whose network picked further labels; empty: none"),
        ("round", INT, "round of self-training; 0: trained on the label set alone"),
        ("picks_per_class", INT, "images asked for of each predicted class; 0 in round 0"),
        ("pick_labels", TEXT, "pseudo (the parent's guess) or true (an oracle)"),
        ("rank_by", TEXT, "last or best_test (an oracle): the parent's network that picked"),
        ("num_picks", INT, "how many of the labeled images were picked"),
        ("num_wrong_picks", INT, "picks whose guessed class is wrong: a diagnostic, never used"),
        ("stop_reason", TEXT, "why the picking ended: enough, or too few: and of which classes"),
        ("oracle", TEXT, "test labels or true labels of picks that it profited from; empty: none"),
        ("network", TEXT, "architecture: wrn-DEPTH-WIDTH"),
        ("num_parameters", INT, "trainable parameters of one network"),
        ("num_images", INT, "labeled images seen during training, repetitions counted"),
        ("num_steps", INT, "optimiser steps"),
        ("batch_size", INT, "labeled images per step (B)"),
        ("unlabeled_ratio", INT, "unlabeled images per labeled one (mu)"),
        ("augmentation", TEXT, "of the strong views: randaugment, ctaugment, ..."),
        ("optimizer", TEXT, "sgd, asgd, adagrad, adam or adamw"),
        ("learning_rate", FLOAT, "initial learning rate"),
        ("schedule", TEXT, "cosine (it ends at 0.195 of the initial rate), linear or constant"),
        ("final_learning_rate", FLOAT, "where the linear schedule ends"),
        ("momentum", FLOAT, "of sgd; beta 1 of adam"),
        ("nesterov", BOOL, "whether the momentum of sgd is Nesterov's"),
        ("beta2", FLOAT, "second decay of adam"),
        ("weight_decay", FLOAT, "L2 coefficient on kernels; with adamw decoupled"),
        ("teacher_decay", FLOAT, "decay of the moving average of the weights"),
        ("norm_momentum", FLOAT, "share of a batch in the running statistics of batch norm"),
        ("num_validation", INT, "training images held out of the unlabeled ones"),
        ("num_evaluations", INT, "evaluations during training"),
        ("max_eval_images", INT, "evaluation uses the first so many images; empty: all"),
        ("precision", TEXT, "fp32, bf16 or fp64"),
        ("deterministic", BOOL, "only deterministic operations were allowed"),
        ("options", TEXT, "hyperparameters of the algorithm, defaults included, as JSON"),
        ("seconds", FLOAT, "wall-clock seconds of training and evaluation, pauses excluded"),
        (
            "first_step_seconds",
            FLOAT,
            "from the start of the work on the run to the end of its first step: loading, "
            "compiling, and waiting for another process that compiles included; empty: not "
            "measured",
        ),
        (
            "execution",
            TEXT,
            "how steps were executed: eager, compiled, graph or compiled-graph; joined by + if it "
            "was continued in another way; empty: not recorded",
        ),
        (
            "peak_device_bytes",
            INT,
            "most memory that torch allocated on the GPU; empty on a processor or not recorded",
        ),
        ("device", TEXT, "what trained: processor or GPU name"),
        ("threads", INT, "processor threads used by torch"),
        ("versions", TEXT, "versions of Python and of the libraries, as JSON"),
        ("commit", TEXT, "git commit of boss, -dirty if changed; empty: not a checkout"),
        ("finished_at", TEXT, "UTC, ISO 8601"),
        ("last_accuracy", FLOAT, "teacher's test accuracy after the last step"),
        ("median_last_20_accuracy", FLOAT, "median of the teacher's last 20 test accuracies"),
        (
            "best_test_accuracy",
            FLOAT,
            "maximum over the evaluations of teacher and student: an oracle, on the test set",
        ),
    ),
    "evaluations": _schema(
        ("run_id", TEXT, "joins with runs"),
        ("step", INT, "steps trained so far"),
        ("images_seen", INT, "labeled images seen so far, repetitions counted"),
        ("network", TEXT, "teacher (averaged weights) or student (the trained ones)"),
        ("test_accuracy", FLOAT, "share of the test images classified correctly"),
        ("test_loss", FLOAT, "mean cross entropy on the test images, in nats"),
        ("validation_accuracy", FLOAT, "the same on the held-out images that are not labeled"),
        ("supervised_loss", FLOAT, "mean over the steps since the last evaluation"),
        ("unsupervised_loss", FLOAT, "mean over the steps since the last evaluation"),
        ("used_share", FLOAT, "share of the unlabeled images whose pseudo-label was used"),
        ("pseudo_label_accuracy", FLOAT, "share of the pseudo-labels used that are right"),
        ("learning_rate", FLOAT, "of the last step"),
    ),
    "class_evaluations": _schema(
        ("run_id", TEXT, "joins with runs"),
        ("step", INT, "steps trained so far"),
        ("network", TEXT, "teacher or student"),
        ("class_index", INT, "0 to K - 1"),
        ("class_name", TEXT, "name of the class"),
        ("test_accuracy", FLOAT, "share of the test images of this class classified correctly"),
        ("test_count", INT, "test images of this class"),
        ("predicted_count", INT, "pseudo-labels of this class since the last evaluation"),
        ("pseudo_label_count", INT, "pseudo-labels of this class that were used since then"),
        ("pseudo_label_accuracy", FLOAT, "share of those used that are right"),
    ),
    "labeled_images": _schema(
        ("run_id", TEXT, "joins with runs"),
        ("position", INT, "place in the list of labeled images, from 0"),
        ("image_index", INT, "position in the training set"),
        ("label", INT, "the class it was trained as"),
        ("true_label", INT, "its class in the data set"),
        ("class_name", TEXT, "name of the class it was trained as"),
        ("is_pick", BOOL, "picked by the parent's network, not of the label set"),
        ("doubt", FLOAT, "of a pick: 1 - the parent's probability of its guess"),
        ("image", pa.binary(), "the image as PNG; empty for picks"),
    ),
    "predictions": _schema(
        ("run_id", TEXT, "joins with runs"),
        ("network", TEXT, "last (teacher after the last step) or best_test (an oracle)"),
        ("image_index", pa.int32(), "position in the training set (up to max_eval_images)"),
        ("guess", pa.int16(), "predicted class, image not augmented"),
        ("doubt", pa.float32(), "1 - probability of that class"),
    ),
    "augmentation_rates": _schema(
        ("run_id", TEXT, "joins with runs; rows of runs with CTAugment only"),
        ("step", INT, "steps trained so far"),
        ("operation", TEXT, "name of the distortion"),
        ("parameter", INT, "0 or 1: which of its parameters"),
        ("bin", INT, "which part of the parameter's range, from 0"),
        ("rate", FLOAT, "moving average of the teacher's probability of the true class"),
    ),
}  # fmt: skip


# What a finished run may lack. Predictions serve self-training and refining only, so a published
# store may leave them out; all three are younger than the other tables.
OPTIONAL_TABLES = ("predictions", "labeled_images", "augmentation_rates")


SPARSE_TABLES = ("augmentation_rates",)  # some runs have no rows of these, and so no part


# Columns of `runs` that are younger than others, with the value of the runs from before.
YOUNGER: dict[str, Any] = {
    field.name: field.default
    for field in dataclasses.fields(Run)
    if field.name in ("parent", "picks_per_class", "pick_labels", "rank_by", *YOUNGER_FIELDS)
} | {
    "round": 0, "num_picks": 0, "num_wrong_picks": 0, "stop_reason": None, "oracle": None,
    "first_step_seconds": None, "execution": None, "peak_device_bytes": None,
}  # fmt: skip


# Options that algorithms got later, with the value of the runs from before.
YOUNGER_OPTIONS: dict[str, dict[str, Any]] = {
    "fixmatch": {
        "temperature": 1.0,
        "labels": "hard",
        "label_view": "weak",
        "prediction_view": "strong",
    },
    "supervised": {"smoothing": 0.0},
}


def data_dictionary() -> str:
    """What every column means, as Markdown: the text of results/README.md."""
    lines = [
        "# Results",
        "",
        "`<study>/` holds what you ran (git ignores it), in one file per run and table;",
        "`reference/<study>/` what is published with this package; `report/` in each, what",
        "`boss-study report <study>` makes from the tables:",
        "",
        "```python",
        "import pandas as pd",
        "",
        'runs = pd.read_parquet("results/reference/oneshot_digits/runs")',
        "```",
        "",
        "Accuracies and shares lie in [0, 1]. An empty value means: not defined here. A run counts",
        "as finished when it is in `runs/`; `state/` holds checkpoints of unfinished runs.",
        "",
        "`boss-study publish <study>` adds finished runs to `reference/`, in one file per table;",
        "`boss-study run <study> --results results/reference` goes on from there. Of `predictions`",
        "(0.2 MB for a network on CIFAR-10) those come along that other runs of the study pick",
        "from; `--predictions last` adds what `boss-study refine` reads, `all` the rest. Commit",
        "what was published before you train again: runs of a changed checkout are refused.",
    ]
    for table, schema in TABLES.items():
        lines += ["", f"## {table}", "", "| column | type | meaning |", "| --- | --- | --- |"]
        for column in schema:
            text = column.metadata[b"description"].decode()
            lines.append(f"| {column.name} | {column.type} | {text} |")
    return "\n".join(lines) + "\n"
