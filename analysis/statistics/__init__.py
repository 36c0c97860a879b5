"""The statistics behind the tables and figures: pure functions, one formula each.

k label sets (clusters), n_j repeats of label set j, N = sum of n_j runs.
Repeats of one label set share their labeled images and so are not independent: whatever is said
about more than one label set takes the label set, not the run, as the unit.
Undefined values are NaN. What each interval covers is in docs/statistics.md.
"""

from .comparisons import (
    EQUIVALENT,
    HIGHER,
    LOWER,
    PAIR_KEYS,
    UNDECIDED,
    Comparison,
    Difference,
    compare,
    equivalence,
    holm,
    improvement_probability,
    pairs,
    welch,
    welch_summary,
)
from .components import (
    ClassSpread,
    Components,
    class_spread,
    share_interval,
    variance_components,
)
from .jackknife import log_jackknife, ratio_interval, sd_interval
from .ranks import effective_number, rank_correlation
from .summaries import (
    LEVEL,
    MIN_SETS,
    NO_INTERVAL,
    ClusterMean,
    Floats,
    Interval,
    Summary,
    cluster_mean,
    interquartile_mean,
    moments,
    summary,
    t_interval,
    t_p_value,
    t_summary,
)

__all__ = [
    "EQUIVALENT",
    "HIGHER",
    "LEVEL",
    "LOWER",
    "MIN_SETS",
    "NO_INTERVAL",
    "PAIR_KEYS",
    "UNDECIDED",
    "ClassSpread",
    "ClusterMean",
    "Comparison",
    "Components",
    "Difference",
    "Floats",
    "Interval",
    "Summary",
    "class_spread",
    "cluster_mean",
    "compare",
    "effective_number",
    "equivalence",
    "holm",
    "improvement_probability",
    "interquartile_mean",
    "log_jackknife",
    "moments",
    "pairs",
    "rank_correlation",
    "ratio_interval",
    "sd_interval",
    "share_interval",
    "summary",
    "t_interval",
    "t_p_value",
    "t_summary",
    "variance_components",
    "welch",
    "welch_summary",
]
