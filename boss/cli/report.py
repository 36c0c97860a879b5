"""`boss-study report`: tables, figures and pages from the results."""

import argparse
import importlib
import importlib.util
import sys
import types
from pathlib import Path

from boss import api
from boss.cli.arguments import add_results
from boss.cli.words import PROGRAM, warn
from boss.errors import InputError
from boss.folders import bundled
from boss.results.note import recall
from boss.study.study import Study, find

HELP = "tables and figures from the results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "study", nargs="?", metavar="STUDY",
        help="(default: all with results, and published numbers beside ours in results/overview)",
    )  # fmt: skip
    add_results(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the reports and print their paths."""
    analysis = import_analysis("page.report")
    reference = bundled("reference")
    same = reference.resolve() == arguments.results.resolve()
    for study in _studies(arguments.study, arguments.results):
        report = analysis.report(
            study.name,
            arguments.results,
            reference=None if same else reference,
            published=study.published,
            comparisons=study.comparisons,
            reproduces=study.reproduces,
            description=study.description,
            shows_test=study.shows_test,
        )
        for warning in report.warnings:
            warn(warning)
        files = f"{len(report.tables)} table files, {len(report.figures)} figure files"
        print(f"{study.name}: {report.folder / 'report.md'} ({files})")
    if not arguments.study:
        overview = import_analysis("sections.overview")
        written = overview.write(arguments.results, arguments.results / "overview")
        for warning in written.warnings:
            warn(warning)
        for path in written.paths:
            print(path)
    return 0


def _studies(name: str | None, results: Path) -> list[Study]:
    """The study of this name, or all that have results; a study file need not be known for that."""
    if name:
        study = api.find_study(name)
        if not any((results / study.name / "runs").glob("*.parquet")):
            raise InputError(f"no results in {results / study.name}: `{PROGRAM} run {name}` first")
        return [study]
    # A study whose first run has not finished has an empty folder.
    folders = sorted({path.parent.parent for path in results.glob("*/runs/*.parquet")})
    if not folders:
        raise InputError(f"no results in {results}: start with `{PROGRAM} run STUDY`")
    known = find(bundled("studies"))
    return [api.find_study(path.name) if path.name in known else recall(path) for path in folders]


def import_analysis(name: str) -> types.ModuleType:
    """A module of the analysis package, which is no part of boss and not on sys.path."""
    folder = bundled("analysis")
    if "boss_analysis" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "boss_analysis", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["boss_analysis"] = module
        spec.loader.exec_module(module)
    return importlib.import_module(f"boss_analysis.{name}")
