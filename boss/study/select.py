"""`--only KEY=VALUE`: which runs of a study are meant."""

from boss.errors import InputError
from boss.study.run import Run, properties


def select(runs: list[Run], only: list[str]) -> list[Run]:
    """The runs for which every KEY=VALUE holds; a key that is named twice admits both values.

    Keys are the fields of `Run`, `round`, `method` ("boss-4", say; in a round of self-training that
    of round 0) and the names of algorithm options; values compare as numbers if they are numbers,
    else as text.

    Raises:
        InputError: not of the form KEY=VALUE, no such key, or no run has that value.
    """
    wanted: dict[str, set[str]] = {}
    for condition in only:
        key, equals, value = condition.partition("=")
        if not equals:
            raise InputError(f"--only takes KEY=VALUE, not {condition!r}")
        wanted.setdefault(key, set()).add(_comparable(value))
    for key, values in wanted.items():
        table = [properties(run) for run in runs]
        if runs and not any(key in row for row in table):
            keys = sorted({k for row in table for k in row})
            raise InputError(f"unknown key {key!r} in --only: choose from {', '.join(keys)}")
        have = {_comparable(row[key]): str(row[key]) for row in table if key in row}
        if values - have.keys():
            missing, choices = ", ".join(sorted(values - have.keys())), ", ".join(have.values())
            raise InputError(f"no run has {key}={missing}: choose from {choices}")
        runs = [
            r for r, row in zip(runs, table, strict=True) if _comparable(row.get(key)) in values
        ]
    return runs


def _comparable(value: object) -> str:
    """A value as text, numbers without their spelling: 1, 1.0 and 1e0 are one."""
    try:
        return f"{float(str(value)):.17g}"
    except ValueError:
        return str(value)
