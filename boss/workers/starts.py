"""What a run starts from besides its label set: images that join it, and first weights.

Images join by the predictions of the parent (`boss.self_training`) or by label propagation, over
the graph of an embedding or of the features of the parent's teacher (`boss.prototypes`): of the
labels alone, or of what the parent says of all images.

Dimensions: N training images, K classes, F features.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from boss import self_training
from boss.data import Dataset
from boss.data.label_sets import LabelSet
from boss.errors import InputError
from boss.models import Network
from boss.prototypes import embeddings
from boss.prototypes.cache import Features
from boss.prototypes.graphs import comparable, kept_neighbors
from boss.prototypes.progress import StageProgress
from boss.prototypes.propagation import (
    Propagation,
    connect,
    half_whitened,
    most_certain,
    multiplied,
    nearest_neighbors,
    normalize_mass,
    propagate,
    side_by_side,
    smooth,
    start_from,
)
from boss.results.read import Store
from boss.self_training import Selection
from boss.study.run import BY_GRAPH, Run

Report = Callable[[str], None]


def check(run: Run, dataset: Dataset) -> None:
    """Check what a run starts from, before anything is computed.

    Raises:
        InputError: an embedding does not suit the images, or an encoder the network; or a name
            leaves something to a default.
    """
    for spec in filter(None, (run.embedding, run.encoder)):
        if spec.startswith("teacher:"):
            raise InputError(
                f"{spec} depends on a file, by which no run can be repeated: use a parent"
            )
        embeddings.check(spec, dataset)
        whole = embeddings.spelled_out(spec, dataset)
        if spec != whole:  # defaults may change, what a run is must not
            raise InputError(f"write {whole} in place of {spec}, so that one training has one id")
    if run.encoder:
        network = embeddings.encoder_network(run.encoder, dataset)
        if network != run.network:
            raise InputError(
                f"the encoder {run.encoder} is a {network}, the network of the run a {run.network}"
            )


def select_for(
    run: Run,
    dataset: Dataset,
    labels: LabelSet,
    store: Store,
    report: Report,
    device: str = "cpu",
) -> Selection | None:
    """The images that join the label set of a run, or None if it starts from that alone.

    Args:
        device: where networks are evaluated and encoders trained.

    Raises:
        InputError: the predictions or the network of the parent are missing.
    """
    if run.start == "labels" and run.parent is None:
        return None
    if run.parent is not None and run.rank_by not in BY_GRAPH:
        return self_training.select_for(run, dataset, labels, store)
    cache = embeddings.cache_of(store.results)

    def embed(spec: str, cache: Path | None) -> Features:
        [features] = embeddings.embed(
            spec, dataset, cache=cache, seed=run.embedding_seed, device=device, report=report
        )
        return features

    allowed = self_training.selectable(run, dataset, labels)
    if run.parent is None:
        features = embed(run.embedding, cache)
        progress = StageProgress(run.embedding, report)
        progress.begin("nearest neighbors")
        neighbors, neighbors_seconds = kept_neighbors(features, run.embedding, cache, progress)
        began = time.process_time()
        start = start_from(connect(neighbors), labels, dataset.num_classes, run.num_start, allowed)
        found, chosen, per_class = start.propagation, start.indices, run.num_start
    else:
        others = [embed(run.embedding, cache)] if run.embedding else []
        began, neighbors_seconds, per_class = time.process_time(), 0.0, run.picks_per_class
        teacher = store.network(run.parent.id)
        features = embed(f"teacher:{teacher}", None)  # large, and read once
        found = _of_parent(run, teacher, dataset, labels, features, others, report)
        chosen = most_certain(found, per_class, allowed)
    predictions = found.predictions[chosen]
    reason = self_training.stop_reason(predictions, per_class, dataset.class_names)
    doubt, seconds = 1 - found.certainty[chosen], time.process_time() - began
    return Selection(chosen, predictions, doubt, reason, seconds, neighbors_seconds)


def _of_parent(
    run: Run,
    path: Path,
    dataset: Dataset,
    labels: LabelSet,
    features: Features,
    others: Sequence[Features],
    report: Report,
) -> Propagation:
    """What the parent's network says of all images, by one of `BY_GRAPH`.

    Args:
        path: of that network; features: of its teacher (N, F).
        others: that stand beside these in the graph.
    """
    progress = StageProgress(f"teacher:{path}", report)
    progress.begin("nearest neighbors")
    kinds = [half_whitened(features), *(comparable(other, run.embedding) for other in others)]
    [together] = side_by_side([[kind] for kind in kinds], [1.0] * len(kinds))
    graph = connect(nearest_neighbors(together, progress=progress))
    if run.rank_by == "graph":
        return _propagated(graph, labels, dataset)
    teacher = embeddings.load_teacher(path, dataset)
    with torch.inference_mode():
        logits = teacher.classify(torch.from_numpy(features))  # (N, K)
    probs = logits.double().softmax(dim=1).numpy()
    if run.rank_by == "smoothed":
        return smooth(graph, labels, probs)
    return multiplied(_propagated(graph, labels, dataset), normalize_mass(probs))


def _propagated(graph: sparse.csr_array, labels: LabelSet, dataset: Dataset) -> Propagation:
    indices, classes = np.array(labels.indices), np.array(labels.labels)
    return propagate(graph, indices, classes, dataset.num_classes)


def processor_seconds(
    run: Run, dataset: Dataset, selection: Selection | None, store: Store, device: str = "cpu"
) -> float | None:
    """What it took to compute what a run starts from, beside its label set and its parent.

    Summed over a run and its ancestors nothing counts twice: an encoder that an ancestor started
    from, too, is its expense.

    Returns:
        Processor seconds, those of cached embeddings included; None if it starts from no more, or
        the cost of an embedding was not noted.
    """
    if selection is None and not run.encoder:
        return None
    paid, ancestor = [], run.parent
    while ancestor is not None:
        paid.append(_used(ancestor))
        ancestor = ancestor.parent
    cache = embeddings.cache_of(store.results)
    embedded = embeddings.processor_seconds(_used(run), dataset, cache, paid=paid, device=device)
    if selection is None:
        return embedded
    neighbors = selection.neighbors_seconds
    if embedded is None or neighbors is None:
        return None
    return embedded + neighbors + selection.processor_seconds


def _used(run: Run) -> embeddings.Used:
    return embeddings.Used(run.embedding, run.encoder, run.embedding_seed)


def encoder_for(
    run: Run, dataset: Dataset, store: Store, report: Report, device: str = "cpu"
) -> Network | None:
    """The encoder whose weights a run starts from, trained if it is not in the cache."""
    if not run.encoder:
        return None
    cache = embeddings.cache_of(store.results)
    return embeddings.encoder(
        run.encoder, dataset, cache=cache, seed=run.embedding_seed, device=device, report=report
    )


def copy_encoder(encoder: Network, student: Network) -> None:
    """Copy weights and running statistics, all but the last layer."""
    state = encoder.state_dict()
    weights = {name: value for name, value in state.items() if not name.startswith("classify.")}
    student.load_state_dict(student.state_dict() | weights)
