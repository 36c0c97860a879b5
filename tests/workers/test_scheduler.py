"""Workers: what a killed, failing or interrupted run costs, and that resuming changes nothing."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import filelock
import pandas as pd
import psutil
import pytest

from boss.algorithms import hyperparameters
from boss.errors import InputError
from boss.results.read import Store
from boss.results.schema import TABLES
from boss.study.run import Run
from boss.workers.process import in_child
from boss.workers.runtime import Runtime
from boss.workers.scheduler import GROWTH_BYTES, Outcome, Stop, _Worker, execute
from boss.workers.states import states
from tests.training.test_loop import RUN

LONG = dataclasses.replace(RUN, num_images=8 * 300, num_evaluations=5)
# What is measured, not computed: it differs from call to call.
MEASURED = [
    "seconds",
    "processor_seconds",
    "start_processor_seconds",
    "first_step_seconds",
    "peak_device_bytes",
    "finished_at",
]


class Recorder:
    """A display that remembers, and can act on what it is told."""

    def __init__(self, on_progress=lambda run, progress: None):
        self.events, self.on_progress = [], on_progress

    def started(self, run, device):
        self.events.append(("started", run, device))

    def progressed(self, run, progress):
        self.events.append(("progressed", run, progress))
        self.on_progress(run, progress)

    def retried(self, run, error):
        self.events.append(("retried", run, error))

    def ended(self, outcome):
        self.events.append(("ended", outcome.run, outcome.state))

    def of(self, kind):
        return [event[1:] for event in self.events if event[0] == kind]


@pytest.fixture
def place(tmp_path):
    return Runtime(results=tmp_path, study="s", checkpoint_seconds=0.5)


def tables(place):
    read = {}
    for table in TABLES:
        frame = Store(place.results, place.study).read(table)
        read[table] = frame.drop(columns=MEASURED, errors="ignore")
    return read


def assert_equal_tables(one, other):
    for table in one:
        pd.testing.assert_frame_equal(one[table], other[table], check_exact=True)


def workers_of(pid):
    """The processes that train below a process: children of its fork server."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        if child.status() == psutil.STATUS_ZOMBIE:
            continue
        parent = child.parent()
        if parent and "forkserver" in " ".join(parent.cmdline()) and parent.pid != pid:
            found.append(child)
    return found


def run_repeats(num):
    return [dataclasses.replace(RUN, repeat=i) for i in range(num)]


def test_runs_finish_and_their_state_is_removed(place):
    display = Recorder()
    outcomes = execute(run_repeats(3), place, ["cpu", "cpu"], display, Stop())
    assert [o.state for o in outcomes] == ["finished"] * 3
    assert [o.run.repeat for o in outcomes] == [0, 1, 2]
    assert len(display.of("started")) == len(display.of("ended")) == 3
    store = Store(place.results, "s")
    assert set(store.finished()["repeat"]) == {0, 1, 2}
    assert not any((store.folder / "state").iterdir())
    row = store.finished().iloc[0]
    assert json.loads(row["options"]) == hyperparameters("fixmatch") | {"threshold": 0.14}
    assert row["last_accuracy"] <= row["best_test_accuracy"]
    assert {s for _, s, _ in states(run_repeats(3), store)} == {"finished"}


def test_a_killed_worker_costs_nothing_but_its_own_retry(place):
    killed = []

    def kill_once(run, progress):
        if run == LONG and progress["step"] > 30 and not killed:
            killed.append(run)
            os.kill(victim_of(LONG, place), signal.SIGKILL)

    display = Recorder(kill_once)
    outcomes = execute([LONG, *run_repeats(2)], place, ["cpu", "cpu"], display, Stop())
    assert killed
    assert [o.state for o in outcomes] == ["finished"] * 3
    [(run, error)] = display.of("retried")
    assert run == LONG
    assert "SIGKILL" in error
    resumed = [
        p["resumed_at"] for r, p in display.of("progressed") if "resumed_at" in p and r == LONG
    ]
    assert resumed[0] == 0
    assert resumed[1] > 0
    interrupted = tables(place)
    assert len(interrupted["runs"]) == 3

    straight = dataclasses.replace(place, study="straight")
    execute([LONG], straight, ["cpu"], Recorder(), Stop())
    for table, frame in tables(straight).items():
        mine = interrupted[table]
        mine = mine[mine["run_id"] == LONG.id].reset_index(drop=True)
        skip = ["study"] if table == "runs" else []
        pd.testing.assert_frame_equal(
            mine.drop(columns=skip), frame.drop(columns=skip), check_exact=True
        )


