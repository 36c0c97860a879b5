"""`boss-study bench`, through the command, on the digits."""

import json
import os
import statistics
import subprocess
import sys

import pytest
import torch

from boss.cli import main
from tests.conftest import ROOT

TINY = [
    *("--quick", "--repeats", "2", "--dataset", "digits", "--network", "wrn-7-1"),
    *("--batch-size", "4", "--unlabeled-ratio", "2"),
]


def run_command(*arguments, cwd):
    """Its standard output and its JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "boss", "bench", *arguments, "--json", "found.json"],
        cwd=cwd, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((cwd / "found.json").read_text())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """FixMatch on the CPU, once for this file."""
    return run_command(*TINY, "--device", "cpu", cwd=tmp_path_factory.mktemp("bench"))


def test_the_json_says_what_was_measured_and_where(outcome):
    _, found = outcome
    assert found.keys() == {
        *("date", "device", "cores", "threads", "versions", "commit", "settings", "image_shape"),
        *("images_per_step", "flops_per_step", "steps", "parts_of", "parts", "operations"),
    }
    assert found["threads"] == 1
    assert {"torch", "python", "numpy"} <= found["versions"].keys()
    assert found["settings"] | {"network": "wrn-7-1", "quick": True} == found["settings"]
    assert found["image_shape"] == [1, 8, 8]
    assert found["images_per_step"] == 4 * (1 + 2 * 2)  # labeled; weak and strong views
    assert list(found["steps"]) == ["eager fp32", "eager bf16", "torchvision"]


def test_times_are_spreads_over_rounds(outcome):
    _, found = outcome
    for step in found["steps"].values():
        times = step["milliseconds"]
        assert len(times["rounds"]) == times["n"] == 2
        assert 0 < times["lower"] <= times["median"] <= times["upper"]
        expected = 1e3 * found["images_per_step"] / times["median"]
        assert step["images_per_second"] == pytest.approx(expected)


@pytest.mark.parametrize("other", ["eager fp32", "torchvision"])
def test_ratios_are_taken_within_rounds(outcome, other):
    _, found = outcome
    theirs = found["steps"][other]["milliseconds"]["rounds"]
    for step in found["steps"].values():
        ratio = step[f"speed_relative_to_{other.replace(' ', '_')}"]
        ours = step["milliseconds"]["rounds"]
        expected = [a / b for a, b in zip(theirs, ours, strict=True)]
        assert ratio["rounds"] == pytest.approx(expected)
        assert ratio["median"] == pytest.approx(statistics.median(expected))
        assert ratio["median"] > 0


def test_the_parts_of_a_step_add_up(outcome):
    parts = outcome[1]["parts"]
    assert sum(parts.values()) == pytest.approx(1)
    assert all(0 <= share < 1 for share in parts.values())
    assert {"draw and augment", "forward and loss", "backward", "update", "average"} <= parts.keys()
    assert parts["rest"] < 0.5


def test_the_operations_of_a_step_add_up(outcome):
    kinds = outcome[1]["operations"]
    assert sum(kinds.values()) == pytest.approx(1)
    assert kinds.keys() == {"convolution", "pooling", "batch norm", "activation", "other"}
    assert all(kinds[kind] > 0.001 for kind in ("convolution", "batch norm", "activation"))


def test_flops_are_those_of_the_convolutions(outcome):
    """By hand, multiply-adds per image, at two operations each.

    WRN-7-1 on 1 x 8 x 8 has two stages: a convolution of 3 x 3 to 16 channels; one block per stage
    of two 3 x 3 convolutions and, where the width changes, one of 1 x 1; a linear layer from 32
    channels to 10 classes. The gradients of weights and of inputs cost as much each; the first
    layer has no gradient of its inputs. The logs sum 4 values of the 8 unlabeled images by class.
    """
    first = 64 * 9 * 16
    stages = 64 * 9 * (16 * 16 + 16 * 16) + 16 * (9 * (16 * 32 + 32 * 32) + 16 * 32)
    forward = first + stages + 32 * 10
    backward = first + 2 * (stages + 32 * 10)
    assert outcome[1]["flops_per_step"] == 2 * (20 * (forward + backward) + 4 * 8 * 10)


def test_the_table_prints_the_json(outcome):
    printed, found = outcome
    for name, step in found["steps"].items():
        [line] = [line for line in printed.splitlines() if line.startswith(f"| {name} ")]
        assert f"{step['milliseconds']['median']:.2f} (" in line
    assert "4 (" not in printed.splitlines()[0]
    assert f"B 4, mu 2: {found['images_per_step']} images of 1 x 8 x 8" in printed


@pytest.mark.slow
def test_other_algorithms_have_no_torchvision_baseline(tmp_path):
    arguments = [*TINY, "--device", "cpu", "--algorithm", "mean_teacher", "--precision", "fp32"]
    printed, found = run_command(*arguments, cwd=tmp_path)
    assert list(found["steps"]) == ["eager fp32"]
    assert "No torchvision baseline" in printed


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--step", "--execution"])
def test_executions_are_chosen_under_either_name(option, tmp_path):
    _, found = run_command(*TINY, "--device", "cpu", option, "compiled", cwd=tmp_path)
    assert list(found["steps"]) == ["eager fp32", "compiled bf16", "torchvision"]


def test_help_starts_without_torch():
    code = (
        "import sys\nfrom boss.cli import main\n"
        "try:\n    main(['bench', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'numpy', 'boss.bench'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


WRONG = [
    (["--device", "gpu"], "use auto, cpu, cuda or cuda:1"),
    (["--device", "cuda:99"], "--device cuda:99"),
    (["--network", "resnet"], "unknown network 'resnet'"),
    (["--batch-size", "0"], "at least 1, not '0'"),
    (["--unlabeled-ratio", "-1"], "at least 0, not '-1'"),
    (["--algorithm", "fixmatsch"], "unknown algorithm 'fixmatsch'"),
    (["--augmentation", "mixup"], "unknown augmentation 'mixup'"),
    (["--algorithm", "supervised"], "unlabeled_ratio must be 0"),
    (["--unlabeled-ratio", "0"], "needs unlabeled images"),
    (["--dataset", "mnist"], "choose from"),
    (["--dataset", "digits", "--augmentation", "flip"], "must not be mirrored"),
    (["--data", "."], "no effect with --dataset random"),
    (["--dataset", "digits", "--data", "."], "no effect with --dataset digits"),
    (["--network", "wrn-7-1000000000000"], "memory on cpu for network wrn-7-1000000000000"),
    (["--precision", "fp8"], "choose from bf16, fp32"),
    (["--precision", "fp64"], "choose from bf16, fp32"),
    (["--step", "fast"], "choose from eager"),
    (["--execution", "graph"], "needs a CUDA device: choose from eager, compiled"),
    (["--repeats", "0"], "at least 1, not '0'"),
    (["--json", "nowhere/found.json"], "cannot write nowhere/found.json"),
    (["--scaling"], "unrecognized arguments: --scaling"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [] if arguments[0] == "--device" else ["--device", "cpu"]
    assert main(["bench", "--quick", "--json", "found.json", *given, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    # torch logs a line of its own where a CUDA compiler is, but no GPU.
    [line] = [line for line in err.splitlines() if line.startswith("boss-study: ")]
    assert line.startswith("boss-study: error: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_survives_wrong_input(tmp_path, capsys):
    path, link = tmp_path / "found.json", tmp_path / "link.json"
    path.write_text("there")
    link.symlink_to(path)
    assert main(["bench", "--device", "cpu", "--network", "resnet", "--json", str(link)]) == 2
    assert "unknown network" in capsys.readouterr().err
    assert link.is_symlink()
    assert path.read_text() == "there"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_bench_on_a_gpu(tmp_path):
    _, found = run_command(*TINY, "--device", "cuda", cwd=tmp_path)
    assert list(found["steps"]) == ["eager fp32", "eager bf16", "graph bf16", "torchvision"]
    assert sum(found["parts"].values()) == pytest.approx(1)
