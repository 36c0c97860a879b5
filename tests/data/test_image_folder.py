"""Folders of image files as data sets: what is read, in which order, and what is refused."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from boss import data
from boss.augment import check_size
from boss.data import image_folder
from boss.data.label_sets import resolve
from boss.errors import InputError
from tests.data.test_data import refused

Pixels = NDArray[np.uint8]


def random(seed: int, height: int = 8, width: int = 8, channels: int = 3) -> Pixels:
    """Pixels (H, W, C), or (H, W) of one channel."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, pixels: Pixels, mode: str | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """cat with three training images, dog with two, a test image of each; in the current folder."""
    monkeypatch.chdir(tmp_path)
    root = Path("photos")
    for seed, file in enumerate(
        [
            *("train/cat/a.png", "train/cat/b.png", "train/cat/c.png"),
            *("train/dog/a.png", "train/dog/b.png", "test/cat/a.png", "test/dog/a.png"),
        ]
    ):
        save(root / file, random(seed))
    return root


# --- what is read ---------------------------------------------------------------------------


def test_images_and_classes_by_hand(photos: Path) -> None:
    loaded = data.load("folder:photos")
    assert loaded.name == "folder:photos"
    assert loaded.class_names == ("cat", "dog")
    assert loaded.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert loaded.test.labels.tolist() == [0, 1]
    assert loaded.flip
    assert loaded.unlabeled is None
    assert loaded.train.images.is_contiguous()
    for part, first, num in ((loaded.train, 0, 5), (loaded.test, 5, 2)):
        assert part.images.shape == (num, 3, 8, 8)
        for n in range(num):
            expected = random(first + n).transpose(2, 0, 1)
            assert np.array_equal(part.images[n].numpy(), expected)
    assert resolve("fixmatch:0@4", loaded).indices == (0, 3, 1, 4)


def test_it_is_the_same_data_as_in_an_npz_file(photos: Path) -> None:
    for seed in (20, 21):
        save(photos / f"unlabeled/{seed}.png", random(seed))
    np.savez(
        "photos.npz",
        x_train=np.stack([random(seed) for seed in range(5)]),
        y_train=[0, 0, 0, 1, 1],
        x_test=np.stack([random(5), random(6)]),
        y_test=[0, 1],
        x_unlabeled=np.stack([random(20), random(21)]),
    )
    assert data.load("folder:photos").fingerprint == data.load("photos.npz").fingerprint


def test_order_is_that_of_code_points_whoever_made_the_files(tmp_path: Path) -> None:
    """Capitals before small letters, 10 before 2; é is é (after f), however it is spelled."""
    accent = unicodedata.normalize("NFD", "é")
    assert len(accent) == 2
    classes = ["10", "2", "B", "a", "f", accent]
    files = ["10.png", "2.png", "B.PNG", "a.Png", "f.png", f"{accent}.png", "ê.png"]
    for order, root in ((1, tmp_path / "one"), (-1, tmp_path / "two")):
        for k, name in list(enumerate(classes))[::order]:
            for n, file in list(enumerate(files))[::order]:
                save(root / "train" / name / file, random(10 * k + n), format="PNG")
        save(root / "test/é/x.png", random(99))  # the other spelling
    one, two = (data.load(f"folder:{tmp_path / name}") for name in ("one", "two"))
    assert one.class_names == ("10", "2", "B", "a", "f", "é")
    assert one.train.labels.tolist() == [k for k in range(6) for _ in range(7)]
    for position in range(42):
        k, n = divmod(position, 7)
        expected = random(10 * k + n).transpose(2, 0, 1)
        assert np.array_equal(one.train.images[position].numpy(), expected)
    assert one.test.labels.tolist() == [5]
    assert one.fingerprint == two.fingerprint


def test_unlabeled_images_at_any_depth(photos: Path) -> None:
    """By hand: folders have their place among the files, by name."""
    names = ["a.png", "b/0.png", "b/c/0.png", "b/d.png", "c.png", "c/a.png"]
    for seed, name in list(enumerate(names))[::-1]:
        save(photos / "unlabeled" / name, random(50 + seed))
    (photos / "unlabeled/b/empty").mkdir()
    found = [path.name for path in image_folder.list_files(photos).unlabeled]
    assert found == ["a.png", "0.png", "0.png", "d.png", "a.png", "c.png"]  # c before c.png
    unlabeled = data.load("folder:photos").unlabeled
    assert unlabeled is not None
    for image, seed in zip(unlabeled.numpy(), (50, 51, 52, 53, 55, 54), strict=True):
        assert np.array_equal(image, random(seed).transpose(2, 0, 1))


def test_what_is_hidden_is_passed_over(photos: Path) -> None:
    before = data.load("folder:photos").fingerprint
    for folder in ("", "train", "train/cat", "test", "test/dog"):
        for name in (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini"):
            (photos / folder / name).write_bytes(b"clutter")
        (photos / folder / ".git").mkdir()
    for name in ("README.md", "LICENSE"):  # beside train, a file is no image
        (photos / name).write_text("about these photos")
    assert data.load("folder:photos").fingerprint == before


def test_links_are_followed(photos: Path) -> None:
    before = data.load("folder:photos").fingerprint
    (photos / "train/cat").rename("elsewhere")
    (photos / "train/cat").symlink_to(Path("elsewhere").resolve())
    Path("link").symlink_to("photos")
    assert data.load("folder:link").fingerprint == before


def test_formats(photos: Path) -> None:
    """Lossless formats exactly, lossy ones about: a smooth image."""
    smooth = np.add.outer(np.arange(0, 80, 10), np.arange(0, 160, 20)).astype(np.uint8)
    pixels = np.stack([smooth, smooth, smooth], axis=2)
    (photos / "train/cat/c.png").unlink()
    exact = ["c.bmp", "d.ppm", "e.tif", "f.tiff", "g.webp"]
    for name in exact:
        save(photos / "train/cat" / name, pixels, **({"lossless": True} if "web" in name else {}))
    for name in ("h.jpg", "i.JPEG"):
        save(photos / "train/cat" / name, pixels, quality=95, format="JPEG")
    images = data.load("folder:photos").train.images.permute(0, 2, 3, 1).numpy().astype(int)
    for position in range(2, 7):
        assert np.array_equal(images[position], pixels)
    for position in (7, 8):
        assert 0 < np.abs(images[position] - pixels).max() <= 6


def test_gray_folders_have_one_channel(photos: Path) -> None:
    for file in photos.rglob("*.png"):
        file.unlink()
    gray = random(0, channels=1)
    save(photos / "train/cat/a.png", gray)
    save(photos / "train/cat/b.jpg", np.full((8, 8), 77, np.uint8))
    save(photos / "train/dog/a.png", (gray > 99).astype(np.uint8) * 255, mode="1")
    save(photos / "test/cat/a.png", gray, mode="LA")
    save(photos / "test/dog/a.pgm", gray)
    loaded = data.load("folder:photos")
    assert loaded.train.images.shape == (3, 1, 8, 8)
    assert loaded.test.images.shape == (2, 1, 8, 8)
    images = [image[0].numpy() for image in (*loaded.train.images, *loaded.test.images)]
    for image, expected in zip(
        images, (gray, 77, np.where(gray > 99, 255, 0), gray, gray), strict=True
    ):
        assert np.all(image == expected)
    assert "8 x 8 pixels, 1 channel" in data.check("folder:photos")[1]
    # One color image, even an unlabeled one, and all have three; the gray ones three equal ones.
    save(photos / "unlabeled/a.png", random(5))
    loaded = data.load("folder:photos")
    assert loaded.train.images.shape == (3, 3, 8, 8)
    for c in range(3):
        assert np.array_equal(loaded.train.images[0, c].numpy(), gray)


def test_transparency_is_dropped(photos: Path) -> None:
    pixels = random(1)
    alpha = np.concatenate([pixels, random(2)[..., :1]], axis=2)  # (H, W, 4)
    save(photos / "train/cat/a.png", alpha)
    palette = Image.fromarray(pixels // 128 * 255).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(photos / "train/cat/b.png", transparency=bytes([0, 100, 255]))
    images = data.load("folder:photos").train.images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images[0], pixels)
    assert np.array_equal(images[1], pixels // 128 * 255)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("ending", ["", "@8"])
def test_exif_orientation_by_hand(photos: Path, suffix: str, ending: str) -> None:
    """6: the camera was turned, the stored image is to be turned clockwise by 90 degrees."""
    pixels = random(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True} if suffix == "webp" else {}
    (photos / "train/cat/a.png").unlink()
    save(photos / f"train/cat/a.{suffix}", pixels, exif=exif, **options)
    image = data.load(f"folder:photos{ending}").train.images[0].permute(1, 2, 0).numpy()
    for row in range(8):
        for column in range(8):
            assert np.array_equal(image[row, column], pixels[7 - column, row])


def test_a_turned_photo_is_cropped_as_it_is_seen(photos: Path) -> None:
    """Stored 8 high and 24 wide; seen 24 high and 8 wide. The middle is the middle."""
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = random(3)
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned counterclockwise
    save(photos / "train/cat/a.png", pixels, exif=exif)
    image = data.load("folder:photos@8").train.images[0].permute(1, 2, 0).numpy()
    assert np.array_equal(image, np.rot90(random(3)))


def test_mirrored_unless_a_file_says_no(photos: Path) -> None:
    before = data.load("folder:photos")
    (photos / "no-flip").write_bytes(b"")
    after = data.load("folder:photos")
    assert (before.flip, after.flip) == (True, False)
    assert before.fingerprint == after.fingerprint
    assert "mirrored in training: no" in data.check("folder:photos")
    for name in ("no_flip", "NO-FLIP", "noflip", "no-flip.txt"):
        (photos / "no-flip").unlink()
        (photos / name).write_bytes(b"")
        with refused(f"photos/{name} must be called no-flip"):
            data.load("folder:photos")
        (photos / name).rename(photos / "no-flip")


# --- resizing -------------------------------------------------------------------------------


def test_resizing_by_hand(photos: Path) -> None:
    """From 16 to 8 pixels: a triangle of 4 pixels around each, of weights 1, 3, 3, 1 of 8.

    At the edges the outer weight is missing: 3, 3, 1 of 7.
    """
    v = np.random.default_rng(4).integers(0, 256, 16)
    save(photos / "train/cat/a.png", np.tile(v.astype(np.uint8), (16, 1)))
    inner = [
        (v[2 * j - 1] + 3 * v[2 * j] + 3 * v[2 * j + 1] + v[2 * j + 2]) / 8 for j in range(1, 7)
    ]
    expected = [(3 * v[0] + 3 * v[1] + v[2]) / 7, *inner, (v[13] + 3 * v[14] + 3 * v[15]) / 7]
    image = data.load("folder:photos@8").train.images[0].numpy().astype(int)
    assert np.abs(image - np.array(expected)).max() <= 0.51
    assert np.array_equal(image, np.broadcast_to(image[0, 0], (3, 8, 8)))


def test_the_largest_centered_square_is_taken(photos: Path) -> None:
    middle = random(3, 16, 16)
    for name, axis in (("a", 0), ("b", 1)):
        before, after = np.zeros_like(middle), np.full_like(middle, 255)
        save(photos / f"train/cat/{name}.png", np.concatenate([before, middle, after], axis=axis))
    images = data.load("folder:photos@16").train.images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images[0], middle)
    assert np.array_equal(images[1], middle)


@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (96, 64), (64, 160), (160, 160), (20, 20), (16, 40)]
)
def test_torchvision_resizes_and_crops_the_same(photos: Path, height: int, width: int) -> None:
    """It resizes before it crops: where it need not round, only the edges differ."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 9 + k) + np.cos(columns / 7 - k) for k in range(3)]
    pixels = (np.stack(waves, axis=2) * 60 + 128).astype(np.uint8)
    save(photos / "train/cat/a.png", pixels)
    ours = data.load("folder:photos@32").train.images[0].permute(1, 2, 0).numpy().astype(int)
    transform = Compose([Resize(32, InterpolationMode.BILINEAR), CenterCrop(32)])
    theirs = np.asarray(transform(Image.fromarray(pixels))).astype(int)
    assert np.abs(ours - theirs)[2:-2, 2:-2].max() <= 1


