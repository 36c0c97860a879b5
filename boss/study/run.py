"""A run: one training, complete. Every field says what it means and what it may be.

Validation, ids, the columns of results, `--only`, the data dictionary and the settings of reports
follow from these declarations. Nothing here imports torch.
"""

import dataclasses
import hashlib
import json
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from boss.errors import InputError, check_interval, choose
from boss.study.methods import method_name

Scalar = str | int | float | bool | None
BUDGETS = ("smoke", "laptop", "short", "paper")
# Of the strong views, and what tables and figures call them.
AUGMENTATIONS = {
    "randaugment": "RandAugment",
    "randaugment-without-cutout": "RandAugment, no Cutout",
    "ctaugment": "CTAugment",
    "ctaugment-without-cutout": "CTAugment, no Cutout",
    "ctaugment-paper": "CTAugment as published",
    "cutout": "Cutout",
    "weak": "weak views",
    "flip": "flip",
    "none": "no augmentation",
}
OPTIMIZERS = ("sgd", "asgd", "adagrad", "adam", "adamw", "muon")
SCHEDULES = ("cosine", "linear", "constant")
PICK_LABELS = ("pseudo", "true")
# How a parent's network selects, and what names say of it.
RANKED = {
    "last": "",
    "graph": "by graph",
    "both": "by graph and confidence",
    "smoothed": "smoothed",
    "best_test": "best on test",
}
# Those by label propagation, which need the parent's network itself; the others read the table of
# its predictions.
BY_GRAPH = ("graph", "both", "smoothed")
STARTS = ("labels", "propagation")


@dataclass(frozen=True)
class Setting:
    """What is known of a field of `Run`.

    Attributes:
        meaning: one line, with the unit.
        group: "identity", "training" (the hyperparameters), "evaluation", "start" or
            "self-training".
        interval: where numbers lie, "[0, 1)" or "(0, inf)"; empty: anywhere.
        choices: the values of a text; empty: any.
        in_id: "always"; "with parent"; or "changed": where it is not at its default, so that a
            setting that is added later leaves all ids as they are.
    """

    meaning: str
    group: str
    interval: str = ""
    choices: tuple[str, ...] = ()
    in_id: str = "changed"


def setting(
    meaning: str,
    group: str = "training",
    *,
    interval: str = "",
    choices: tuple[str, ...] = (),
    in_id: str = "changed",
) -> dict[str, Setting]:
    """The metadata of a field of `Run`: see `Setting`."""
    return {"setting": Setting(meaning, group, interval, choices, in_id)}