def victim_of(run, place):
    """The process that holds the lock of a run."""
    lock = Store(place.results, place.study).state_folder(run.id) / "lock"
    for process in workers_of(os.getpid()):
        if any(f.path == str(lock) for f in process.open_files()):
            return process.pid
    raise AssertionError("nobody holds the lock")


class Watching(Recorder):
    """Remembers in which process each run was performed."""

    def __init__(self, place):
        super().__init__(self.look)
        self.place, self.pids = place, {}

    def look(self, run, progress):
        if "resumed_at" in progress:
            self.pids.setdefault(run, []).append(victim_of(run, self.place))


# Runs that want different things of torch, of the data and of the network.
MIXED = [
    dataclasses.replace(LONG, **changes)
    for changes in (
        {"repeat": 1},
        {"precision": "fp64", "num_validation": 100},
        {"precision": "bf16", "max_eval_images": 50},
        {"algorithm": "flexmatch", "options": {}, "augmentation": "ctaugment"},
        {"algorithm": "mixmatch", "options": {}, "unlabeled_ratio": 1, "network": "wrn-10-1"},
        {"repeat": 1, "label_set": "fixmatch:2@20", "optimizer": "adam", "learning_rate": 1e-3},
    )
]
MIXED = [dataclasses.replace(run, num_images=8 * 40) for run in MIXED]


@pytest.mark.slow
def test_a_run_has_the_same_rows_first_last_and_alone_in_a_process(place):
    last = dataclasses.replace(place, study="last")
    for where, runs in ((place, MIXED), (last, MIXED[::-1])):
        display = Watching(where)
        outcomes = execute(runs, where, ["cpu"], display, Stop())
        assert {o.state for o in outcomes} == {"finished"}, outcomes
        assert len({pid for pids in display.pids.values() for pid in pids}) == 1
        assert len(display.pids) == len(MIXED)
    alone = dataclasses.replace(place, study="alone")
    for run in MIXED:
        assert execute([run], alone, ["cpu"], Recorder(), Stop())[0].state == "finished"
    expected = tables(alone)
    assert len(expected["runs"]) == len(MIXED)
    for where in (place, last):
        found = tables(where)
        found["runs"]["study"] = "alone"
        assert_equal_tables(found, expected)


def test_a_process_is_for_deterministic_runs_or_for_others(place):
    short = dataclasses.replace(LONG, num_images=8 * 20)
    runs = [
        dataclasses.replace(short, repeat=i, deterministic=deterministic)
        for i, deterministic in enumerate([False, False, True, True, False])
    ]
    display = Watching(place)
    execute(runs, place, ["cpu"], display, Stop())
    plain, plain_again, strict, strict_again, after = (display.pids[run][0] for run in runs)
    assert plain == plain_again != strict == strict_again != after
    alone = dataclasses.replace(place, study="alone")
    for run in runs[2:4]:
        execute([run], alone, ["cpu"], Recorder(), Stop())
    expected = tables(alone)["evaluations"]
    found = tables(place)["evaluations"]
    mine = found[found["run_id"].isin([r.id for r in runs[2:4]])].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, expected, check_exact=True)


def test_a_failed_run_takes_its_process_with_it(place):
    short = [dataclasses.replace(LONG, num_images=8 * 20, repeat=i) for i in range(4)]
    wrong = dataclasses.replace(LONG, learning_rate=1e30)
    display = Watching(place)
    outcomes = execute([*short[:2], wrong, *short[2:]], place, ["cpu"], display, Stop())
    assert [o.state for o in outcomes] == ["finished", "finished", "failed", "finished", "finished"]
    before, same, after, same_again = (display.pids[run][0] for run in short)
    assert before == same == display.pids[wrong][0] != after == same_again


def test_a_process_that_has_grown_is_replaced(place, monkeypatch):
    short = [dataclasses.replace(LONG, num_images=8 * 20, repeat=i) for i in range(3)]
    monkeypatch.setattr("boss.workers.scheduler.GROWTH_BYTES", -1)  # any process has grown by more
    display = Watching(place)
    outcomes = execute(short, place, ["cpu"], display, Stop())
    assert [o.state for o in outcomes] == ["finished"] * 3
    assert len({display.pids[run][0] for run in short}) == 3
    assert not display.of("retried")