def test_small_images_are_enlarged_and_images_of_the_size_stay(photos: Path) -> None:
    save(photos / "train/cat/a.png", np.full((3, 2, 3), 55, np.uint8))
    assert (data.load("folder:photos@16").train.images[0] == 55).all()
    images = data.load("folder:photos@8").train.images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images[1], random(1))


def test_supported_sizes_are_those_of_augmentation(photos: Path) -> None:
    for size in (image_folder.MIN_SIZE, image_folder.MAX_SIZE):
        check_size(size)
        assert data.load(f"folder:photos@{size}").train.images.shape[-1] == size
    for size in (image_folder.MIN_SIZE - 1, image_folder.MAX_SIZE + 1, 0, 10**6000):
        if size < 10**6:
            with pytest.raises(InputError):
                check_size(size)
        message = "SIZE must be 8 to 256 pixels, not "
        with refused(message):
            data.load(f"folder:photos@{'9' * 6000 if size > 10**6 else size}")


# --- what is refused ------------------------------------------------------------------------


def test_other_sizes_are_refused(photos: Path) -> None:
    for height, width, message in (
        (9, 8, "8 pixels wide and 9 high, not square"),
        (8, 16, "16 pixels wide and 8 high, not square"),
        (16, 16, "16 pixels wide and 16 high, but photos/train/cat/a.png is 8"),
        (7, 7, "7 pixels wide and 7 high, not 8 to 256"),
        (257, 257, "257 pixels wide and 257 high, not 8 to 256"),
    ):
        for file in ("train/dog/b.png", "test/dog/a.png", "unlabeled/x/y.png"):
            there = (photos / file).exists()
            before = (photos / file).read_bytes() if there else b""
            save(photos / file, random(0, height, width))
            with refused(f"photos/{file} is {message}: folder:photos@8 would resize them$"):
                data.load("folder:photos")
            assert data.load("folder:photos@8").train.images.shape == (5, 3, 8, 8)
            if there:
                (photos / file).write_bytes(before)
            else:
                (photos / file).unlink()
                (photos / file).parent.rmdir()
                (photos / file).parent.parent.rmdir()


