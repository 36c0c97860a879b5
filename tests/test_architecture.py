"""Style, types, layering and packaging: the rules of CONTRIBUTING.md, checked."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def tool(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff():
    tool("ruff", "check", ".")
    tool("ruff", "format", "--check", ".")


def test_types():
    tool("mypy")


def test_imports_go_downwards():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_global_random_state_in_the_library():
    """Randomness comes from generators that are passed in."""
    suspicious = re.compile(
        r"torch\.manual_seed|np\.random\.(?!Generator|default_rng|RandomState|SeedSequence)"
        r"|^import random|torch\.rand(n|int|perm)?\((?!.*generator)",
        re.MULTILINE,
    )
    for path in (ROOT / "boss").rglob("*.py"):
        text = path.read_text()
        # A call may span lines; the generator must be among its arguments.
        for match in suspicious.finditer(text):
            call = text[match.start() : text.index(")", match.end()) + 1]
            assert "generator" in call, f"{path.name}: {call}"


def test_the_package_speaks_of_itself_alone():
    forbidden = re.compile(r"/work/|/root/|claude|\bLLM\b|\bissue #?\d|this session", re.IGNORECASE)
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if parts[0].startswith(".") or path.suffix not in (".py", ".md", ".toml", ".csv", ".json"):
            continue
        if path == Path(__file__) or parts[0] == "data":
            continue
        match = forbidden.search(path.read_text())
        # The threads of other projects are sources.
        assert match is None or "google-research/fixmatch" in path.read_text(), (path, match)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    tool("build", "--wheel", "--no-isolation", "--outdir", str(folder))
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_works_in_an_empty_folder(wheel, tmp_path):
    """Unpacked elsewhere and started there: studies, analysis and reference come along."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    assert {name.split("/")[0] for name in names} - {"boss"} == {
        n.split("/")[0] for n in names if ".dist-info/" in n
    }
    for name in ("studies/oneshot_cifar10.py", "analysis/report.py"):
        assert f"boss/bundled/{name}" in names
    assert not any("/state/" in name or name.endswith(".pt") for name in names)

    def command(*arguments):
        code = "import sys; from boss.cli import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments], cwd=empty, capture_output=True,
            text=True, env=os.environ | {"PYTHONPATH": str(site)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "oneshot_cifar10" in command("list")
    command("run", "oneshot_digits", "--budget", "smoke", "--only", "label_set=fixmatch:0@10")
    out = command("report", "oneshot_digits")
    assert "report.md" in out
    assert (empty / "results" / "oneshot_digits" / "report" / "report.md").exists()
