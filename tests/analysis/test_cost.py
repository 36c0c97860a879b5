"""Accuracy against processor time: worked out by hand."""

import math

import pytest

from analysis.load import load
from analysis.page.parts import Picture, Table
from analysis.sections import cost
from tests.analysis.data import child_of, grid_of_runs, make_run, method_run, write_store

NAMES = ("processor_seconds", "start_processor_seconds", "peak_device_bytes")


def costs(seconds, start=None, device_bytes=None):
    return dict(zip(NAMES, (seconds, start, device_bytes), strict=True))


def test_a_chain_is_summed_and_an_unknown_part_is_no_zero(tmp_path):
    plain = make_run()
    parent = method_run(4)
    child = child_of(parent)
    started = make_run(start="propagation", embedding="kmeans-patches:400", num_start=100)
    orphan = child_of(make_run(label_set="fixmatch:4@10"))
    old = make_run(label_set="fixmatch:5@10")
    changes = {
        plain.id: costs(60.0),
        parent.id: costs(120.0),
        child.id: costs(240.0, 30.0),
        started.id: costs(60.0, 600.0),
        orphan.id: costs(60.0, 1.0),
    }
    write_store(tmp_path, [plain, parent, child, started, orphan, old], changes=changes)
    found = cost.chain_minutes(load(tmp_path, "synthetic").runs)
    assert found[plain.id] == (0, 1)
    assert found[parent.id] == (0, 2)
    assert found[child.id] == (2.5, 6.5)
    assert found[started.id] == (10, 11)
    assert all(math.isnan(value) for value in found[orphan.id])
    assert math.isnan(found[old.id][1])


def test_curves_begin_where_the_start_is_paid(tmp_path):
    embedding = {"embedding": "kmeans-patches:400", "num_start": 100}
    started = make_run(start="propagation", num_images=64 * 1200, **embedding)
    on_gpu = make_run(label_set="fixmatch:4@10")
    changes = {started.id: costs(60.0, 600.0), on_gpu.id: costs(60.0, None, 1000)}
    write_store(tmp_path, [started, on_gpu], changes=changes)
    table = cost.curves(load(tmp_path, "synthetic"))
    assert set(table["run_id"]) == {started.id}
    assert table["minutes"].tolist() == pytest.approx([10 + k / 12 for k in range(1, 13)])


def test_ends(tmp_path):
    """Mean over label sets, and the deviation over runs."""
    runs = grid_of_runs(("fixmatch",), num_label_sets=2, num_repeats=2)
    changes = {run.id: costs(60.0 * (1 + i)) for i, run in enumerate(runs)}
    write_store(tmp_path, runs, changes=changes)
    found = load(tmp_path, "synthetic")
    [row] = cost.ends(cost.curves(found)).to_dict("records")
    accuracies = 100 * found.runs["last_accuracy"]
    assert (row["num_runs"], row["num_label_sets"], row["minutes"]) == (4, 2, 2.5)
    assert row["percent"] == pytest.approx(accuracies.mean())
    assert row["sd_percent"] == pytest.approx(accuracies.std())
    table, picture = cost.parts(found)
    assert isinstance(table, Table)
    assert "Left out" not in table.caption
    assert isinstance(picture, Picture)
    [axis] = picture.draw().axes
    assert axis.get_xlabel() == "processor minutes, over all cores"
    assert len(axis.lines) == 8  # a curve and a dot for each run


def test_no_costs_no_section(tmp_path):
    write_store(tmp_path, grid_of_runs(("fixmatch",), num_label_sets=1, num_repeats=2))
    assert cost.parts(load(tmp_path, "synthetic")) == []


def test_a_round_begins_where_its_parent_ends(tmp_path):
    """The embedding took 10 minutes; the first training 1, selecting 0.5, the second 4."""
    start = {"start": "propagation", "embedding": "kmeans-patches:400", "num_start": 100}
    parent, alone = make_run(**start), make_run()
    child = child_of(parent)
    changes = {
        parent.id: costs(60.0, 600.0), child.id: costs(240.0, 30.0), alone.id: costs(180.0),
    }  # fmt: skip
    write_store(tmp_path, [parent, child, alone], changes=changes)
    found = load(tmp_path, "synthetic")
    _, total, of_trainings = cost.parts(found)
    assert "took, 10 minutes, paid" in of_trainings.caption
    accuracy = 100 * found.runs.set_index("run_id")["last_accuracy"]
    for picture, paid in ((total, 10), (of_trainings, 0)):
        [axis] = picture.draw().axes
        drawn = [line.get_xydata().tolist() for line in axis.lines]
        ends = sorted(xy[0] for xy in drawn if len(xy) == 1)
        expected = sorted([(paid + 1, parent.id), (3, alone.id), (paid + 5.5, child.id)])
        for (x, y), (minutes, run_id) in zip(ends, expected, strict=True):
            assert (x, y) == pytest.approx((minutes, accuracy[run_id]))
        [joined] = [xy for xy in drawn if len(xy) > 1 and xy[-1][0] == pytest.approx(paid + 5.5)]
        assert joined[0] == pytest.approx([paid + 1, accuracy[parent.id]])


def test_trainings_of_another_length_share_a_figure(tmp_path):
    """Of one kind, and of one color; the table tells them apart."""
    short, long = make_run(), make_run(num_images=240_000)
    unknown = make_run(label_set="fixmatch:4@10")
    changes = {short.id: costs(60.0), long.id: costs(120.0)}
    write_store(tmp_path, [short, long, unknown], changes=changes)
    table, picture = cost.parts(load(tmp_path, "synthetic"))
    assert "unknown or a GPU's: 1 run." in table.caption
    assert len(table.text) == 2
    [legend] = picture.draw().legends
    assert [text.get_text() for text in legend.get_texts()] == ["fixmatch (2)"]
