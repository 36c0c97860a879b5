"""The one place that turns a `Run` into data, network, algorithm and configuration, and trains it.

Everything here happens inside a worker process, which performs one run after another. What it
keeps between them is a `Workbench`, and nothing else.
"""

import contextlib
import copy
import functools
import gc
import hashlib
import io
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import pandas as pd
import threadpoolctl  # type: ignore[import-untyped]
import torch
from PIL import Image

from boss import algorithms, checkpoint, data, models, self_training
from boss.algorithms import Algorithm, Sizes
from boss.augment import Views, check_size, rate_rows
from boss.cost import parse_network
from boss.data.label_sets import LabelSet, resolve, validation_indices
from boss.errors import InputError
from boss.evaluate import predict
from boss.place import Place, execution_of
from boss.seeds import Streams, stream
from boss.self_training import Picks
from boss.step import WARMUP_STEPS
from boss.store import Store, write_atomically
from boss.study import Run
from boss.train import train
from boss.training import TrainConfig, Training, TrainingData, UnlabeledImages, start

LOCK_SECONDS = 10.0  # how long to wait for another process that is just letting go of a run
COMPILE_SECONDS = 900.0  # how long to wait for another process that is compiling
NUM_FIRST_STEPS = WARMUP_STEPS + 1  # after which everything is compiled, and recorded
REPORT_SECONDS = 1.0
# For libraries that are loaded later, and for joblib.
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "LOKY_MAX_CPU_COUNT",
)
MAX_RATE_STEPS = 64  # evaluations whose CTAugment rates are stored
# Of a label set: more would make its rows larger than its results.
MAX_LABELS_WITH_PIXELS, MAX_LABELED_VALUES = 1000, 2**22


class BusyError(RuntimeError):
    """Another process is training this very run."""


