"""docs/cifar10.md and its script: every command is understood, the order is as told."""

import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from analysis.claims import claims
from analysis.sections.comparison import records
from analysis.sections.overview import headlines
from boss.cli import _parser, main
from boss.study.designs import BUDGETS, FAST_FIRST, FAST_ROUND
from boss.study.run import Run
from boss.study.select import select
from boss.study.study import load, with_parents
from tests.conftest import ROOT

PAGE = (ROOT / "docs/cifar10.md").read_text()
SCRIPT = ROOT / "studies/cifar10_on_gpu.sh"
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line]
COMMANDS = [shlex.split(line, comments=True) for line in LINES]


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[0] == "boss-study"], ids=" ".join
)
def test_every_command_is_understood(words, capsys):
    arguments = _parser().parse_args(words[1:])
    study = getattr(arguments, "study", None)
    assert study is None or load(study, ROOT / "studies").enumerate()
    if words[1] == "run":
        assert main([*words[1:], "--dry-run"]) == 0
        assert " runs on cifar10 " in capsys.readouterr().out


def script(*arguments, python=sys.executable, **options):
    environment = os.environ | {"PYTHON": str(python)}
    return subprocess.run(
        [SCRIPT, *arguments], capture_output=True, text=True, env=environment, **options
    )


def stub(tmp_path, text):
    """A program in place of Python that notes its arguments."""
    path = tmp_path / "python"
    path.write_text(f'#!/usr/bin/env bash\necho "$@" >> {tmp_path}/calls\n{text}\n')
    path.chmod(0o755)
    return path


def calls(tmp_path):
    path = tmp_path / "calls"
    return [shlex.split(line) for line in path.read_text().splitlines()] if path.exists() else []


def only(words, key):
    return [word.removeprefix(f"{key}=") for word in words if word.startswith(f"{key}=")]


def test_the_order_of_the_script_is_that_of_the_page(tmp_path):
    done = script("25", "--data", "x", "--device", "cuda:0", python=stub(tmp_path, "exit 0"))
    assert (done.returncode, done.stderr) == (0, "")
    made = calls(tmp_path)
    assert all(words[:3] == ["-m", "boss", "run"] for words in made)
    assert all(words[-4:] == ["--data", "x", "--device", "cuda:0"] for words in made)
    assert all(words[words.index("--budget") + 1] == "short" for words in made)
    first = [words for words in made if only(words, "repeat") == ["0"]]
    assert made[: len(first)] == first  # one run of everything, then the repeats
    studies = [words[3] for words in first]
    told = re.findall(r"^\d\. `(\w+)`", PAGE, re.MULTILINE)
    assert list(dict.fromkeys(studies)) == told
    assert only(first[1], "label_set") == ["boss:2", "boss:4", "boss:6", "boss:7"]
    assert only(first[1], "round") == ["0"]
    assert only(first[2], "round") == ["1"]
    assert [words[3] for words in made[-5:]] == ["fixmatch_table2"] * 5
    assert [only(words, "label_set") for words in made[-5:]] == [
        [f"fixmatch:{fold}@40"] for fold in range(1, 6)
    ]


def test_every_call_of_the_script_names_runs_that_exist(tmp_path):
    script("25", "--dry-run", python=stub(tmp_path, "exit 0"))
    seen = set()
    for words in calls(tmp_path):
        if (key := tuple(words[3 : words.index("--time-limit")])) not in seen:
            seen.add(key)
            assert main(words[2:]) == 0
    assert len(seen) == 4 * 8 + 5


def test_what_the_script_runs_is_enough_for_the_readme_and_for_a_verdict_on_every_claim(tmp_path):
    script("25", python=stub(tmp_path, "exit 0"))
    runs: dict[str, dict[str, Run]] = {}
    for words in calls(tmp_path):
        conditions = [words[i + 1] for i, word in enumerate(words) if word == "--only"]
        chosen = select(load(words[3], ROOT / "studies").enumerate("short"), conditions)
        runs.setdefault(words[3], {}).update({run.id: run for run in with_parents(chosen)})
    main_rows = {row["study"] for row in records(headlines()) if row["is_main"] == "yes"}
    assert main_rows - runs.keys() == {"oneshot_cifar10_fast"}  # which is tuned first

    def sets(study, start, **fields):
        return {
            r.label_set for r in runs[study].values() if r.label_set.startswith(start)
            and all(getattr(r, k) == v for k, v in fields.items())
        }  # fmt: skip

    own = {f"boss:{k}" for k in range(6)}
    for kind in ("fixmatch:", "boss:"):  # claims 1 to 4, 8: 6 sets, repeats
        assert len(sets("oneshot_cifar10", kind, repeat=3)) == claims.MIN_SETS_OF_SHARE
    for algorithm in ("fixmatch", "boss"):  # claim 5
        assert own <= sets("boss_cifar10", "boss:", algorithm=algorithm, round=0)
    assert own <= sets("boss_cifar10", "boss:", round=1)  # claim 7
    full = [r for r in runs["boss_cifar10"].values() if r.algorithm == "supervised"]
    assert len(full) >= claims.MIN_FULL
    assert len(sets("prototypes_cifar10", "carlini:")) == 8  # claim 6
    assert len(sets("prototypes_cifar10", "fixmatch:")) >= claims.MIN_SETS
    assert len(sets("fixmatch_table2", "fixmatch:", augmentation="ctaugment")) == 5


