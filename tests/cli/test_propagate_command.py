"""`boss-study select --propagate`: what label propagation would label, as a table and a picture."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from boss.cli import main
from boss.data import Dataset, ImageSet
from boss.data.label_sets import LabelSet, resolve
from boss.errors import InputError
from boss.prototypes.contact_sheet import MARK, Candidate, ClassRow, class_sheet, enlarged
from boss.prototypes.embeddings import embed
from boss.prototypes.propagated import Request, describe, preview
from boss.prototypes.propagation import (
    Propagation,
    Start,
    half_whitened,
    nearest_neighbors,
    neighbor_graph,
    start_from,
)

ROOT = Path(__file__).parents[2]
EMBEDDING = "kmeans-patches:16"  # coarse and quick
LABEL_SETS = ("fixmatch:1@10", "fixmatch:3@20")


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


def is_marked(sheet: NDArray[np.uint8]) -> NDArray[np.bool_]:
    color = [int(MARK[i : i + 2], 16) for i in (1, 3, 5)]
    return (sheet == color).all(axis=2)


def find(sheet: NDArray[np.uint8], image: NDArray[np.uint8]) -> tuple[int, int]:
    """Where an image lies on the sheet, pixel for pixel (row, column)."""
    size, data = len(image), sheet.tobytes()
    middle = image[size // 2].tobytes()
    at = data.find(middle)
    while at >= 0:
        y, x = divmod(at // 3, sheet.shape[1])
        y -= size // 2
        if np.array_equal(sheet[y : y + size, x : x + size], image):
            return y, x
        at = data.find(middle, at + 1)
    raise AssertionError("not on the sheet")


def tables(lines: list[str]) -> list[list[list[str]]]:
    """The cells of each table, below its header."""
    found: list[list[list[str]]] = []
    for line in lines:
        if line.startswith("| class"):
            found.append([])
        elif line.startswith("| "):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return found


@pytest.fixture(scope="module")
def previewed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two label sets on digits, as a person asks for them; do not change the folder."""
    folder = tmp_path_factory.mktemp("previewed")
    words = [word for label_set in LABEL_SETS for word in ("--propagate", label_set)]
    done = subprocess.run(
        [sys.executable, "-m", "boss", "select", "digits", "--embedding", EMBEDDING, *words,
         "--num-start", "30"],
        cwd=folder, text=True, timeout=300, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return folder, done.stdout.splitlines()


def test_the_tables_count_what_a_start_selects(
    previewed: tuple[Path, list[str]], digits: Dataset
) -> None:
    _, lines = previewed
    [features] = embed(EMBEDDING, digits)
    true = digits.train.labels.numpy()
    shown = tables(lines)
    assert len(shown) == 2
    for label_set_id, table in zip(LABEL_SETS, shown, strict=True):
        label_set = resolve(label_set_id, digits)
        start = start_from(neighbor_graph(half_whitened(features)), label_set, 10, 30)
        rest = [i for i in range(len(true)) if i not in label_set.indices]
        expected = []
        for k in range(10):
            chosen = start.indices[start.labels == k]
            right = sum(true[i] == k for i in chosen)
            predicted = sum(start.propagation.predictions[i] == k for i in rest)
            share = f"{right} ({100 * right / len(chosen):.0f}%)"
            last = f"{start.propagation.certainty[chosen].min():.3f}"
            expected.append([str(k), str(predicted), str(len(chosen)), share, last])
        assert table == expected
        every = np.mean([start.propagation.predictions[i] == true[i] for i in rest])
        selected = np.mean(true[start.indices] == start.labels)
        line = f"right*: {100 * every:.1f}% of the {len(rest):,} images, {100 * selected:.1f}%"
        assert f"{line} of the {len(start.indices)} selected" in lines
    neighbors = nearest_neighbors(half_whitened(features)).indices
    pure = np.mean([true[j] == true[i] for i in range(len(true)) for j in neighbors[i]])
    share = f"{100 * pure:.1f}%"
    assert f"of the 20 nearest neighbors of an image, {share} are of its class*" in lines
    assert lines[-1].startswith("* diagnostic: uses the hidden labels of the training images")
    assert "label propagation: nearest neighbors" in lines
    assert any(re.fullmatch(r"label propagation: done in \d+s", line) for line in lines)


def test_it_writes_contact_sheets_and_no_label_set(
    previewed: tuple[Path, list[str]], digits: Dataset
) -> None:
    """Of each class the labeled image, then the most certain; wrong ones are framed."""
    folder, lines = previewed
    names = [
        "digits-kmeans-patches-16-propagated-fixmatch-1-10-start30.png",
        "digits-kmeans-patches-16-propagated-fixmatch-3-20-start30.png",
    ]
    assert sorted(path.name for path in (folder / "label_sets").iterdir()) == names
    assert {path.name for path in (folder / "results").iterdir()} == {"embeddings"}
    [features] = embed(EMBEDDING, digits)
    images, true = digits.train.images.permute(0, 2, 3, 1).numpy(), digits.train.labels.numpy()
    num_wrong = 0
    for label_set_id, name in zip(LABEL_SETS, names, strict=True):
        assert f"contact sheet: label_sets/{name}" in lines
        label_set = resolve(label_set_id, digits)
        start = start_from(neighbor_graph(half_whitened(features)), label_set, 10, 30)
        sheet = pixels(folder / "label_sets" / name)
        last = 0
        for k in range(10):
            y, x = find(sheet, enlarged(images[label_set.indices[label_set.labels.index(k)]]))
            assert y > last
            last = y
            for i in start.indices[start.labels == k][:12]:
                there = find(sheet, enlarged(images[i]))
                assert there[0] == y and there[1] >= x + 96
                x = there[1]
                assert is_marked(sheet)[y, x - 1] == (true[i] != k)
                num_wrong += true[i] != k
    assert num_wrong > 0


def test_hidden_labels_change_the_diagnostics_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    monkeypatch.chdir(tmp_path)
    label_set = resolve("fixmatch:1@10", digits)
    content = {"indices": label_set.indices, "labels": label_set.labels}
    Path("mine.json").write_text(json.dumps(content))
    x, y = digits.train.images.permute(0, 2, 3, 1).numpy(), digits.train.labels.numpy()
    noise = np.random.default_rng(0).permutation(y)
    shown = []
    for labels, name in ((y, "a.npz"), (noise, "b.npz")):
        np.savez(name, x_train=x, y_train=labels, x_test=x, y_test=labels)
        request = Request(dataset=name, embedding=EMBEDDING, label_sets=["file:mine.json"])
        shown += tables(preview(request, lambda line: None))
    column = dict(zip(("predicted", "selected", "right", "last"), range(1, 5), strict=True))
    for key, number in column.items():
        one, other = ([row[number] for row in table] for table in shown)
        assert (one == other) is (key != "right"), key
    assert {path.name for path in Path("label_sets").iterdir()} == {
        "a-kmeans-patches-16-propagated-mine.png",
        "b-kmeans-patches-16-propagated-mine.png",
    }


def test_images_without_a_class_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset
) -> None:
    """Also: a class of which too few images are predicted gives fewer."""
    monkeypatch.chdir(tmp_path)
    x, y = digits.train.images.permute(0, 2, 3, 1).numpy()[:200], digits.train.labels.numpy()[:200]
    few = (y < 3) & ((y != 2) | (np.cumsum(y == 2) < 4))
    arrays = {"x_train": x[few], "y_train": y[few], "x_test": x, "y_test": y % 3}
    np.savez("mine.npz", x_unlabeled=x[y > 2], **arrays)
    request = Request(
        dataset="mine.npz", embedding=EMBEDDING, label_sets=["fixmatch:0@3"], out=Path("a/b.png")
    )
    lines = preview(request, lambda line: None)
    note = "labels are propagated over the {} training images only: not over the {} further"
    assert note.format(few.sum(), (y > 2).sum()) + " images without a class" in lines
    [table] = tables(lines)
    assert [row[1] == row[2] for row in table] == [True] * 3
    assert sum(int(row[1]) for row in table) == few.sum() - 3
    assert lines.count("contact sheet: a/b.png") == 1
    assert [path.name for path in Path("a").iterdir()] == ["b.png"]


