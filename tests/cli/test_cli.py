"""The command, as a person uses it."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.datasets import load_digits

from boss.cli import main
from boss.errors import InputError
from boss.results.schema import SPARSE_TABLES, TABLES
from boss.workers import runtime as place
from boss.workers.runtime import find_devices, lease
from tests.workers import test_scheduler

ROOT = Path(__file__).parents[2]
MEASURED = [*test_scheduler.MEASURED, "commit", "device"]
STUDY = '''"""A study of a user."""
from boss.study import Run, Study, grid

STUDY = Study(
    reproduces="nothing",
    default_budget="smoke",
    runs=lambda budget: [
        Run(**fields)
        for fields in grid(
            repeat=range({repeats}), dataset="digits", algorithm="fixmatch", network="wrn-7-1",
            label_set="fixmatch:1@10", num_images=8 * {steps}, batch_size=8, unlabeled_ratio=2,
            num_evaluations=3, max_eval_images=100, num_validation=0, options={{"threshold": 0.3}},
        )
    ],
)
'''


def start_command(*arguments, cwd, **kwargs):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "boss", *map(str, arguments)],
        cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs,
    )  # fmt: skip


def command(*arguments, cwd, code=0):
    """The command in this process: what it starts comes from a fork server that is there already.

    That a process of its own does the same is for the tests that start one: `start_command`.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, COLUMNS="200"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            returned = main([*map(str, arguments)])
        except SystemExit as end:
            returned = end.code
    assert returned == code, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()


def command_in_a_process(*arguments, cwd):
    process = start_command(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return out, err


def study_file(folder, *, steps=12, repeats=2):
    path = folder / "mine.py"
    path.write_text(STUDY.format(steps=steps, repeats=repeats))
    return path


def tables(folder):
    frames = {t: pd.read_parquet(folder / t) for t in ("runs", "evaluations", "class_evaluations")}
    return {t: f.drop(columns=MEASURED, errors="ignore") for t, f in frames.items()}


def assert_equal_tables(one, other):
    for table, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[table], check_exact=True)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """`run oneshot_digits --budget smoke`, once for this file; do not change it."""
    folder = tmp_path_factory.mktemp("smoke")
    out, err = command_in_a_process("run", "oneshot_digits", "--budget", "smoke", cwd=folder)
    return folder, out, err