def test_the_script_really_prints_what_it_would_run():
    done = script("1", "--dry-run", "--only", "label_set=boss:4")
    # Where no run has that label set the command says so, and nothing is run.
    assert done.returncode == 2
    assert "oneshot_cifar10: 1 runs on cifar10" in done.stdout
    assert "no run has" in done.stderr or "choose from" in done.stderr


def test_the_time_left_is_handed_on_and_ends_the_script(tmp_path):
    python = stub(tmp_path, "sleep 1.1")
    assert script("0", python=python).returncode == 0
    assert calls(tmp_path) == []
    text = SCRIPT.read_text().replace("60 * 10#$1", "$1")  # seconds, not minutes
    fast = ROOT / "studies/.test_seconds.sh"
    try:
        fast.write_text(text)
        environment = os.environ | {"PYTHON": str(python)}
        subprocess.run(["bash", fast, "3"], env=environment, check=True)
    finally:
        fast.unlink()
    left = [int(words[words.index("--time-limit") + 1].rstrip("s")) for words in calls(tmp_path)]
    assert 2 <= len(left) <= 3
    assert left == sorted(left, reverse=True)
    assert len(set(left)) == len(left)


def test_failed_runs_do_not_stop_the_others_and_wrong_input_does(tmp_path):
    count = f"n=$(wc -l < {tmp_path}/calls)\n"
    done = script("25", python=stub(tmp_path, count + "((n != 2)) && exit 0 || exit 1"))
    assert done.returncode == 1
    assert len(calls(tmp_path)) == 4 * 8 + 5
    (tmp_path / "calls").unlink()
    done = script("25", python=stub(tmp_path, count + "((n != 2)) && exit 0 || exit 2"))
    assert done.returncode == 2
    assert len(calls(tmp_path)) == 2
    assert script("08", "--dry-run", "--only", "repeat=9").returncode == 2  # no octal number
    for wrong in ([], ["half"], ["-1"]):
        done = script(*wrong)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: ")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_training_and_is_waited_for(tmp_path, sent):
    trap = f"trap 'sleep 0.3; echo saved >> {tmp_path}/calls; exit 143' TERM\n"
    python = stub(tmp_path, trap + "for i in $(seq 100); do sleep 0.1; done")
    process = subprocess.Popen([SCRIPT, "25"], env=os.environ | {"PYTHON": str(python)})
    deadline = time.monotonic() + 20
    while not calls(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(sent)
    assert process.wait(20) == 143
    assert calls(tmp_path)[-1] == ["saved"]
    assert len(calls(tmp_path)) == 2  # the next one was not begun


def test_what_the_page_says_of_the_short_budget():
    short = BUDGETS["short"]
    assert short["num_images"] == 2**21
    assert BUDGETS["paper"]["num_images"] == 16 * short["num_images"]
    steps = short["num_images"] // 64
    assert f"{steps:,} steps of 64" in PAGE
    assert 5 * steps * 0.010 < 30 * 60
    assert (short["teacher_decay"], short["num_evaluations"]) == (0.995, 64)
    assert "1/164 of the" in PAGE
    assert f"{math.ceil(2**21 / 30):,} shorter steps" in PAGE
    assert 30 * (1 + 2 * 9) == 570
    assert round(steps / 200) == 164
    assert round(2**25 / 64 / 1000) == 524
    assert FAST_FIRST["algorithm"] == "boss"
    assert FAST_ROUND["picks_per_class"] == 40


def test_results_travel_in_pieces(tmp_path):
    """The two lines of the page, on some files of which one is larger than a piece."""
    [pack, unpack] = [line for line in LINES if line.startswith(("tar ", "cat "))]
    files = {
        "a/runs/1.parquet": b"rows", "a/state/2/checkpoint.pt": os.urandom(2**24), "b/runs/3": b"x",
    }  # fmt: skip
    for name in [*files, "a/report/report.md", "reference/a/runs/9.parquet"]:
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files.get(name, b"left out"))
    subprocess.run(["bash", "-ec", pack], cwd=tmp_path, check=True)
    pieces = sorted(tmp_path.glob("results.tar.*"))
    assert len(pieces) == 2
    assert max(path.stat().st_size for path in pieces) <= 15 * 2**20
    other = tmp_path / "other"
    (other / "results").mkdir(parents=True)
    for path in pieces:
        path.rename(other / path.name)
    subprocess.run(["bash", "-ec", unpack], cwd=other, check=True)
    found = {
        str(p.relative_to(other / "results")): p.read_bytes()
        for p in (other / "results").rglob("*")
        if p.is_file()
    }
    assert found == files
