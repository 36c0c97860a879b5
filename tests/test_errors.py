"""What is refused, and in which words."""

import math

import pytest

from boss.errors import (
    InputError,
    check_not_negative,
    check_positive,
    check_share,
)


def test_what_is_negative():
    check_not_negative(weight=0.0, other=math.inf)
    for value in (-1e-9, math.nan):
        with pytest.raises(InputError, match=f"^weight must not be negative, not {value}$"):
            check_not_negative(other=1.0, weight=value)


def test_what_is_positive():
    check_positive(temperature=1e-9, other=1)
    for value in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match=f"^temperature must be positive, not {value}$"):
            check_positive(other=1.0, temperature=value)


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", [0, 0.5, 1], [-1e-9, 1.000001, math.nan]),
        ("(0, 1]", [1e-9, 1], [0, -1, 1.000001, math.nan]),
        ("[0, 1)", [0, 0.999999], [1, 2, -1e-9, math.nan]),
    ],
)
def test_what_lies_between_0_and_1(interval, inside, outside):
    for value in inside:
        check_share(interval, rampup=value)
    for value in outside:
        with pytest.raises(InputError) as caught:
            check_share(interval, other=0.5, rampup=value)
        assert str(caught.value) == f"rampup must lie in {interval}, not {value}"
