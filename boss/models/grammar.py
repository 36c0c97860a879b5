"""TODO"""

import re

from boss.errors import InputError

STEM_FILTERS = 16


def parse_network(name: str) -> dict[str, int]:
    """`wrn-DEPTH-WIDTH` -> blocks, filters and stages, where depth = 1 + stages * (2 * blocks + 1).

    Three stages if the depth allows them (28: 4 blocks each; 10: one block each), else four
    (37, for STL-10), else two (7: for images of 8 pixels).

    >>> parse_network("wrn-28-2")
    {'blocks': 4, 'filters': 32, 'stages': 3}

    Raises:
        InputError: not of this form, or no such network.
    """
    match = re.fullmatch(r"wrn-([1-9]\d*)-([1-9]\d*)", name)
    if match:
        depth, width = int(match[1]), int(match[2])
        for stages in (3, 4, 2):
            per_stage, rest = divmod(depth - 1, stages)
            if rest == 0 and per_stage % 2 == 1 and per_stage >= 3:
                return {"blocks": per_stage // 2, "filters": 16 * width, "stages": stages}
    raise InputError(
        f"unknown network {name!r}: use wrn-DEPTH-WIDTH with a depth such as 7, 10, 16, 22, 28"
        " or 37 (wrn-28-2 is FixMatch's, wrn-10-1 suits a CPU)"
    )
