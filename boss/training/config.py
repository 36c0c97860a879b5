"""Settings of a training: budget, schedule of the learning rate, ways to execute a step."""

import math
from dataclasses import dataclass


def learning_rate_at(
    schedule: str, progress: float, learning_rate: float, final_learning_rate: float
) -> float:
    """The learning rate after a share `progress` of the training, counted in labeled images.

    cosine    learning_rate * cos(7 pi progress / 16), which ends at 0.195 of its start (Sohn et al.
              2020, section 2.3)
    linear    from learning_rate to final_learning_rate
    constant  learning_rate

    There is no warm-up.

    >>> learning_rate_at("linear", 0.25, learning_rate=0.03, final_learning_rate=0.01)
    0.025
    """
    match schedule:
        case "cosine":
            return learning_rate * math.cos(7 / 16 * math.pi * progress)
        case "linear":
            return learning_rate + (final_learning_rate - learning_rate) * progress
        case "constant":
            return learning_rate
        case _:
            raise AssertionError(schedule)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What the loop needs to know; the fields mean what they mean in `boss.study.run.Run`."""

    num_images: int
    batch_size: int
    unlabeled_ratio: int
    optimizer: str
    learning_rate: float
    schedule: str
    final_learning_rate: float
    momentum: float
    nesterov: bool
    beta2: float
    weight_decay: float
    teacher_decay: float
    num_evaluations: int
    precision: str

    @property
    def num_steps(self) -> int:
        return math.ceil(self.num_images / self.batch_size)

    def progress(self, step: int) -> float:
        """Share of the training done before step `step`, counted in labeled images."""
        return min(step * self.batch_size / self.num_images, 1.0)

    def learning_rate_at(self, step: int) -> float:
        """Of step `step`, by the schedule."""
        return learning_rate_at(
            self.schedule, self.progress(step), self.learning_rate, self.final_learning_rate
        )

    def evaluation_steps(self) -> frozenset[int]:
        """The numbers of steps done after which to evaluate: evenly spaced, the last included."""
        num = min(self.num_evaluations, self.num_steps)
        return frozenset(round(i * self.num_steps / num) for i in range(1, num + 1))


# How a training step is executed (`boss.training.step`): operation by operation, compiled by
# torch's compiler, captured as a CUDA graph, or both.
EXECUTIONS = ("eager", "compiled", "graph", "compiled-graph")


# In which layout and precision it is computed (`boss.training.probe`), the preferred ones first.
LAYOUTS = ("channels_last", "contiguous")
PRECISIONS = ("fp32", "bf16-conv", "bf16")
