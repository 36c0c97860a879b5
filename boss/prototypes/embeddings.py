"""Embeddings: every image as a vector, so that similar images have near vectors.

Dimensions: N images, C channels, S x S pixels, F features.

`embed` computes one by its name, or reads it from a cache. Whatever is fitted (patches, an encoder)
is fitted on the training images only, without their labels; a "teacher" has seen the labels that
its training saw.
"""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from boss import models
from boss.augment import check_size, to_float
from boss.data import Dataset, ImageSet
from boss.errors import InputError, choose
from boss.folders import bundled
from boss.models import Network
from boss.prototypes import cache as cache_files
from boss.prototypes import manifold, patches, pretrained, simclr
from boss.prototypes.cache import Features, locked
from boss.prototypes.forms import FORMS, JOINED, Form, joined, parse
from boss.prototypes.progress import StageProgress
from boss.prototypes.propagation import half_whitening, side_by_side
from boss.seeds import stream
from boss.training import checkpoint
from boss.units import duration, num_cores

# Of embeddings side by side:
STRONGEST = 256  # directions of each that are kept
WEIGHT_OF_OTHERS = 0.5  # of each beside the first one

FORMAT = 1  # of the cache: increase it whenever the values of an embedding change

Part = Literal["train", "test"]


class Used(NamedTuple):
    """The embedding of the training images and the encoder that something uses, "" for none."""

    embedding: str = ""
    encoder: str = ""
    seed: int = 0


