"""Devices, threads and execution of the runs of a study; versions and commit for their rows.

No torch at the top: the parent process uses this file too.
"""

import functools
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from boss.errors import InputError, choose
from boss.study.run import Run
from boss.training.config import EXECUTIONS
from boss.units import num_cores

if TYPE_CHECKING:
    import torch

LIBRARIES = ("boss-ssl", "torch", "torchvision", "numpy", "pandas", "pyarrow", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How and where a run is trained: everything that is not part of its identity."""

    results: Path
    study: str
    data: Path | None = None  # a folder of data sets, or a custom data set
    device: str = "cpu"
    threads: int = 1
    execution: str = "auto"  # or one of EXECUTIONS; `execution_of` resolves auto
    layout: str = "auto"  # or one of LAYOUTS; `boss.training.probe` resolves auto
    checkpoint_seconds: float = 60.0
    # Of each data set, by name, when the study was started: files that have changed are refused.
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    keep_networks: bool = False  # store the last teacher of each run, for `select`
    networks_needed: frozenset[str] = frozenset()  # ids of runs whose teacher a child reads
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""


def threads_of(devices: Sequence[str]) -> int:
    """Processor threads of each worker, given the device of each.

    One on a CPU, so that rows do not depend on the number of workers; beside a GPU an equal share
    of the cores.
    """
    if any(not device.startswith("cuda") for device in devices):
        return 1
    return max(1, num_cores() // len(devices))


def execution_of(runtime: Runtime) -> str:
    """How training steps are executed, one of EXECUTIONS.

    Raises:
        InputError: there is no such execution, or not on this device.
    """
    choose(runtime.execution, dict.fromkeys(("auto", *EXECUTIONS)), what="execution of steps")
    on_gpu = runtime.device.startswith("cuda")
    if runtime.execution == "auto":
        # On CPUs a compiled step gained nothing, after a minute of compiling (docs/performance.md).
        return "compiled-graph" if on_gpu else "eager"
    if "graph" in runtime.execution and not on_gpu:
        raise InputError(
            f"steps can be executed as a {runtime.execution} on CUDA devices only: on a CPU choose"
            " auto, eager or compiled"
        )
    return runtime.execution


def describe_devices(devices: Sequence[str]) -> str:
    """How many runs at a time on which device.

    >>> describe_devices(["cuda:0", "cuda:0", "cuda:1"])
    '2 x cuda:0, 1 x cuda:1'
    """
    counts = {device: devices.count(device) for device in devices}
    return ", ".join(f"{count} x {device}" for device, count in counts.items())


def find_devices(wanted: str) -> list[str]:
    """The devices that "auto", "cpu", "cuda" or "cuda:0,cuda:1" stands for. Imports torch.

    Raises:
        InputError: torch sees no such device, or one is named twice.
    """
    if wanted == "cpu":
        return ["cpu"]
    import torch

    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if wanted == "auto":
        return names or ["cpu"]
    if wanted == "cuda":
        if not names:
            raise InputError("--device cuda: torch sees no CUDA device here")
        return names
    if len(set(wanted.split(","))) < len(wanted.split(",")):
        raise InputError(f"--device {wanted} names a device twice: use --runs-per-gpu")
    for name in wanted.split(","):
        if name not in names:
            have = ", ".join([*names, "cpu"])
            raise InputError(f"--device {name}: there is no such device, choose from {have}")
    return wanted.split(",")


def lease(
    devices: list[str], workers: int | None, runs_per_gpu: int | None, num_runs: int
) -> list[str]:
    """One device for each worker, in turns, and no more workers than runs.

    Args:
        workers: how many; by default one per core, or `runs_per_gpu` per GPU.
        runs_per_gpu: the most on each GPU; None: set by `workers`, else 1.

    Raises:
        InputError: `runs_per_gpu` on a CPU, or more workers than it allows.
    """
    if devices == ["cpu"]:
        if runs_per_gpu is not None:
            raise InputError(
                "--runs-per-gpu is for CUDA devices: on a CPU --workers sets how many runs are"
                " trained at a time"
            )
        most = num_cores()
    else:
        most = len(devices) * (runs_per_gpu or 1)
        if runs_per_gpu is not None and workers is not None and workers > most:
            raise InputError(
                f"--workers {workers} is more than --runs-per-gpu {runs_per_gpu} on"
                f" {len(devices)} GPUs allows, which is {most}: leave one of them out"
            )
    return [devices[i % len(devices)] for i in range(min(workers or most, num_runs))]


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return found


COMMIT = re.compile(r"[0-9a-f]{40}(-dirty)?")
# Changes to these are no change of code. Where code is found by its name, a new file is one.
NOT_CODE = ("results", "README.md")
FOUND_BY_NAME = ("boss", "studies")


def commit(root: Path | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """The git commit of this package, with "-dirty" if its code differs; "" if it is unknown.

    For a copy without a readable git history, $BOSS_COMMIT names it.

    Args:
        root: of the checkout; None: of this package.

    Raises:
        InputError: $BOSS_COMMIT is not a commit.
    """
    root = root or Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True)
        except OSError:  # git is not installed
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD") if (root / ".git").exists() else None
    if not head:
        given = environment.get("BOSS_COMMIT", "")
        if given and not COMMIT.fullmatch(given):
            raise InputError(f"BOSS_COMMIT must be the 40 digits of a git commit, not {given!r}")
        return given
    code = (":/", *(f":(exclude,top){name}" for name in NOT_CODE))
    named = [f":(top){name}" for name in FOUND_BY_NAME]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *code)
    new = git("status", "--porcelain", "--untracked-files=normal", "--", *named)
    return f"{head}-dirty" if changed != "" or new != "" else head


# For libraries that are loaded later, and for joblib.
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "LOKY_MAX_CPU_COUNT",
)


def configure_torch(run: Run, runtime: Runtime) -> None:
    """Settings of torch in this process, each set again for every run.

    cuBLAS reads its settings when it is first used: on a GPU, a process is for deterministic runs
    or for others.
    """
    import torch

    if runtime.device.startswith("cuda"):
        torch.cuda.set_device(runtime.device)  # the compiler and CUDA graphs use the current device
    torch.set_num_threads(runtime.threads)
    torch.set_default_dtype(torch.float32)
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # not TF32
    # Only called when needed: it imports torch's compiler, which takes seconds.
    if run.deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(run.deterministic)
        # Nothing here reads memory that was not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if run.deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


def limit_threads(num: int) -> None:
    """Limit every thread pool of this process (torch, OpenMP, BLAS) to `num` threads."""
    import threadpoolctl  # type: ignore[import-untyped]
    import torch

    for name in THREAD_VARIABLES:
        os.environ[name] = str(num)
    threadpoolctl.threadpool_limits(num)
    torch.set_num_threads(num)


@functools.cache
def device_name(device: "torch.device") -> str:
    """The name of the GPU or of the processor."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