def test_the_first_offender_is_named(photos: Path) -> None:
    for file in ("train/cat/c.png", "train/dog/a.png", "test/cat/a.png"):
        save(photos / file, random(0, 8, 9))
    for _ in range(5):
        with refused("photos/train/cat/c.png is 9 pixels wide"):
            data.load("folder:photos")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train/cat/d.png", b"", "cannot read|cannot be read as an image: cannot identify"),
        ("train/cat/d.png", b"not an image", "cannot be read as an image: cannot identify"),
        ("test/dog/d.jpg", b"\xff\xd8\xff\xe0 and so on", "cannot be read as an image: "),
        ("unlabeled/d.gif", b"GIF89a", "cannot be read as an image: "),
        ("train/cat/d.txt", b"", r"is no image \(bmp, gif, jpeg, .*webp\): move it away"),
        ("train/cat/d", b"", "is no image"),
        ("unlabeled/x/labels.csv", b"", "is no image"),
        ("train/d.png", b"", "is not in the folder of a class"),
        ("test/notes.txt", b"", "is not in the folder of a class"),
    ],
)
def test_other_files_are_refused(photos: Path, name: str, content: bytes, message: str) -> None:
    (photos / name).parent.mkdir(parents=True, exist_ok=True)
    (photos / name).write_bytes(content)
    with refused(f"photos/{name} .*({message})|photos/{name} ({message})"):
        data.load("folder:photos")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif"])
