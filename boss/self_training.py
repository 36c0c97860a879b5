"""Self-training: the images that a trained network is most confident of join the label set.

A round is a run with a parent (`boss.study.run.Run`). When the parent has finished, the n most
confident unlabeled images of each predicted class are selected, with their PSEUDO-labels, and a new
network is trained from scratch on the prototypes and the selected images. The predictions of the
parent are stored (table `predictions`), so a selection can be checked without its network.

Every round selects anew from all unlabeled images: those selected in an earlier round may go.

Source: Smith and Conovaloff 2020 (BOSS, arXiv 2006.09363): one round, n = 5, 10, 20 or 40.
Deviations from their released code, found by running it:

* It keeps the TRUE labels of the selected images (`pick_labels="true"` here) and ranks by the
  network of the best TEST accuracy (`rank_by="best_test"`). Both leak hidden labels. They exist
  here as diagnostics, to measure their effect, and their rows are marked as oracles.
* It computes confidence in float32, where many images round to exactly 1, and then orders ties by
  index. Here confidence is stored as 1 - confidence in float64, which resolves those ties; only
  equal values are ordered by index.
* It ranks the prototypes too: one that is among the n most confident of its class uses up one of
  the selected images. Here prototypes are left out first, so n new images are selected.
* Its indices count from 1 in one place and from 0 in another; here always from 0.

Dimensions: N training images, K classes, M selected images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boss.data import Dataset
from boss.data.label_sets import LabelSet, validation_indices
from boss.errors import InputError
from boss.results.read import Store
from boss.study.run import Run

ENOUGH = "enough"


@dataclass(frozen=True)
class Selection:
    """Images that join the label set: class after class, the most confident of each first."""

    indices: NDArray[np.int64]  # into the training set (M,)
    predictions: NDArray[np.int64]  # their predicted classes (M,)
    uncertainty: NDArray[np.float64]  # 1 - confidence; stored as `doubt` (M,)
    stop_reason: str  # "enough", or "too few: cat 3, dog 0": the classes with fewer than n
    processor_seconds: float = 0.0  # of label propagation, without embedding and neighbors
    neighbors_seconds: float | None = 0.0  # processor seconds of finding these; None: not noted

    def __len__(self) -> int:
        return len(self.indices)


def select_most_confident(
    indices: NDArray[np.int64],
    predictions: NDArray[np.int64],
    uncertainty: NDArray[np.float64],
    *,
    per_class: int,
    class_names: tuple[str, ...],
) -> Selection:
    """The `per_class` most confident images of each predicted class.

    Images of equal confidence are ordered by index. A class that is predicted for fewer images
    contributes all of them.

    Args:
        indices, predictions, uncertainty: of the images to select from, as in `Selection`.
        class_names: of all classes (K,).
    """
    order = np.lexsort((indices, uncertainty))  # by uncertainty, then by index
    by_class = [order[predictions[order] == k][:per_class] for k in range(len(class_names))]
    chosen = np.concatenate(by_class)
    reason = stop_reason(predictions[chosen], per_class, class_names)
    return Selection(indices[chosen], predictions[chosen], uncertainty[chosen], reason)


def stop_reason(
    predictions: NDArray[np.int64], per_class: int, class_names: tuple[str, ...]
) -> str:
    """Whether every class has as many selected images as were asked for, and which have fewer.

    >>> stop_reason(np.array([0, 0, 1]), 2, ("cat", "dog"))
    'too few: dog 1'
    """
    counts = np.bincount(predictions, minlength=len(class_names)).tolist()
    few = [
        f"{name} {count}"
        for name, count in zip(class_names, counts, strict=True)
        if count < per_class
    ]
    return f"too few: {', '.join(few)}" if few else ENOUGH


def select_for(run: Run, dataset: Dataset, prototypes: LabelSet, store: Store) -> Selection:
    """What a run adds to its label set, by the predictions of its parent.

    Raises:
        InputError: the predictions of the parent are not in the store.
    """
    indices, guesses, doubts = predictions_of_parent(run, store)
    allowed = selectable(run, dataset, prototypes)[indices]
    return select_most_confident(
        indices[allowed],
        guesses[allowed],
        doubts[allowed],
        per_class=run.picks_per_class,
        class_names=dataset.class_names,
    )


def predictions_of_parent(
    run: Run, store: Store
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """What the network of a run's parent said of training images.

    Returns:
        Their positions in the training set, predicted classes, and 1 - confidence, each (M,).

    Raises:
        InputError: they are not in the store.
    """
    assert run.parent is not None
    table = store.read("predictions", [run.parent.id])
    table = table[table["network"] == run.rank_by]
    if not len(table):
        raise InputError(
            f"the predictions of {run.parent.title} are missing in {store.folder}: remove"
            f" runs/{run.parent.id}.parquet to train it again"
        )
    return (
        table["image_index"].to_numpy(dtype=np.int64),
        table["guess"].to_numpy(dtype=np.int64),
        table["doubt"].to_numpy(dtype=np.float64),
    )


def selectable(run: Run, dataset: Dataset, prototypes: LabelSet) -> NDArray[np.bool_]:
    """Which training images may be selected: no prototype, none held out for validation, and of the
    first `max_eval_images` only (N,)."""
    labels = dataset.train.labels.cpu().numpy()
    allowed = np.arange(len(labels)) < (run.max_eval_images or len(labels))
    allowed[validation_indices(labels, run.num_validation)] = False
    allowed[list(prototypes.indices)] = False
    return allowed


def joined(prototypes: LabelSet, selected: Selection, labels: NDArray[np.int64]) -> LabelSet:
    """The prototypes with their own labels, followed by the selected images with these.

    Args:
        labels: of the selected images (M,): the predictions, or the true classes (diagnostic).
    """
    return LabelSet(
        prototypes.id,
        (*prototypes.indices, *selected.indices.tolist()),
        (*prototypes.labels, *labels.tolist()),
        oracle=prototypes.oracle,
    )
