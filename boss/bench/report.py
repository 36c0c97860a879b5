"""The result of a benchmark as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from boss.bench.dataset import NUM_RANDOM, RANDOM
from boss.bench.run import BASELINE, COPY, MATRIX
from boss.units import gigabytes


def markdown(result: dict[str, Any]) -> str:
    """Everything a reader needs, in tables; all repeats are in the JSON alone."""
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
        parts += ["## Scaling", _scaling(result["scaling"])]
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
    """The median with the quartiles; of one measurement the value alone."""
    if spread["n"] == 1:
        return f"{spread['median']:.{digits}f}"
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
    fastest = _fastest(result["steps"])
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
                name + (" (fastest of ours)" if name == fastest else ""),
                _spread(spread),
                "-" if spread["n"] == 1 else f"{spread['least']:.2f} to {spread['most']:.2f}",
                spread["n"],
                f"{step['images_per_second']:,.0f}",
                f"{step['processor_milliseconds']['median']:.2f}",
                f"{spread['median'] / floor:.1f}",
                "-" if peak is None else gigabytes(peak),
            )
        )
    return table(header, rows)


def _fastest(steps: dict[str, Any]) -> str | None:
    """The way of making a step whose quartiles lie below those of all others, if there is one."""
    spreads = {name: step["milliseconds"] for name, step in steps.items()}
    best = min(spreads, key=lambda name: float(spreads[name]["median"]))
    rest = [spread["lower"] for name, spread in spreads.items() if name != best]
    several = bool(rest) and spreads[best]["n"] > 1
    return best if several and spreads[best]["upper"] < min(rest) else None


def _baseline(result: dict[str, Any]) -> str:
    baseline = result["baseline"]
    if baseline is None:
        return "No baseline: it is written for fixmatch with randaugment."
    on_cpu = result["kind"] == "cpu"
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
        " worker processes included"
        + (": what decides how many runs a machine gets through." if on_cpu else "."),
    ]
    return "\n\n".join([*lines, _amdahl(result)])


def _ratio(spread: dict[str, Any], digits: int = 2) -> str:
    """The median with the range; of one measurement the value alone."""
    if spread["n"] == 1:
        return f"{spread['median']:.{digits}f}"
    return (
        f"{spread['median']:.{digits}f} ({spread['least']:.{digits}f} to"
        f" {spread['most']:.{digits}f})"
    )


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
    rows.append(("no kernel running", f"{idle:.3f}", f"{100 * idle / whole:.1f}%"))
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
        " `boss.workers.cost.step_bytes`. Rates were measured in the same run: a large copy moves"
        f" {copied / 1e9:,.0f} GB/s (read and written), a matrix product makes the TFLOP/s below."
        " The floor is the larger of the two times, by this plan; less than 1 x is possible, where"
        " kernels do more at once than in the plan or a cache holds what one hands to the next.\n\n"
    ) + table(("precision", "TFLOP/s", "compute floor, ms", "bytes", "memory floor, ms"), rows)


def _memory(result: dict[str, Any]) -> str:
    found = result["memory"]
    purposes = list(next(iter(found.values())))
    rows = [[p, *(gigabytes(found[precision][p]) for precision in found)] for p in purposes]
    totals = [gigabytes(sum(found[precision].values())) for precision in found]
    return table(("for", *found), [*rows, ["together", *totals]])


def _scaling(found: dict[str, Any]) -> str:
    points = []
    for point in found["points"]:
        name = f"{point['network']}, B {point['batch_size']}, mu {point['unlabeled_ratio']}"
        ms, images = point["milliseconds"], point["images"]
        cells = ["-", point["error"]]
        if ms is not None:
            cells = [_ratio(ms), f"{1e3 * ms['median'] / images:.1f}"]
        points.append((name, point["threads"], images, *cells))
    processes = []
    one = found["processes"][0]["steps_per_second"]
    for point in found["processes"]:
        rate, cells = point["steps_per_second"], ["-", "-", point["error"]]
        if rate is not None:
            times = "-" if one is None else f"{rate['median'] / one['median']:.2f}"
            cells = [_ratio(rate), f"{point['runs_per_hour']['median']:.3g}", times]
        processes.append((point["processes"], point["threads"], *cells))
    mode = f"{found['execution']} {found['precision']}"
    num = max((m["n"] for p in found["points"] if (m := p["milliseconds"]) is not None), default=1)
    how = "once" if num == 1 else f"{num} times in turn: medians, ranges in brackets"
    return (
        f"Steps: {mode}, each setting in a process of its own, measured {how}.\n\n"
        + table(("setting", "threads", "images", "ms", "microseconds per image"), points)
        + "\n\nA run is FixMatch's of 2^26 labeled images.\n\n"
        + table(
            ("processes at a time", "threads of each", "steps/s", "runs/hour", "x one"), processes
        )
    )
