"""The figures in docs/performance.md and in the README are those of the committed measurements."""

import json
import math
import statistics
from pathlib import Path

from scipy import stats

from boss.bench.report import markdown

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "performance"
PAGE = (ROOT / "docs" / "performance.md").read_text()
README = (ROOT / "README.md").read_text()
RESULT = json.loads((FOLDER / "step_cpu.json").read_text())


def between(text, name):
    _, found = text.split(f"<!-- {name} -->\n")
    return found.split("<!-- end of")[0]


def spread(values, digits):
    lower, median, upper = statistics.quantiles(values, method="inclusive")
    return f"{median:.{digits}f} ({lower:.{digits}f} to {upper:.{digits}f})"


def test_the_printed_benchmark_is_that_of_its_json():
    assert (FOLDER / "step_cpu.md").read_text() == markdown(RESULT)


def test_the_table_of_steps():
    """Recomputed from the repeats themselves."""
    steps = dict(RESULT["steps"]) | {"torchvision": RESULT["baseline"]}
    for text in (between(PAGE, "step_cpu"), between(README, "bench")):
        rows = {}
        for line in text.splitlines():
            if line.startswith("| ") and "---" not in line:
                name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
                rows[name.strip("`")] = cells
        for name, step in steps.items():
            ms, processor = rows[name][:2]
            assert ms == spread(step["milliseconds"]["repeats"], 0), name
            assert processor == spread(step["processor_milliseconds"]["repeats"], 0), name
        for name in RESULT["steps"]:
            pairs = {
                kind: [
                    theirs / ours
                    for ours, theirs in zip(
                        RESULT["steps"][name][kind]["repeats"],
                        RESULT["baseline"][kind]["repeats"],
                        strict=True,
                    )
                ]
                for kind in ("milliseconds", "processor_milliseconds")
            }
            assert rows[name][2:] == [spread(values, 2) for values in pairs.values()], name


def test_the_table_of_equivalence():
    found = json.loads((FOLDER / "equivalence_cpu.json").read_text())
    text = between(PAGE, "equivalence")
    reference = [100 * v for v in found["accuracies"]["eager fp32"]]
    for name, values in found["accuracies"].items():
        scores, curve = [100 * v for v in values], found["losses"][name]
        pairs = [a - b for a, b in zip(scores, reference, strict=True)]
        half = statistics.stdev(pairs) / math.sqrt(len(pairs)) * stats.t.ppf(0.975, len(pairs) - 1)
        losses = ", ".join(f"{curve[i - 1]:.4f}" for i in (1, 10, 50, 200))
        level = f"{statistics.mean(scores):.1f} ({statistics.stdev(scores):.1f})"
        row = f"| {name} | {losses} | {level} | {statistics.mean(pairs):+.1f} ± {half:.1f} |"
        assert row in text
    assert f"n = {len(reference)}" in text