class Workbench:
    """What a process keeps from run to run: costly to make, and never changed by a run.

    The data set of the last run, once in memory (SVHN: 2 GB), until its files change or another is
    asked for; its label sets.
    """

    def __init__(self) -> None:
        self._dataset: data.Dataset | None = None
        self._stamp: tuple[object, ...] = ()
        self._labels: dict[str, LabelSet] = {}

    def dataset(self, name: str, place: Path | None) -> data.Dataset:
        """As `boss.data.load` returns it now."""
        stamp = (name, place, data.stamp(name, place))
        if self._dataset is None or stamp != self._stamp:
            self._dataset, self._labels = None, {}  # first: two of them might not fit
            self._dataset, self._stamp = data.load(name, place), stamp
        return self._dataset

    def labels(self, label_set: str, dataset: data.Dataset) -> LabelSet:
        """As `resolve` returns it now; what lies in a file of its own is read again."""
        if dataset is not self._dataset or label_set.startswith(("file:", "select:")):
            return resolve(label_set, dataset)
        if label_set not in self._labels:
            self._labels[label_set] = resolve(label_set, dataset)
        return self._labels[label_set]

    def clear_up(self) -> None:
        """After a run: give back the memory of the GPU, which other processes may need."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            gc.collect()
            torch.cuda.empty_cache()


def perform(
    run: Run,
    place: Place,
    *,
    workbench: "Workbench | None" = None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[dict[str, Any]], None] = lambda progress: None,
) -> Literal["finished", "interrupted"]:
    """Train a run from its checkpoint, if it has one, and store its rows.

    Args:
        workbench: of this process, so that its runs need not load the same data again and again.
        should_stop: asked before every step; if it says so, a checkpoint is written and that is it.
        report: called about once a second with step, num_steps, accuracy (None before the first
            evaluation) and resumed_at.

    Raises:
        InputError: the data, the label set, the network or the algorithm cannot be had.
        BusyError: the run is being trained elsewhere.
        NonFiniteLossError: the loss left the real numbers.
    """
    began = time.perf_counter()
    workbench = workbench or Workbench()
    store = Store(place.results, place.study)
    folder = store.state_folder(run.id)
    with _lock(run, folder, should_stop):
        if store.has_parts(run.id):  # by the process that held the lock until now
            shutil.rmtree(folder, ignore_errors=True)
            return "finished"
        (folder / "error.json").unlink(missing_ok=True)
        configure_torch(run, place)
        dataset = workbench.dataset(run.dataset, place.data)
        if place.fingerprints.get(run.dataset, dataset.fingerprint) != dataset.fingerprint:
            raise InputError(f"the files of {run.dataset} have changed since the study was started")
        labels, picks = labeled_images(run, dataset, store, workbench)
        device = torch.device(place.device)
        training = start_run(run, dataset, device)
        # What a checkpoint must agree with to be continued.
        basis = {
            "run_id": run.id,
            "data": dataset.fingerprint,
            "labeled images": [list(labels.indices), list(labels.labels)],
            "kind of device": device.type,
        }
        resumed_at = 0
        if (saved := _saved(run, basis, folder)) is not None:
            try:
                training.load_state_dict(saved)
                resumed_at = training.step
            except Exception:  # whatever it is, it is not a state of this training
                training = start_run(run, dataset, device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        images = training_data(run, dataset, labels, device)
        program = program_of(run, dataset, place)
        cache = folder if program is None else compiler_cache()
        with compile_lock(program, cache, should_stop) as has_compiled:
            saver = _Saver(run, training, basis, folder, place.checkpoint_seconds, report)
            saver.tell(resumed_at)

            def after_step(training: Training) -> None:
                if training.step - resumed_at == NUM_FIRST_STEPS:
                    has_compiled()
                saver(training)

            done = train(
                training,
                images,
                train_config(run),
                key=run.stream_key,
                execution=execution_of(place),
                since=began,
                should_stop=should_stop,
                report=after_step,
            )
        if not done:
            saver.save()
            return "interrupted"
        saver.tell()
        row = _run_row(run, place, training, dataset, labels, picks)
        if place.keep_networks:
            kept = {
                "run": run.as_dict(),
                "oracle": row["oracle"] or "",
                "teacher": training.teacher.state_dict(),
            }
            checkpoint.save(store.folder / "networks" / f"{run.id}.pt", kept)
        store.write(
            row,
            evaluations=training.evaluations,
            class_evaluations=training.class_evaluations,
            labeled_images=_label_rows(dataset, labels, picks),
            predictions=_prediction_rows(run, training, dataset, device),
            **({"augmentation_rates": _rate_rows(training)} if training.rates else {}),
        )
    shutil.rmtree(folder, ignore_errors=True)
    return "finished"


def _lock(
    run: Run, folder: Path, should_stop: Callable[[], bool]
) -> filelock.AcquireReturnProxy[Any]:
    """The lock of a run, held. Who finishes a run removes the folder, with its lock."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return filelock.FileLock(folder / "lock").acquire(timeout=0.5, poll_interval=0.05)
        except FileNotFoundError:
            continue
        except filelock.Timeout as error:
            if time.monotonic() > deadline or should_stop():
                raise BusyError(f"{run.title} is being trained by another process") from error


@contextlib.contextmanager
def compile_lock(
    program: str | None, folder: Path, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Callable[[], None]]:
    """Around the first steps of a run: of all processes that need a program, one compiles it, the
    others wait and then find it in the compiler's cache on disk.

    A file lock, which ends with its process. It spares work and nothing else: whoever cannot have
    it (a folder that cannot be written, COMPILE_SECONDS of waiting) goes on without.

    Args:
        program: `program_of` the run; None: there is nothing to compile.
        folder: the compiler's cache, `compiler_cache()`.
        should_stop: asked while waiting; if it says so, the wait is over.

    Yields:
        A function to call when the first steps are done, which lets the others in; before that,
        the end of the block lets the next one try. Calling it again does nothing.
    """
    if program is None:
        yield lambda: None
        return
    done, lock = folder / f"boss-{program}.done", filelock.FileLock(folder / f"boss-{program}.lock")

    def compiled() -> None:
        if lock.is_locked:
            with contextlib.suppress(OSError):
                done.touch()
            lock.release()

    deadline = time.monotonic() + COMPILE_SECONDS
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        while not (done.exists() or should_stop() or time.monotonic() > deadline):
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0.2, poll_interval=0.05)
                break
    try:
        yield compiled
    finally:
        lock.release()


