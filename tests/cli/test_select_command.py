"""`boss-study select`: from a data set to label sets that a study runs on; the contact sheet."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from boss.cli import main
from boss.data import Dataset, load
from boss.data.label_sets import LabelSet, resolve
from boss.errors import InputError
from boss.prototypes.contact_sheet import MARK, Candidate, Row, contact_sheet, enlarged
from boss.prototypes.embeddings import embed
from boss.prototypes.forms import FORMS
from boss.prototypes.select import Request, describe, make_label_sets
from boss.prototypes.selection import METHODS, select

ROOT = Path(__file__).parents[2]
EMBEDDING = "kmeans-patches:16"  # coarse and quick


def refused(message: str) -> Any:
    return pytest.raises(InputError, match=rf"\A(?=.*{message})[^\n]*\Z")


def command(*arguments: object, cwd: Path, code: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "boss", *map(str, arguments)], cwd=cwd, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def select_digits(folder: Path, *methods: str, **options: Any) -> list[str]:
    """`make_label_sets` on digits in this folder; embeddings are kept there."""
    request = Request(
        dataset="digits", embedding=EMBEDDING, methods=methods, **{"results": folder} | options
    )
    return make_label_sets(request, lambda line: None)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the embedding is computed once for this file."""
    return tmp_path_factory.mktemp("cache")


# --- the command ------------------------------------------------------------------------------