def test_a_table_by_hand() -> None:
    """Images 0, 1 and 6 are labeled; no label reaches 5, and no image but its own is called owl."""
    true = torch.tensor([0, 1, 0, 1, 0, 0, 2])
    images = ImageSet(torch.zeros((7, 1, 8, 8), dtype=torch.uint8), true, ("cat", "dog", "owl"))
    dataset = Dataset("zoo", images, images, flip=False)
    predictions = np.array([0, 1, 0, 1, 1, -1, 2])
    found = Propagation(np.zeros((7, 3)), predictions, np.linspace(1, 0.4, 7))
    label_set = LabelSet("file:mine", (0, 1, 6), (0, 1, 2))
    chosen = np.array([2, 3, 4])
    start = Start(chosen, predictions[chosen], found.certainty[chosen], found)
    lines = describe(dataset, label_set, start)
    assert tables(lines) == [
        [
            ["cat", "1", "1", "1 (100%)", "0.800"],
            ["dog", "2", "2", "1 (50%)", "0.600"],
            ["owl", "0", "0", "-", "-"],
        ]
    ]
    assert lines[0] == "file:mine: labels of 3 images propagated to 4 others"
    assert lines[-2:] == [
        "right*: 50.0% of the 4 images, 66.7% of the 3 selected",
        "images that no label reaches, counted as wrong: 1",
    ]