def test_truncated_images_are_refused_or_named(photos: Path, suffix: str) -> None:
    path = photos / f"train/cat/d.{suffix}"
    save(path, random(0, 32, 32))
    whole = path.read_bytes()
    num_refused = 0
    for length in range(0, len(whole) - 24, max(1, len(whole) // 20)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            data.load("folder:photos@8")
        assert str(caught.value).startswith(f"{path} ")
        assert "\n" not in str(caught.value)
        num_refused += 1
    assert num_refused >= 15


@pytest.mark.parametrize(
    ("pixels", "mode", "suffix"),
    [
        (np.full((8, 8), 40_000, np.uint16), "I;16", "png"),
        (np.full((8, 8), 0.5, np.float32), "F", "tif"),
        (np.full((8, 8), 70_000, np.int32), "I", "tif"),
    ],
)
def test_deep_pixels_are_refused(photos: Path, pixels: Any, mode: str, suffix: str) -> None:
    """Pillow would cut them off at 255."""
    save(photos / f"train/cat/d.{suffix}", pixels)
    with refused(
        f"photos/train/cat/d.{suffix} has pixels of Pillow's mode {mode}: save it with 8 bits"
    ):
        data.load("folder:photos")


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("train/owl", "photos/train/owl has no image"),
        ("test/owl", "photos/test/owl is no class: photos/train has no such folder"),
        ("train/cat/kittens", "photos/train/cat/kittens is a folder: put the images of a class"),
        ("test/dog/more", "photos/test/dog/more is a folder"),
        ("unlabeled", "photos/unlabeled has no image"),
        ("unlabeled/x/y", "photos/unlabeled has no image"),
        ("unlabelled", "photos/unlabelled is none of train, test, unlabeled: rename it"),
        ("val", "photos/val is none of train, test, unlabeled"),
    ],
)
def test_other_folders_are_refused(photos: Path, folder: str, message: str) -> None:
    (photos / folder).mkdir(parents=True)
    with refused(f"{message}"):
        data.load("folder:photos")


