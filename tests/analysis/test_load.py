"""Names and groups: what is averaged, and what a reader is told about it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis import load, naming
from analysis.naming import most_frequent, value_texts
from analysis.sections.algorithm_tables import algorithms_table, algorithms_text
from analysis.sections.label_sets import class_accuracy
from analysis.sections.published import comparable, read_published
from boss.results.read import Store
from boss.study.catalog import ALGORITHMS
from boss.study.methods import METHODS
from boss.study.run import Run
from tests.analysis.data import (
    boss_study,
    child_of,
    full_run,
    grid_of_runs,
    make_run,
    method_run,
    write_store,
)

REFINED = "select:cifar10-refined"


def loaded(folder: Path, runs: list[Run], **store: object) -> load.Results:
    write_store(folder, runs, **store)  # type: ignore[arg-type]
    return load.load(folder, "synthetic")


def variants(found: load.Results) -> list[str]:
    return list(found.runs["variant"].drop_duplicates())


def named(found: load.Results, run: Run) -> str:
    return str(found.runs.set_index("run_id").loc[run.id, "variant"])


# Methods


def test_methods_stand_in_one_experiment_under_their_own_names(tmp_path: Path) -> None:
    # They differ in batch size, learning rate, weight decay, ratio and threshold.
    found = loaded(tmp_path, [method_run(number) for number in reversed(METHODS)])
    assert found.runs["experiment"].nunique() == 1
    assert variants(found) == ["fixmatch", "boss-1", "boss-2", "boss-3", "boss-4"]
    assert found.runs["group"].nunique() == 5


def test_a_method_is_told_from_itself_by_what_differs(tmp_path: Path) -> None:
    runs = [method_run(4), method_run(4, learning_rate=0.1), method_run(1), method_run(0)]
    runs += [method_run(1, options={"max_drop": 0.5, "weigh_by": "none"})]
    assert set(variants(loaded(tmp_path, runs))) == {
        "fixmatch",
        "boss-4 (learning_rate = 0.06)",
        "boss-4 (learning_rate = 0.1)",
        "boss-1 (max_drop = 0.25)",
        "boss-1 (max_drop = 0.5)",
    }


def test_variants_have_one_meaning_for_all_kinds_of_label_sets(tmp_path: Path) -> None:
    # Each alone in its experiment, but compared with each other as label sets.
    runs = [make_run(options={"threshold": 0.9}), make_run(label_set="boss:1")]
    found = loaded(tmp_path, runs)
    assert found.runs["experiment"].nunique() == 2
    assert found.runs["scope"].nunique() == 1
    assert set(variants(found)) == {"fixmatch (threshold = 0.9)", "fixmatch (threshold = 0.95)"}


def test_runs_from_before_an_option_are_averaged_with_those_after(tmp_path: Path) -> None:
    old, new = make_run(repeat=0), make_run(repeat=1)
    options = dict(ALGORITHMS["fixmatch"].options)
    found = loaded(tmp_path, [old, new], changes={new.id: {"options": json.dumps(options)}})
    assert found.runs["group"].nunique() == 1
    assert variants(found) == ["fixmatch"]


def test_runs_from_before_an_option_with_another_rule_stand_apart(tmp_path: Path) -> None:
    old, new = (make_run(repeat=i, algorithm="pseudo_label") for i in range(2))
    options = dict(ALGORITHMS["pseudo_label"].options)
    without = {name: value for name, value in options.items() if name != "mask"}
    texts = {old.id: {"options": json.dumps(without)}, new.id: {"options": json.dumps(options)}}
    found = loaded(tmp_path, [old, new], changes=texts)
    assert set(variants(found)) == {"pseudo_label (mask = batch)", "pseudo_label (mask = example)"}


OPTIMIZERS = (
    {},
    {"momentum": 0.5},
    {"momentum": 0.5, "nesterov": False},
    {"momentum": 0.0, "learning_rate": 0.05},
    {"optimizer": "adam", "learning_rate": 0.0004},
    {"optimizer": "adam", "learning_rate": 0.002, "beta2": 0.9},
    {"schedule": "linear", "final_learning_rate": 0.01},
)


def test_names_leave_out_what_is_most_frequent_where_much_differs(tmp_path: Path) -> None:
    found = loaded(tmp_path, [make_run(**fields) for fields in OPTIMIZERS])
    # Of the learning rates 0.03 is most frequent, of the momenta 0.9; and so on.
    assert variants(found) == [
        "fixmatch",
        "fixmatch (momentum = 0.5)",
        "fixmatch (learning_rate = 0.05, momentum = 0)",
        "fixmatch (momentum = 0.5, nesterov = False)",
        "fixmatch (optimizer = adam, learning_rate = 0.0004)",
        "fixmatch (schedule = linear, final_learning_rate = 0.01)",
        "fixmatch (optimizer = adam, learning_rate = 0.002, beta2 = 0.9)",
    ]
    # Nothing but the first is what others are compared with.
    assert set(algorithms_table(found.runs)["baseline"]) == {"", "fixmatch"}


def test_without_a_most_frequent_value_all_are_named(tmp_path: Path) -> None:
    runs = [
        make_run(options={"labels": labels, "threshold": threshold, "temperature": temperature})
        for labels, threshold, temperature in (
            ("hard", 0.95, 1.0), ("hard", 0.95, 0.5), ("soft", 0.0, 1.0), ("soft", 0.95, 1.0)
        )
    ]  # fmt: skip
    assert set(variants(loaded(tmp_path, runs))) == {
        "fixmatch (labels = hard)",
        "fixmatch (labels = hard, temperature = 0.5)",
        "fixmatch (labels = soft)",
        "fixmatch (labels = soft, threshold = 0)",
    }


def test_most_frequent_values() -> None:
    assert most_frequent(["a", "b", "a"]) == "a"
    assert most_frequent(["a", "b"]) is None
    assert most_frequent(["a", "a", ""]) is None  # who lacks it must not look alike


def test_numbers_in_names_are_short_unless_they_would_be_equal() -> None:
    assert value_texts([0.03 / 7, 7, None, True]) == ["0.00428571", "7", "", "True"]
    assert value_texts([0.1234567, 0.12345671]) == ["0.1234567", "0.12345671"]


def test_the_variant_nearest_to_the_published_settings_is_the_baseline(tmp_path: Path) -> None:
    for number, (fields, baseline) in enumerate(
        [
            ([{"weight_decay": w} for w in (5e-5, 5e-4, 5e-3)], "weight_decay = 0.0005"),
            ([{"options": {"threshold": t}} for t in (0.5, 0.95)], "threshold = 0.95"),
            # An option counts more than a setting.
            (
                [
                    {"options": {"label_view": "none"}},
                    {"augmentation": "ctaugment", "options": {"label_view": "weak"}},
                ],
                "augmentation = ctaugment, label_view = weak",
            ),
        ]
    ):
        found = loaded(tmp_path / str(number), [make_run(**setting) for setting in fields])
        assert set(algorithms_table(found.runs)["baseline"]) == {"", f"fixmatch ({baseline})"}


def test_variants_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    decays = [5e-4, 5e-6, 1e-4, 5e-3, 5e-2]  # the default first
    found = loaded(tmp_path, [make_run(weight_decay=w) for w in reversed(decays)])
    assert variants(found) == [f"fixmatch (weight_decay = {w:g})" for w in decays]


def test_a_fingerprint_is_named_only_where_one_data_set_has_several(tmp_path: Path) -> None:
    runs = [make_run(), make_run(dataset="svhn")]
    found = loaded(tmp_path, runs)
    assert set(found.runs["experiment"]) == {"short, cifar10, wrn-10-1", "short, svhn, wrn-10-1"}
    runs += [make_run(repeat=1)]
    changes = {runs[-1].id: {"dataset_fingerprint": "f" * 64}}
    found = loaded(tmp_path / "other", runs, changes=changes)
    assert found.runs["experiment"].str.contains("data ffffffffffff").sum() == 1


def test_pairs_are_right_where_algorithms_differ_in_their_settings(tmp_path: Path) -> None:
    fields = {
        "mixmatch": {"unlabeled_ratio": 1},
        "vat": {"unlabeled_ratio": 1, "optimizer": "adam"},
    }
    runs = [
        make_run(algorithm, f"fixmatch:{s}@10", repeat=r, **fields.get(algorithm, {}))
        for algorithm in ("supervised", "fixmatch", "mixmatch", "vat")
        for s in range(2)
        for r in range(2)
    ]
    percent = dict(zip((run.id for run in runs), range(10, 90, 5), strict=False))
    changes = {run_id: {"last_accuracy": p / 100} for run_id, p in percent.items()}
    table = algorithms_table(loaded(tmp_path, runs, changes=changes).runs).set_index("variant")
    # Values of the algorithms are 10 .. 25, 30 .. 45, 50 .. 65, 70 .. 85 in one order.
    assert list(table.loc[["fixmatch", "mixmatch", "vat"], "difference_points"]) == pytest.approx(
        [20, 40, 60]
    )
    assert list(table["num_pairs"]) == [0, 4, 4, 4]
    assert set(table["baseline"]) == {"", "supervised"}


# Self-training


def test_rounds_stand_beside_their_parents(tmp_path: Path) -> None:
    parent = method_run(4)
    child = child_of(parent, 40)
    runs = [method_run(0), parent, child_of(method_run(0), 5), child_of(parent, 10), child]
    runs += [child_of(child, 40), child_of(child, 5)]
    found = loaded(tmp_path, runs)
    assert variants(found) == [
        "fixmatch",
        "boss-4",
        "fixmatch -> fixmatch +5",
        "boss-4 -> fixmatch +10",
        "boss-4 -> fixmatch +40",
        "boss-4 -> fixmatch +40 -> fixmatch +5",
        "boss-4 -> fixmatch +40 x2",
    ]
    assert found.warnings == []
    assert found.runs["experiment"].nunique() == 1
    assert set(found.runs["label_set_size"]) == {10}
    assert found.runs.set_index("run_id").loc[child.id, "num_labels"] == 10 + 400
    table = algorithms_table(found.runs).set_index("variant")
    assert set(table["baseline"]) == {"", "fixmatch"}
    assert table.loc["boss-4 -> fixmatch +40", "num_pairs"] == 1


def test_leaks_are_marked_and_stay_so(tmp_path: Path) -> None:
    parent = method_run(4)
    leaky = child_of(parent, 40, pick_labels="true")
    runs = [parent, leaky, child_of(leaky, 40), child_of(parent, 40)]
    runs += [child_of(parent, 40, rank_by="best_test")]
    runs += [child_of(parent, 40, rank_by="best_test", pick_labels="true")]
    found = loaded(tmp_path, runs)
    chain = "boss-4 -> fixmatch +40"
    assert set(variants(found)) == {
        "boss-4",
        chain,
        f"{chain} true labels (oracle)",
        f"{chain} best on test (oracle)",
        f"{chain} true labels best on test (oracle)",
        f"{chain} true labels -> fixmatch +40 (oracle)",
    }
    assert set(found.runs["label_set"]) == {"fixmatch:3@10"}


def test_leaks_are_inherited_also_where_the_label_set_is_an_oracle(tmp_path: Path) -> None:
    # All of these rows name an oracle, and the label set accounts for that.
    parent = method_run(4, REFINED)
    leaky = child_of(parent, 40, pick_labels="true")
    found = loaded(tmp_path, [parent, leaky, child_of(leaky, 40), child_of(parent, 40)])
    assert set(variants(found)) == {
        "boss-4",
        "boss-4 -> fixmatch +40",
        "boss-4 -> fixmatch +40 true labels (oracle)",
        "boss-4 -> fixmatch +40 true labels -> fixmatch +40 (oracle)",
    }


def test_runs_that_got_fewer_picks_are_averaged_with_the_others(tmp_path: Path) -> None:
    runs = [method_run(4, repeat=i) for i in range(2)]
    children = [child_of(run, 40) for run in runs]
    fewer = {children[1].id: {"num_picks": 390, "num_labels": 400}}
    found = loaded(tmp_path, [*runs, *children], changes=fewer)
    assert len({group_of(found, child) for child in children}) == 1


def test_self_training_is_no_baseline_and_is_not_compared_with_publications(
    tmp_path: Path,
) -> None:
    # The children are FixMatch by algorithm, but there is no FixMatch to compare with.
    runs = [method_run(4, repeat=i) for i in range(2)]
    runs += [child_of(run, 40) for run in runs]
    found = loaded(tmp_path, runs)
    assert set(algorithms_table(found.runs)["baseline"]) == {"", "boss-4"}
    theirs = read_published("empirical_perspectives_table1.csv")
    assert comparable(load.metrics(found), found.runs, theirs).empty


@pytest.mark.parametrize(
    "other",
    [
        lambda parent: child_of(parent, 20),
        lambda parent: child_of(parent, 40, pick_labels="true"),
        lambda parent: child_of(parent, 40, rank_by="best_test"),
        lambda parent: child_of(parent, 40, batch_size=32),
        lambda parent: child_of(parent, 40, num_images=64_000),
        lambda parent: child_of(child_of(parent, 40), 40),
        lambda parent: child_of(method_run(0, repeat=parent.repeat), 40),
        lambda parent: child_of(method_run(4, repeat=parent.repeat, learning_rate=0.1), 40),
        lambda parent: child_of(method_run(4, repeat=parent.repeat, num_images=64_000), 40),
        lambda parent: child_of(child_of(parent, 20), 40),
        lambda parent: child_of(child_of(parent, 40, rank_by="best_test"), 40),
    ],
)
def test_children_are_averaged_with_their_equals_only(tmp_path: Path, other: object) -> None:
    ours = [child_of(method_run(4, repeat=i), 40) for i in range(3)]
    theirs = [other(method_run(4, repeat=i)) for i in range(3)]  # type: ignore[operator]
    known: dict[str, Run] = {}
    for run in [*ours, *theirs]:
        ancestor: Run | None = run
        while ancestor is not None:
            known[ancestor.id] = ancestor
            ancestor = ancestor.parent
    found = loaded(tmp_path, list(known.values()))
    assert found.warnings == []
    names = {run.id: (named(found, run), *group_of(found, run)) for run in [*ours, *theirs]}
    assert len({names[run.id] for run in ours}) == len({names[run.id] for run in theirs}) == 1
    assert not {names[run.id][:2] for run in ours} & {names[run.id][:2] for run in theirs}
    table = class_accuracy(load.metrics(found))
    assert set(table["n"]) == {3}


def group_of(found: load.Results, run: Run) -> tuple[str, str]:
    row = found.runs.set_index("run_id").loc[run.id]
    return row["experiment"], row["group"]


def test_a_parent_at_another_budget_says_so(tmp_path: Path) -> None:
    parent = method_run(4, num_images=64_000)
    found = loaded(tmp_path, [parent, child_of(parent, 40)])
    assert "boss-4 -> fixmatch +40 (num_images = 120000)" in variants(found)


def test_a_parent_that_is_missing(tmp_path: Path) -> None:
    child = child_of(method_run(4), 40)
    grandchild = child_of(child, 40)
    found = loaded(tmp_path, [method_run(0), child])
    assert named(found, child) == "? -> fixmatch +40"
    assert len(found.warnings) == 1
    assert f"fixmatch fixmatch:3@10 #0 ({child.id})" in found.warnings[0]
    assert "parent is not in the store" in found.warnings[0]
    write_store(tmp_path / "other", [grandchild])
    found = load.load(tmp_path / "other", "synthetic")
    assert named(found, grandchild) == "? of round 1 -> fixmatch +40"


def test_a_parent_that_is_incomplete_still_gives_its_name(tmp_path: Path) -> None:
    parent = method_run(4)
    child = child_of(parent, 40)
    write_store(tmp_path, [parent, child])
    (tmp_path / "synthetic" / "evaluations" / f"{parent.id}.parquet").unlink()
    found = load.load(tmp_path, "synthetic")
    assert variants(found) == ["boss-4 -> fixmatch +40"]
    assert len(found.warnings) == 1


def test_a_missing_parent_with_a_leak_does_not_pass_unmarked(tmp_path: Path) -> None:
    # Its own picks are honest; only the row says that an earlier round was not.
    child = child_of(child_of(method_run(4), 40, pick_labels="true"), 40)
    found = loaded(tmp_path, [child, method_run(0)])
    assert named(found, child) == "? of round 1 -> fixmatch +40 (oracle)"
    assert set(found.runs["label_set"]) == {"fixmatch:3@10"}


# Label sets


def test_a_label_set_that_is_an_oracle_is_marked_instead_of_the_variant(tmp_path: Path) -> None:
    runs = [method_run(n, s) for n in (0, 4) for s in (REFINED, "select:cifar10-a", "boss:1")]
    runs += [child_of(method_run(4, s), 5) for s in (REFINED, "select:cifar10-a")]
    found = loaded(tmp_path, runs)
    assert variants(found) == ["fixmatch", "boss-4", "boss-4 -> fixmatch +5"]
    mark = f"{REFINED} (oracle)"
    assert set(found.runs["label_set"]) == {mark, "select:cifar10-a", "boss:1"}
    # Not averaged with honest ones, and the experiment says why.
    of_mark = found.runs["label_set"] == mark
    assert found.runs.loc[of_mark, "experiment"].str.contains("(oracle)", regex=False).all()
    assert not found.runs.loc[~of_mark, "experiment"].str.contains("oracle").any()
    for table in (found.evaluations, found.class_evaluations):
        assert set(table["label_set"]) == set(found.runs["label_set"])


def test_an_oracle_alone_is_marked_too(tmp_path: Path) -> None:
    found = loaded(tmp_path, [method_run(n, REFINED) for n in (0, 4)])
    assert found.runs["experiment"].str.contains("select (oracle) label sets", regex=False).all()
    text = algorithms_text(algorithms_table(found.runs))
    assert text["experiment"].str.contains("(oracle)", regex=False).all()


@pytest.mark.parametrize(
    ("label_set", "dataset", "family"),
    [
        ("fixmatch:3@10", "cifar10", "random splits"),
        ("boss:3", "cifar10", "hand-picked"),
        ("carlini:7", "cifar10", "prototypicality buckets"),
        ("select:cifar10-kmeans-patches", "cifar10", "kmeans-patches"),
        ("select:cifar10-kmeans-patches-r2", "cifar10", "kmeans-patches"),
        ("select:cifar10-kmeans-patches-s11", "cifar10", "kmeans-patches"),
        ("select:cifar10-kmeans-patches-rank2", "cifar10", "kmeans-patches"),
        ("select:cifar10-kmeans-patches-seed3", "cifar10", "kmeans-patches"),
        ("select:cifar10-kmeans-patches-top3", "cifar10", "kmeans-patches-top3"),
        ("select:two-kmeans-r2-s3", "/data/two.npz", "kmeans"),
        ("select:kmeans-r2", "cifar10", "kmeans"),
        ("select:cifar10-kmeans-rest", "cifar10", "kmeans-rest"),
        ("select:cifar10-kmeans-r2 (oracle)", "cifar10", "kmeans (oracle)"),
        ("file:mine.json", "cifar10", "file:mine.json"),
    ],
)
def test_families_of_label_sets(label_set: str, dataset: str, family: str) -> None:
    assert naming.family(label_set, dataset) == family


# Fully supervised runs


def test_full_supervision_is_an_experiment_of_its_own(tmp_path: Path) -> None:
    runs = boss_study(num_repeats=1) + [full_run(i) for i in range(2)]
    runs += grid_of_runs(("supervised",), 1, 1)
    found = loaded(tmp_path, runs)
    full = found.runs[found.runs["is_full"]]
    assert set(full["run_id"]) == {full_run(i).id for i in range(2)}
    assert set(full["experiment"]) == {"short, cifar10, wrn-10-1, num_labels = 1201"}
    assert not set(full["experiment"]) & set(found.runs.loc[~found.runs["is_full"], "experiment"])
    table = algorithms_table(found.runs)
    assert set(table.loc[table["experiment"].isin(full["experiment"]), "baseline"]) == {""}


# The images


def test_labeled_images_are_those_of_one_run_each_without_picks(tmp_path: Path) -> None:
    runs = [*boss_study(), full_run()]
    found = loaded(tmp_path, runs)
    read: list[str] = []
    reader = found.store.read

    def read_some(table: str, run_ids: pd.Series) -> pd.DataFrame:
        read.extend(run_ids)
        assert table == "labeled_images"
        return reader(table, run_ids)

    found.store.read = read_some  # type: ignore[method-assign, assignment]
    images, warnings = load.labeled_images(found)
    assert warnings == []
    assert len(read) == 2
    assert list(images["label_set"]) == ["fixmatch:0@10"] * 10 + ["fixmatch:1@10"] * 10
    stored = Store(tmp_path, "synthetic").read("labeled_images", [runs[0].id])
    assert list(images["image_index"][:10]) == list(stored["image_index"])
    assert images["image"].map(lambda image: image.startswith(b"\x89PNG")).all()


def test_labeled_images_come_from_another_run_if_need_be(tmp_path: Path) -> None:
    runs = boss_study(("fixmatch:0@10",))
    write_store(tmp_path, runs)
    first = load.load(tmp_path, "synthetic").runs["run_id"].iloc[0]
    path = tmp_path / "synthetic" / "labeled_images" / f"{first}.parquet"
    path.write_bytes(b"half a file")
    images, warnings = load.labeled_images(load.load(tmp_path, "synthetic"))
    assert len(images) == 10
    assert len(warnings) == 1
    assert f"labeled_images/{first}.parquet" in warnings[0]


def test_picks_are_no_labeled_images_even_if_they_have_pixels(tmp_path: Path) -> None:
    child = child_of(method_run(4), 5)
    write_store(tmp_path, [child])
    path = tmp_path / "synthetic" / "labeled_images" / f"{child.id}.parquet"
    rows = pd.read_parquet(path)
    rows.assign(image=rows["image"].fillna(rows["image"][0])).to_parquet(path)
    images, _ = load.labeled_images(load.load(tmp_path, "synthetic"))
    assert list(images["position"]) == list(range(10))


def test_a_store_without_labeled_images(tmp_path: Path) -> None:
    write_store(tmp_path, [make_run()])
    for path in (tmp_path / "synthetic" / "labeled_images").iterdir():
        path.unlink()
    images, warnings = load.labeled_images(load.load(tmp_path, "synthetic"))
    assert (len(images), warnings) == (0, [])


def test_rows_know_the_images_seen_at_their_step(tmp_path: Path) -> None:
    found = loaded(tmp_path, grid_of_runs(num_label_sets=2, num_repeats=2))
    curves = load.class_curves(found)
    by_step = found.evaluations.drop_duplicates(["run_id", "step"])
    images = {(r.run_id, r.step): r.images_seen for r in by_step.itertuples()}
    assert curves["images_seen"].tolist() == [images[r.run_id, r.step] for r in curves.itertuples()]
    # Of a step that was not evaluated it is not known.
    later = found.class_evaluations.assign(step=found.class_evaluations["step"] + 1)
    assert load.class_curves(found, later)["images_seen"].isna().all()