class FakePipe:
    """Our end of a pipe: some runs, then nobody."""

    def __init__(self, runs):
        self.runs, self.sent = list(runs), []

    def recv(self):
        if not self.runs:
            raise EOFError
        return self.runs.pop(0)

    def poll(self):
        return False

    def send(self, message):
        self.sent.append(message)


def test_a_process_that_dies_between_two_runs_costs_neither_of_them(place):
    with _Worker(place) as worker:
        first, second = run_repeats(2)
        display = Watching(place)
        assert worker.attempt(first, display, Stop())[0].state == "finished"
        [process] = workers_of(os.getpid())
        process.kill()
        psutil.wait_procs([process], timeout=20)
        assert worker.attempt(second, display, Stop())[0].state == "finished"
        assert display.pids[second] != display.pids[first] == [process.pid]
    assert not workers_of(os.getpid())


@pytest.mark.slow
def test_a_worker_without_a_further_run_ends_its_process(place):
    slow, counts = dataclasses.replace(LONG, num_images=8 * 1500), []

    def count(run, progress):
        if run == slow:
            counts.append(len(workers_of(os.getpid())))

    execute([slow, *run_repeats(2)], place, ["cpu", "cpu"], Recorder(count), Stop())
    assert counts[-1] == 1
    assert not workers_of(os.getpid())


@pytest.mark.parametrize("num", [1, 2])
def test_no_pool_of_threads_in_a_worker_exceeds_its_share(place, num):
    pools, variables, of_torch = in_child(_threads, dataclasses.replace(place, threads=num))
    assert {"openmp", "blas"} <= pools.keys()
    assert set(pools.values()) <= {1, num}
    assert num in pools.values()
    assert variables == [str(num)] * 4
    assert of_torch == num


