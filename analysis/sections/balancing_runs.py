"""Which runs the section on class balancing compares."""

import pandas as pd

from boss.study.catalog import ALGORITHMS

BASELINE = "fixmatch"
BALANCED = [name for name, facts in ALGORITHMS.items() if facts.balances]


def of_methods(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of round 0 of FixMatch and of the algorithms that balance classes.

    Only of experiments in which two such methods or more ran.

    Args:
        table: any rows with experiment, method and round.
    """
    # boss-1 to boss-4 are methods of boss.
    algorithm = table["method"].str.extract(r"^(\w+)", expand=False)
    rows = table[(table["round"] == 0) & algorithm.isin([BASELINE, *BALANCED])]
    methods = rows[["experiment", "method"]].drop_duplicates()["experiment"].value_counts()
    return rows[rows["experiment"].isin(methods.index[methods > 1])]


def baseline_of(block: pd.DataFrame) -> str:
    """The first variant of FixMatch in one experiment (`load.sort_runs`), "" if it was not run."""
    variants = block.loc[block["method"] == BASELINE, "variant"]
    return str(variants.iloc[0]) if len(variants) else ""