def first(meaning: str, group: str = "training", **rest: Any) -> dict[str, Setting]:
    """The same for a setting of the first version, which is part of every id."""
    return setting(meaning, group, in_id="always", **rest)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, complete: two runs with equal fields are the same run.

    The random streams are a function of (label_set, repeat) alone, so runs that differ in anything
    else (the algorithm, say) share their draws and can be compared in pairs. Defaults are those of
    FixMatch on CIFAR-10 (Sohn et al. 2020, table 4).
    """

    # fmt: off
    dataset: str = field(metadata=first(
        "name of the data set, path of an .npz file, or folder:PATH[@SIZE]", "identity"))
    algorithm: str = field(metadata=first("name of the algorithm", "identity"))
    label_set: str = field(metadata=first(
        "id of the labeled images (boss:3, carlini:7, fixmatch:3@10, file:my.json)", "identity"))
    repeat: int = field(metadata=first(
        "same settings, other random streams", "identity", interval="[0, inf)"))
    network: str = field(metadata=first("architecture, such as wrn-28-2", "identity"))
    num_images: int = field(metadata=first(
        "labeled images seen during training, repetitions counted", "identity",
        interval="[1, inf)"))
    budget: str = field(default="paper", metadata=first(
        "how long to train", "identity", choices=BUDGETS))
    options: Mapping[str, Scalar] = field(default_factory=dict, metadata=first(
        "hyperparameters of the algorithm, defaults included, as JSON", "identity"))
    batch_size: int = field(default=64, metadata=first(
        "labeled images per step (B)", interval="[1, inf)"))
    unlabeled_ratio: int = field(default=7, metadata=first(
        "unlabeled images per labeled one (mu)", interval="[0, inf)"))
    augmentation: str = field(default="randaugment", metadata=setting(
        "of the strong views (boss.augment.Views)", choices=(*AUGMENTATIONS,)))
    optimizer: str = field(default="sgd", metadata=setting(
        "of torch.optim, and muon; the decay of adamw, and of muon on convolutions, is decoupled,"
        " that of the others an L2 loss",
        choices=OPTIMIZERS))
    learning_rate: float = field(default=0.03, metadata=first(
        "initial learning rate", interval="(0, inf)"))
    schedule: str = field(default="cosine", metadata=setting(
        "of the learning rate; cosine ends at 0.195 of the initial rate", choices=SCHEDULES))
    final_learning_rate: float = field(default=0.0, metadata=setting(
        "where the linear schedule ends", interval="[0, inf)"))
    momentum: float = field(default=0.9, metadata=first(
        "of sgd; first decay (beta 1) of adam", interval="[0, 1)"))
    nesterov: bool = field(default=True, metadata=setting(
        "whether the momentum of sgd is Nesterov's"))
    beta2: float = field(default=0.999, metadata=setting(
        "second decay of adam", interval="[0, 1)"))
    weight_decay: float = field(default=5e-4, metadata=first(
        "L2 coefficient, on kernels only; decoupled with adamw", interval="[0, inf)"))
    teacher_decay: float = field(default=0.999, metadata=first(
        "decay of the moving average of the trainable weights", interval="[0, 1)"))
    norm_momentum: float = field(default=0.001, metadata=first(
        "weight of a batch in the running statistics of batch norm", interval="(0, 1]"))
    num_evaluations: int = field(default=20, metadata=first(
        "evaluations, evenly spaced, the last one after the last step", interval="[1, inf)"))
    precision: str = field(default="fp32", metadata=first(
        "of the passes through networks; bf16 is autocast, bf16-conv rounds what a CPU's"
        " convolutions multiply, fp64 is for tests; auto is the fastest (boss.training.probe)",
        choices=("fp32", "bf16", "bf16-conv", "auto", "fp64")))
    deterministic: bool = field(default=False, metadata=first(
        "refuse operations whose result varies from call to call"))
    num_validation: int = field(default=0, metadata=first(
        "training images held out of the unlabeled ones", "evaluation", interval="[0, inf)"))
    max_eval_images: int | None = field(default=None, metadata=first(
        "evaluate on, and select from, the first so many images only; empty: all", "evaluation",
        interval="[1, inf)"))
    # A start from an embedding: the images that label propagation is most certain of join the label
    # set (boss.prototypes.propagation), or the weights of its encoder are the network's first.
    start: str = field(default="labels", metadata=setting(
        "labels: the label set alone; propagation: and the images most certain by label"
        " propagation over an embedding", "start", choices=STARTS))
    embedding: str = field(default="", metadata=setting(
        "over which labels propagate (boss.prototypes.embeddings), with a parent beside its"
        " teacher's features; empty: none", "start"))
    num_start: int = field(default=0, metadata=setting(
        "images per class that label propagation adds", "start", interval="[0, inf)"))
    encoder: str = field(default="", metadata=setting(
        "embedding whose encoder the network starts from; empty: random weights", "start"))
    embedding_seed: int = field(default=0, metadata=setting(
        "of the embedding and the encoder", "start", interval="[0, inf)"))
    # Self-training: this run starts when its parent has finished, and learns from the label set and
    # from the images on which the parent's teacher is most confident (boss.self_training).
    parent: "Run | None" = field(default=None, metadata=setting(
        "run_id of the run whose network selected further images; empty: none", "self-training",
        in_id="with parent"))
    picks_per_class: int = field(default=0, metadata=setting(
        "selected images per predicted class; 0 in round 0", "self-training",
        interval="[0, inf)", in_id="with parent"))
    pick_labels: str = field(default="pseudo", metadata=setting(
        "label of a selected image: the parent's prediction, or true (an oracle)",
        "self-training", choices=PICK_LABELS, in_id="with parent"))
    rank_by: str = field(default="last", metadata=setting(
        "how the parent's network selects: by the confidence of its last teacher; by label"
        " propagation over the graph of that teacher's features; by both, multiplied; by its"
        " predictions, averaged over that graph; or by the confidence of the network of the best"
        " test accuracy (an oracle)",
        "self-training", choices=(*RANKED,), in_id="with parent"))
    # fmt: on

    def __post_init__(self) -> None:
        if not isinstance(self.options, Mapping):
            raise InputError(f"options must be a dict, not {self.options!r}")
        options = {
            key: _scalar(f"option {key}", value) for key, value in sorted(self.options.items())
        }
        object.__setattr__(self, "options", types.MappingProxyType(options))
        for declared in dataclasses.fields(self):
            value = getattr(self, declared.name)
            if value is not declared.default:
                # Studies make thousands of runs, which have most values in common.
                check = _checked if type(value) in _KINDS else _checked.__wrapped__
                object.__setattr__(self, declared.name, check(declared, value))
        self._check_optimizer()
        self._check_precision()
        self._check_start()
        self._check_parent()

    def _check_optimizer(self) -> None:
        """A setting that would have no effect is refused."""
        if self.optimizer not in ("adam", "adamw") and self.beta2 != DEFAULTS["beta2"]:
            raise InputError(f"beta2 has no effect on {self.optimizer}: leave it out")
        if not self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise InputError("nesterov=False is for sgd with momentum: leave it out")
        if self.optimizer in ("asgd", "adagrad") and self.momentum != 0:
            raise InputError(f"{self.optimizer} has no momentum: set momentum=0")
        if self.optimizer == "asgd" and self.teacher_decay != 0:
            raise InputError("with asgd the teacher is its average: set teacher_decay=0")
        if self.schedule == "linear" and self.final_learning_rate == self.learning_rate:
            raise InputError(
                "a linear schedule from a rate to itself: that is the constant schedule"
            )
        if self.schedule != "linear" and self.final_learning_rate != 0:
            raise InputError(
                f"final_learning_rate has no effect on the {self.schedule} schedule: leave it out"
            )

    def _check_precision(self) -> None:
        if self.deterministic and self.precision == "auto":
            raise InputError("a deterministic run names its precision: auto is chosen by timing")

    def _check_start(self) -> None:
        if self.start == "propagation":
            if not self.embedding:
                raise InputError("start='propagation' needs an embedding")
            if self.num_start < 1:
                raise InputError("start='propagation' needs num_start, at least 1")
            if self.parent is not None:
                raise InputError(
                    "a run with a parent starts from the images that the parent selects, not from"
                    " label propagation: leave start out"
                )
            return
        if self.num_start:
            raise InputError("num_start is for start='propagation'")
        if self.embedding and self.rank_by not in BY_GRAPH:
            raise InputError(
                "an embedding is for start='propagation' and for rounds with rank_by="
                + ", ".join(BY_GRAPH)
            )
        if self.embedding_seed and not (self.embedding or self.encoder):
            raise InputError("embedding_seed has no effect without an embedding or an encoder")

    def _check_parent(self) -> None:
        parent = self.parent
        if parent is None:
            if (self.picks_per_class, self.pick_labels, self.rank_by) != (0, "pseudo", "last"):
                raise InputError("picks_per_class, pick_labels and rank_by need a parent")
            return
        if not isinstance(parent, Run):
            raise InputError(f"parent must be a Run, not {parent!r}")
        if self.picks_per_class < 1:
            raise InputError("a run with a parent needs picks_per_class, at least 1")
        for name in ("dataset", "label_set", "repeat", "budget", "num_validation"):
            if getattr(self, name) != getattr(parent, name):
                raise InputError(
                    f"a run and its parent must agree in {name}, not {getattr(self, name)!r} and"
                    f" {getattr(parent, name)!r}"
                )

    @property
    def round(self) -> int:
        """0: trained on the label set alone; r: a self-training run after r - 1 others."""
        return 0 if self.parent is None else self.parent.round + 1

    @property
    def stream_key(self) -> tuple[Scalar, ...]:
        """What seeds the random streams. A round of self-training starts afresh, and runs of the
        same round share their draws."""
        key: tuple[Scalar, ...] = (self.label_set, self.repeat)
        return (*key, "round", self.round) if self.round else key

    def with_fields(self, **changes: Any) -> "Run":
        """The same run with other values, its ancestors too: for fields that all must share."""
        parent = self.parent and self.parent.with_fields(**changes)
        return dataclasses.replace(self, parent=parent, **changes)

    @property
    def num_steps(self) -> int:
        """Steps of training: the schedule counts labeled images, so a smaller batch takes more."""
        return math.ceil(self.num_images / self.batch_size)

    def as_dict(self) -> dict[str, Any]:
        """Every field, `options` as a plain dict, `parent` as such a dict of its own."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        parent = self.parent and self.parent.as_dict()
        return fields | {"options": dict(self.options), "parent": parent}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Run":
        """The inverse of `as_dict`."""
        parent = fields.get("parent")
        return cls(**{**fields, "parent": parent and cls.from_dict(parent)})

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the settings as canonical JSON.

        `Setting.in_id` says which settings count; a parent counts by its id. Every spelling of a
        training has one id: numbers have the type of their field, those in options are floats
        (written as `repr` does, the shortest text that reads back equal), and options at their
        default must be left out (`boss.workers.build.check`).
        """
        fields = self.as_dict()
        for name, declared in SETTINGS.items():
            with_parent = declared.in_id == "with parent" and self.parent is not None
            changed = declared.in_id == "changed" and fields[name] != DEFAULTS.get(name)
            if not (declared.in_id == "always" or with_parent or changed):
                del fields[name]
        if self.parent is not None:
            fields["parent"] = self.parent.id
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """What a person calls this run: algorithm, label set, repeat, round of self-training."""
        name = f"{method_name(self.algorithm, self.options)} {self.label_set} #{self.repeat}"
        if self.start == "propagation":
            name += f" (+{self.num_start} by propagation)"
        if self.parent is None:
            return name
        parts = [f"+{self.picks_per_class}"]
        parts += ["true labels"] * (self.pick_labels == "true")
        parts += filter(None, [RANKED[self.rank_by]])
        return f"{name} (round {self.round} of {self.method}, {', '.join(parts)})"

    @property
    def method(self) -> str:
        """The name of the method ("boss-4", say) that trained this run, or round 0 of it."""
        if self.parent is not None:
            return self.parent.method
        return method_name(self.algorithm, self.options)

    def __hash__(self) -> int:
        return int(self.id, 16)

    def __reduce__(self) -> tuple[Callable[[Mapping[str, Any]], "Run"], tuple[dict[str, Any]]]:
        # A mapping proxy cannot be pickled; the fields can.
        return (Run.from_dict, (self.as_dict(),))


SETTINGS: Mapping[str, Setting] = types.MappingProxyType(
    {declared.name: declared.metadata["setting"] for declared in dataclasses.fields(Run)}
)
# Of the fields that have one.
DEFAULTS: Mapping[str, Any] = types.MappingProxyType(
    {
        declared.name: declared.default
        for declared in dataclasses.fields(Run)
        if declared.default is not dataclasses.MISSING
    }
)
HYPERPARAMETERS = tuple(name for name, found in SETTINGS.items() if found.group == "training")


@lru_cache(typed=True)
def _checked(declared: "dataclasses.Field[Any]", value: Any) -> Any:
    """The value of a field in its type.

    Raises:
        InputError: it is of another type, out of its interval, or none of the choices.
    """
    name, found = declared.name, declared.metadata["setting"]
    if declared.type == (int | None):
        kind: Any = int if value is not None else None
    else:
        kind = declared.type if declared.type in _KINDS else None
    if kind is None:
        return value
    value = of_type(name, value, kind)
    if found.interval:
        check_interval(found.interval, **{name: value})
    if found.choices:
        choose(value, dict.fromkeys(found.choices), what=name)
    return value


def titles(runs: Iterable[Run]) -> dict[str, str]:
    """The title of each run by its id, with what tells it from runs of the same title, if any.

    Only what is not at its default is said.

    >>> run = Run(dataset="digits", algorithm="fixmatch", label_set="fixmatch:0@10", repeat=0,
    ...           network="wrn-7-1", num_images=64)
    >>> list(titles([run, dataclasses.replace(run, options={"threshold": 0.5})]).values())
    ['fixmatch fixmatch:0@10 #0', 'fixmatch fixmatch:0@10 #0, threshold 0.5']
    """
    alike: dict[str, list[Run]] = {}
    for run in runs:
        alike.setdefault(run.title, []).append(run)
    found: dict[str, str] = {}
    for title, block in alike.items():
        rows = [properties(run) for run in block]
        keys = dict.fromkeys(key for row in rows for key in row)
        different = [key for key in keys if len({str(row.get(key)) for row in rows}) > 1]
        for run, row in zip(block, rows, strict=True):
            parts = [
                f"{key} {row[key]}"
                for key in different
                if key in row and row[key] != DEFAULTS.get(key)
            ]
            found[run.id] = ", ".join([title, *parts])
    return found


def properties(run: Run) -> dict[str, Any]:
    """What a run can be selected by."""
    fields = run.as_dict()
    del fields["parent"], fields["options"]
    return fields | {"round": run.round, "method": run.method} | dict(run.options)


def of_type(name: str, value: Any, kind: type) -> Any:
    """The value as `kind`: 2.0 may stand for an int, 2 for a float, nothing else.

    Raises:
        InputError: it is of another type, or not finite; the message says what `name` must be.
    """
    if kind is float and type(value) is int:
        value = float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not kind:
        raise InputError(f"{name} must be {_KINDS[kind]}, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} must be finite, not {value}")
    return value


_KINDS = {int: "an integer", float: "a number", bool: "True or False", str: "a string"}


def _scalar(name: str, value: Any) -> Scalar:
    if value is None or isinstance(value, bool | str):
        return value
    if not isinstance(value, int | float):
        raise InputError(f"{name} must be a number, a string, True, False or None, not {value!r}")
    return float(of_type(name, value, float))