def _threads(place):
    import joblib
    import threadpoolctl
    import torch
    from sklearn import cluster  # noqa: F401  # brings an OpenMP of its own

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "7"
    threadpoolctl.threadpool_limits(7)
    torch.set_num_threads(7)
    from boss.workers.worker import serve

    serve(place, GROWTH_BYTES, FakePipe([]))
    from boss.workers.runtime import THREAD_VARIABLES

    assert joblib.cpu_count() <= place.threads
    pools = {pool["user_api"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    return pools, [os.environ[name] for name in THREAD_VARIABLES], torch.get_num_threads()


def test_a_worker_killed_twice_fails_with_its_error_and_the_others_go_on(place):
    def kill(run, progress):
        if run == LONG and progress["step"] > 20:
            os.kill(victim_of(LONG, place), signal.SIGKILL)

    display = Recorder(kill)
    outcomes = execute([LONG, *run_repeats(2)], place, ["cpu"], display, Stop())
    assert [o.state for o in outcomes] == ["failed", "finished", "finished"]
    assert "SIGKILL" in outcomes[0].error
    assert len(display.of("retried")) == 1
    [(_, state, detail)] = states([LONG], Store(place.results, "s"))
    assert state == "failed"
    assert "SIGKILL" in detail
    # Run again: it continues from its checkpoint.
    display = Recorder()
    assert execute([LONG], place, ["cpu"], display, Stop())[0].state == "finished"
    assert display.of("progressed")[0][1]["resumed_at"] > 0


def test_a_failure_comes_with_its_traceback(place):
    wrong = dataclasses.replace(RUN, label_set="fixmatch:0@5000")
    outcomes = execute([wrong, RUN], place, ["cpu"], display := Recorder(), Stop())
    assert [o.state for o in outcomes] == ["failed", "finished"]
    assert "5000" in outcomes[0].error
    assert "Traceback" in outcomes[0].traceback
    assert "InputError" in outcomes[0].traceback
    assert not display.of("retried")  # wrong input stays wrong
    assert len(Store(place.results, "s").finished()) == 1


def test_a_loss_that_is_not_finite_fails_the_run_with_its_step(place):
    wild = dataclasses.replace(LONG, learning_rate=1e30)
    [outcome] = execute([wild], place, ["cpu"], display := Recorder(), Stop())
    assert outcome.state == "failed"
    assert outcome.error.startswith("the loss is not finite at step ")
    assert not display.of("retried")


def test_stopping_leaves_checkpoints_and_continuing_changes_nothing(place):
    stop = Stop()
    slow = [dataclasses.replace(LONG, repeat=i) for i in range(3)]

    def interrupt(run, progress):
        if progress["step"] > 20:
            stop.signals = 1

    outcomes = execute(slow, place, ["cpu"], Recorder(interrupt), stop)
    assert [o.state for o in outcomes] == ["interrupted", "not started", "not started"]
    store = Store(place.results, "s")
    assert [s for _, s, _ in states(slow, store)] == ["interrupted", "not started", "not started"]
    assert "of 300" in states(slow, store)[0][2]
    assert execute(slow[:1], place, ["cpu"], Recorder(), Stop())[0].state == "finished"

    straight = dataclasses.replace(place, results=place.results / "straight")
    execute(slow[:1], straight, ["cpu"], Recorder(), Stop())
    assert_equal_tables(tables(place), tables(straight))


def test_a_second_signal_does_not_wait(place):
    stop = Stop()

    def interrupt(run, progress):
        stop.signals = 2

    [outcome] = execute([LONG], place, ["cpu"], Recorder(interrupt), stop)
    assert outcome.state == "interrupted"


def test_the_time_limit_stops(place):
    stop = Stop(0.0)
    assert execute([RUN], place, ["cpu"], Recorder(), stop) == [Outcome(RUN, "not started")]
    assert stop.time_is_up


@pytest.mark.slow
def test_a_run_that_another_process_trains_is_left_to_it(place, monkeypatch):
    folder = Store(place.results, "s").state_folder(RUN.id)
    folder.mkdir(parents=True)
    with filelock.FileLock(folder / "lock"):
        [(_, state, _)] = states([RUN], Store(place.results, "s"))
        assert state == "running"
        [outcome] = execute([RUN], place, ["cpu"], Recorder(), Stop())
    assert outcome.state == "busy"
    assert "another process" in outcome.error
    assert execute([RUN], place, ["cpu"], Recorder(), Stop())[0].state == "finished"


def test_other_data_under_a_checkpoint_is_refused(place, tmp_path):
    stop = Stop()
    execute([LONG], place, ["cpu"], Recorder(lambda r, p: setattr(stop, "signals", 1)), stop)
    path = Store(place.results, "s").state_folder(LONG.id) / "checkpoint.pt"
    in_child(_change_fingerprint, str(path))
    [outcome] = execute([LONG], place, ["cpu"], Recorder(), Stop())
    assert outcome.state == "failed"
    assert "made under other conditions (data)" in outcome.error
    # A checkpoint that cannot be read costs its steps, not the run.
    path.write_bytes(b"half a checkpoint")
    [outcome] = execute([LONG], place, ["cpu"], display := Recorder(), Stop())
    assert outcome.state == "finished"
    assert display.of("progressed")[0][1]["resumed_at"] == 0


def _change_fingerprint(path):
    from pathlib import Path

    from boss.training import checkpoint

    content = checkpoint.load(Path(path))
    content["basis"]["data"] = "0" * 64
    checkpoint.save(Path(path), content)


def test_devices_are_leased_never_shared(place):
    busy, worst, lock = {}, {}, threading.Lock()

    class Watch(Recorder):
        def started(self, run, device):
            with lock:
                busy[device] = busy.get(device, 0) + 1
                worst[device] = max(worst.get(device, 0), busy[device])
                self.events.append(("started", run, device))

        def ended(self, outcome):
            with lock:
                device = next(d for r, d in self.of("started") if r == outcome.run)
                busy[device] -= 1

    execute(run_repeats(4), place, ["cpu", "cpu:0"], Watch(), Stop())
    assert worst == {"cpu": 1, "cpu:0": 1}


def test_a_child_that_outlives_its_parent_writes_a_checkpoint_and_ends(tmp_path):
    """SIGKILL of the command itself: its worker notices, saves and stops."""
    code = (
        "import sys, dataclasses; from pathlib import Path\n"
        "from boss.workers.scheduler import execute, Stop\n"
        "from boss.workers.runtime import Runtime\n"
        "from tests.workers.test_scheduler import LONG, Recorder\n"
        "def tell(run, progress): print(progress['step'], flush=True)\n"
        "if __name__ == '__main__':\n"
        "    run = dataclasses.replace(LONG, num_images=8 * 1_000_000)\n"
        f"    execute([run], Runtime(results=Path({str(tmp_path)!r}), study='s'), ['cpu'],\n"
        "            Recorder(tell), Stop())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    while int(parent.stdout.readline()) < 20:
        pass
    children = workers_of(parent.pid)
    assert children
    parent.kill()
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs(children, timeout=20)
    assert not any(child.is_running() for child in children)
    run = dataclasses.replace(LONG, num_images=8 * 1_000_000)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        [(_, state, detail)] = states([run], Store(tmp_path, "s"))
        if state == "interrupted":
            break
    assert state == "interrupted", detail


def test_two_commands_at_once_share_the_runs(place):
    """Nobody fails, nobody needs a second attempt, nothing is stored twice."""
    displays, threads = [Recorder(), Recorder()], []
    outcomes = []
    for display in displays:
        arguments = (run_repeats(4), place, ["cpu"], display, Stop())
        threads.append(threading.Thread(target=lambda a=arguments: outcomes.append(execute(*a))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [o.state for mine in outcomes for o in mine] == ["finished"] * 8
    assert not any(display.of("retried") for display in displays)
    store = Store(place.results, "s")
    assert len(store.finished()) == 4
    assert not any((store.folder / "state").iterdir())


def test_a_disk_that_is_full_fails_its_run_only(place, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("boss.workers.scheduler.write_atomically", full)
    wrong = dataclasses.replace(RUN, label_set="fixmatch:0@5000")
    outcomes = execute([wrong, RUN], place, ["cpu"], Recorder(), Stop())
    assert [o.state for o in outcomes] == ["failed", "finished"]
    assert "5000" in outcomes[0].error


def test_a_defect_of_this_process_fails_its_run_only(place, monkeypatch):
    attempt = _Worker.attempt

    def fail_once(worker, run, *arguments):
        if run.repeat == 0:
            raise OSError("cannot fork")
        return attempt(worker, run, *arguments)

    monkeypatch.setattr(_Worker, "attempt", fail_once)
    outcomes = execute(run_repeats(2), place, ["cpu"], Recorder(), Stop())
    assert [o.state for o in outcomes] == ["failed", "finished"]
    assert outcomes[0].error == "OSError: cannot fork"


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", '"x"', "{}", '{"step": 1}'])
def test_damaged_notes_do_not_break_the_status(place, text):
    folder = Store(place.results, "s").state_folder(RUN.id)
    folder.mkdir(parents=True)
    for name in ("progress.json", "error.json"):
        (folder / name).write_text(text)
    assert states([RUN], Store(place.results, "s")) == [(RUN, "not started", "")]


def test_errors_in_a_child_come_back():
    with pytest.raises(InputError, match="no such thing"):
        in_child(_wrong_input)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        in_child(_defect)
    with pytest.raises(RuntimeError, match="exit code 3"):
        in_child(os._exit, 3)
    assert in_child(max, 1, 2) == 2


def _wrong_input():
    raise InputError("no such thing")


def _defect():
    return 1 / 0


def test_run_is_importable_without_torch():
    assert isinstance(RUN, Run)


def _some_tensors():
    import torch

    return {"tensors": [torch.arange(4.0) + i for i in range(20)]}


def test_tensors_come_back_from_a_process_that_has_ended():
    found = in_child(_some_tensors)["tensors"]
    assert [t.tolist() for t in found] == [[i, i + 1, i + 2, i + 3] for i in range(20)]


def _sleep_for_long(path):
    path.write_text(str(os.getpid()))
    time.sleep(600)


def test_a_helper_process_ends_with_the_command_that_asked_for_it(tmp_path):
    """SIGKILL of a command that waits for a long computation: nobody would read the result."""
    file = tmp_path / "pid"
    code = (
        "from pathlib import Path\n"
        "from boss.workers.process import in_child\n"
        "from tests.workers.test_scheduler import _sleep_for_long\n"
        f"if __name__ == '__main__':\n    in_child(_sleep_for_long, Path({str(file)!r}))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    helper = psutil.Process(int(file.read_text()))
    parent.kill()
    parent.wait()
    helper.wait(timeout=20)
