"""Readers see titles; CSV files keep the names in code."""

import pandas as pd
import pytest

from analysis import titles
from analysis.page.parts import Table, Text
from analysis.page.titled import titled, titles_in
from boss.study.catalog import ALGORITHMS
from boss.study.run import AUGMENTATIONS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("supervised", "Supervised"),
        ("boss-2 (weight_decay = 0.0005)", "BOSS-2 (weight decay 0.0005)"),
        ("remixmatch (augmentation = weak)", "ReMixMatch (weak views)"),
        ("fixmatch (labels = soft, temperature = 0.5)", "FixMatch (soft labels, temperature 0.5)"),
        ("? of round 1 -> fixmatch +5 by graph", "? of round 1 -> FixMatch +5 by graph"),
        (
            "supervised from simclr:9 +30 by propagation -> fixmatch +5 (num_images = 9)",
            "Supervised from simclr:9 +30 by propagation -> FixMatch +5 (num images 9)",
        ),
        ("no_such_algorithm +1", "no_such_algorithm +1"),
    ],
)
def test_titles_of_variants(name: str, expected: str) -> None:
    assert titles.variant_title(name) == expected
    assert titles.variant_title(f"{name} (oracle)") == f"{expected} (oracle)"


def test_every_algorithm_and_augmentation_has_a_title_of_its_own() -> None:
    names = [*ALGORITHMS, *(f"fixmatch (augmentation = {name})" for name in AUGMENTATIONS)]
    found = titles.titles_of(names)
    assert len(set(found.values())) == len(names)
    assert not any(name in title for name, title in found.items())


def test_variants_of_one_title_keep_their_names() -> None:
    names = [f"fixmatch (threshold = 0.{digits})" for digits in ("12345", "12346")]
    assert titles.titles_of([*names, "uda"]) == {**dict(zip(names, names, strict=True)),
                                                 "uda": "UDA"}  # fmt: skip


def test_the_text_of_a_table_has_titles_and_its_numbers_do_not() -> None:
    runs = pd.DataFrame(
        {"algorithm": ["boss", "uda"], "method": ["boss-4", "uda"], "variant": ["boss-4", "uda"]}
    )
    text = pd.DataFrame(
        {"variant": ["boss-4", "uda"], "better": ["uda; boss-4", "-"], "uda": [1, 2],
         "short, digits, boss-4": ["uda: 3", "uda"], "group": ["short, uda", "uda"]}
    )  # fmt: skip
    numbers = runs.copy()
    part = titled(Table("t", "T", "uda.", numbers, text), titles_in(runs))
    assert isinstance(part, Table)
    assert list(part.text.columns) == ["variant", "better", "UDA", "short, digits, BOSS-4", "group"]
    assert part.text.iloc[0].tolist() == ["BOSS-4", "UDA; BOSS-4", 1, "uda: 3", "short, UDA"]
    pd.testing.assert_frame_equal(part.numbers, runs)
    assert titled(Text("uda"), titles_in(runs)) == Text("uda")
