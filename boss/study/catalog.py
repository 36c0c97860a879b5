"""What each algorithm says of itself, read from its file as text, so that no torch is imported.

The owner of these facts is the class in boss/algorithms; the contract test compares the two.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

FOLDER = Path(__file__).parents[1] / "algorithms"
NOT_ALGORITHMS = ("__init__", "base")


@dataclass(frozen=True)
class Facts:
    """The class attributes of an algorithm, and the defaults of its hyperparameters."""

    title: str  # as tables and figures name it: "FixMatch"
    summary: str  # one line, what it does with unlabeled images
    source: str  # "Sohn et al. 2020, arXiv 2001.07685"
    balances: bool  # whether it sets thresholds or weights by class
    options: Mapping[str, Any]  # hyperparameter -> default
    # Of hyperparameters that came later: what runs from before had, where it is not the default.
    before: Mapping[str, Any]

    def complete(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options of a run that gives these."""
        return {**self.options, **options}

    def complete_stored(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The same for a run of any version, which had all options that there were."""
        return {**self.options, **self.before, **options}


def read(path: Path) -> Facts:
    """The facts of the one class with a title in this file.

    Raises:
        ValueError: there is no such class, its facts or the defaults of its arguments are not
            literals, or an argument has no default.
    """
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ClassDef):
            continue
        found: dict[str, ast.expr] = {}
        for statement in node.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    found[name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    found[name] = value
        if "title" not in found:
            continue
        try:
            return Facts(
                **{name: ast.literal_eval(found[name]) for name in ("title", "summary", "source")},
                balances="balances" in found and bool(ast.literal_eval(found["balances"])),
                options=MappingProxyType(_defaults(node)),
                before=MappingProxyType(
                    ast.literal_eval(found["before"]) if "before" in found else {}
                ),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{path}: title, summary and source of {node.name}, and the defaults of its"
                f" arguments, must be there as literals ({error})"
            ) from error
    raise ValueError(f"{path}: no class with a title; helpers of algorithms go elsewhere")


def _defaults(node: ast.ClassDef) -> dict[str, Any]:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            names = [argument.arg for argument in [*method.args.args[1:], *method.args.kwonlyargs]]
            values = [*method.args.defaults, *filter(None, method.args.kw_defaults)]
            return dict(zip(names, map(eval_constant, values), strict=True))
    return {}


def eval_constant(node: ast.expr) -> Any:
    """A literal, or a quotient of two (1 / 64)."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return eval_constant(node.left) / eval_constant(node.right)
    return ast.literal_eval(node)


ALGORITHMS: Mapping[str, Facts] = MappingProxyType(
    {
        path.stem: read(path)
        for path in sorted(FOLDER.glob("*.py"))
        if path.stem not in NOT_ALGORITHMS
    }
)
