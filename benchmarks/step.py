"""What the training loop adds to forward, backward and update, on one CPU core.

    python benchmarks/step.py

Times the loop of `boss.train` with everything in it (index draws, augmentation, the loss, the
moving average, the sums for the logs; no evaluation) against the same network, batch and optimizer
on images that are already there: forward, two cross entropies, backward, SGD. Both in one process,
in alternation.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from boss import data
from boss.augment import to_float
from boss.data.label_sets import resolve
from boss.losses import cross_entropy
from boss.perform import start_run, train_config, training_data
from boss.study import Run
from boss.train import train
from boss.training import TrainConfig, Training, TrainingData

CPU = torch.device("cpu")


def run_of(dataset: str) -> Run:
    """The settings of the studies' smallest networks."""
    small = dataset == "digits"
    return Run(
        dataset=dataset,
        algorithm="fixmatch",
        label_set="fixmatch:0@10",
        repeat=0,
        network="wrn-7-1" if small else "wrn-10-1",
        batch_size=16,
        num_images=16 * 10**6,
        num_evaluations=1,
    )


def prepare(run: Run, folder: str | None) -> tuple[Training, TrainingData, TrainConfig]:
    """A training at step 0."""
    dataset = data.load(run.dataset, None if folder is None else Path(folder))
    training = start_run(run, dataset, CPU)
    config = train_config(run)
    return training, training_data(run, dataset, resolve(run.label_set, dataset), CPU), config


def time_loop(
    training: Training, images: TrainingData, config: TrainConfig, num_steps: int
) -> float:
    """Seconds per step of the whole loop."""
    last = training.step + num_steps
    began = time.perf_counter()
    train(training, images, config, key=(0,), should_stop=lambda: training.step == last)
    return (time.perf_counter() - began) / num_steps


def time_bare(training: Training, images: TrainingData, config: TrainConfig, steps: int) -> float:
    """Seconds per step of forward, losses, backward and update alone."""
    num = config.batch_size * (1 + 2 * config.unlabeled_ratio)
    x = to_float(images.unlabeled.images[:num])
    y = images.unlabeled.labels[:num]
    began = time.perf_counter()
    for _ in range(steps):
        training.optimizer.zero_grad(set_to_none=True)
        logits = training.student(x)
        labeled, _, strong = logits.split(
            [config.batch_size] + [(num - config.batch_size) // 2] * 2
        )
        loss = cross_entropy(labeled, y[: len(labeled)]).mean()
        loss = loss + cross_entropy(strong, y[-len(strong) :]).mean()
        loss.backward()
        training.optimizer.step()
    return (time.perf_counter() - began) / steps


def main(argv: list[str] | None = None) -> None:
    """Print a table: median and quartiles of the ratio over the repeats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", help="folder with CIFAR-10, to measure on it too")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    print("| data set | network | bare step, ms | whole loop, ms | loop / bare (quartiles) |")
    print("| --- | --- | --: | --: | --: |")
    for dataset in ["digits"] + ["cifar10"] * (arguments.data is not None):
        run = run_of(dataset)
        training, images, config = prepare(run, arguments.data)
        steps = 40 if dataset == "digits" else 4
        time_loop(training, images, config, steps)
        bare, whole = [], []
        for _ in range(arguments.repeats):
            bare.append(1e3 * time_bare(training, images, config, steps))
            whole.append(1e3 * time_loop(training, images, config, steps))
        ratios = [w / b for w, b in zip(whole, bare, strict=True)]
        low, middle, high = statistics.quantiles(ratios)
        print(
            f"| {dataset} | {run.network} | {statistics.median(bare):.2f}"
            f" | {statistics.median(whole):.2f} | {middle:.2f} ({low:.2f} to {high:.2f}) |"
        )


if __name__ == "__main__":
    main()
