"""A `Run` becomes objects: data, labeled images, network, algorithm, configuration."""

import gc
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from boss import algorithms, data, models, self_training
from boss.algorithms import Algorithm, Sizes
from boss.augment import Views, check_size, to_float
from boss.data.label_sets import LabelSet, resolve, validation_indices
from boss.errors import InputError
from boss.models import Network
from boss.results.read import Store
from boss.seeds import Streams, stream
from boss.self_training import Selection
from boss.study.run import Run
from boss.training.config import LAYOUTS, TrainConfig
from boss.training.probe import Arithmetic, fastest, precisions_of
from boss.training.state import Training, TrainingData, UnlabeledImages, start
from boss.workers import starts
from boss.workers.runtime import Runtime

NUM_PREPARING = 1024  # unlabeled images that a network may be prepared by


class Workbench:
    """What a process keeps from run to run, and no run changes: a data set, its label sets, and how
    fast this machine computes.

    The data set of the last run stays in memory (SVHN: 2 GB) until its files change or a run needs
    another one.
    """

    def __init__(self) -> None:
        self._dataset: data.Dataset | None = None
        self._stamp: tuple[object, ...] = ()
        self._labels: dict[str, LabelSet] = {}
        self._arithmetic: dict[tuple[object, ...], Arithmetic] = {}

    def arithmetic(
        self, run: Run, dataset: data.Dataset, device: torch.device, layout: str
    ) -> Arithmetic:
        """As `find_arithmetic` finds it the first time."""
        shape = tuple(dataset.train.images.shape[1:])
        key = (run.network, run.precision, shape, device, layout)
        if key not in self._arithmetic:
            self._arithmetic[key] = find_arithmetic(run, dataset, device, layout)
        return self._arithmetic[key]

    def dataset(self, name: str, folder: Path | None) -> data.Dataset:
        """As `boss.data.load` returns it now."""
        stamp = (name, folder, data.stamp(name, folder))
        if self._dataset is None or stamp != self._stamp:
            self._dataset, self._labels = None, {}  # first: two might not fit into memory
            self._dataset, self._stamp = data.load(name, folder), stamp
        return self._dataset

    def labels(self, label_set: str, dataset: data.Dataset) -> LabelSet:
        """As `resolve` returns it now; a label set in a file is read again."""
        if dataset is not self._dataset or label_set.startswith(("file:", "select:")):
            return resolve(label_set, dataset)
        if label_set not in self._labels:
            self._labels[label_set] = resolve(label_set, dataset)
        return self._labels[label_set]

    def clear_up(self) -> None:
        """After a run: free the memory of the GPU, which other processes may need."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            gc.collect()
            torch.cuda.empty_cache()


def check(
    runs: Iterable[Run], runtime: Runtime
) -> tuple[dict[str, str], dict[tuple[str, str], LabelSet]]:
    """Check that each run can be trained: its data, labels, network and algorithm.

    Returns:
        The fingerprint of every data set, and the labeled images by (data set, id of the label
        set).

    Raises:
        InputError: the first thing that is unavailable or wrong.
    """
    runs, device = list(runs), torch.device(runtime.device)
    fingerprints: dict[str, str] = {}
    labels: dict[tuple[str, str], LabelSet] = {}
    for name in dict.fromkeys(run.dataset for run in runs):
        dataset = data.load(name, runtime.data)
        fingerprints[name] = dataset.fingerprint
        check_size(dataset.train.images.shape[-1])
        seen = set()
        for run in (r for r in runs if r.dataset == name):
            needs = run.with_fields(repeat=0)  # repeats need the same things
            if needs in seen:
                continue
            seen.add(needs)
            labels[name, run.label_set] = resolve(run.label_set, dataset)
            models.check(run.network, dataset.train.images.shape[-1])
            _algorithm(run)
            starts.check(run, dataset)
            if run.precision == "bf16-conv" and run.precision not in precisions_of(device):
                raise InputError(
                    f"precision bf16-conv: {runtime.device} does not round convolutions to bf16;"
                    " auto takes what is fast"
                )
            if run.augmentation == "flip" and not dataset.flip:
                raise InputError(
                    f"images of {name} must not be mirrored: augmentation flip is none"
                )
            if run.num_validation >= len(dataset.train):
                raise InputError(
                    f"num_validation={run.num_validation} leaves no unlabeled image of the"
                    f" {len(dataset.train)} of {name}"
                )
    return fingerprints, labels


def labeled_images(
    run: Run,
    dataset: data.Dataset,
    store: Store,
    workbench: Workbench | None = None,
    report: Callable[[str], None] = lambda line: None,
    device: str = "cpu",
) -> tuple[LabelSet, Selection | None]:
    """The labeled images of a run: its label set and the images that were selected for it."""
    labels = (workbench or Workbench()).labels(run.label_set, dataset)
    selection = starts.select_for(run, dataset, labels, store, report, device)
    if selection is None:
        return labels, None
    truth = dataset.train.labels.numpy()
    trained_as = truth[selection.indices] if run.pick_labels == "true" else selection.predictions
    return self_training.joined(labels, selection, trained_as), selection


def training_data(
    run: Run, dataset: data.Dataset, labels: LabelSet, device: torch.device
) -> TrainingData:
    """Labeled, unlabeled, test and validation images on the device.

    The unlabeled images are all of the training set and, where there are any, those that come
    without a class. The labeled ones stay among them (Sohn et al. 2020, footnote 2), but for those
    held out: the first `num_validation` of the reference's class-interleaved list leave the pool,
    labeled or not. Deviation: the reference also validates on the labeled images among them; here
    they are passed over, so that validation images are never trained on.
    """
    held_out = validation_indices(dataset.train.labels.numpy(), run.num_validation)
    images, truth = dataset.train.images, dataset.train.labels
    if run.num_validation:  # otherwise no copy is made: SVHN has 2 GB of images
        pool = torch.as_tensor(pool_indices(run, dataset))
        images, truth = images[pool], truth[pool]
    if dataset.unlabeled is not None:
        unknown = torch.full((len(dataset.unlabeled),), -1)
        truth = torch.cat([truth, unknown])
        # On the device: STL-10 has 3 GB of images.
        images = torch.cat([images.to(device), dataset.unlabeled.to(device)])
    labeled = dataset.train.subset(torch.tensor(labels.indices))
    labeled = replace(labeled, labels=torch.tensor(labels.labels))
    test = dataset.test
    in_labeled = set(labels.indices)
    unseen = [i for i in held_out.tolist() if i not in in_labeled]
    validation = dataset.train.subset(unseen) if unseen else None
    if run.max_eval_images is not None:
        test = test.subset(torch.arange(min(len(test), run.max_eval_images)))
        if validation is not None:
            num = min(len(validation), run.max_eval_images)
            validation = validation.subset(torch.arange(num))
    return TrainingData(
        labeled=labeled.to(device),
        unlabeled=UnlabeledImages(images.to(device), truth.to(device)),
        test=test.to(device),
        validation=None if validation is None else validation.to(device),
    )


def pool_indices(run: Run, dataset: data.Dataset) -> NDArray[np.int64]:
    """The unlabeled images among the training images: all but those held out, in order."""
    held_out = validation_indices(dataset.train.labels.numpy(), run.num_validation)
    return np.setdiff1d(np.arange(len(dataset.train)), held_out)


def _algorithm(run: Run) -> Algorithm:
    algorithm = algorithms.build(run.algorithm, run.options)
    for key, default in algorithms.hyperparameters(run.algorithm).items():
        if key in run.options and run.options[key] == default:
            raise InputError(
                f"option {key}={default} is the default of {run.algorithm}: leave it out, so that"
                " one training has one id"
            )
    if algorithm.views and run.unlabeled_ratio == 0:
        raise InputError(f"{run.algorithm} needs unlabeled images: unlabeled_ratio must not be 0")
    if not algorithm.views and run.unlabeled_ratio != 0:
        raise InputError(f"{run.algorithm} uses no unlabeled images: unlabeled_ratio must be 0")
    has_strong_view = "strong" in (*algorithm.views, algorithm.labeled_view)
    if not has_strong_view and run.augmentation != "randaugment":
        raise InputError(f"{run.algorithm} has no strong view: leave augmentation out")
    if algorithm.labeled_view == "strong" and run.augmentation in ("flip", "none"):
        raise InputError(
            f"{run.algorithm} distorts weakly augmented labeled images: augmentation must not be"
            f" {run.augmentation}"
        )
    return algorithm


def find_arithmetic(
    run: Run, dataset: data.Dataset, device: torch.device, layout: str
) -> Arithmetic:
    """The layout and the precision in which a run is computed on this machine.

    Only a run whose precision is "auto" is probed: the rounding of the others does not depend on
    timings.

    Args:
        layout: one of `boss.training.config.LAYOUTS`, or "auto".
    """
    if run.precision != "auto":
        return Arithmetic(LAYOUTS[0] if layout == "auto" else layout, run.precision)
    channels, size = dataset.train.images.shape[1:3]
    network = models.build(
        run.network,
        channels=channels,
        num_classes=dataset.train.num_classes,
        norm_momentum=run.norm_momentum,
        generator=torch.Generator(),
    )
    return fastest(
        network.to(device),
        channels,
        size,
        layouts=LAYOUTS if layout == "auto" else (layout,),
        precisions=precisions_of(device),
    )


def train_config(run: Run) -> TrainConfig:
    """The part of a run that the training loop reads."""
    return TrainConfig(**{f.name: getattr(run, f.name) for f in fields(TrainConfig)})


def start_run(
    run: Run,
    dataset: data.Dataset,
    device: torch.device,
    encoder: Network | None = None,
    layout: str = LAYOUTS[0],
) -> Training:
    """A run at step 0: network, algorithm, optimizer and random streams.

    Args:
        run: its precision one that `find_arithmetic` found, not "auto".
        encoder: whose weights the network starts from.
    """
    student = models.build(
        run.network,
        channels=dataset.train.images.shape[1],
        num_classes=dataset.train.num_classes,
        norm_momentum=run.norm_momentum,
        generator=stream(*run.stream_key, "initialization"),
    )
    sample = pool_indices(run, dataset)
    sample = sample[:: max(1, len(sample) // NUM_PREPARING)][:NUM_PREPARING]
    student.prepare(to_float(dataset.train.images[torch.as_tensor(sample)]))
    if encoder is not None:
        starts.copy_encoder(encoder, student)
    sizes = Sizes(
        num_classes=dataset.train.num_classes,
        num_features=student.num_features,
        num_unlabeled=num_unlabeled(run, dataset),
    )
    algorithm = _algorithm(run)
    algorithm.allocate(sizes, stream(*run.stream_key, "algorithm initialization"))
    dtype = torch.float32
    if run.precision == "fp64":
        student, algorithm, dtype = student.double(), algorithm.double(), torch.float64
    views = Views(
        run.augmentation,
        dataset.train.images.shape[-1],
        flip=dataset.flip,
        device=device,
        dtype=dtype,
    )
    streams = Streams(*run.stream_key, device=device)
    config = train_config(run)
    return start(student, algorithm, views, config, streams, sizes.num_classes, device, layout)


def num_unlabeled(run: Run, dataset: data.Dataset) -> int:
    """The number of unlabeled training images of a run."""
    extra = 0 if dataset.unlabeled is None else len(dataset.unlabeled)
    return len(dataset.train) - run.num_validation + extra