def test_missing_folders_are_refused(photos: Path) -> None:
    with refused(r"no folder nowhere: folder:PATH\[@SIZE\] needs PATH/train and PATH/test"):
        data.load("folder:nowhere")
    (photos / "test").rename(photos / "Test2")
    for function in (data.load, data.check, lambda name: data.identify(Path(name))):
        with refused("no folder photos/test: "):
            function("folder:photos")
    (photos / "Test2").rename(photos / "test")
    for file in (photos / "train/cat").iterdir():
        file.unlink()
    with refused("photos/train/cat has no image"):
        data.load("folder:photos")
    (photos / "train").rename("aside")
    (photos / "train").mkdir()
    with refused("photos/train has no folder: there must be one for each class"):
        data.load("folder:photos")
    (photos / "train").rmdir()
    (photos / "train").write_bytes(b"")
    with refused("no folder photos/train"):
        data.load("folder:photos")


def test_class_without_test_images(photos: Path) -> None:
    """Not a class without an image, but a test that does not ask for it."""
    (photos / "test/dog/a.png").unlink()
    with refused("photos/test/dog has no image"):
        data.load("folder:photos")
    (photos / "test/dog").rmdir()
    assert "classes: cat 3 + 1, dog 2 + 0" in data.check("folder:photos")


# --- names ----------------------------------------------------------------------------------


def test_check(photos: Path) -> None:
    save(photos / "unlabeled/a.png", random(9))
    fingerprint = data.load("folder:photos").fingerprint
    lines = [
        "folder:photos: photos",
        "images: 5 train + 2 test + 1 unlabeled, 8 x 8 pixels, 3 channels",
        "classes: cat 3 + 1, dog 2 + 1",
        "mirrored in training: yes",
        f"fingerprint: {fingerprint}",
    ]
    assert data.check("folder:photos") == lines
    lines[0] = "folder:photos@8: photos"
    lines.append("resized: the largest centered square of each image")
    assert data.check("folder:photos@8") == lines
    assert "16 x 16 pixels" in data.check("folder:photos@16")[1]


def test_malformed_names(photos: Path) -> None:
    for name in ("folder:", "folder:@96"):
        with refused("malformed data set|no folder @96"):
            data.load(name)
    with refused("no folder photos@small"):
        data.load("folder:photos@small")
    photos.rename("photos@2")
    with refused("no folder photos: "):
        data.load("folder:photos@16")
    assert data.load("folder:photos@2@16").train.images.shape == (5, 3, 16, 16)


def test_home_folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(photos.resolve().parent))
    assert len(data.load("folder:~/photos").train) == 5


def test_identify_gives_one_name(photos: Path) -> None:
    here = photos.resolve().parent
    for path in ("photos", "./photos", "photos/", str(here / "photos"), "photos/train/.."):
        for ending in ("", "@16"):
            path = path.rstrip("/") if ending else path
            name = data.identify(Path(f"folder:{path}{ending}"))
            assert name == f"folder:photos{ending}"
            assert data.is_own(name)
            assert len(data.load(name, here / "ignored").train) == 5
    (here / "below").mkdir()
    assert not data.is_own("photos")
    with refused("SIZE must be 8 to 256"):
        data.identify(Path("folder:photos@4"))


def test_identifying_needs_no_torch(photos: Path) -> None:
    code = (
        "import sys, pathlib, boss.data\n"
        "print(boss.data.identify(pathlib.Path('folder:photos@8')))\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'PIL' not in sys.modules\n"
    )
    package = Path(data.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(package)},
    )  # fmt: skip
    assert done.stdout.strip() == "folder:photos@8"
