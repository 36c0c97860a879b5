"""The result of a benchmark as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from boss.bench.dataset import NUM_RANDOM, RANDOM
from boss.bench.run import BASELINE, COPY, MATRIX
from boss.cost import gigabytes


def markdown(result: dict[str, Any]) -> str:
    """Everything a reader needs, in tables; all repeats are in the JSON alone."""
    run = result["run"]
    parts = [
        f"# Training step on {result['device']}",
        _settings(result),
        _steps(result),
        _baseline(result),
        f"## Parts of {result['parts_of']}",
        _parts(result),
    ]
    if result["kernels"]:
        parts += ["## Kernels", _kernels(result)]
    parts += ["## Work and floor", _floor(result), "## Memory of a GPU for such a run"]
    parts += [_memory(result)]
    if result["scaling"]:
        parts += ["## Scaling", _scaling(result["scaling"], run)]
    return "\n\n".join(filter(None, parts)) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The first column is text, the others are numbers.

    >>> print(table(("a", "b"), [("x", 1)]))
    | a | b |
    | --- | --: |
    | x | 1 |
    """
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _settings(result: dict[str, Any]) -> str:
    run = result["run"]
    channels, size, num_classes = result["image_shape"]
    images = f"images of {run['dataset']}"
    if run["dataset"] == RANDOM:
        images = f"{NUM_RANDOM:,} random images (no step takes longer for what is to be seen)"
    found = result["versions"]
    threads = "thread" if result["threads"] == 1 else "threads"
    return (
        f"{run['algorithm']}, {run['augmentation']}, {run['network']}, B {run['batch_size']},"
        f" mu {run['unlabeled_ratio']}: {result['counts']['images']['forward']} images through the"
        f" network per step, of {channels} x {size} x {size} in {num_classes} classes; {images}."
        f"\n{result['threads']} {threads} of {result['cores']} cores; torch {found['torch']},"
        f" Python {found['python']}; {result['date']}; commit {result['commit'] or 'unknown'}."
    )


def _spread(spread: dict[str, Any], digits: int = 2) -> str:
    return (
        f"{spread['median']:.{digits}f} ({spread['lower']:.{digits}f} to"
        f" {spread['upper']:.{digits}f})"
    )


def _steps(result: dict[str, Any]) -> str:
    header = [
        *("step", "ms (quartiles)", "least to most", "n", "images/s", "processor ms"),
        *("x floor", "peak memory"),
    ]
    rows = []
    named = dict(result["steps"])
    if result["baseline"]:
        precision = "bf16" if result["baseline"]["autocast"] else "fp32"
        named[BASELINE] = result["baseline"] | {"precision": precision, "peak_bytes": None}
    for name, step in named.items():
        spread = step["milliseconds"]
        floor = result["counts"]["precisions"][step["precision"]]["floor_milliseconds"]
        peak = step["peak_bytes"]
        rows.append(
            (
                name + (" (fastest)" if name == result["fastest"] else ""),
                _spread(spread),
                f"{spread['least']:.2f} to {spread['most']:.2f}",
                spread["n"],
                f"{step['images_per_second']:,.0f}",
                f"{step['processor_milliseconds']['median']:.2f}",
                f"{spread['median'] / floor:.1f}",
                "-" if peak is None else gigabytes(peak),
            )
        )
    return table(header, rows)


def _baseline(result: dict[str, Any]) -> str:
    baseline = result["baseline"]
    if baseline is None:
        return "No baseline: it is written for fixmatch with randaugment."
    chosen = "with autocast (bf16)" if baseline["autocast"] else "in single precision"
    trial = baseline["trial_milliseconds"]
    if trial:
        chosen += (
            f", the faster of the two (fp32 {trial['fp32']:.0f} ms, autocast"
            f" {trial['autocast']:.0f} ms on a batch that is there)"
        )
    ratios = [
        (
            name,
            _ratio(found["steps_per_second"]),
            _ratio(found["steps_per_processor_second"]),
        )
        for name, found in result["ratios"].items()
    ]
    lines = [
        f"`{BASELINE}` is what a user would write: Pillow transforms in data loaders with"
        f" {baseline['worker_processes']} worker processes beside the training process, eager"
        f" network {chosen}, torch.optim.SGD, moving average in a loop. It waits for images during"
        f" {100 * baseline['waiting_share']:.0f}% of its time.",
        table(
            (f"times as many as {BASELINE}", "steps/s (range)", "steps per processor second"),
            ratios,
        ),
        "Ratios are medians of pairs of the same repeat. Processor time is that of all cores,"
        " worker processes included: what decides how many runs a machine gets through.",
    ]
    return "\n\n".join([*lines, _amdahl(result)])