def test_classes_without_a_labeled_image(
    tmp_path: Path,
    digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They have no row on the sheet, and a line says so."""
    monkeypatch.chdir(tmp_path)
    labels = digits.train.labels.tolist()
    indices = [labels.index(k) for k in (0, 3)]
    rest = [str(k) for k in range(10) if k not in (0, 3)]
    selected = {"indices": indices, "labels": [0, 3], "uncovered": rest}
    Path("partly.json").write_text(json.dumps(selected))
    assert main([*START, "--propagate", "file:partly.json", "--num-start", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        f"classes without a labeled image, of which none gets the label: {', '.join(rest)}" in lines
    )
    [table] = tables(lines)
    assert [row[2] for row in table] == ["5" if k in (0, 3) else "0" for k in range(10)]
    [sheet] = tmp_path.glob("label_sets/*.png")
    assert pixels(sheet).shape[0] < 600


def test_names_of_sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def names(*label_sets: str, **options: Any) -> list[str]:
        fields = {"dataset": "digits", "embedding": "simclr", "label_sets": label_sets} | options
        return [str(path) for path in Request(**fields).sheets.values()]

    assert names("boss:3") == ["label_sets/digits-simclr-propagated-boss-3.png"]
    start = "label_sets/digits-simclr-200-propagated-"
    assert names("select:a.b", "file:c/d.json", embedding="simclr:200", num_start=5, seed=2) == [
        f"{start}select-a.b-start5-seed2.png",
        f"{start}d-start5-seed2.png",
    ]
    assert names("boss:3", out=Path("a/b.png")) == ["a/b.png"]
    assert names("boss:3", "boss:6", out=Path("a/b.png")) == ["a/b-boss-3.png", "a/b-boss-6.png"]
    with pytest.raises(InputError, match="two contact sheets would have one name"):
        names("file:a/mine.json", "file:b/mine.json")
    with pytest.raises(InputError, match="num_start must be at least 1, not 0"):
        names("boss:3", num_start=0)
    Path("b.png").write_text("")
    with pytest.raises(InputError, match=r"b\.png exists: --force replaces it"):
        names("boss:3", out=Path("b.png"))
    assert names("boss:3", out=Path("b.png"), overwrite=True) == ["b.png"]


START = ["select", "digits", "--embedding", EMBEDDING]
PROPAGATE = [*START, "--propagate", "fixmatch:1@10"]
WRONG = [
    (START, "one of the arguments --method --propagate is required"),
    (
        [*PROPAGATE, "--method", "random"],
        "argument --method: not allowed with argument --propagate",
    ),
    ([*PROPAGATE, *PROPAGATE[-2:]], "a label set is named twice: fixmatch:1@10, fixmatch:1@10"),
    ([*PROPAGATE, "--num-start", "0"], "--num-start: must be an integer of at least 1, not '0'"),
    ([*PROPAGATE, "--num-start", "-3"], "at least 1"),
    ([*PROPAGATE, "--trim", "0.1"], "--trim has no effect with --propagate"),
    ([*PROPAGATE, "--trim", "0"], "--trim has no effect with --propagate"),
    ([*PROPAGATE, "--rank", "1"], "--rank has no effect with --propagate"),
    ([*PROPAGATE, "--candidates", "3"], "--candidates has no effect with --propagate"),
    (
        [*START, "--method", "random", "--num-start", "5"],
        "--num-start has no effect without --propagate",
    ),
    ([*START, "--propagate", "boss:3"], "label set boss:3 is for"),
    ([*START, "--propagate", "best"], "malformed label set 'best'"),
    ([*START, "--propagate", "file:no.json"], "cannot read label set no.json"),
    ([*START, "--propagate", "fixmatch:0@1201"], "fixmatch:0@1201 leaves no image"),
    ([*PROPAGATE, "--out", "mine.json"], "--out mine.json: the name of a contact sheet ends in"),
    ([*PROPAGATE, "--out", "file/mine.png"], "cannot write file/mine.png"),
    ([*PROPAGATE, "--data", "my.npz"], "--data my.npz would not be used"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(w[0][2:]) for w in WRONG])
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("boss-study: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.png"))


# --- the picture ------------------------------------------------------------------------------


def class_row(name: str, true: list[str], side: int = 32, channels: int = 3) -> ClassRow:
    """A labeled image and one for each of these true classes, in different colors."""
    generator = np.random.default_rng(len(true))
    first, *others = [
        Candidate(
            image=generator.integers(0, 256, (side, side, channels), dtype=np.uint8),
            index=int(generator.integers(50_000)),
            class_name=true_name,
            score=float(generator.random()),
            rank=rank,
        )
        for rank, true_name in enumerate([name, *true])
    ]
    return ClassRow(name, ["1 labeled", "100 selected"], first, others)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (32, 3), (150, 3)])
def test_classes_of_any_length(tmp_path: Path, side: int, channels: int) -> None:
    rows = [
        class_row("cat", ["cat", "dog", "cat"], side, channels),
        class_row("dog", [], side, channels),
        class_row("bird\nof two lines" * 9, ["dog\nof two lines" * 9], side, channels),
    ]
    class_sheet(rows, "title " * 200, "legend " * 200, tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    marks = is_marked(sheet)
    size = len(enlarged(rows[0].labeled.image))
    assert sheet.shape[1] >= 800
    for row in rows:
        y, x = find(sheet, enlarged(row.labeled.image))
        assert not marks[y, x - 1]
        for candidate in row.selected:
            there = find(sheet, enlarged(candidate.image))
            assert there[0] == y and there[1] > x + size
            x = there[1]
            assert marks[y, x - 1] == (candidate.class_name != row.class_name)
    assert 2 * ((size + 6) ** 2 - size**2) < marks.sum()
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