def embed(
    spec: str,
    dataset: Dataset,
    *,
    parts: Sequence[Part] = ("train",),
    cache: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> list[Features]:
    """The embedding called `spec` of one or both parts of a data set.

    ==========================  =================================================================
    kmeans-patches[:CENTROIDS]  k-means on image patches (`boss.prototypes.patches`): a minute or
                                two on a CPU, needs no files; F = 4 * CENTROIDS (default: 400)
    manifold[:DICTIONARY        sparse manifold transform (`boss.prototypes.manifold`): some ten
    [xDIMENSION]]               minutes of a CPU core, needs no files; F = 16 * DIMENSION
    teacher:FILE                features before the classifier of the teacher in a checkpoint
    simclr[:STEPS][@NETWORK]    features of an encoder trained here (`boss.prototypes.simclr`)
    torchvision:NAME            features before the classifier of a network pretrained on ImageNet
    ==========================  =================================================================

    Names with + between, but teachers, stand side by side, each half whitened, the first with twice
    the weight of each other. An encoder that comes with the package (results/reference/embeddings)
    is not trained again.

    Equal arguments give equal arrays on one machine, for kmeans-patches and manifold whatever the
    device: they are always computed on the CPU.

    Args:
        parts: which parts, and in which order.
        cache: folder for the arrays (and the checkpoints of SimCLR), or None.
        seed: of the patches, manifold and SimCLR; the others have no randomness.
        device: where networks are evaluated and trained.
        report: called with lines of text: share done, time left.

    Returns:
        For each of `parts` its features (N, F), float32.

    Raises:
        InputError: as for `check`; the weights of torchvision are unavailable; the cache cannot be
            written.
    """
    form = parse(spec)
    check(spec, dataset)
    choices = {"train": dataset.train, "test": dataset.test}
    sets: dict[str, ImageSet] = {part: choose(part, choices, what="part") for part in parts}
    if cache is None:
        features, _ = _compute(form, dataset, sets, None, seed, device, report)
        return [features[part] for part in parts]
    with locked(_lock(cache, form, dataset, seed, device), str(form), report):
        features, paths = {}, {}
        encoders = _encoders(form, dataset, cache, seed, device)
        for part, images in sets.items():
            paths[part] = cache / f"{_name(form, dataset, seed, images, device)}.npy"
            kept = cache_files.read(paths[part], len(images))
            # An encoder that was removed or replaced takes its features with it.
            if kept is not None and cache_files.encoders_of(paths[part]) == encoders:
                features[part] = kept
        missing = {part: images for part, images in sets.items() if part not in features}
        if missing:
            computed, cost = _compute(form, dataset, missing, cache, seed, device, report)
            encoders = _encoders(form, dataset, cache, seed, device)
            for part in missing:
                cache_files.write(paths[part], computed[part], cost, encoders)
                features[part] = computed[part]
    return [features[part] for part in parts]


def _encoders(form: Form, dataset: Dataset, cache: Path, seed: int, device: str) -> str:
    """A digest of the weights of each encoder that is trained for an embedding; "" if none is."""
    digests = []
    for name in joined(str(form)):
        part = parse(name)
        if part.name == "simclr":
            path = cache / f"{_name(part, dataset, seed, dataset.train, device)}.pt"
            weights = (checkpoint.load(path) or {}).get("encoder", {})
            digest = hashlib.sha256()
            for tensor in weights.values():
                digest.update(tensor.numpy().tobytes())
            digests.append(digest.hexdigest())
    return " ".join(digests)


def processor_seconds(
    used: Used,
    dataset: Dataset,
    cache: Path,
    *,
    paid: Sequence[Used] = (),
    device: str = "cpu",
) -> float | None:
    """What an embedding and an encoder in the cache took to compute, wherever that was.

    Nothing counts twice: training an encoder, say, whose features are the embedding.

    Args:
        paid: what counts elsewhere.

    Returns:
        Processor seconds, over all threads; None if they were not noted.
    """
    costs: dict[Path, float | None] = {}
    already = {path for other in paid for path in _files(other, dataset, cache, device)}
    for path in _files(used, dataset, cache, device) - already:
        if path.suffix == ".npy":
            costs[path] = cache_files.cost_of(path)
        else:
            costs[path] = (checkpoint.load(path) or {}).get("processor_seconds")
    total = sum(math.nan if seconds is None else seconds for seconds in costs.values())
    return None if math.isnan(total) else total


def _files(used: Used, dataset: Dataset, cache: Path, device: str) -> set[Path]:
    """The arrays and the trained encoders that were used."""
    found = set()
    arrays = {used.embedding, *joined(used.embedding)}
    for name in filter(None, (*arrays, used.encoder)):
        form = parse(name)
        path = cache / _name(form, dataset, used.seed, dataset.train, device)
        found |= {path.with_suffix(".npy")} if name in arrays else set()
        found |= {path.with_suffix(".pt")} if form.name == "simclr" else set()
    return found


def cache_of(results: Path) -> Path:
    """The folder, below that of results, in which embeddings are kept."""
    return results / "embeddings"


def oracle(spec: str) -> str:
    """Which hidden labels an embedding used, through the run of its teacher; "" if none.

    Raises:
        InputError: the teacher's file is missing or no such file.
    """
    name, _, path = spec.partition(":")
    if name != "teacher":
        return ""
    content = checkpoint.load(Path(path))
    if content is None:
        raise InputError(f"cannot read the network {path}")
    run, found = content.get("run"), [str(content.get("oracle") or "")]
    while isinstance(run, Mapping):
        leaks = run.get("pick_labels") == "true" or run.get("rank_by") == "best_test"
        found.append("the teacher's selected images used hidden labels" if leaks else "")
        run = run.get("parent")
    return "; ".join(dict.fromkeys(filter(None, found)))


def check(spec: str, dataset: Dataset) -> None:
    """Check that an embedding supports these images; does not try to download weights.

    Raises:
        InputError: unknown or malformed embedding, its file is missing or made for other images, or
            it does not support the size or the channels of the images.
    """
    form = parse(spec)
    if form.name == JOINED:
        for name in joined(spec):
            check(name, dataset)
        return
    channels, size = dataset.train.images.shape[1:3]
    check_size(size)
    if form.name == "simclr":
        config = _simclr_config(form, dataset)
        models.check(config.network, config.view_size)
    if form.name in ("simclr", "torchvision") and channels not in (1, 3):
        raise InputError(f"{spec} takes images of 1 or 3 channels, not of {channels}")
    if form.name == "teacher":
        load_teacher(Path(form.argument), dataset)
    if form.name == "manifold":
        _manifold_config(form, dataset)


def encoder(
    spec: str,
    dataset: Dataset,
    *,
    cache: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> Network:
    """The network whose features an embedding is, for those trained here (`encoder_network`).

    Args:
        as for `embed`.

    Raises:
        InputError: as for `embed`, or the embedding has no such network.
    """
    form = parse(spec)
    encoder_network(spec, dataset)
    progress = StageProgress(str(form), report)
    with contextlib.ExitStack() as stack:
        if cache is not None:
            lock = _lock(cache, form, dataset, seed, device)
            stack.enter_context(locked(lock, str(form), report))
        stack.enter_context(_threads(_num_threads(form, dataset)))
        return _simclr_encoder(form, dataset, cache, seed, device, progress)


def spelled_out(spec: str, dataset: Dataset) -> str:
    """The name of an embedding with every default in it: "simclr" as "simclr:2000@wrn-7-1"."""
    form = parse(spec)
    if form.name == JOINED:
        return "+".join(spelled_out(name, dataset) for name in joined(spec))
    if form.name == "simclr":
        config = _simclr_config(form, dataset)
        return f"simclr:{config.num_steps}@{config.network}"
    if form.name == "manifold":
        dictionary_size, dimension = _manifold_config(form, dataset)
        return f"manifold:{dictionary_size}x{dimension}"
    return str(form)


def encoder_network(spec: str, dataset: Dataset) -> str:
    """The name of the network of an embedding whose encoder is trained here.

    Raises:
        InputError: it has none.
    """
    check(spec, dataset)
    form = parse(spec)
    if form.name == JOINED:
        raise InputError(f"{spec} is several embeddings: name the one whose encoder is meant")
    if form.name != "simclr":
        raise InputError(f"{spec} trains no encoder: choose {FORMS['simclr']}")
    return _simclr_config(form, dataset).network


def _compute(
    form: Form,
    dataset: Dataset,
    sets: Mapping[str, ImageSet],
    cache: Path | None,
    seed: int,
    device: str,
    report: Callable[[str], None],
) -> tuple[dict[str, Features], float]:
    """The features of `sets`, by part; sometimes of the training part, too.

    Returns:
        They, and the processor seconds they took, but for training an encoder.
    """
    began, spent = time.monotonic(), time.process_time()
    progress = StageProgress(str(form), report)
    with _threads(_num_threads(form, dataset)):
        if form.name == "kmeans-patches":
            computed = _embed_patches(form, dataset, sets, seed, progress)
        elif form.name == "manifold":
            computed = _embed_manifold(form, dataset, sets, seed, progress)
        elif form.name == JOINED:
            wanted: list[Part] = [part for part in ("train", "test") if part in {"train", *sets}]
            kinds = [
                embed(
                    name,
                    dataset,
                    parts=wanted,
                    cache=cache,
                    seed=seed,
                    device=device,
                    report=report,
                )
                for name in joined(str(form))
            ]
            spent = time.process_time()
            computed = dict(zip(wanted, _join(kinds), strict=True))
        else:
            if form.name == "teacher":
                teacher = load_teacher(Path(form.argument), dataset)
                network = simclr.to_device(teacher, torch.device(device))
                extract, batch_size = _network_features(network), 500
            elif form.name == "simclr":
                network = _simclr_encoder(form, dataset, cache, seed, device, progress)
                extract, batch_size = _network_features(network), 500
                spent = time.process_time()
            else:
                extract, batch_size = pretrained.feature_extractor(form.argument, device), 100
            computed = _extract(extract, sets, batch_size, device, progress)
    report(f"{form}: done in {duration(time.monotonic() - began)}")
    return computed, time.process_time() - spent


def _embed_patches(
    form: Form,
    dataset: Dataset,
    sets: Mapping[str, ImageSet],
    seed: int,
    progress: StageProgress,
) -> dict[str, Features]:
    progress.begin("k-means")
    num_centroids = form.number
    assert num_centroids is not None
    dictionary = patches.learn(dataset.train.images, num_centroids, seed)

    def encode(images: Tensor) -> Features:
        return patches.encode(images, dictionary, progress)

    return _encode_parts(encode, patches.standardize, dataset, sets, progress)


def _embed_manifold(
    form: Form,
    dataset: Dataset,
    sets: Mapping[str, ImageSet],
    seed: int,
    progress: StageProgress,
) -> dict[str, Features]:
    progress.begin("dictionary and projection")
    learned = manifold.learn(
        dataset.train.images,
        _manifold_config(form, dataset),
        seed,
        mirrored=dataset.flip,
        progress=progress,
    )

    def encode(images: Tensor) -> Features:
        return manifold.encode(images, learned, progress)

    return _encode_parts(encode, manifold.balance, dataset, sets, progress)


def _encode_parts(
    encode: Callable[[Tensor], Features],
    scale: Callable[..., None],
    dataset: Dataset,
    sets: Mapping[str, ImageSet],
    progress: StageProgress,
) -> dict[str, Features]:
    """The features of the training images and of `sets`.

    Args:
        scale: given those of the training images, then the others, in place: by the statistics of
            the first.
    """
    computed = {}
    for part, images in ({"train": dataset.train} | dict(sets)).items():
        progress.begin(f"{part} images")
        computed[part] = encode(images.images)
    train = computed.pop("train")
    scale(train, *computed.values())
    return {"train": train} | computed


def _join(kinds: Sequence[Sequence[Features]]) -> list[Features]:
    """Embeddings side by side, for each part: half whitened along their strongest directions.

    Args:
        kinds: of each embedding the features of the training images, then of the other parts.
    """
    whitened = []
    for parts in kinds:
        whiten = half_whitening(parts[0], STRONGEST)
        whitened.append([whiten(part) for part in parts])
    return side_by_side(whitened, [1.0] + [WEIGHT_OF_OTHERS] * (len(kinds) - 1))


def _manifold_config(form: Form, dataset: Dataset) -> manifold.Config:
    numbers = [int(number) for number in form.argument.split("x") if number]
    return manifold.configure(dataset.train.images.shape[-1], *numbers)


def _simclr_encoder(
    form: Form,
    dataset: Dataset,
    cache: Path | None,
    seed: int,
    device: str,
    progress: StageProgress,
) -> Network:
    name = f"{_name(form, dataset, seed, dataset.train, device)}.pt"
    published = cache_of(bundled("reference")) / name
    if cache is not None and published.is_file():
        kept = checkpoint.load(cache / name) or {}
        if "encoder" not in kept:  # none, or trained in part
            cache_files.copy(published, cache / name)
    progress.begin("training")
    return simclr.train_encoder(
        dataset.train.images,
        _simclr_config(form, dataset),
        flip=dataset.flip,
        seed=seed,
        device=torch.device(device),
        file=cache and cache / name,
        basis=dataset.train.fingerprint,
        progress=progress,
    )


def _simclr_config(form: Form, dataset: Dataset) -> simclr.SimCLRConfig:
    images = dataset.train.images
    return simclr.configure(images.shape[-1], len(images), form.number, form.network)


def load_teacher(path: Path, dataset: Dataset) -> Network:
    """The teacher of a finished network's file, or of a checkpoint of its training."""
    if not path.is_file():
        raise InputError(f"there is no network file {path}")
    content = checkpoint.load(path) or {}
    try:
        state = content["teacher"] if "teacher" in content else content["training"]["teacher"]
        name = content["run"]["network"]
        [kernels, *_] = [tensor for tensor in state.values() if tensor.ndim == 4]
        takes, gives = kernels.shape[1], len(state["classify.weight"])
    except (TypeError, KeyError, AttributeError, IndexError, ValueError) as error:
        raise InputError(f"{path} is no network file of this package, or is damaged") from error
    channels = dataset.train.images.shape[1]
    if (takes, gives) != (channels, dataset.num_classes):
        raise InputError(
            f"{path}: the network is for {takes} channels and {gives} classes, {dataset.name} has"
            f" {channels} and {dataset.num_classes}"
        )
    network = models.build(
        name,
        channels=channels,
        num_classes=dataset.num_classes,
        norm_momentum=0.001,  # no effect: the running statistics are replaced
        generator=stream("teacher"),  # no effect: the weights are replaced
    )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:  # other layers, other shapes
        raise InputError(f"{path}: its weights are not those of a {name}") from error
    return network


def _network_features(network: Network) -> Callable[[Tensor], Tensor]:
    network.eval()
    return lambda images: network.features(to_float(images))


@torch.inference_mode()
def _extract(
    extract: Callable[[Tensor], Tensor],
    sets: Mapping[str, ImageSet],
    batch_size: int,
    device: str,
    progress: StageProgress,
) -> dict[str, Features]:
    """The features of every set, batch by batch: uint8 (n, C, S, S) on `device` -> (n, F)."""
    computed: dict[str, Features] = {}
    for part, images in sets.items():
        progress.begin(f"{part} images")
        progress(0.0)
        for start in range(0, len(images), batch_size):
            features = extract(images.images[start : start + batch_size].to(device)).cpu()  # (n, F)
            if part not in computed:
                computed[part] = np.empty((len(images), features.shape[1]), dtype=np.float32)
            computed[part][start : start + batch_size] = features.numpy()
            progress(min(1.0, (start + batch_size) / len(images)))
    return computed


def _num_threads(form: Form, dataset: Dataset) -> int:
    # On tiny images, synchronizing threads takes longer than computing.
    tiny = form.name != "torchvision" and dataset.train.images.shape[-1] < simclr.SMALL
    return 1 if tiny else num_cores()


@contextlib.contextmanager
def _threads(num: int) -> Iterator[None]:
    """Set the number of torch threads, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _name(form: Form, dataset: Dataset, seed: int, images: ImageSet, device: str) -> str:
    """The name of a file in the cache: a function of everything its content depends on."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "train": dataset.train.fingerprint,
        "images": images.fingerprint,
    }
    if form.name == "teacher":
        with Path(form.argument).open("rb") as file:
            content["network"] = hashlib.file_digest(file, "sha256").hexdigest()
    elif form.name == "torchvision":
        content["weights"] = str(pretrained.newest_weights(form.argument))
    elif form.name == "simclr":
        content |= {"config": asdict(_simclr_config(form, dataset)), "seed": seed}
        content["flip"] = dataset.flip
    elif form.name == "manifold":
        content |= _manifold_config(form, dataset)._asdict() | {"seed": seed}
        content["flip"] = dataset.flip
    elif form.name == JOINED:
        names = joined(str(form))
        content["parts"] = [_name(parse(n), dataset, seed, images, device) for n in names]
    else:
        content |= {"centroids": form.number, "seed": seed}
    kind = torch.device(device).type
    if kind != "cpu" and form.name not in ("kmeans-patches", "manifold", JOINED):
        content["device"] = kind
    text = json.dumps(content, sort_keys=True)
    return f"{form.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _lock(cache: Path, form: Form, dataset: Dataset, seed: int, device: str) -> Path:
    return cache / f"{_name(form, dataset, seed, dataset.train, device)}.lock"
