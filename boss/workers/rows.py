"""A finished training becomes rows of the tables of results (`boss.results.schema`).

Dimensions: N images, C channels, H x W pixels.
"""

import copy
import io
import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from boss import algorithms, data
from boss.augment import rate_rows
from boss.data.label_sets import LabelSet
from boss.self_training import Selection
from boss.study.run import Run
from boss.training.evaluate import predict
from boss.training.probe import Arithmetic
from boss.training.state import Training
from boss.workers.runtime import Runtime, device_name

MAX_RATE_STEPS = 64  # evaluations whose CTAugment rates are stored


# Of a label set whose pixels are stored: more would be larger than all other results.
MAX_LABELS_WITH_PIXELS, MAX_LABELED_VALUES = 1000, 2**22

# Decimals of the doubt of a selected image: with all of them it is over half of a long list's size.
DOUBT_DECIMALS = 4


def tables_of(
    run: Run,
    runtime: Runtime,
    arithmetic: Arithmetic,
    training: Training,
    dataset: data.Dataset,
    labels: LabelSet,
    selection: Selection | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of `runs`, and the rows of every other table by its name.

    Args:
        labels: of the labeled images, selected ones last.
        selection: images selected by a parent or by label propagation.
    """
    row = run_row(
        run, runtime, arithmetic, training, dataset, labels, selection
    )  # first: of peak memory
    tables: dict[str, Any] = {
        "evaluations": training.evaluations,
        "class_evaluations": training.class_evaluations,
        "labeled_images": _label_rows(dataset, labels, selection),
        "predictions": _prediction_rows(
            run, arithmetic.precision, training, dataset, torch.device(runtime.device)
        ),
    }
    if training.rates:
        tables["augmentation_rates"] = _rate_rows(training)
    return row, tables


def run_row(
    run: Run,
    runtime: Runtime,
    arithmetic: Arithmetic,
    training: Training,
    dataset: data.Dataset,
    labels: LabelSet,
    selection: Selection | None,
) -> dict[str, Any]:
    accuracies = [r["test_accuracy"] for r in training.evaluations if r["network"] == "teacher"]
    options = algorithms.hyperparameters(run.algorithm) | dict(run.options)
    oracles = [
        labels.oracle,
        "true labels of the picks" if run.pick_labels == "true" else "",
        "picks by the network of the best test accuracy" if run.rank_by == "best_test" else "",
    ]
    ancestor = run.parent
    while ancestor is not None and ancestor.parent is not None:
        leaks = ancestor.pick_labels == "true" or ancestor.rank_by == "best_test"
        oracles.append(f"an oracle in round {ancestor.round}" if leaks else "")
        ancestor = ancestor.parent
    truth = dataset.train.labels.numpy()
    num_picks = 0 if selection is None else len(selection.indices)
    num_own = len(labels.indices) - num_picks  # selected images have a table of their own
    return run.as_dict() | {
        "run_id": run.id,
        "study": runtime.study,
        "dataset_fingerprint": dataset.fingerprint,
        "labels": list(labels.indices[:num_own]),
        "label_classes": list(labels.labels[:num_own]),
        "num_labels": len(labels.indices),
        "parent": run.parent and run.parent.id,
        "round": run.round,
        "num_picks": num_picks,
        "num_wrong_picks": 0
        if selection is None
        else int((selection.predictions != truth[selection.indices]).sum()),
        "stop_reason": selection and selection.stop_reason,
        "oracle": "; ".join(filter(None, oracles)) or None,
        "num_parameters": sum(p.numel() for p in training.student.parameters()),
        "num_steps": run.num_steps,
        "options": json.dumps(options, sort_keys=True),
        "seconds": training.seconds,
        "processor_seconds": None
        if math.isnan(training.processor_seconds)
        else training.processor_seconds,
        "first_step_seconds": training.first_step_seconds,
        "execution": "+".join(training.executions),
        "layout": arithmetic.layout,
        "computed_in": arithmetic.precision,
        "peak_device_bytes": torch.cuda.max_memory_allocated(runtime.device)
        if runtime.device.startswith("cuda")
        else None,
        "device": device_name(torch.device(runtime.device)),
        "threads": runtime.threads,
        "versions": json.dumps(runtime.versions, sort_keys=True),
        "commit": runtime.commit,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "last_accuracy": accuracies[-1],
        "median_last_20_accuracy": float(np.median(accuracies[-20:])),
        "best_test_accuracy": max(r["test_accuracy"] for r in training.evaluations),
    }


def _label_rows(
    dataset: data.Dataset, labels: LabelSet, selection: Selection | None
) -> list[dict[str, Any]]:
    """The labeled images; those of the label set with their pixels, for contact sheets."""
    num_selected = 0 if selection is None else len(selection.indices)
    num_prototypes = len(labels) - num_selected
    with_pixels = num_prototypes <= MAX_LABELS_WITH_PIXELS
    with_pixels &= num_prototypes * dataset.train.images[0].numel() <= MAX_LABELED_VALUES
    rows = []
    for position, (index, label) in enumerate(zip(labels.indices, labels.labels, strict=True)):
        is_selected = position >= num_prototypes
        image = dataset.train.images[index]
        rows.append(
            {
                "position": position,
                "image_index": index,
                "label": label,
                "true_label": int(dataset.train.labels[index]),
                "class_name": dataset.class_names[label],
                "is_pick": is_selected,
                "doubt": round(
                    float(selection.uncertainty[position - num_prototypes]), DOUBT_DECIMALS
                )
                if selection is not None and is_selected
                else None,
                "image": _png(image) if with_pixels and not is_selected else None,
            }
        )
    return rows


def _png(image: torch.Tensor) -> bytes:
    """A uint8 image (C, H, W) as a PNG file."""
    pixels = image.permute(1, 2, 0).squeeze(2) if len(image) == 1 else image.permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, format="PNG")
    return file.getvalue()


def _prediction_rows(
    run: Run,
    precision: str,
    training: Training,
    dataset: data.Dataset,
    device: torch.device,
) -> pd.DataFrame:
    """Predictions of the last teacher, and of the network of the best test accuracy."""
    images = dataset.train.images[: run.max_eval_images].to(device)
    found = [predict(training.teacher, images, precision=precision)]
    weights = training.teacher.state_dict()
    if all(torch.equal(weights[name], best) for name, best in training.best_weights.items()):
        found *= 2  # the last is the best
    else:
        network = copy.deepcopy(training.teacher)
        network.load_state_dict(training.best_weights)
        found.append(predict(network, images, precision=precision))
    return pd.DataFrame(
        {
            "network": np.repeat(["last", "best_test"], len(images)),
            "image_index": np.tile(np.arange(len(images)), len(found)),
            "guess": np.concatenate([labels.cpu().numpy() for labels, _ in found]),
            "doubt": np.concatenate([uncertainty.cpu().numpy() for _, uncertainty in found]),
        }
    )


def _rate_rows(training: Training) -> pd.DataFrame:
    """The rates that CTAugment learned, at no more than MAX_RATE_STEPS evaluations."""
    evaluations = np.linspace(0, len(training.rates) - 1, MAX_RATE_STEPS).round().astype(int)
    steps = [training.rates[index] for index in dict.fromkeys(evaluations.tolist())]
    tables = [pd.DataFrame(rate_rows(rates)).assign(step=step) for step, rates in steps]
    return pd.concat(tables, ignore_index=True)