def _ratio(spread: dict[str, Any]) -> str:
    return f"{spread['median']:.2f} ({spread['least']:.2f} to {spread['most']:.2f})"


def _amdahl(result: dict[str, Any]) -> str:
    """What the ratio would be if all but the network were free."""
    parts, name = result["parts"], result["parts_of"]
    share = parts["forward"]["share"] + parts["backward"]["share"]
    text = f"Forward and backward pass, which both must do, are {100 * share:.0f}% of `{name}`"
    if result["kind"] == "cpu" and name in result["steps"]:
        ours = result["steps"][name]["processor_milliseconds"]["median"]
        theirs = result["baseline"]["processor_milliseconds"]["median"]
        bound = theirs / (share * ours)
        text += f": with the rest for nothing, {bound:.2f} times as many per processor second"
    return text + "."


def _parts(result: dict[str, Any]) -> str:
    rows = [
        (part, f"{found['milliseconds']['median']:.2f}", f"{100 * found['share']:.1f}%")
        for part, found in result["parts"].items()
        if part != "whole"
    ]
    return table(("part", "ms", "share"), rows)


def _kernels(result: dict[str, Any]) -> str:
    last = list(result["steps"])[-1]
    whole = result["steps"][last]["milliseconds"]["median"]
    found = sorted(result["kernels"].items(), key=lambda item: -item[1])
    rows = [(k, f"{1e3 * s:.3f}", f"{1e5 * s / whole:.1f}%") for k, s in found]
    idle = whole - 1e3 * sum(result["kernels"].values())
    rows.append(("none: waiting for launches", f"{idle:.3f}", f"{100 * idle / whole:.1f}%"))
    return f"Of `{last}`, from a trace:\n\n" + table(("kernels", "ms", "of the step"), rows)


def _floor(result: dict[str, Any]) -> str:
    counts, machine = result["counts"], result["machine"]
    operations = 2 * sum(counts["multiply_adds"].values())
    rows = []
    for precision, found in counts["precisions"].items():
        rate = machine[f"{MATRIX} {precision}"]["median"]
        rows.append(
            (
                precision,
                f"{rate / 1e12:.2f}",
                f"{found['compute_floor_milliseconds']:.2f}",
                gigabytes(sum(found["bytes"].values())),
                f"{found['memory_floor_milliseconds']:.2f}",
            )
        )
    copied = machine[COPY]["median"]
    return (
        f"{operations / 1e12:.3f} TFLOP per step, two for each multiply-add; bytes by the plan of"
        " `boss.cost.step_bytes`. Rates were measured in the same run: a large copy moves"
        f" {copied / 1e9:,.0f} GB/s (read and written), a matrix product makes the TFLOP/s below."
        " The floor is the larger of the two times.\n\n"
    ) + table(("precision", "TFLOP/s", "compute floor, ms", "bytes", "memory floor, ms"), rows)


def _memory(result: dict[str, Any]) -> str:
    found = result["memory"]
    purposes = list(next(iter(found.values())))
    rows = [[p, *(gigabytes(found[precision][p]) for precision in found)] for p in purposes]
    totals = [gigabytes(sum(found[precision].values())) for precision in found]
    return table(("for", *found), [*rows, ["together", *totals]])


def _scaling(found: dict[str, Any], run: dict[str, Any]) -> str:
    points = []
    for point in found["points"]:
        name = f"{point['network']}, B {point['batch_size']}, mu {point['unlabeled_ratio']}"
        ms = point["milliseconds"]
        if ms is None:
            points.append((name, point["images"], "-", point["error"]))
        else:
            points.append((name, point["images"], f"{ms:.2f}", f"{1e3 * ms / point['images']:.1f}"))
    processes = [
        (p["processes"], "-", "-", p["error"])
        if p["error"]
        else (
            p["processes"],
            f"{p['steps_per_second']:.2f}",
            f"{p['runs_per_hour']:.3g}",
            f"{p['steps_per_second'] / found['processes'][0]['steps_per_second']:.2f}",
        )
        for p in found["processes"]
    ]
    mode = f"{found['execution']} {found['precision']}"
    return (
        f"Steps: {mode}, each setting in a process of its own, measured once.\n\n"
        + table(("setting", "images", "ms", "microseconds per image"), points)
        + "\n\nA run is FixMatch's of 2^26 labeled images.\n\n"
        + table(("processes at a time", "steps/s", "runs/hour", "x one"), processes)
    )