STUDY = '''"""A study on a selection."""
from boss.study import Run, Study

STUDY = Study(
    reproduces="nothing",
    default_budget="smoke",
    runs=lambda budget: [
        Run(
            budget="smoke", dataset="digits", algorithm="supervised", network="wrn-7-1",
            label_set="select:{name}", num_images=32, batch_size=8, unlabeled_ratio=0,
            num_evaluations=1, max_eval_images=50, num_validation=0, repeat=0,
        )
    ],
)
'''


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Three methods on digits, as a person selects; do not change the folder."""
    folder = tmp_path_factory.mktemp("selected")
    methods = [
        word for m in ("class-centroid", "kmeans-centroid", "random") for word in ("--method", m)
    ]
    out, err = command(
        "select", "digits", "--embedding", EMBEDDING, *methods, "--candidates", 3, "--probe",
        cwd=folder,
    )  # fmt: skip
    assert err == ""
    return folder, out


def test_it_writes_a_label_set_for_each_method_and_one_contact_sheet(
    selected: tuple[Path, str], digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = selected
    assert {path.name for path in (folder / "label_sets").iterdir()} == {
        "digits-kmeans-patches-16-class-centroid.json",
        "digits-kmeans-patches-16-kmeans-centroid.json",
        "digits-kmeans-patches-16-random.json",
        "digits-kmeans-patches-16.png",
    }
    assert {path.name for path in folder.iterdir()} == {"label_sets", "results"}
    assert {path.name for path in (folder / "results").iterdir()} == {"embeddings"}
    monkeypatch.chdir(folder)
    [x] = embed(EMBEDDING, digits, cache=Path("results/embeddings"))
    for method in ("class-centroid", "kmeans-centroid", "random"):
        name = f"digits-kmeans-patches-16-{method}"
        found = select(x, digits.train.labels.numpy(), 10, method, candidates=3)
        label_set = resolve(f"select:{name}", digits)
        indices, labels = found.indices.tolist(), found.labels.tolist()
        assert label_set == LabelSet(f"select:{name}", tuple(indices), tuple(labels))
        content = json.loads(Path(f"label_sets/{name}.json").read_text())
        assert content["classes"] == list(map(str, labels))
        assert content["uncovered"] == list(map(str, found.uncovered))
        assert content["consulted_labels"] is (method != "kmeans-centroid")
        assert content["fingerprint"] == digits.train.fingerprint
        settings = {"format": 1, "dataset": "digits", "embedding": EMBEDDING, "method": method,
                    "seed": 0, "trim": 0.0, "rank": 1, "oracle": ""}  # fmt: skip
        assert {key: content[key] for key in settings} == settings
        for group, candidates in zip(found.groups, content["candidates"], strict=True):
            assert [c["index"] for c in candidates] == group.indices.tolist()
            assert [c["class"] for c in candidates] == list(map(str, group.labels.tolist()))
            assert [c["score"] for c in candidates] == pytest.approx(group.scores, abs=1e-6)
            assert [c["rank"] for c in candidates] == [1, 2, 3]
        assert f"label_sets/{name}.json: {describe(found, digits.class_names)}" in out
        assert f"use it as label_set='select:{name}'" in out
    assert "contact sheet: label_sets/digits-kmeans-patches-16.png" in out
    probe = re.search(r"linear probe: (\d+\.\d+)% of the test images \(a diagnostic", out)
    assert probe is not None
    assert 80 < float(probe[1]) <= 100


def test_a_study_runs_on_a_selection(selected: tuple[Path, str], tmp_path: Path) -> None:
    """Also on one that leaves classes uncovered."""
    folder, _ = selected
    (tmp_path / "label_sets").mkdir()
    path = folder / "label_sets" / "digits-kmeans-patches-16-kmeans-centroid.json"
    content = json.loads(path.read_text())
    if not content["uncovered"]:
        del content["indices"][4]
        content["uncovered"] = ["4"]
    (tmp_path / "label_sets" / "mine.json").write_text(json.dumps(content))
    (tmp_path / "mine.py").write_text(STUDY.format(name="mine"))
    out, _ = command("run", "mine.py", cwd=tmp_path)
    assert "1 of 1 runs finished" in out
    runs = pd.read_parquet(tmp_path / "results" / "mine" / "runs")
    assert runs["label_set"].tolist() == ["select:mine"]
    assert runs["labels"][0].tolist() == content["indices"]


def test_files_that_exist_are_not_replaced_unasked(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    select_digits(cache, "random", out=Path("mine.json"))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert {path.name for path in before} == {"mine.json", "mine.png"}
    with refused(r"mine.json exists: --force replaces it, --out names another file"):
        select_digits(cache, "random", out=Path("mine.json"), seed=1)
    (tmp_path / "mine.json").rename("mine.txt")
    with refused("mine.png exists"):
        select_digits(cache, "random", out=Path("mine.json"), seed=1)
    select_digits(cache, "random", out=Path("mine.json"), seed=0, overwrite=True)
    assert {path: path.read_bytes() for path in before} == before
    select_digits(cache, "random", out=Path("mine.json"), seed=1, overwrite=True)
    assert all(path.read_bytes() != content for path, content in before.items())


def test_ranks_trim_and_seed(
    cache: Path, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "digits-kmeans-patches-16-class-centroid"
    select_digits(cache, "class-centroid")
    best = json.loads(Path(f"label_sets/{name}.json").read_text())
    lines = select_digits(cache, "class-centroid", rank=4)
    assert f"    use it as label_set='select:{name}-rank4'" in lines
    fourth = json.loads(Path(f"label_sets/{name}-rank4.json").read_text())
    assert fourth["indices"] == [group[3]["index"] for group in best["candidates"]]
    assert fourth["candidates"] == best["candidates"]
    assert fourth["rank"] == 4
    assert resolve(f"select:{name}-rank4", digits).labels == tuple(range(10))

    select_digits(cache, "class-centroid", trim=0.3)
    trimmed = json.loads(Path(f"label_sets/{name}-trim0.3.json").read_text())
    assert trimmed["indices"] != best["indices"]
    assert trimmed["score"] == "minus the mean distance to the densest 70% of the class"

    select_digits(cache, "class-centroid", seed=3)
    other = json.loads(Path(f"label_sets/{name}-seed3.json").read_text())
    assert other["candidates"] != best["candidates"]  # the embedding is another
    select_digits(cache, "random", seed=3)
    drawn = json.loads(Path("label_sets/digits-kmeans-patches-16-random-seed3.json").read_text())
    assert drawn["seed"] == 3
    labels = digits.train.labels.numpy()
    assert (
        drawn["indices"] == select(labels[:, None], labels, 10, "random", seed=3).indices.tolist()
    )


def test_several_methods_with_a_name_of_ones_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = select_digits(cache, "random", "class-centroid", out=Path("a/b.json"))
    assert {path.name for path in Path("a").iterdir()} == {
        *("b-random.json", "b-class-centroid.json", "b.png")
    }
    assert "    use it as label_set='file:a/b-random.json'" in lines
    assert lines[-1] == "contact sheet: a/b.png"
    (tmp_path / "label_sets").mkdir()
    lines = select_digits(cache, "random", out=tmp_path / "label_sets" / "c.json")
    assert "    use it as label_set='select:c'" in lines


def test_data_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Color, a class name with blanks; the file is refused for data that differ in one pixel."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = generator.integers(0, 60, (60, 12, 12, 3)) + 60 * y[:, None, None, None]
    arrays = {"x_train": x.astype(np.uint8), "y_train": y, "x_test": x.astype(np.uint8),
              "y_test": y, "class_names": np.array(["sea", "old $town", "Ü 木"])}  # fmt: skip
    np.savez("my data.npz", **arrays)
    request = Request(
        dataset="my data.npz", embedding="kmeans-patches:4", methods=["class-centroid"]
    )
    lines = make_label_sets(request, lambda line: None)
    name = "select:my-data-kmeans-patches-4-class-centroid"
    assert f"    use it as label_set='{name}'" in lines
    assert resolve(name, load("my data.npz")).labels == (0, 1, 2)
    arrays["x_train"][5, 5, 5, 2] ^= 1
    np.savez("my data.npz", **arrays)
    with refused(f"label set {name} was made for other data than my data.npz"):
        resolve(name, load("my data.npz"))


def test_names_of_files() -> None:
    def names(**options: Any) -> list[str]:
        fields = {"dataset": "digits", "embedding": "simclr", "methods": ["random"]} | options
        request = Request(**fields)
        return [str(path) for path in (*request.files.values(), request.sheet)]

    assert names() == [
        "label_sets/digits-simclr-random.json",
        "label_sets/digits-simclr-random.png",
    ]
    assert names(embedding="simclr:200")[0] == "label_sets/digits-simclr-200-random.json"
    [file, _] = names(embedding="teacher:results/mine/networks/ab12.pt", dataset="../my set.npz")
    assert file == "label_sets/my-set-teacher-ab12-random.json"
    assert names(methods=["random", "typiclust"]) == [
        "label_sets/digits-simclr-random.json",
        "label_sets/digits-simclr-typiclust.json",
        "label_sets/digits-simclr.png",
    ]
    trimmed = names(methods=["class-centroid"], trim=0.25, seed=7, rank=2)
    assert trimmed[0] == "label_sets/digits-simclr-class-centroid-trim0.25-rank2-seed7.json"


def test_a_line_on_a_selection() -> None:
    x = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    found = select(x, np.array([1, 1, 1, 1]), 2, "k-medoids")
    assert describe(found, ("cat", "dog")) == (
        "k-medoids, training labels used: no; selected images per class: dog: 2;"
        " uncovered classes: cat"
    )
    found = select(x, np.array([1, 1, 0, 0]), 2, "random")
    assert describe(found, ("cat", "dog")) == (
        "random, training labels used: yes; selected images per class: 1 each;"
        " uncovered classes: none"
    )


START = ["select", "digits", "--embedding", EMBEDDING, "--method", "random"]
WRONG = [
    (["select", "mnist", *START[2:]], "unknown data set 'mnist'"),
    (["select", "cifar10", "--data", "nowhere", *START[2:]], "data fetch cifar10"),
    (["select", "no.npz", *START[2:]], "no file no.npz"),
    ([*START[:3], "tsne", *START[4:]], "choose from kmeans-patches"),
    ([*START[:3], "teacher:no.pt", *START[4:]], "no.pt"),
    ([*START[:5], "best"], "unknown method of selection 'best': choose from class-centroid"),
    (START[:4], "--method"),
    (["select", "digits", "--method", "random"], "--embedding"),
    ([*START, "--method", "random"], "a method is named twice: random, random"),
    ([*START, "--trim", "0.3"], "random does not trim: trim is for class-centroid"),
    ([*START, "--trim", "1"], "from 0 to below 1, not '1'"),
    ([*START, "--trim", "30%"], "from 0 to below 1"),
    ([*START, "--seed", "-1"], "integer of at least 0"),
    ([*START, "--seed", "4294967296"], "seed of a selection"),
    ([*START, "--candidates", "0"], "integer of at least 1"),
    ([*START, "--candidates", "3", "--rank", "4"], "rank 4 is none of the 3 candidates"),
    ([*START, "--candidates", "200", "--rank", "200"], "no candidates of rank 200: one of its 10"),
    ([*START, "--device", "tpu"], "choose from"),
    ([*START, "--out", "mine.txt"], "--out mine.txt: the name of a label set file ends in .json"),
    ([*START, "--out", "file/mine.json"], "cannot write file/mine.json"),
    ([*START, "--results", "file"], "cannot write"),
    ([*START, "--data", "my.npz"], "--data my.npz would not be used: `select my.npz` selects"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(w[0][1:]) for w in WRONG])
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
    made = [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.png")]
    assert not [path for path in made if path.parent.name != "embeddings"]  # costs of the cache


def test_the_help_names_every_method_and_embedding(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["select", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ", ".join([*METHODS][:-1]) + f" or {[*METHODS][-1]}" in text
    for form in FORMS.values():
        assert form in text


# --- the contact sheet ------------------------------------------------------------------------


def pictures(names: list[list[str]], side: int = 32, channels: int = 3) -> list[list[Candidate]]:
    """A group for each list of class names; every image differs."""
    generator = np.random.default_rng(0)
    return [
        [
            Candidate(
                generator.integers(0, 256, (side, side, channels), dtype=np.uint8),
                index=int(generator.integers(50_000)),
                class_name=name,
                score=float(generator.normal()),
                rank=rank,
            )
            for rank, name in enumerate(group, start=1)
        ]
        for group in names
    ]


def row(groups: list[list[Candidate]], **options: Any) -> Row:
    fields = {"method": "typiclust", "consulted_labels": False, "uncovered": ["bird"]} | options
    return Row(score_name="typicality", groups=groups, **fields)


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.array(image)


def find(sheet: NDArray[np.uint8], image: NDArray[np.uint8]) -> tuple[int, int]:
    """Where an image lies on the sheet, pixel for pixel (row, column)."""
    size = len(image)
    first = (sheet == image[0, 0]).all(axis=2)
    for y, x in np.argwhere(first[: len(sheet) - size + 1, : sheet.shape[1] - size + 1]).tolist():
        if (sheet[y : y + size, x : x + size] == image).all():
            return y, x
    raise AssertionError("not on the sheet")


def num_marked(sheet: NDArray[np.uint8]) -> int:
    color = [int(MARK[i : i + 2], 16) for i in (1, 3, 5)]
    return int((sheet == color).all(axis=2).sum())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 8, 28, 32, 64, 96, 224])
def test_every_image_is_on_the_sheet(tmp_path: Path, side: int, channels: int) -> None:
    groups = pictures([["cat", "cat"], ["dog", "cat"]], side, channels)
    contact_sheet([row(groups), row(groups[:1])], "a title", tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    places = [[find(sheet, enlarged(c.image)) for c in group] for group in groups]
    (cat, cat_2), (dog, dog_2) = places
    assert cat[0] == dog[0] < cat_2[0] == dog_2[0]  # ranks from top to bottom
    assert cat[1] == cat_2[1] < dog[1] == dog_2[1]  # groups from left to right
    size = len(enlarged(groups[0][0].image))
    assert 64 <= size <= 192
    assert dog[1] - cat[1] >= size + 6
    assert list(tmp_path.iterdir()) == [tmp_path / "sheet.png"]


def test_pixels_are_repeated_not_smoothed() -> None:
    image = np.array([[[10], [20]], [[30], [40]]], dtype=np.uint8)
    large = enlarged(image)
    assert large.shape == (96, 96, 3)
    assert (large[:48, :48] == 10).all() and (large[:48, 48:] == 20).all()
    assert (large[48:, :48] == 30).all() and (large[48:, 48:] == 40).all()
    steps = np.arange(200 * 200 * 3, dtype=np.uint8).reshape(200, 200, 3)
    assert (enlarged(steps) == steps[::2, ::2]).all()


def test_picks_of_one_class_are_framed(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    black = [
        [Candidate(np.zeros((32, 32, 1), np.uint8), 0, name, 1.0, r) for r, name in enumerate(g, 1)]
        for g in (["cat", "bird"], ["cat", "bird"], ["fish", "cat"])
    ]
    contact_sheet([row(black)], "", path)
    sheet = pixels(path)
    frame = (96 + 6) ** 2 - 96**2
    assert 2 * frame < num_marked(sheet) < 2 * frame + 1000  # and the two names
    contact_sheet([row(black, rank=2)], "", path)
    assert 2 * frame < num_marked(pixels(path)) < 2 * frame + 1000
    assert (pixels(path) != sheet).any()
    contact_sheet([row([black[0], black[2]])], "", path)
    assert num_marked(pixels(path)) == 0


def test_many_classes_are_broken_into_lines_and_fewer_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sheet.png"
    groups = pictures([[f"class {k}"] * 5 for k in range(100)], side=8)
    contact_sheet([row(groups)], "", path)
    height, width, _ = pixels(path).shape
    assert 20 * 96 < width < 20 * 96 * 1.2
    assert 25 * 96 < height < 25 * 96 * 1.8
    monkeypatch.setattr("boss.prototypes.contact_sheet.MAX_HEIGHT", height // 2)
    contact_sheet([row(groups)], "", path)
    sheet = pixels(path)
    assert height // 3 < len(sheet) <= height // 2
    find(sheet, enlarged(groups[99][1].image))
    with pytest.raises(AssertionError):
        find(sheet, enlarged(groups[0][4].image))
    contact_sheet([row(groups, rank=5)], "", path)  # what is picked is shown
    find(pixels(path), enlarged(groups[0][4].image))


def test_the_sheet_takes_any_names(tmp_path: Path) -> None:
    names = [["a $x^2$ name\nof two lines"], ["木" * 50], [""], ["one-very-long-name" * 20]]
    uncovered = [f"class {k}" for k in range(200)]
    contact_sheet([row(pictures(names), uncovered=uncovered)], "title " * 200, tmp_path / "s.png")
    height, width, _ = pixels(tmp_path / "s.png").shape
    assert width == 800
    assert height < 1200


def test_a_sheet_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        contact_sheet([row(pictures([["cat"]]))], "", tmp_path / "file" / "s.png")