WRONG = [
    (["run", "nonsense"], "unknown study 'nonsense': choose from ablation_augmentation, abl"),
    (["run", "nonsense.py"], "no study file nonsense.py"),
    (["run", "oneshot_digits", "--budget", "huge"], "choose from"),
    (["run", "oneshot_digits", "--only", "algorithm=x"], "choose from fixmatch, supervised"),
    (["run", "oneshot_digits", "--only", "x=1"], "unknown key 'x'"),
    (["run", "oneshot_digits", "--only", "repeat"], "KEY=VALUE"),
    (["run", "oneshot_digits", "--time-limit", "soon"], "use a duration"),
    (["run", "oneshot_digits", "--time-limit", "9" * 400 + "h"], "use a duration"),
    (["run", "oneshot_digits", "--workers", "0"], "integer of at least 1"),
    (["run", "oneshot_digits", "--device", "gpu"], "use auto, cpu, cuda"),
    (["run", "oneshot_digits", "--runs-per-gpu", "0"], "integer of at least 1"),
    (["run", "oneshot_digits", "--runs-per-gpu", "-1"], "--runs-per-gpu"),
    (["run", "oneshot_digits", "--device", "cpu", "--runs-per-gpu", "1"], "--workers sets how"),
    (["run", "oneshot_digits", "--step", "fast"], "'auto', 'eager', 'compiled', 'graph'"),
    (["run", "oneshot_digits", "--device", "cpu", "--step", "graph"], "on CUDA devices only"),
    (["run", "oneshot_digits", "--device", "cpu", "--step", "compiled-graph"], "choose auto"),
    (["run", "oneshot_digits", "--device", "cuda:17"], "no such device"),
    (["run", "oneshot_digits", "--frobnicate"], "--frobnicate"),
    (["run"], "STUDY"),
    (["frobnicate"], "invalid choice"),
    ([], "COMMAND"),
    (["run", "oneshot_cifar10", "--data", "nowhere"], "boss-study data fetch cifar10 --data"),
    (["run", "oneshot_digits", "--data", "no.npz"], "no.npz"),
    (["data", "check", "cifar10", "--data", "nowhere"], "data fetch cifar10"),
    (["data", "check", "imagenet"], "choose from digits, cifar10"),
    (["report", "oneshot_digits"], "`boss-study run oneshot_digits` first"),
    (["report"], "boss-study run"),
    (["status", "x"], "unknown study"),
    (["publish", "x"], "unknown study"),
    (["publish", "oneshot_digits"], "no results in results/oneshot_digits"),
    (["publish", "oneshot_digits", "--predictions", "some"], "'needed', 'last', 'all'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("boss-study: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("changes", [
    {"label_set": "'boss:3'"}, {"label_set": "'fixmatch:1@5'"}, {"label_set": "'file:none.json'"},
    {"algorithm": "'fixmatsch'"}, {"network": "'resnet'"}, {"dataset": "'mnist'"},
    {"options": "{'tau': 1}"}, {"options": "{'threshold': 2.0}"}, {"unlabeled_ratio": "0"},
    {"num_validation": "1201"}, {"batch_size": "0"}, {"repeat": "[-1]"}, {"repeat": "[]"},
    {"batch_size": "8.5"}, {"num_evaluations": "'all'"}, {"options": "{'threshold': 0.95}"},
])  # fmt: skip
def test_a_study_that_cannot_be_run_is_refused_before_it_starts(
    changes, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    text = study_file(tmp_path).read_text()
    for key, value in changes.items():
        text = re.sub(rf"\b{key}=(\{{.*?\}}\}}?|range\(.*?\)|[^,]*),", f"{key}={value},", text)
    (tmp_path / "mine.py").write_text(text)
    assert main(["run", "mine.py"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [
    ["status", "oneshot_digits", "--results", "{}"], ["report", "--results", "{}"],
    ["report", "oneshot_digits", "--results", "{}"], ["run", "{}.py", "--dry-run"],
    ["publish", "oneshot_digits", "--results", "{}"], ["publish", "oneshot_digits", "--to", "{}"],
])  # fmt: skip
def test_a_name_that_no_system_takes_is_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    long = "a" * 300
    assert main([argument.format(long) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("boss-study: error: "), err
    assert long in err or "no results" in err
    assert [*tmp_path.iterdir()] == []


def test_a_results_folder_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["run", "oneshot_digits", "--results", str(tmp_path / "file")]) == 2
    assert "cannot write results to" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [
    ["--help"], ["run", "--help"], ["report", "--help"], ["status", "--help"], ["data", "--help"],
    ["publish", "--help"], ["list"], ["run", "oneshot_cifar10", "--dry-run"],
])  # fmt: skip
def test_what_does_not_train_starts_without_heavy_libraries(arguments):
    code = (
        "import sys\nfrom boss.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'sklearn', 'matplotlib', 'joblib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_the_parent_and_the_report_never_import_torch(tmp_path):
    code = (
        "import sys\nfrom boss.cli import main\n"
        "assert main(['run', 'mine.py']) == 0\n"
        "assert main(['status', 'mine.py']) == 0\n"
        "assert main(['report', 'mine.py']) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    study_file(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment,
                   check=True, capture_output=True)  # fmt: skip


def test_list_says_what_each_study_is_and_costs(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for text in ("oneshot_cifar10", "Empirical Perspectives", "524,288 steps", "wrn-28-2",
                 "48 runs on cifar10", "estimate", "(default)"):  # fmt: skip
        assert text in out


def test_dry_run_lists_the_runs_and_trains_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "oneshot_cifar10", "--dry-run", "--only", "label_set=boss:3"]
    assert main([*arguments, "--only", "repeat=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "fixmatch boss:3 #2" in lines[0]
    assert "1 run on cifar10" in lines[1]
    assert list(tmp_path.iterdir()) == []


def test_run_report_and_run_again(smoke):
    folder, out, err = smoke
    assert "8 of 8 runs finished" in out
    assert [line for line in err.splitlines() if "the git commit of this code" not in line] == []
    results = folder / "results" / "oneshot_digits"
    runs = pd.read_parquet(results / "runs")
    assert len(runs) == 8
    assert runs["budget"].unique().tolist() == ["smoke"]
    assert json.loads(runs["versions"][0])["torch"]
    assert runs["dataset_fingerprint"].nunique() == 1
    written = {p: p.stat().st_mtime_ns for p in results.rglob("*.parquet")}
    assert len(written) == len(TABLES.keys() - set(SPARSE_TABLES)) * 8

    out, _ = command("run", "oneshot_digits", "--budget", "smoke", cwd=folder)
    assert "8 finished before, 0 to do" in out
    assert {p: p.stat().st_mtime_ns for p in results.rglob("*.parquet")} == written
    out, _ = command("status", "oneshot_digits", "--budget", "smoke", cwd=folder)
    assert "8 finished" in out.splitlines()[-1]

    out, _ = command_in_a_process("report", "oneshot_digits", cwd=folder)
    [line] = out.splitlines()
    report = Path("results/oneshot_digits/report")
    files = [path for path in (folder / report).rglob("*.*") if path.stat().st_size > 0]
    assert {path.suffix for path in files} == {".csv", ".md", ".tex", ".png", ".pdf"}
    num_figures = sum(path.suffix in (".png", ".pdf") for path in files)
    num_tables = len(files) - num_figures - 1
    counts = f"{num_tables} table files, {num_figures} figure files"
    assert line == f"oneshot_digits: {report / 'report.md'} ({counts})"


def test_both_spellings_of_the_command_are_one():
    text = (ROOT / "pyproject.toml").read_text()
    assert 'boss-study = "boss.cli:main"' in text
    out = subprocess.run([sys.executable, "-m", "boss", "--help"], cwd=ROOT, check=True,
                         capture_output=True, text=True).stdout  # fmt: skip
    assert out.startswith("usage: boss-study")


@pytest.mark.slow
@pytest.mark.parametrize("color", ["", "1"], ids=["plain", "live"])
@pytest.mark.parametrize("until", ["mine: 2 runs", "finished after"])
def test_a_reader_that_leaves_does_not_stop_the_training(tmp_path, until, color, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", color)  # as many CI systems do: bars are drawn then
    study_file(tmp_path)
    process = start_command("run", "mine.py", "--workers", "1", cwd=tmp_path)
    assert process.stdout is not None
    while until not in process.stdout.readline():
        pass
    process.stdout.close()
    code = process.wait(timeout=120)
    assert process.stderr is not None
    assert (code, process.stderr.read()) == (0, "")
    process.stderr.close()
    out, _ = command("status", "mine.py", cwd=tmp_path)
    assert "2 finished" in out


def test_more_workers_than_runs(tmp_path):
    study_file(tmp_path)
    out, _ = command("run", "mine.py", "--workers", "100000", cwd=tmp_path)
    assert "on 2 x cpu" in out
    assert "2 of 2 runs finished" in out


@pytest.mark.parametrize(("devices", "workers", "per_gpu", "num_runs", "expected"), [
    (["cpu"], None, None, 9, ["cpu"] * 3), (["cpu"], 5, None, 9, ["cpu"] * 5),
    (["cpu"], 5, None, 2, ["cpu"] * 2),
    (["cuda:0", "cuda:1"], None, None, 9, ["cuda:0", "cuda:1"]),
    (["cuda:0", "cuda:1"], None, 2, 9, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
    (["cuda:0", "cuda:1"], None, 2, 3, ["cuda:0", "cuda:1", "cuda:0"]),
    (["cuda:0", "cuda:1"], 3, 2, 9, ["cuda:0", "cuda:1", "cuda:0"]),
    (["cuda:0", "cuda:1"], 3, None, 9, ["cuda:0", "cuda:1", "cuda:0"]),
    (["cuda:1"], None, 3, 9, ["cuda:1"] * 3), (["cuda:0"], None, None, 0, []),
])  # fmt: skip
def testlease(devices, workers, per_gpu, num_runs, expected, monkeypatch):
    monkeypatch.setattr(place, "num_cores", lambda: 3)
    assert lease(devices, workers, per_gpu, num_runs) == expected


def test_leases_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match="--workers 5 is more than --runs-per-gpu 2 on 2 GPUs"):
        lease(["cuda:0", "cuda:1"], 5, 2, 9)


def test_the_shape_of_a_step_reaches_the_runs(tmp_path, monkeypatch):
    from boss.workers import scheduler as module

    found = []

    def remember(runs, where, devices, *arguments):
        found.append((where.execution, where.threads, devices))
        return []

    monkeypatch.setattr(module, "execute", remember)
    monkeypatch.chdir(tmp_path)
    study_file(tmp_path)
    assert main(["run", "mine.py", "--device", "cpu", "--workers", "2"]) == 0
    assert main(["run", "mine.py", "--device", "cpu", "--step", "compiled", "--workers", "1"]) == 0
    assert found == [("auto", 1, ["cpu"] * 2), ("compiled", 1, ["cpu"])]


def test_a_report_of_everything_includes_ones_own_studies(tmp_path):
    study_file(tmp_path)
    _, err = command("report", "mine.py", cwd=tmp_path, code=2)
    assert "`boss-study run mine.py` first" in err
    command("run", "mine.py", cwd=tmp_path)
    (tmp_path / "results/refused/runs").mkdir(parents=True)  # of a study without a finished run
    out, _ = command("report", cwd=tmp_path)
    assert "mine: results/mine/report/report.md" in out
    assert "refused" not in out
    page = (tmp_path / "results/mine/report/report.md").read_text()
    assert "Reproduces: nothing" in page  # as its file says, which `report` was not given


def test_only_runs_what_it_names(tmp_path):
    study_file(tmp_path)
    out, _ = command("run", "mine.py", "--only", "repeat=1", cwd=tmp_path)
    assert "1 of 1 runs finished" in out
    out, _ = command("status", "mine.py", cwd=tmp_path)
    assert "1 not started" in out
    assert "1 finished" in out


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


MORE_SIGNALS = ("SIGTERM", "SIGKILL", "SIGTERM to all")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    study_file(folder, steps=600)
    command("run", "mine.py", cwd=folder)
    return tables(folder / "results" / "mine")


@pytest.mark.parametrize(
    "how", ["SIGINT", *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_SIGNALS)]
)
def test_a_killed_study_continues_and_its_rows_are_the_same_bits(tmp_path, uninterrupted, how):
    study_file(tmp_path, steps=600)
    results = tmp_path / "results" / "mine"
    number = getattr(signal, how.split()[0])
    process = start_command("run", "mine.py", "--workers", "1", cwd=tmp_path)
    wait_for(lambda: any((results / "runs").glob("*.parquet")))  # the first of two is done ...
    states = results / "state"
    finished = next((results / "runs").glob("*.parquet"))
    wait_for(lambda: any(p.name != finished.stem for p in states.glob("*")))
    time.sleep(0.5)  # ... the second has begun
    if how.endswith("to all"):  # as batch systems and `timeout` do
        for each in [process, *psutil.Process(process.pid).children(recursive=True)]:
            each.send_signal(number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    if how == "SIGKILL":
        assert process.returncode == -9
    else:
        assert process.returncode == 128 + number
        assert "Run the same command to continue" in out
        assert "Traceback" not in err
    before = finished.stat().st_mtime_ns

    out, _ = command("run", "mine.py", cwd=tmp_path)
    assert "1 finished before, 1 to do" in out
    assert "continues at step" in out
    assert finished.stat().st_mtime_ns == before
    assert_equal_tables(tables(results), uninterrupted)


def test_the_time_limit_stops_at_a_checkpoint_with_exit_code_0(tmp_path):
    study_file(tmp_path, steps=100_000)
    out, _ = command("run", "mine.py", "--time-limit", "5s", cwd=tmp_path)
    assert "Time limit reached: 2 runs left" in out
    out, _ = command("status", "mine.py", cwd=tmp_path)
    assert "interrupted" in out
    assert re.search(r"step \d+ of 100000", out)


def test_failed_runs_are_reported_and_the_exit_code_is_1(tmp_path):
    text = study_file(tmp_path).read_text()
    (tmp_path / "mine.py").write_text(text.replace("num_eval", "learning_rate=1e30, num_eval"))
    out, err = command("run", "mine.py", cwd=tmp_path, code=1)
    assert "0 of 2 runs finished" in out
    assert "the loss is not finite at step" in out
    assert "Traceback" in err
    out, _ = command("status", "mine.py", cwd=tmp_path)
    assert "2 failed" in out
    assert "the loss is not finite at step" in out


def test_an_unreadable_part_is_named_and_run_again(smoke, tmp_path):
    shutil.copytree(smoke[0] / "results", tmp_path / "results")
    part = next((tmp_path / "results" / "oneshot_digits" / "runs").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    _, err = command("report", "oneshot_digits", cwd=tmp_path)
    assert part.name in err
    out, err = command("run", "oneshot_digits", "--budget", "smoke", cwd=tmp_path)
    assert part.name in err
    assert "7 finished before, 1 to do" in out
    one, other = (tables(f / "results" / "oneshot_digits") for f in (tmp_path, smoke[0]))
    assert_equal_tables(one, other)


def users_data(path, seed=0):
    """A data set of a user's own: color, 10 x 10 pixels, made from real digits."""
    digits = load_digits()
    images = np.kron(digits.images[:400], np.ones((1, 1)))[..., None] * np.array([15.0, 10.0, 5.0])
    images = np.pad(images.astype(np.uint8), ((0, 0), (1, 1), (1, 1), (0, 0)))
    images[0, 0, 0] = seed
    labels = digits.target[:400]
    np.savez(path, x_train=images[:300], y_train=labels[:300],
             x_test=images[300:], y_test=labels[300:])  # fmt: skip


def test_a_users_own_data_and_label_set(tmp_path):
    users_data(tmp_path / "own.npz")
    digits = load_digits().target[:300]
    picks = [int(np.flatnonzero(digits == k)[2]) for k in range(10)]
    (tmp_path / "picks.json").write_text(json.dumps({"indices": picks}))
    text = study_file(tmp_path).read_text().replace("fixmatch:1@10", "file:picks.json")
    (tmp_path / "mine.py").write_text(text)
    out, _ = command("run", "mine.py", "--data", "own.npz", cwd=tmp_path)
    assert "2 of 2 runs finished" in out
    runs = pd.read_parquet(tmp_path / "results" / "mine" / "runs")
    assert runs["dataset"].unique().tolist() == ["own.npz"]
    assert runs["labels"][0].tolist() == picks

    out, _ = command("status", "mine.py", "--data", "own.npz", cwd=tmp_path)
    assert "2 finished" in out

    # Another spelling of the path is the same data.
    out, _ = command("run", "mine.py", "--data", tmp_path / "own.npz", cwd=tmp_path)
    assert "2 finished before, 0 to do" in out

    # Other images under the same id: nothing is mixed.
    shown = (tmp_path / "picks.json").read_text()
    (tmp_path / "picks.json").write_text(json.dumps({"indices": picks[::-1]}))
    _, err = command("run", "mine.py", "--data", "own.npz", cwd=tmp_path, code=2)
    assert "holds runs on other images called file:picks.json" in err
    (tmp_path / "picks.json").write_text(shown)

    # Other data under the same name: likewise, also for runs that are not asked for.
    (tmp_path / "mine.py").write_text(text.replace("range(2)", "range(3)"))
    users_data(tmp_path / "own.npz", seed=9)
    arguments = ("--data", "own.npz", "--only", "repeat=2")
    _, err = command("run", "mine.py", *arguments, cwd=tmp_path, code=2)
    assert "holds runs on other data called own.npz" in err
    assert err.count("\n") == 1

    (tmp_path / "own.npz").write_bytes((tmp_path / "own.npz").read_bytes()[:5000])
    _, err = command("run", "mine.py", "--data", "own.npz", cwd=tmp_path, code=2)
    assert "own.npz" in err
    assert err.count("\n") == 1


def test_data_check(capsys):
    assert main(["data", "check", "digits"]) == 0
    out = capsys.readouterr().out
    assert "1201" in out
    assert "596" in out


@pytest.mark.cifar10
def test_data_check_of_cifar10(cifar10_folder, capsys):
    assert main(["data", "check", "cifar10", "--data", str(cifar10_folder)]) == 0
    assert "50000" in capsys.readouterr().out.replace(",", "")


@pytest.mark.cifar10
@pytest.mark.slow
def test_a_smoke_run_on_the_real_cifar10_stays_below_1_5_gb(cifar10_folder, tmp_path):
    import psutil

    process = start_command(
        "run", "oneshot_cifar10", "--budget", "smoke", "--data", cifar10_folder,
        "--only", "label_set=boss:3", "--only", "repeat=0", "--time-limit", "15s", cwd=tmp_path,
    )  # fmt: skip
    peak, parent = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            sizes = [child.memory_info().rss for child in parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        peak = max([peak, *sizes])
        time.sleep(0.1)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "finished" in out
    assert 0.3e9 < peak < 1.5e9


@pytest.mark.slow
def test_a_terminal_gets_a_live_table(tmp_path):
    """In a pseudo-terminal: the table is drawn, the lines above it stay."""
    import pty

    study_file(tmp_path, steps=250)
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "boss", "run", "mine.py"],
        cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs, stdin=theirs,
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            break
        if not chunk:
            break
        text += chunk
    os.close(ours)
    assert process.wait(timeout=60) == 0
    shown = text.decode()
    for word in ("steps/s", "accuracy", "left", "mine", "0/2", "fixmatch fixmatch:1@10 #0"):
        assert word in shown
    assert "\x1b[" in shown


def test_a_device_is_named_once():
    with pytest.raises(InputError, match="names a device twice: use --runs-per-gpu"):
        find_devices("cuda:0,cuda:0")