def program_of(run: Run, dataset: data.Dataset, place: Place) -> str | None:
    """A name of what the compiler makes of the steps of a run: equal names, equal programs.

    16 hex digits of a SHA-256 over all that can shape it; None if the steps are not compiled.
    """
    execution = execution_of(place)
    if not execution.startswith("compiled"):
        return None
    # Of a run everything but what is data to the program: more would be compiled more often than
    # needed, less would make runs wait in vain.
    names = (
        *("algorithm", "network", "batch_size", "unlabeled_ratio", "augmentation", "optimizer"),
        *("precision", "deterministic", "nesterov", "norm_momentum", "teacher_decay"),
    )
    key = {
        "run": {name: getattr(run, name) for name in names},
        "options": dict(run.options),
        "images": [*dataset.train.images.shape[1:], dataset.flip],
        "classes": dataset.num_classes,
        "execution": execution,
        "device": [device_name(torch.device(place.device)), place.device],
        "versions": [torch.__version__, place.versions, place.commit],
    }
    text = json.dumps(key, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compiler_cache() -> Path:
    """The folder in which torch's compiler keeps what it has compiled, of this user and machine."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return Path(cache_dir())


def check(
    runs: Iterable[Run], place: Place
) -> tuple[dict[str, str], dict[tuple[str, str], LabelSet]]:
    """See that each run can be performed: its data, labels, network and algorithm.

    Returns:
        What the runs stand on: the fingerprint of every data set, and the labeled images by
        (data set, id of the label set).

    Raises:
        InputError: the first thing that cannot be had.
    """
    runs = list(runs)
    fingerprints: dict[str, str] = {}
    labels: dict[tuple[str, str], LabelSet] = {}
    for name in dict.fromkeys(run.dataset for run in runs):
        dataset = data.load(name, place.data)
        fingerprints[name] = dataset.fingerprint
        check_size(dataset.train.images.shape[-1])
        seen = set()
        for run in (r for r in runs if r.dataset == name):
            needs = run.with_fields(repeat=0)  # repeats need the same things
            if needs in seen:
                continue
            seen.add(needs)
            labels[name, run.label_set] = resolve(run.label_set, dataset)
            parse_network(run.network)
            _algorithm(run)
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
    run: Run, dataset: data.Dataset, store: Store, workbench: Workbench | None = None
) -> tuple[LabelSet, Picks | None]:
    """What a run learns from: its label set, and in self-training what its parent picks."""
    labels = (workbench or Workbench()).labels(run.label_set, dataset)
    if run.parent is None:
        return labels, None
    picks = self_training.picks_of_parent(run, dataset, labels, store)
    truth = dataset.train.labels.numpy()
    trained_as = picks.guesses if run.pick_labels == "pseudo" else truth[picks.indices]
    return self_training.joined(labels, picks, trained_as), picks


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
        pool = torch.ones(len(dataset.train), dtype=torch.bool)
        pool[torch.as_tensor(held_out, dtype=torch.int64)] = False
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


def configure_torch(run: Run, place: Place) -> None:
    """Settings of the whole process, each set anew for every run: what an earlier run wanted has no
    say. One thread by default, so that a processor's results do not depend on how many runs share
    it.

    cuBLAS reads its settings when it is first used: on a GPU, a process is for deterministic runs
    or for others.
    """
    if place.device.startswith("cuda"):
        torch.cuda.set_device(place.device)  # what compiles and records looks for the current one
    torch.set_num_threads(place.threads)
    torch.set_default_dtype(torch.float32)
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # not TF32
    # Not called without need: it imports torch's compiler, which takes seconds.
    if run.deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(run.deterministic)
        # Nothing here reads memory that was not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if run.deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


def limit_threads(num: int) -> None:
    """Let no pool of threads in this process, torch's, OpenMP's or that of a BLAS, exceed `num`."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(num)
    threadpoolctl.threadpool_limits(num)
    torch.set_num_threads(num)


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


def train_config(run: Run) -> TrainConfig:
    """What the loop needs to know of a run."""
    return TrainConfig(**{f.name: getattr(run, f.name) for f in fields(TrainConfig)})


def start_run(run: Run, dataset: data.Dataset, device: torch.device) -> Training:
    """A run at step 0: network, algorithm, optimizer and random streams."""
    student = models.build(
        run.network,
        channels=dataset.train.images.shape[1],
        num_classes=dataset.train.num_classes,
        norm_momentum=run.norm_momentum,
        generator=stream(*run.stream_key, "initialization"),
    )
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
    return start(student, algorithm, views, train_config(run), streams, sizes.num_classes, device)


def num_unlabeled(run: Run, dataset: data.Dataset) -> int:
    """The number of images that a run learns from without labels."""
    extra = 0 if dataset.unlabeled is None else len(dataset.unlabeled)
    return len(dataset.train) - run.num_validation + extra


def _saved(run: Run, basis: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """The state of the training in the checkpoint of this run, if there is one.

    Raises:
        InputError: it stands on other data, labels or devices.
    """
    saved = checkpoint.load(folder / "checkpoint.pt")
    before = None if saved is None else saved.get("basis")
    if saved is None or not isinstance(before, dict) or before.keys() != basis.keys():
        return None
    if before["run_id"] != run.id:
        return None
    for name, now in basis.items():
        if before[name] != now:
            raise InputError(
                f"the checkpoint of {run.title} was made with another {name}: continue with that,"
                f" or remove {folder} to start over"
            )
    return dict(saved.get("training") or {})


class _Saver:
    """Called after every step: reports about once a second, saves every `checkpoint_seconds`."""

    def __init__(
        self,
        run: Run,
        training: Training,
        basis: dict[str, Any],
        folder: Path,
        every: float,
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        self.run, self.training, self.basis, self.folder = run, training, basis, folder
        self.every, self.report = every, report
        self.reported_at = self.saved_at = time.monotonic()

    def __call__(self, training: Training) -> None:
        now = time.monotonic()
        if now - self.reported_at >= REPORT_SECONDS:
            training.totals.check_finite()
            self.tell()
            self.reported_at = now
        if now - self.saved_at >= self.every:
            self.save()
            self.saved_at = time.monotonic()

    def tell(self, resumed_at: int | None = None) -> None:
        last = [r for r in self.training.evaluations[-2:] if r["network"] == "teacher"]
        progress: dict[str, Any] = {
            "step": self.training.step,
            "num_steps": self.run.num_steps,
            "accuracy": last[0]["test_accuracy"] if last else None,
        }
        self.report(progress if resumed_at is None else progress | {"resumed_at": resumed_at})

    def save(self) -> None:
        self.training.totals.check_finite()  # never replace a sound checkpoint by a spoilt one
        content = {
            "run": self.run.as_dict(),
            "basis": self.basis,
            "training": self.training.state_dict(),
        }
        checkpoint.save(self.folder / "checkpoint.pt", content)
        progress = {"step": self.training.step, "num_steps": self.run.num_steps}
        write_atomically(
            self.folder / "progress.json", lambda path: path.write_text(json.dumps(progress))
        )


def _run_row(
    run: Run,
    place: Place,
    training: Training,
    dataset: data.Dataset,
    labels: LabelSet,
    picks: Picks | None,
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
        same = (ancestor.pick_labels, ancestor.rank_by) == ("pseudo", "last")
        oracles.append("" if same else f"an oracle in round {ancestor.round}")
        ancestor = ancestor.parent
    truth = dataset.train.labels.numpy()
    return run.as_dict() | {
        "run_id": run.id,
        "study": place.study,
        "dataset_fingerprint": dataset.fingerprint,
        "labels": list(labels.indices),
        "label_classes": list(labels.labels),
        "num_labels": len(labels.indices),
        "parent": run.parent and run.parent.id,
        "round": run.round,
        "num_picks": 0 if picks is None else len(picks.indices),
        "num_wrong_picks": 0
        if picks is None
        else int((picks.guesses != truth[picks.indices]).sum()),
        "stop_reason": picks and picks.stop_reason,
        "oracle": "; ".join(filter(None, oracles)) or None,
        "num_parameters": sum(p.numel() for p in training.student.parameters()),
        "num_steps": run.num_steps,
        "options": json.dumps(options, sort_keys=True),
        "seconds": training.seconds,
        "first_step_seconds": training.first_step_seconds,
        "execution": "+".join(training.executions),
        "peak_device_bytes": torch.cuda.max_memory_allocated(place.device)
        if place.device.startswith("cuda")
        else None,
        "device": device_name(torch.device(place.device)),
        "threads": place.threads,
        "versions": json.dumps(place.versions, sort_keys=True),
        "commit": place.commit,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "last_accuracy": accuracies[-1],
        "median_last_20_accuracy": float(np.median(accuracies[-20:])),
        "best_test_accuracy": max(r["test_accuracy"] for r in training.evaluations),
    }


def _label_rows(
    dataset: data.Dataset, labels: LabelSet, picks: Picks | None
) -> list[dict[str, Any]]:
    """The labeled images, the prototypes with their pixels: a reader can look at them."""
    num_picks = 0 if picks is None else len(picks.indices)
    num_prototypes = len(labels) - num_picks
    with_pixels = num_prototypes <= MAX_LABELS_WITH_PIXELS
    with_pixels &= num_prototypes * dataset.train.images[0].numel() <= MAX_LABELED_VALUES
    rows = []
    for position, (index, label) in enumerate(zip(labels.indices, labels.labels, strict=True)):
        is_pick = position >= num_prototypes
        image = dataset.train.images[index]
        rows.append(
            {
                "position": position,
                "image_index": index,
                "label": label,
                "true_label": int(dataset.train.labels[index]),
                "class_name": dataset.class_names[label],
                "is_pick": is_pick,
                "doubt": float(picks.doubts[position - num_prototypes])
                if picks is not None and is_pick
                else None,
                "image": _png(image) if with_pixels and not is_pick else None,
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
    run: Run, training: Training, dataset: data.Dataset, device: torch.device
) -> pd.DataFrame:
    """What the last teacher, and the best network on the test set, take the images for."""
    best = copy.deepcopy(training.teacher)
    best.load_state_dict(training.best_weights)
    images = dataset.train.images[: run.max_eval_images].to(device)
    networks = {"last": training.teacher, "best_test": best}
    found = [predict(network, images, precision=run.precision) for network in networks.values()]
    return pd.DataFrame(
        {
            "network": np.repeat([*networks], len(images)),
            "image_index": np.tile(np.arange(len(images)), len(networks)),
            "guess": np.concatenate([guesses.cpu().numpy() for guesses, _ in found]),
            "doubt": np.concatenate([doubts.cpu().numpy() for _, doubts in found]),
        }
    )


def _rate_rows(training: Training) -> pd.DataFrame:
    """The rates that CTAugment learned, at no more than MAX_RATE_STEPS evaluations."""
    evaluations = np.linspace(0, len(training.rates) - 1, MAX_RATE_STEPS).round().astype(int)
    steps = [training.rates[index] for index in dict.fromkeys(evaluations.tolist())]
    tables = [pd.DataFrame(rate_rows(rates)).assign(step=step) for step, rates in steps]
    return pd.concat(tables, ignore_index=True)


@functools.cache
def device_name(device: torch.device) -> str:
    """What a reader would call it: the GPU's or the processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
