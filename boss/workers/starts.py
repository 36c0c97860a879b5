"""What a run starts from besides its label set: images that join it, and first weights.

Images join by the predictions of the parent (`boss.self_training`) or by label propagation, over
the graph of an embedding or of the features of the parent's teacher (`boss.prototypes`): of the
labels alone, or of the predictions of the parent.

Dimensions: N training images, K classes, F features.
"""

import time
from collections.abc import Callable

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
from boss.prototypes.graphs import kept_neighbors
from boss.prototypes.progress import StageProgress
from boss.prototypes.propagation import (
    Propagation,
    connect,
    most_certain,
    multiplied,
    normalize_mass,
    propagate,
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
    spec = _embedding(run, store)
    per_class = run.num_start if run.parent is None else run.picks_per_class
    cache, num_classes = embeddings.cache_of(store.results), dataset.num_classes
    [features] = embeddings.embed(
        spec, dataset, cache=cache, seed=run.embedding_seed, device=device, report=report
    )
    progress = StageProgress(spec, report)
    progress.begin("nearest neighbors")
    neighbors, neighbors_seconds = kept_neighbors(features, cache, progress)
    began = time.process_time()
    graph = connect(neighbors)
    allowed = self_training.selectable(run, dataset, labels)
    if run.parent is None:
        start = start_from(graph, labels, num_classes, per_class, allowed)
        found, chosen = start.propagation, start.indices
    else:
        found = _of_parent(run, run.parent, dataset, labels, store, features, graph)
        chosen = most_certain(found, per_class, allowed)
    predictions = found.predictions[chosen]
    reason = self_training.stop_reason(predictions, per_class, dataset.class_names)
    doubt, seconds = 1 - found.certainty[chosen], time.process_time() - began
    return Selection(chosen, predictions, doubt, reason, seconds, neighbors_seconds)


def _of_parent(
    run: Run,
    parent: Run,
    dataset: Dataset,
    labels: LabelSet,
    store: Store,
    features: Features,
    graph: sparse.csr_array,
) -> Propagation:
    """What the parent's network says of all images, by one of `BY_GRAPH`.

    Args:
        features: of `_embedding` (N, F), and their graph.
    """
    if run.rank_by == "smoothed":
        indices, guesses, doubts = self_training.predictions_of_parent(run, store)
        return smooth(graph, labels, indices, guesses, 1 - doubts, dataset.num_classes)
    indices, classes = np.array(labels.indices), np.array(labels.labels)
    found = propagate(graph, indices, classes, dataset.num_classes)
    if run.rank_by == "graph":
        return found
    teacher = embeddings.load_teacher(store.network(parent.id), dataset)
    with torch.inference_mode():
        logits = teacher.classify(torch.from_numpy(features))  # (N, K)
    return multiplied(found, normalize_mass(logits.double().softmax(dim=1).numpy()))


def _embedding(run: Run, store: Store) -> str:
    """The embedding whose graph selects images for a run; empty if none does."""
    if run.parent is None or run.embedding:
        return run.embedding
    return f"teacher:{store.network(run.parent.id)}" if run.rank_by in BY_GRAPH else ""


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
    paid, ancestor = set(), run.parent
    while ancestor is not None:
        seed = ancestor.embedding_seed
        paid |= {(ancestor.embedding, seed), (ancestor.encoder, seed)}
        ancestor = ancestor.parent
    spec, encoder = (
        "" if (name, run.embedding_seed) in paid else name
        for name in (_embedding(run, store), run.encoder)
    )
    embedded = embeddings.processor_seconds(
        spec,
        dataset,
        embeddings.cache_of(store.results),
        encoder=encoder,
        seed=run.embedding_seed,
        device=device,
    )
    if selection is None:
        return embedded
    neighbors = selection.neighbors_seconds if spec else 0.0
    if embedded is None or neighbors is None:
        return None
    return embedded + neighbors + selection.processor_seconds


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
