"""How the time of a step follows batch, unlabeled ratio and width, and how many runs fit a device.

Every setting is measured in a process of its own: what one leaves behind in memory, in a compiler
or in a driver is not there for the next.
"""

import multiprocessing
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from boss.bench.clock import synchronize
from boss.bench.dataset import load
from boss.bench.steps import Trainer, images_of
from boss.study.run import Run
from boss.workers.runtime import Runtime, configure_torch


@dataclass(frozen=True)
class Job:
    """What a process is to do."""

    run: Run
    runtime: Runtime
    execution: str
    seconds: float  # to make steps for


def _serve(job: Job, pipe: Connection) -> None:
    """In a process of its own: be ready, wait for the word, make steps, say how many."""
    try:
        configure_torch(job.run, job.runtime)
        device = torch.device(job.runtime.device)
        dataset = load(job.run.dataset, job.runtime.data)
        trainer = Trainer(
            job.run, dataset, images_of(job.run, dataset, device), device, job.execution
        )
        trainer.warm_up()
        synchronize(device)
        pipe.send("ready")
        pipe.recv()
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < job.seconds:
            trainer()
            done += 1
            if done % 8 == 0 or device.type == "cpu":
                synchronize(device)  # a queue of launches must not run ahead of the clock
        synchronize(device)
        pipe.send((done, time.perf_counter() - began))
    except Exception:
        pipe.send(traceback.format_exc(limit=-1).strip().splitlines()[-1])


def rates(jobs: list[Job]) -> tuple[list[float], str]:
    """Steps per second of each of these jobs, all running at the same time.

    Returns:
        Those, or none and the last line of what one of them raised: out of memory, say.
    """
    # Not from the fork server of data loaders, whose workers live on while it does.
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for job in jobs:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(job, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        ready = [_receive(pipe) for pipe in pipes]
        for pipe, word in zip(pipes, ready, strict=True):
            if word != "ready":
                return [], str(word)
            pipe.send("go")
        answers = [_receive(pipe) for pipe in pipes]
    finally:
        for process in processes:
            process.terminate()
            process.join()
    for answer in answers:
        if isinstance(answer, str):
            return [], answer
    return [done / seconds for done, seconds in answers], ""


def _receive(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        return "the process ended"
