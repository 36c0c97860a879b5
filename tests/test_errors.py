"""What is refused, and in which words."""

import math

import pytest

from boss.errors import InputError, check_interval

INSIDE = [
    ("[0, inf)", [0, 1e-9, 7, math.inf]),
    ("(0, inf)", [1e-9, 1, math.inf]),
    ("[1, inf)", [1, 2]),
    ("[0, 1]", [0, 0.5, 1]),
    ("(0, 1]", [1e-9, 1]),
    ("[0, 1)", [0, 0.999999]),
]
OUTSIDE = [
    ("[0, inf)", [-1e-9, -1, math.nan], "must not be negative"),
    ("(0, inf)", [0.0, -1.0, math.nan], "must be positive"),
    ("[1, inf)", [0, 0.5, math.nan], "must be at least 1"),
    ("[0, 1]", [-1e-9, 1.000001, math.nan], "must lie in [0, 1]"),
    ("(0, 1]", [0, -1, 1.000001, math.nan], "must lie in (0, 1]"),
    ("[0, 1)", [1, 2, -1e-9, math.nan], "must lie in [0, 1)"),
]


@pytest.mark.parametrize(("interval", "values"), INSIDE)
def test_what_lies_in_an_interval(interval, values):
    for value in values:
        check_interval(interval, rampup=value)


@pytest.mark.parametrize(("interval", "values", "message"), OUTSIDE)
def test_what_lies_outside_is_named(interval, values, message):
    [inside, *_] = dict(INSIDE)[interval]
    for value in values:
        with pytest.raises(InputError) as caught:
            check_interval(interval, other=inside, rampup=value)
        assert str(caught.value) == f"rampup {message}, not {value}"
