"""What readers see in place of the names in code: algorithms, settings and their values, variants.

Runs are grouped, sorted and stored by the names in code (`naming`), which CSV files keep.
"""

import re
from collections.abc import Iterable

from boss.study.catalog import ALGORITHMS
from boss.study.run import AUGMENTATIONS

from .naming import ORACLE_MARK

# Settings whose value says what they are.
BARE = ("algorithm", "method", "augmentation", "optimizer", "schedule", "dataset", "label_set")
LAST = ("num_labels", "labels")  # "40 labels", "hard labels"


def is_number(text: str) -> bool:
    """Whether the value of a setting is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def short_value(value: str) -> str:
    """The value of a setting to be read, a fraction with four digits."""
    return f"{float(value):.4g}" if "." in value and is_number(value) else value


def method_title(name: str) -> str:
    """The title of an algorithm, with the number of the method of BOSS.

    >>> method_title("pi_model"), method_title("boss-4"), method_title("?")
    ('Pi-Model', 'BOSS-4', '?')
    """
    algorithm, dash, number = name.partition("-")
    return ALGORITHMS[algorithm].title + dash + number if algorithm in ALGORITHMS else name


def value_title(name: str, value: str) -> str:
    """The value of a setting as it is read.

    >>> value_title("algorithm", "uda"), value_title("augmentation", "ctaugment-without-cutout")
    ('UDA', 'CTAugment, no Cutout')
    """
    if name in ("algorithm", "method"):
        return method_title(value)
    return AUGMENTATIONS.get(value, value) if name == "augmentation" else short_value(value)


def words(name: str, value: str) -> str:
    """A setting and its value in words.

    >>> words("num_labels", "40"), words("nesterov", "False"), words("schedule", "linear")
    ('40 labels', 'no nesterov', 'linear')
    """
    spoken, value = name.replace("_", " "), value_title(name, value)
    if name in LAST:
        return f"{value} labels"
    if value in ("True", "False"):
        return spoken if value == "True" else f"no {spoken}"
    return value if name in BARE else f"{spoken} {value}"


def variant_title(variant: str) -> str:
    """The name of a variant (`naming.describe`) as it is read.

    >>> variant_title("remixmatch (augmentation = ctaugment-without-cutout)")
    'ReMixMatch (CTAugment, no Cutout)'
    >>> variant_title("boss-4 -> fixmatch +40 true labels (oracle)")
    'BOSS-4 -> FixMatch +40 true labels (oracle)'
    >>> variant_title("fixmatch (threshold = 0.5, nesterov = False) -> supervised +5 x2")
    'FixMatch (threshold 0.5, no nesterov) -> Supervised +5 x2'
    """
    bare = variant.removesuffix(ORACLE_MARK)
    steps = [step_title(step) for step in bare.split(" -> ")]
    return " -> ".join(steps) + variant[len(bare) :]


def step_title(step: str) -> str:
    """One training of a variant, as it is read."""
    method, space, rest = step.partition(" ")
    return method_title(method) + space + re.sub(r"\(([^()]* = [^()]*)\)", settings_title, rest)


def settings_title(found: "re.Match[str]") -> str:
    """Settings in brackets: "(a = 1, b = 2)"."""
    pairs = [part.partition(" = ") for part in found[1].split(", ")]
    return f"({', '.join(words(name, value) for name, _, value in pairs)})"


def titles_of(names: Iterable[str]) -> dict[str, str]:
    """The titles of variants; those that would be the same for two keep their names in code."""
    found = {name: variant_title(name) for name in names}
    titles = [*found.values()]
    return {name: title if titles.count(title) == 1 else name for name, title in found.items()}
