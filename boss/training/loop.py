"""The training loop, written out in full, in reading order.

`boss.training.step` is what happens within a step, `boss.training.state` all that changes.
No step but the first waits for the device; the sums behind the logs stay there until an evaluation
copies them once.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from boss.seeds import EpochOrder
from boss.training.config import TrainConfig
from boss.training.evaluate import Evaluation, evaluate
from boss.training.state import NonFiniteLossError, Training, TrainingData
from boss.training.step import Capture, Step


def train(
    training: Training,
    data: TrainingData,
    config: TrainConfig,
    *,
    key: tuple[object, ...],
    execution: str = "eager",
    capture: Capture | None = None,
    since: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[Training], None] = lambda training: None,
) -> bool:
    """Train from `training.step` to the last step.

    Args:
        training: changed in place.
        key: of the order of the unlabeled images, `Run.stream_key`.
        execution: of the steps, one of `boss.training.config.EXECUTIONS`.
        capture: see `boss.training.step.Step`.
        since: the `time.perf_counter()` from which to count the seconds to the end of the first
            step; None: this call.
        should_stop: asked before every step.
        report: called after every step (progress, checkpoints). It must leave `training` alone.

    Returns:
        Whether the last step was reached; otherwise `should_stop` said so.

    Raises:
        NonFiniteLossError: found at the next evaluation, report or stop; the step is the exact one.
    """
    device = data.labeled.images.device
    num_unlabeled = config.unlabeled_ratio * config.batch_size
    order = EpochOrder(len(data.unlabeled), num_unlabeled, *key, "unlabeled order", device=device)
    evaluation_steps = config.evaluation_steps()
    step = Step(training, data, config, execution, capture)

    now = time.perf_counter()
    since, began = now if since is None else since, now - training.seconds
    began_processor = time.process_time() - training.processor_seconds
    while training.step < config.num_steps:
        if should_stop():
            training.totals.check_finite()
            training.seconds = time.perf_counter() - began
            return False
        step(training.step, order[training.step])
        training.step += 1
        if training.executions[-1:] != [execution]:
            training.executions.append(execution)
        if training.first_step_seconds is None:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            training.first_step_seconds = time.perf_counter() - since
        if training.step in evaluation_steps:
            training.totals.check_finite()
            _record(training, data, config)
            training.totals.reset()
        # Of the wall clock: a GPU that is behind catches up at the next evaluation or report.
        training.seconds = time.perf_counter() - began
        training.processor_seconds = time.process_time() - began_processor
        report(training)
    return True


def _record(training: Training, data: TrainingData, config: TrainConfig) -> None:
    """Evaluate both networks and append their rows (`boss.results.schema` says what they mean)."""
    totals = training.totals
    losses = (totals.losses / totals.steps).tolist()
    _, used, known, right = totals.pseudo_labels.tolist()  # each per class (K,)
    if training.views.ctaugment is not None:
        training.rates.append((training.step, training.views.ctaugment.rates.cpu().clone()))
    for name, network in (("teacher", training.teacher), ("student", training.student)):
        test = evaluate(network, data.test, precision=config.precision)
        if not math.isfinite(test.mean_loss):  # the last step's update can spoil it as well
            raise NonFiniteLossError(
                f"the {name}'s test loss is not finite after step {training.step}"
            )
        if test.accuracy > training.best_accuracy:
            training.best_accuracy = test.accuracy
            training.best_weights = {k: v.clone() for k, v in network.state_dict().items()}
        validation = None
        if data.validation is not None:
            validation = evaluate(network, data.validation, precision=config.precision)
        training.evaluations.append(
            {
                "step": training.step,
                "images_seen": training.step * config.batch_size,
                "network": name,
                "test_accuracy": test.accuracy,
                "test_loss": test.mean_loss,
                "validation_accuracy": validation.accuracy if validation else None,
                "supervised_loss": losses[0],
                "unsupervised_loss": losses[1] if totals.unlabeled else None,
                "used_share": _ratio(sum(used), totals.unlabeled),
                "pseudo_label_accuracy": _ratio(sum(right), sum(known)),
                "learning_rate": config.learning_rate_at(training.step - 1),
            }
        )
        training.class_evaluations += _class_rows(training, name, test, data.test.class_names)


def _class_rows(
    training: Training, network: str, test: Evaluation, class_names: tuple[str, ...]
) -> list[dict[str, Any]]:
    predicted, used, known, right = training.totals.pseudo_labels.tolist()
    has_unlabeled = training.totals.unlabeled > 0
    wrong = test.confusion.clone().fill_diagonal_(0)
    most, taker = (found.tolist() for found in wrong.max(dim=1))
    return [
        {
            "step": training.step,
            "network": network,
            "class_index": k,
            "class_name": class_names[k],
            "test_accuracy": _ratio(int(test.correct[k]), int(test.total[k])),
            "test_count": int(test.total[k]),
            "confused_with": taker[k] if most[k] else None,
            "confused_count": most[k],
            "predicted_count": int(predicted[k]) if has_unlabeled else None,
            "pseudo_label_count": int(used[k]) if has_unlabeled else None,
            "pseudo_label_accuracy": _ratio(right[k], known[k]),
        }
        for k in range(len(class_names))
    ]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
