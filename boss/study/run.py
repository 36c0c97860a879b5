"""What a study is: a list of runs, each of which says all that is needed to repeat one training.

Nothing here imports torch: listing, planning and reporting a study need none.
"""

import dataclasses
import hashlib
import json
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from boss.errors import InputError, choose
from boss.study.methods import method_name

Scalar = str | int | float | bool | None


BUDGETS = ("smoke", "short", "paper")


# Where the labels of the picks come from, and which network ranks: the first is the default, the
# second the released code's, an oracle.
PICK_LABELS = ("pseudo", "true")


RANK_BY = ("last", "best_test")


# How the strong views are made: `boss.augment.Views` says what each is.
AUGMENTATIONS = (
    *("randaugment", "randaugment-without-cutout"),
    *("ctaugment", "ctaugment-without-cutout", "ctaugment-paper"),
    *("cutout", "weak", "flip", "none"),
)


# Of torch.optim; adamw's decay is decoupled from the gradient, that of the others an L2 loss.
OPTIMIZERS = ("sgd", "asgd", "adagrad", "adam", "adamw")


SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, complete: two runs with equal fields are the same run.

    The random streams are a function of (label_set, repeat) alone, so runs that differ in
    anything else (the algorithm, say) share their draws and can be compared in pairs.
    Defaults are those of FixMatch on CIFAR-10 (Sohn et al. 2020, table 4).
    """

    dataset: str  # of boss.data.NAMES, or one of your own: FILE.npz, folder:PATH[@SIZE]
    algorithm: str  # a key of boss.algorithms.ALGORITHMS
    label_set: str  # "boss:3", "carlini:7", "fixmatch:3@10", "file:my_set.json"
    repeat: int  # 0, 1, ...: same settings, other random streams
    network: str  # "wrn-DEPTH-WIDTH"
    num_images: int  # labeled images seen during training, repetitions counted
    budget: str = "paper"
    batch_size: int = 64  # labeled images per step (B)
    unlabeled_ratio: int = 7  # unlabeled images per labeled one (mu)
    learning_rate: float = 0.03
    momentum: float = 0.9  # of sgd, Nesterov's unless said otherwise; adam's first decay (beta 1)
    weight_decay: float = 5e-4  # on kernels only
    teacher_decay: float = 0.999  # moving average of the trainable weights
    norm_momentum: float = 0.001  # share of a batch in the running statistics of batch norm
    num_validation: int = 0  # training images that are held out of the unlabeled ones
    num_evaluations: int = 20  # evenly spaced, the last one after the last step
    max_eval_images: int | None = None  # evaluate on, and pick from, the first so many images only
    precision: str = "fp32"  # "fp32", "bf16" (autocast) or "fp64" (for tests)
    deterministic: bool = False  # refuse operations whose result varies from call to call
    options: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)  # of the algorithm
    # Self-training (boss.self_training): this run starts when `parent` has finished, and learns
    # from the label set and from the images of which the parent's teacher is most confident.
    parent: "Run | None" = None
    picks_per_class: int = 0  # how many images of each predicted class join the label set
    pick_labels: str = "pseudo"  # the label of a pick: the parent's guess, or "true": an oracle
    rank_by: str = "last"  # the parent's last teacher, or "best_test", its best network: an oracle
    # What FixMatch's ablations vary.
    augmentation: str = "randaugment"  # of the strong views
    optimizer: str = "sgd"
    nesterov: bool = True  # sgd with momentum only
    beta2: float = 0.999  # adam's second decay
    schedule: str = "cosine"  # of the learning rate: cosine (ends at 0.195), linear, constant
    final_learning_rate: float = 0.0  # where the linear schedule ends

    def __post_init__(self) -> None:
        if not isinstance(self.options, Mapping):
            raise InputError(f"options must be a dict, not {self.options!r}")
        options = {
            key: _scalar(f"option {key}", value) for key, value in sorted(self.options.items())
        }
        object.__setattr__(self, "options", types.MappingProxyType(options))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (int, float, bool, str):
                value = of_type(field.name, value, field.type)
            elif field.name == "max_eval_images" and value is not None:
                value = of_type(field.name, value, int)
            object.__setattr__(self, field.name, value)
        for name in ("num_images", "batch_size", "num_evaluations"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("repeat", "unlabeled_ratio", "num_validation", "picks_per_class"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.max_eval_images is not None and self.max_eval_images < 1:
            raise InputError(f"max_eval_images must be at least 1, not {self.max_eval_images}")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be positive, not {self.learning_rate}")
        for name in ("momentum", "teacher_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1), not {getattr(self, name)}")
        if not 0 < self.norm_momentum <= 1:
            raise InputError(f"norm_momentum must lie in (0, 1], not {self.norm_momentum}")
        if not self.weight_decay >= 0:
            raise InputError(f"weight_decay must not be negative, not {self.weight_decay}")
        choose(self.precision, dict.fromkeys(("fp32", "bf16", "fp64")), what="precision")
        choose(self.budget, dict.fromkeys(BUDGETS), what="budget")
        choose(self.pick_labels, dict.fromkeys(PICK_LABELS), what="pick_labels")
        choose(self.rank_by, dict.fromkeys(RANK_BY), what="rank_by")
        choose(self.augmentation, dict.fromkeys(AUGMENTATIONS), what="augmentation")
        self._check_optimizer()
        self._check_parent()

    def _check_optimizer(self) -> None:
        """A setting that would have no effect is refused."""
        choose(self.optimizer, dict.fromkeys(OPTIMIZERS), what="optimizer")
        choose(self.schedule, dict.fromkeys(SCHEDULES), what="schedule")
        if not 0 <= self.beta2 < 1:
            raise InputError(f"beta2 must lie in [0, 1), not {self.beta2}")
        if not self.final_learning_rate >= 0:
            raise InputError(
                f"final_learning_rate must not be negative, not {self.final_learning_rate}"
            )
        if self.optimizer not in ("adam", "adamw") and self.beta2 != _default("beta2"):
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
        """The first 16 hex digits of the SHA-256 of all fields as canonical JSON.

        The fields of self-training count where there is a parent, and the parent by its id; those
        of `YOUNGER` where they are not at their default: so older ids stay what they are. Every
        spelling of a training has one id: numbers have the type of their field, those in options
        are floats (written as `repr` does, the shortest text that reads back equal), and options at
        their default must be left out (`boss.workers.build.check` sees to it).
        """
        fields = self.as_dict()
        if self.parent is None:
            for name in ("parent", "picks_per_class", "pick_labels", "rank_by"):
                del fields[name]
        else:
            fields["parent"] = self.parent.id
        for name in YOUNGER:
            if fields[name] == _default(name):
                del fields[name]
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """What a person calls this run: algorithm, label set, repeat, round of self-training."""
        name = f"{method_name(self.algorithm, self.options)} {self.label_set} #{self.repeat}"
        if self.parent is None:
            return name
        parts = [f"round {self.round}", f"+{self.picks_per_class}"]
        parts += ["true labels"] * (self.pick_labels == "true")
        parts += ["best on test"] * (self.rank_by == "best_test")
        return f"{name} ({', '.join(parts)} of {self.method})"

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


# Fields that came after results had been published.
YOUNGER = (
    *("augmentation", "optimizer", "nesterov", "beta2"),
    *("schedule", "final_learning_rate"),
)


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Run)}


def _default(name: str) -> Any:
    return _DEFAULTS[name]


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
        rows = [_properties(run) for run in block]
        keys = dict.fromkeys(key for row in rows for key in row)
        different = [key for key in keys if len({str(row.get(key)) for row in rows}) > 1]
        for run, row in zip(block, rows, strict=True):
            parts = [
                f"{key} {row[key]}"
                for key in different
                if key in row and row[key] != _DEFAULTS.get(key)
            ]
            found[run.id] = ", ".join([title, *parts])
    return found


def _properties(run: Run) -> dict[str, Any]:
    """What a run can be selected by."""
    fields = run.as_dict()
    del fields["parent"], fields["options"]
    return fields | {"round": run.round, "method": run.method} | dict(run.options)


def of_type(name: str, value: Any, kind: type) -> Any:
    """The value as `kind`: a whole float may stand for an int, an int for a float, nothing else.

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


_KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}


def _scalar(name: str, value: Any) -> Scalar:
    if value is None or isinstance(value, bool | str):
        return value
    if not isinstance(value, int | float):
        raise InputError(f"{name} must be a number, a text, True, False or None, not {value!r}")
    return float(of_type(name, value, float))
