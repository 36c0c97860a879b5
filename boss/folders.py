"""The folders of the project that are not part of the package: studies, analysis, reference."""

from pathlib import Path


def bundled(name: str) -> Path:
    """`studies`, `analysis` or `reference`: in the package if installed, else in the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "bundled" / name
    if inside.is_dir():
        return inside
    return package.parent / ("results/reference" if name == "reference" else name)
