"""The benchmark: its clock, its baseline, its counts, its command."""

import dataclasses
import gc
import inspect
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import equivalence
from boss.algorithms import Batch, Context, build
from boss.augment import Views
from boss.bench import baseline as usual
from boss.bench import run as bench_run
from boss.bench.baseline import Baseline, LoadedBatch, Transforms, pillow_views
from boss.bench.clock import PartTimer, Sample, Spread, alternate, calls_for, sample
from boss.bench.dataset import load
from boss.bench.machine import copy_rate, matrix_rate
from boss.bench.report import markdown
from boss.bench.run import _counts, _ratios, _shares, _times
from boss.bench.scaling import Job, rates
from boss.bench.steps import PARTS, Trainer, images_of, kind_of_kernel, with_parts
from boss.cli import main
from boss.errors import InputError
from boss.seeds import stream
from boss.study.run import Run
from boss.training.step import Step
from boss.workers import cost
from boss.workers.build import start_run
from boss.workers.runtime import Runtime

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
RUN = Run(
    dataset="digits",
    algorithm="fixmatch",
    label_set="fixmatch:0@10",
    repeat=0,
    network="wrn-7-1",
    num_images=10**6,
    batch_size=4,
    unlabeled_ratio=3,
    num_evaluations=1,
)


def started(digits, **options):
    given = {"num_workers": 0, "autocast": False} | options
    return Baseline(RUN, images_of(RUN, digits, CPU), flip=False, device=CPU, **given)


# The clock ----------------------------------------------------------------------------------------


