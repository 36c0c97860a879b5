"""Where and on what runs are performed, and what to record about it. No torch here."""

import errno
import functools
import os
import platform
import re
import socket
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
    """Everything about performing a run that is not part of the run's identity."""

    results: Path
    study: str
    data: Path | None = None  # a folder of data sets, or one of your own
    device: str = "cpu"
    threads: int = 1
    execution: str = "auto"  # or one of EXECUTIONS; `execution_of` says what auto comes to
    checkpoint_seconds: float = 60.0
    # Of data sets, by name, as they were when the study was started: no others are trained on.
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    keep_networks: bool = False  # store the last teacher of each run, for embeddings and the like
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""


def threads_of(devices: Sequence[str]) -> int:
    """Processor threads of each worker, given the device of each.

    One on a processor: so rows do not depend on the number of workers. Beside a GPU an equal share
    of the cores.
    """
    if any(not device.startswith("cuda") for device in devices):
        return 1
    return max(1, num_cores() // len(devices))


def execution_of(runtime: Runtime) -> str:
    """How training steps are executed there, one of EXECUTIONS.

    Raises:
        InputError: there is no such execution, or none on this device.
    """
    choose(runtime.execution, dict.fromkeys(("auto", *EXECUTIONS)), what="execution of steps")
    on_gpu = runtime.device.startswith("cuda")
    if runtime.execution == "auto":
        return "compiled-graph" if on_gpu else "eager"
    if "graph" in runtime.execution and not on_gpu:
        raise InputError(
            f"steps can be executed as a {runtime.execution} on CUDA devices only: on a CPU choose"
            " auto, eager or compiled"
        )
    return runtime.execution


def mps_is_running(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether NVIDIA's Multi-Process Service lets processes share the GPUs here at the same time.

    Its control daemon listens on the socket `control` in CUDA_MPS_PIPE_DIRECTORY, by default
    /tmp/nvidia-mps. It is asked for a socket of another kind, so that nothing is ever connected:
    the answer tells one that is listened to from one that was left behind.
    """
    folder = environment.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(os.path.join(folder, "control"))
        except OSError as error:
            return error.errno == errno.EPROTOTYPE
    return True


def describe_devices(devices: Sequence[str], mps: bool) -> str:
    """For a person: how many runs at a time on which device, and how they share a GPU.

    >>> describe_devices(["cuda:0", "cuda:0", "cuda:1", "cuda:1"], mps=False)
    '2 x cuda:0, 2 x cuda:1 (runs on one GPU share it by time slices: MPS is not running)'
    """
    counts = {device: devices.count(device) for device in devices}
    text = ", ".join(f"{count} x {device}" for device, count in counts.items())
    if not devices or not devices[0].startswith("cuda"):
        return text
    if mps:
        return f"{text} (MPS is running)"
    slices = " (runs on one GPU share it by time slices: MPS is not running)"
    return text + (slices if max(counts.values()) > 1 else "")


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


# What runs bring about: changes to it leave the code as it was. A new file matters where code is
# found by its name.
NOT_CODE = ("results", "README.md")


FOUND_BY_NAME = ("boss", "studies")


def commit(root: Path | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """The git commit this package runs from, "-dirty" if its code differs; "" if it is not known.

    A copy of a checkout whose history is not there, or not to be read, is told by $BOSS_COMMIT.

    Args:
        root: of the checkout; None: of this package.

    Raises:
        InputError: $BOSS_COMMIT is no commit.
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
        told = environment.get("BOSS_COMMIT", "")
        if told and not COMMIT.fullmatch(told):
            raise InputError(f"BOSS_COMMIT must be the 40 digits of a git commit, not {told!r}")
        return told
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
    """Settings of the whole process, each set anew for every run: what an earlier run wanted has no
    say. One thread by default, so that a processor's results do not depend on how many runs share
    it.

    cuBLAS reads its settings when it is first used: on a GPU, a process is for deterministic runs
    or for others.
    """
    import torch

    if runtime.device.startswith("cuda"):
        torch.cuda.set_device(runtime.device)  # what compiles and records looks for the current one
    torch.set_num_threads(runtime.threads)
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
    import threadpoolctl  # type: ignore[import-untyped]
    import torch

    for name in THREAD_VARIABLES:
        os.environ[name] = str(num)
    threadpoolctl.threadpool_limits(num)
    torch.set_num_threads(num)


@functools.cache
def device_name(device: "torch.device") -> str:
    """What a reader would call it: the GPU's or the processor's name."""
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
