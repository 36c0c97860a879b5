"""The figures in docs/performance.md and in the README are those of the committed measurements."""

import json
import math
import statistics
from pathlib import Path

import pytest
from scipy import stats

from boss.bench.report import markdown

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "performance"
PAGE = (ROOT / "docs" / "performance.md").read_text()
README = (ROOT / "README.md").read_text()
RESULTS = {
    name: json.loads((FOLDER / f"{name}.json").read_text())
    for name in ("step_cpu", "step_cpu_2_threads")
}


def between(text, name):
    _, found = text.split(f"<!-- {name} -->\n")
    return found.split("<!-- end of")[0]


def spread(values, digits):
    lower, median, upper = statistics.quantiles(values, method="inclusive")
    return f"{median:.{digits}f} ({lower:.{digits}f} to {upper:.{digits}f})"


@pytest.mark.parametrize("name", RESULTS)
def test_the_printed_benchmark_is_that_of_its_json(name):
    assert (FOLDER / f"{name}.md").read_text() == markdown(RESULTS[name])


@pytest.mark.parametrize(("name", "text"), [
    ("step_cpu", between(PAGE, "step_cpu")),
    ("step_cpu_2_threads", between(PAGE, "step_cpu_2_threads")),
    ("step_cpu_2_threads", between(README, "bench")),
])  # fmt: skip
def test_the_tables_of_steps(name, text):
    """Recomputed from the repeats themselves."""
    result = RESULTS[name]
    rows = {}
    for line in text.splitlines():
        step, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[step] = cells
    for step, found in (result["steps"] | {"torchvision": result["baseline"]}).items():
        kinds = ("milliseconds", "processor_milliseconds")
        times = {kind: found[kind]["repeats"] for kind in kinds}
        ratios = [
            [theirs / ours for ours, theirs in zip(times[kind], usual, strict=True)]
            for kind in kinds
            for usual in [result["baseline"][kind]["repeats"]]
        ]
        cells = [spread(times[kind], 0) for kind in kinds]
        cells += ["-", "-"] if step == "torchvision" else [spread(r, 2) for r in ratios]
        assert rows[step] == cells, step


def test_the_table_of_equivalence():
    """Intervals over the means of the label sets, each of as many repeats."""
    found = json.loads((FOLDER / "equivalence_cpu.json").read_text())
    text = between(PAGE, "equivalence")
    num, repeats = found["label_sets"], found["repeats"]
    reference = [100 * v for v in found["accuracies"]["eager fp32"]]
    assert len(reference) == num * repeats
    for name, values in found["accuracies"].items():
        scores, curve = [100 * v for v in values], found["losses"][name]
        pairs = [a - b for a, b in zip(scores, reference, strict=True)]
        means = [statistics.mean(pairs[i : i + repeats]) for i in range(0, len(pairs), repeats)]
        half = statistics.stdev(means) / math.sqrt(num) * stats.t.ppf(0.975, num - 1)
        losses = ", ".join(f"{curve[i - 1]:.4f}" for i in (1, 10, 50, 200))
        level = f"{statistics.mean(scores):.1f} ({statistics.stdev(scores):.1f})"
        row = f"| {name} | {losses} | {level} | {statistics.mean(means):+.1f} ± {half:.1f} |"
        assert row in text
    assert f"n = {len(reference)} ({num} label sets x {repeats} repeats)" in text