def test_repeats_alternate_and_turn_round():
    order = []

    def measurement(name):
        return lambda: order.append(name) or len(order)

    found = alternate({name: measurement(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert found == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}


def test_a_single_repeat_has_no_spread():
    assert Spread.of([2.0]) == (1, 2.0, 2.0, 2.0, 2.0, 2.0)


def test_times_are_per_call(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("boss.bench.clock.time", SimpleNamespace(
        perf_counter=lambda: clock.now, process_time=lambda: 2 * clock.now
    ))  # fmt: skip

    def call():
        clock.now += 0.25

    assert sample(call, 4, CPU) == Sample(0.25, 0.5)
    assert calls_for(call, 1.0, CPU) == 4
    assert calls_for(call, 0.01, CPU) == 2
    assert calls_for(call, 1e9, CPU) == 500


def test_parts_are_timed_by_name(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("boss.bench.clock.time", SimpleNamespace(perf_counter=lambda: clock.now))

    def work(seconds):
        clock.now += seconds
        return seconds

    timer = PartTimer(CPU)
    first, second = timer.wrap("first", work), timer.wrap("second", work)
    assert (first(1.0), second(2.0), first(4.0)) == (1.0, 2.0, 4.0)
    assert timer.take() == {"first": 5.0, "second": 2.0}
    assert timer.take() == {}


def test_rates_count_what_is_moved_and_multiplied(monkeypatch):
    monkeypatch.setattr("boss.bench.machine.seconds_per_call", lambda *_: 0.5)
    monkeypatch.setattr("boss.bench.machine.calls_for", lambda *_: 1)
    assert copy_rate(CPU, 0.1)() == 2 * 2 * 4 * 2**26  # read and written, 4 bytes, twice a second
    assert matrix_rate(CPU, torch.float32, 0.1)() == 2 * 2 * 1024**3


# Our steps ----------------------------------------------------------------------------------------


def test_timed_parts_are_the_whole_step_and_change_nothing(digits):
    images = images_of(RUN, digits, CPU)
    plain, timed = (Trainer(RUN, digits, images, CPU, "eager") for _ in range(2))
    measure = with_parts(timed)
    timed()  # outside the measurement, to which it must not be counted
    for _ in range(3):
        plain()
    seconds = measure(2)
    for one, other in zip(
        plain.training.student.parameters(), timed.training.student.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert timed.training.step == 3
    parts = ["augmentation", "forward", "backward", "update", "averaging", "sums", "rest"]
    assert sorted(seconds) == sorted([*parts, "whole"])
    assert all(seconds[part] > 0 for part in parts)
    assert sum(seconds[part] for part in parts) == pytest.approx(seconds["whole"])
    shares = _shares([seconds, seconds])
    assert sum(shares[part]["share"] for part in parts) == pytest.approx(1)


def test_every_method_of_a_step_has_its_part():
    called = re.findall(r"\bself\.(\w+)\(", inspect.getsource(Step.run))
    assert len(called) >= 8
    assert set(called) == set(PARTS)


def test_steps_move_on_through_the_unlabeled_images(digits):
    trainer = Trainer(RUN, digits, images_of(RUN, digits, CPU), CPU, "eager")
    seen = []
    inner = trainer.step
    trainer.step = lambda number, u_index: seen.append((number, u_index.tolist()))
    trainer()
    trainer()
    assert [number for number, _ in seen] == [0, 1]
    assert len(set(seen[0][1] + seen[1][1])) == 24
    assert inner.training.step == 2


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float>", "norms"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32", "convolutions"),
        ("triton_poi_fused_convolution_leaky_relu_3", "compiled"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<...>", "updates"),
        ("void at::native::vectorized_elementwise_kernel<4, ...>", "by value"),
        ("void at::native::reduce_kernel<512, 1, ...>", "sums"),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("void some_other_kernel", "others"),
    ],
)
def test_kinds_of_kernels(name, kind):
    assert kind_of_kernel(name) == kind


# The baseline -------------------------------------------------------------------------------------


def test_the_baseline_makes_the_same_kind_of_step(digits):
    baseline = started(digits)
    [batch] = baseline.batches(1)
    assert batch.x.shape == (4, 1, 8, 8)
    assert batch.y.shape == (4,)
    assert batch.weak.shape == batch.strong.shape == (12, 1, 8, 8)
    for images in (batch.x, batch.weak, batch.strong):
        assert images.dtype == torch.float32
        assert -1 <= images.min() < images.max() <= 1
    before = [p.clone() for p in baseline.teacher.parameters()]
    baseline.learn(batch)
    assert math.isfinite(baseline.losses[0])
    moved = 0
    decay = RUN.teacher_decay
    for old, averaged, trained in zip(
        before, baseline.teacher.parameters(), baseline.student.parameters(), strict=True
    ):
        torch.testing.assert_close(averaged, decay * old + (1 - decay) * trained)
        moved += not torch.equal(averaged, old)
    assert moved > 10
    for kept, running in zip(baseline.teacher.buffers(), baseline.student.buffers(), strict=True):
        assert torch.equal(kept, running)


def test_the_baseline_computes_fixmatchs_loss(digits, monkeypatch):
    """On the same weights and images, where pseudo-labels count and where they do not."""
    monkeypatch.setattr(usual, "THRESHOLD", 0.2)
    baseline = started(digits)
    training = start_run(RUN, digits, CPU)
    [batch] = baseline.batches(1)
    loss = baseline.loss(batch)
    algorithm = build("fixmatch", {"threshold": 0.2})
    context = Context(training.student, training.teacher, torch.zeros(()), ())
    u_index = torch.zeros(12, dtype=torch.int64)
    expected = algorithm.loss(Batch(batch.x, batch.y, (batch.weak, batch.strong), u_index), context)
    assert 0 < expected.used.sum() < 12
    torch.testing.assert_close(loss, expected.supervised + expected.unsupervised)


def test_both_update_the_student_alike(digits):
    """A step of the baseline's optimizer and a step of ours, from the same gradients."""
    baseline, training = started(digits), start_run(RUN, digits, CPU)
    for one, other in zip(
        baseline.student.parameters(), training.student.parameters(), strict=True
    ):
        assert torch.equal(one, other)
        one.grad = torch.full_like(one, 0.1)
        other.grad = torch.full_like(other, 0.1)
    baseline.update()
    training.optimizer.step()
    for one, other in zip(
        baseline.student.parameters(), training.student.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_every_unlabeled_image_comes_once_in_an_epoch(digits):
    baseline = started(digits)
    assert sum(1 for _ in baseline.batches(3)) == 3
    sampler = baseline._loaders[1].sampler
    sampler.num = 1201 + 10
    order = list(sampler)
    assert sorted(order[:1201]) == list(range(1201))
    assert len(order) == 1211


def test_workers_count_their_processor_time(monkeypatch):
    clock = iter([10.0, 13.0, 17.0])
    monkeypatch.setattr(usual.time, "process_time", lambda: next(clock))
    collate = usual.Collate()
    assert collate([torch.zeros(2)] * 3)[0].shape == (3, 2)
    assert collate([torch.zeros(2)])[1] == 4.0


def test_only_steps_in_the_middle_are_timed(monkeypatch):
    """Warm-up before, batches made but not learned behind."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(usual, "time", SimpleNamespace(
        perf_counter=lambda: clock.now, process_time=lambda: clock.now / 2
    ))  # fmt: skip
    asked = []

    class Fake:
        work_ahead, num_workers, device = 4, 2, CPU
        learned = 0

        def batches(self, num):
            for _ in range(num):
                asked.append(num)
                clock.now += 1.0
                yield LoadedBatch(*[torch.zeros(1)] * 4, seconds=0.25)

        def learn(self, batch):
            self.learned += 1
            clock.now += 100.0 if self.learned <= 5 else 3.0

    fake = Fake()
    found = usual.measure(fake, 6)
    assert fake.learned == 5 + 6
    assert len(asked) == 5 + 6 + 4
    assert found == Sample(4.0, 2.0 + 0.25, 1.0)


def test_pillow_views_look_like_ours():
    """The same means and spreads over many images, for either view."""
    images = load("random", None).train.images[:1500]
    views = Views("randaugment", 32, flip=True, device=CPU)
    generator = stream("views")
    theirs = pillow_views(images)()
    for kind, found in zip(("weak", "strong"), theirs, strict=True):
        draws = views.draw(kind, len(images), generator)
        ours = views.view(kind, images, draws)
        assert found.shape == ours.shape
        assert found.mean().item() == pytest.approx(ours.mean().item(), abs=0.03)
        assert found.std().item() == pytest.approx(ours.std().item(), abs=0.03)
        blank = [(x == 0).all(dim=1).float().mean().item() for x in (found, ours)]
        assert blank[0] == pytest.approx(blank[1], abs=0.03)


def test_pictures_that_must_not_be_mirrored_are_not(digits):
    names = [type(t).__name__ for t in Transforms(1, 8, flip=False)._weak.transforms]
    assert names == ["RandomCrop"]


# What is made of it -------------------------------------------------------------------------------


def test_ratios_are_of_pairs():
    ours = [Sample(1.0, 1.0), Sample(10.0, 5.0)]
    theirs = [Sample(2.0, 4.0), Sample(30.0, 30.0)]
    found = _ratios(ours, theirs)
    assert found["steps_per_second"]["repeats"] == [2.0, 3.0]
    assert found["steps_per_processor_second"]["repeats"] == [4.0, 6.0]


def test_images_per_second_are_those_through_the_network():
    times = _times([Sample(0.5, 1.0, 0.1)], num_images=28)
    assert times["images_per_second"] == 56
    assert times["milliseconds"]["median"] == 500
    assert times["processor_milliseconds"]["median"] == 1000
    assert times["waiting_share"] == pytest.approx(0.2)


def test_the_floor_is_the_larger_time_at_the_measured_rates():
    machine = {
        "copy": {"median": 1e9},
        "matrix bf16": {"median": 1e12},
        "matrix fp32": {"median": 1e7},
    }
    found = _counts(RUN, (1, 8, 10), machine)
    passes = cost.passes_per_step(RUN)
    assert found["images"]["forward"] == 4 + 2 * 12
    work = 2 * sum(cost.step_multiply_adds("wrn-7-1", (1, 8, 10), passes).values())
    for precision, value in (("bf16", 2), ("fp32", 4)):
        of = found["precisions"][precision]
        moved = sum(cost.step_bytes("wrn-7-1", (1, 8, 10), passes, value).values())
        assert of["memory_floor_milliseconds"] == pytest.approx(moved / 1e6)
        rate = machine[f"matrix {precision}"]["median"]
        assert of["compute_floor_milliseconds"] == pytest.approx(1e3 * work / rate)
    bf16, fp32 = found["precisions"]["bf16"], found["precisions"]["fp32"]
    assert bf16["floor_milliseconds"] == bf16["memory_floor_milliseconds"]
    assert fp32["floor_milliseconds"] == fp32["compute_floor_milliseconds"]


# The command --------------------------------------------------------------------------------------

TINY = [
    *("--network", "wrn-7-1", "--batch-size", "4", "--unlabeled-ratio", "2"),
    *("--dataset", "digits", "--device", "cpu", "--quick", "--repeats", "2"),
]


def run_command(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "boss", "bench", *arguments],
        cwd=cwd, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """`boss-study bench --quick` on tiny images, once for this file."""
    folder = tmp_path_factory.mktemp("bench")
    done = run_command(*TINY, "--json", "found.json", cwd=folder)
    return done, json.loads((folder / "found.json").read_text())


def test_bench_says_everything_in_its_json(outcome):
    _, found = outcome
    assert found["schema"] == 1
    assert found["kind"] == "cpu"
    assert found["threads"] == 1
    assert {"torch", "python", "numpy"} <= found["versions"].keys()
    assert found["device"]
    assert found["date"].startswith("20")
    assert found["image_shape"] == [1, 8, 10]
    assert found["run"] == {
        "dataset": "digits", "algorithm": "fixmatch", "augmentation": "randaugment",
        "network": "wrn-7-1", "batch_size": 4, "unlabeled_ratio": 2,
    }  # fmt: skip
    assert found["settings"]["quick"] is True
    assert list(found["steps"]) == ["eager fp32", "eager bf16"]
    timed = [*found["steps"].values(), found["baseline"]]
    for step in timed:
        for kind in ("milliseconds", "processor_milliseconds"):
            spread = step[kind]
            assert len(spread["repeats"]) == spread["n"] == 2
            assert 0 < spread["least"] <= spread["lower"] <= spread["median"]
            assert spread["median"] <= spread["upper"] <= spread["most"]
        images = 4 * (1 + 2 * 2)
        expected = 1e3 * images / step["milliseconds"]["median"]
        assert step["images_per_second"] == pytest.approx(expected)
        assert step["steps_per_repeat"] >= 2
    assert found["fastest"] in found["steps"]
    assert found["baseline"]["worker_processes"] >= 1
    assert found["baseline"]["trial_milliseconds"].keys() == {"fp32", "autocast"}
    assert found["ratios"].keys() == found["steps"].keys()
    for name, ratio in found["ratios"].items():
        ours = found["steps"][name]["milliseconds"]["repeats"]
        theirs = found["baseline"]["milliseconds"]["repeats"]
        expected = [b / a for a, b in zip(ours, theirs, strict=True)]
        assert ratio["steps_per_second"]["repeats"] == pytest.approx(expected)
    assert found["machine"].keys() == {"copy", "matrix bf16", "matrix fp32"}
    assert sum(found["counts"]["multiply_adds"].values()) > 0
    assert found["memory"]["fp32"]["activations"] > found["memory"]["bf16"]["activations"]
    assert (found["kernels"], found["scaling"]) == (None, None)


def test_bench_prints_tables(outcome):
    done, found = outcome
    for text in (
        *("| eager fp32", "| torchvision", "images of digits", "B 4, mu 2", "worker processes"),
        *("| forward |", "TFLOP per step", "memory floor", "| activations |", "x floor"),
    ):
        assert text in done.stdout
    assert markdown(found).strip() == done.stdout.strip()


def test_other_algorithms_have_no_baseline(tmp_path):
    arguments = [*TINY, "--algorithm", "mean_teacher", "--precision", "fp32", "--repeats", "1"]
    done = run_command(*arguments, "--json", "found.json", cwd=tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["baseline"] is None
    assert list(found["steps"]) == ["eager fp32"]
    assert "No baseline" in done.stdout


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
    (["--batch-size", "0"], "whole number from 1"),
    (["--algorithm", "fixmatsch"], "unknown algorithm 'fixmatsch'"),
    (["--augmentation", "mixup"], "unknown augmentation 'mixup'"),
    (["--algorithm", "supervised"], "unlabeled_ratio must be 0"),
    (["--unlabeled-ratio", "0"], "needs unlabeled images"),
    (["--dataset", "mnist"], "choose from"),
    (["--data", "."], "no effect on random images"),
    (["--dataset", "digits", "--data", "."], "no effect on digits"),
    (["--network", "wrn-7-1000000000000"], "memory on cpu for network wrn-7-1000000000000"),
    (["--precision", "fp8"], "choose from bf16, fp32"),
    (["--step", "fast"], "choose from eager"),
    (["--step", "graph"], "needs a CUDA device: choose from eager, compiled"),
    (["--repeats", "0"], "whole number from 1"),
    (["--json", "nowhere/found.json"], "cannot write nowhere/found.json"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [] if arguments[0] == "--device" else ["--device", "cpu"]
    assert main(["bench", "--quick", *given, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("preparing")]
    assert len(lines) == 1
    assert lines[0].startswith("boss-study: error: ")
    assert message in lines[0]


def test_too_little_memory_is_told_from_other_errors(digits, monkeypatch):
    def fail(error):
        def raise_it(*_):
            raise error

        monkeypatch.setattr(bench_run, "Trainer", raise_it)
        bench_run._prepare(RUN, digits, None, CPU, "eager")

    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory."),
                  RuntimeError("DefaultCPUAllocator: can't allocate memory")):  # fmt: skip
        with pytest.raises(InputError, match="for network wrn-7-1 with batch size 4 and"):
            fail(error)
    with pytest.raises(RuntimeError, match="some other error"):
        fail(RuntimeError("some other error"))


def test_asking_whether_a_file_can_be_written_changes_nothing(tmp_path):
    path, link = tmp_path / "found.json", tmp_path / "link.json"
    bench_run.check_writable(path)
    assert not path.exists()
    link.symlink_to(path)
    bench_run.check_writable(link)
    assert link.is_symlink()
    assert not path.exists()
    path.write_text("there")
    bench_run.check_writable(path)
    assert path.read_text() == "there"


def test_wrong_input_leaves_no_file(tmp_path, capsys):
    path = tmp_path / "found.json"
    assert main(["bench", "--device", "cpu", "--network", "resnet", "--json", str(path)]) == 2
    assert "unknown network" in capsys.readouterr().err
    assert not path.exists()


# What is printed ----------------------------------------------------------------------------------


def with_times(found, **milliseconds):
    """The result with other times of its steps."""
    steps = {
        name.replace("_", " "): found["steps"]["eager fp32"]
        | {"milliseconds": Spread.of(ms).as_dict(ms)}
        for name, ms in milliseconds.items()
    }
    return found | {"steps": steps, "fastest": min(steps), "baseline": None}


def test_only_what_is_faster_than_the_spread_is_called_fastest(outcome):
    def marked(**milliseconds):
        lines = markdown(with_times(outcome[1], **milliseconds)).splitlines()
        return [line.split("|")[1].strip() for line in lines if "fastest" in line]

    slow, near, fast = [3.0, 3.1, 3.2], [1.9, 2.0, 3.3], [1.0, 1.1, 1.2]
    assert marked(eager_fp32=slow, eager_bf16=fast) == ["eager bf16 (fastest of ours)"]
    assert marked(eager_fp32=fast, eager_bf16=slow) == ["eager fp32 (fastest of ours)"]
    assert marked(eager_fp32=slow, eager_bf16=[2.9, 3.0, 3.1]) == []
    assert marked(eager_fp32=fast, eager_bf16=near, graph_bf16=[1.15]) == []
    assert marked(eager_fp32=fast) == []
    assert marked(eager_fp32=[3.0], eager_bf16=[1.0]) == []


def test_a_single_repeat_is_printed_without_spread(outcome):
    text = markdown(with_times(outcome[1], eager_fp32=[3.0], eager_bf16=[1.25]))
    assert "| eager bf16 | 1.25 | - | 1 |" in text


def test_processor_time_decides_on_processors_alone(outcome):
    found = outcome[1]
    assert "what decides how many runs" in markdown(found)
    assert "what decides how many runs" not in markdown(found | {"kind": "cuda"})


def test_time_without_kernels_and_what_the_floor_is(outcome):
    text = markdown(outcome[1] | {"kernels": {"norms": 1e-4}})
    assert "| no kernel running |" in text
    assert "by this plan; less than 1 x is possible" in text


# Scaling ------------------------------------------------------------------------------------------


def job(**changes):
    place = Runtime(results=Path(), study="bench", device="cpu", threads=1)
    return Job(dataclasses.replace(RUN, **changes), place, "eager", 0.2)


def test_processes_side_by_side():
    found, error = rates([job(), job(repeat=1)])
    assert error == ""
    assert len(found) == 2
    assert min(found) > 0


def test_a_setting_that_cannot_be_had_says_why():
    found, error = rates([job(), job(network="resnet")])
    assert found == []
    assert "unknown network 'resnet'" in error


def test_scaling_varies_one_thing_at_a_time(monkeypatch, outcome):
    asked = []

    def fake(jobs):
        asked.append(jobs)
        if jobs[0].run.batch_size == 16:
            return [], "OutOfMemoryError: too large"
        return [2.0 / len(jobs) ** 0.5] * len(jobs), ""

    monkeypatch.setattr(bench_run, "rates", fake)
    monkeypatch.setattr(bench_run, "num_cores", lambda: 2)
    found = bench_run._scaling(
        bench_run.Settings(quick=True), RUN, job().place, ("eager", "bf16"), lambda line: None
    )
    settings = [
        tuple(point[key] for key in ("network", "batch_size", "unlabeled_ratio"))
        for point in found["points"]
    ]
    assert settings[0] == ("wrn-7-1", 4, 3)
    for setting in settings[1:]:
        assert sum(a != b for a, b in zip(setting, settings[0], strict=True)) <= 1
    assert len(set(settings)) == len(settings)
    assert {s[0] for s in settings} == {"wrn-7-1", "wrn-7-2", "wrn-7-4"}
    assert {s[1] for s in settings} == {4, 8, 16}
    assert {s[2] for s in settings} == {1, 3, 7, 14}
    assert found["points"][0]["milliseconds"]["repeats"] == [500]
    assert found["points"][0]["images"] == 4 * 7
    failed = next(point for point in found["points"] if point["batch_size"] == 16)
    assert (failed["milliseconds"], failed["error"]) == (None, "OutOfMemoryError: too large")
    assert all(j.run.precision == "bf16" and j.place.threads == 1 for jobs in asked for j in jobs)
    assert len(asked) == len(settings) + 2
    one, two = found["processes"]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["runs_per_hour"]["median"] == pytest.approx(3600 * 2.0 / RUN.num_steps)
    assert two["steps_per_second"]["median"] == pytest.approx(2 * 2.0 / 2**0.5)
    text = markdown(outcome[1] | {"scaling": found})
    assert "OutOfMemoryError" in text
    assert "measured once" in text
    assert "| 2 | 1 | 2.83 |" in text
    assert "| 1.41 |" in text


def test_scaling_is_measured_in_turn_and_with_the_threads_asked_for(monkeypatch, outcome):
    asked = []

    def fake(jobs):
        run = jobs[0].run
        asked.append((run.network, run.batch_size, run.unlabeled_ratio, len(jobs)))
        if run.batch_size == 16:
            return [], "OutOfMemoryError: too large"
        return [1.0] * len(jobs), ""

    monkeypatch.setattr(bench_run, "rates", fake)
    monkeypatch.setattr(bench_run, "num_cores", lambda: 6)
    place = dataclasses.replace(job().place, threads=2)
    found = bench_run._scaling(
        bench_run.Settings(), RUN, place, ("eager", "bf16"), lambda line: None
    )
    num = len(found["points"]) + len(found["processes"])
    first, again = asked[:num], [one for one in asked[:num] if one[1] != 16]
    assert len(again) == num - 1  # what cannot be had is asked for once
    assert asked == [*first, *reversed(again), *again]
    assert [p["processes"] for p in found["processes"]] == [1, 2, 3]
    assert {p["threads"] for p in [*found["points"], *found["processes"]]} == {2}
    assert found["points"][0]["milliseconds"]["n"] == 3
    text = markdown(outcome[1] | {"scaling": found})
    assert "measured 3 times in turn" in text
    assert "| 3 | 2 | 3.00 (3.00 to 3.00) |" in text


def test_all_trainings_are_gone_before_the_scaling(monkeypatch):
    """So is the baseline: their memory is for the processes to come."""
    alive = []

    def fake(*_):
        alive.extend(type(o) for o in gc.get_objects() if type(o) in (Step, Baseline))
        return {"points": []}

    monkeypatch.setattr(bench_run, "_scaling", fake)
    settings = bench_run.Settings(
        device="cpu", network="wrn-7-1", batch_size=4, unlabeled_ratio=2, dataset="digits",
        repeats=1, seconds=0.05, quick=True, scaling=True,
    )  # fmt: skip
    gc.disable()  # or it might happen to collect them
    try:
        found = bench_run.bench(settings)
    finally:
        gc.enable()
    assert found["scaling"] == {"points": []}
    assert found["baseline"] is not None
    assert alive == []


# benchmarks/ --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["augmentation", "equivalence", "report", "study"])
def test_benchmarks_start_from_a_checkout(name):
    """By the command in their docstrings, from the root, without an installation or a path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = ["-m", f"benchmarks.{name}"]
    assert f"    python {' '.join(command)}" in (ROOT / "benchmarks" / f"{name}.py").read_text()
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "usage:" in done.stdout


def test_intervals_are_over_label_sets():
    """By hand: means 2, 4 and 9, deviation sqrt(13), t(2) = 4.303."""
    mean, half = equivalence.interval([1.0, 3.0, 4.0, 4.0, 8.0, 10.0], 3)
    assert mean == 5
    assert half == pytest.approx(4.302653 * (13 / 3) ** 0.5)
    assert equivalence.interval([3.0, 5.0], 1) == (4.0, None)
    assert equivalence.spelled((-1.25, 3.0)) == "-1.2 ± 3.0"
    assert equivalence.spelled((1.0, None), "+") == "+1.0"


@pytest.mark.parametrize(("sets", "repeats"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_equivalence_of_few_trainings(sets, repeats, tmp_path, monkeypatch, capsys):
    threads = torch.get_num_threads()
    asked = []

    def accuracy(run, *_):
        asked.append((run.label_set, run.repeat, torch.get_num_threads()))
        return 0.5 + 0.1 * (run.precision == "bf16")

    monkeypatch.setattr(equivalence, "losses", lambda *_: [2.0, 1.5])
    monkeypatch.setattr(equivalence, "accuracy", accuracy)
    given = ["--device", "cpu", "--steps", "2", "--out", str(tmp_path / "found")]
    try:
        equivalence.main([*given, "--label-sets", str(sets), "--repeats", str(repeats)])
    finally:
        torch.set_num_threads(threads)
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["label_sets"], found["repeats"], found["threads"]) == (sets, repeats, 1)
    assert asked[: sets * repeats] == [
        (f"fixmatch:{s}@10", r, 1) for s in range(sets) for r in range(repeats)
    ]
    assert (tmp_path / "found.png").stat().st_size > 0
    level = "60.0" if sets * repeats == 1 else "60.0 (0.0)"
    difference = "+10.0" if sets == 1 else "+10.0 ± 0.0"
    out = capsys.readouterr().out
    assert "| executed | loss at steps 1, 2 |" in out
    assert f"| eager bf16 | 2.0000, 1.5000 | {level} | {difference} |" in out


# On a GPU -----------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_bench_on_a_gpu(tmp_path):
    arguments = [*TINY[:6], "--device", "cuda", "--quick", "--repeats", "2", "--json", "found.json"]
    done = run_command(*arguments, cwd=tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["steps"]) == ["eager fp32", "eager bf16", "graph bf16"]
    for step in found["steps"].values():
        assert step["peak_bytes"] > 0
    assert found["baseline"]["autocast"]
    assert sum(found["kernels"].values()) > 0
    assert "no kernel running" in done.stdout


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_run_needs_the_memory_that_is_counted(digits):
    """An eager step of the real network: no more than was counted."""
    device = torch.device("cuda:0")
    dataset = load("random", None)
    run = dataclasses.replace(RUN, dataset="random", network="wrn-28-2", batch_size=64)
    for precision in ("fp32", "bf16"):
        run = dataclasses.replace(run, precision=precision)
        images = images_of(run, dataset, device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        trainer = Trainer(run, dataset, images, device, "eager")
        for _ in range(3):
            trainer()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
        counted = cost.gpu_memory(run, (3, 32, 10), 10_100)
        assert counted["activations"] < peak < sum(counted.values())
        del trainer
