"""Self-training: the images that a trained network is surest of join the label set.

A round is a run with a parent (`boss.study.run.Run`): when the parent has finished, the n images of
each predicted class with the highest confidence are taken from the unlabeled ones, with their
PSEUDO-labels, and a new network is trained from scratch on the prototypes and these picks. What the
parent predicted lies in the store (table `predictions`), so the picks can be checked without it.

Every round picks anew from all unlabeled images: a pick of an earlier round may be dropped.

Smith and Conovaloff 2020 (BOSS, arXiv 2006.09363): one round, n = 5, 10, 20 or 40. Two deviations
from their released code, which leaks hidden labels: it keeps the TRUE labels of the picks
(`pick_labels="true"` here) and ranks by the network of the best TEST accuracy
(`rank_by="best_test"`). Both are there as diagnostics, so that their effect can be measured; their
rows are marked as oracles. It also counts positions from 1 in one place and 0 in another.

Dimensions: N training images, K classes, M picks.
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
class Picks:
    """Images that join the label set, class after class, the surest of each class first."""

    indices: NDArray[np.int64]  # positions in the training set (M,)
    guesses: NDArray[np.int64]  # their predicted classes (M,)
    doubts: NDArray[np.float64]  # 1 - the probability of the guess (M,)
    stop_reason: str  # "enough", or "too few: cat 3, dog 0": classes that have fewer than wanted


def pick(
    indices: NDArray[np.int64],
    guesses: NDArray[np.int64],
    doubts: NDArray[np.float64],
    *,
    per_class: int,
    class_names: tuple[str, ...],
) -> Picks:
    """The `per_class` images of each predicted class of which a network is surest.

    Images in equal doubt come in the order of their positions. A class that is predicted less
    often gives what it has.

    Args:
        indices, guesses, doubts: of the images to choose from, all of one length.
        class_names: of all K classes.
    """
    order = np.lexsort((indices, doubts))  # by doubt, then by position
    chosen = [order[guesses[order] == k][:per_class] for k in range(len(class_names))]
    few = [
        f"{name} {len(found)}"
        for name, found in zip(class_names, chosen, strict=True)
        if len(found) < per_class
    ]
    taken = np.concatenate(chosen)
    reason = f"too few: {', '.join(few)}" if few else ENOUGH
    return Picks(indices[taken], guesses[taken], doubts[taken], reason)


def picks_of_parent(run: Run, dataset: Dataset, prototypes: LabelSet, store: Store) -> Picks:
    """What the parent of a run picks: neither prototypes nor images held out for validation.

    Raises:
        InputError: the parent's predictions are not in the store.
    """
    assert run.parent is not None
    table = store.read("predictions", [run.parent.id])
    table = table[table["network"] == run.rank_by]
    if not len(table):
        raise InputError(
            f"the predictions of {run.parent.title} are missing in {store.folder}: remove"
            f" runs/{run.parent.id}.parquet to train it again"
        )
    indices = table["image_index"].to_numpy(dtype=np.int64)
    held_out = validation_indices(dataset.train.labels.cpu().numpy(), run.num_validation)
    allowed = ~np.isin(indices, np.concatenate([held_out, np.array(prototypes.indices)]))
    return pick(
        indices[allowed],
        table["guess"].to_numpy(dtype=np.int64)[allowed],
        table["doubt"].to_numpy(dtype=np.float64)[allowed],
        per_class=run.picks_per_class,
        class_names=dataset.class_names,
    )


def joined(prototypes: LabelSet, picks: Picks, labels: NDArray[np.int64]) -> LabelSet:
    """The prototypes with their own labels, then the picks with these.

    Args:
        labels: of the picks (M,): their guesses, or the true classes for the diagnostic.
    """
    return LabelSet(
        prototypes.id,
        (*prototypes.indices, *picks.indices.tolist()),
        (*prototypes.labels, *labels.tolist()),
        oracle=prototypes.oracle,
    )
