"""Style, types, layering and packaging: the rules of CONTRIBUTING.md, checked."""

import ast
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


DRAWS = {
    *("rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal"),
    *("normal_", "uniform_", "random_", "bernoulli_", "trunc_normal_", "exponential_"),
}


def test_no_global_random_state_in_the_library():
    """Every draw of torch names its generator; numpy's and Python's global ones are not used."""
    found = 0
    for path in (ROOT / "boss").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                assert "random" not in {alias.name for alias in node.names}, where
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name.split(".")[-1] in DRAWS:
                found += 1
                assert "generator" in {keyword.arg for keyword in node.keywords}, where
            assert name not in ("torch.manual_seed", "torch.seed", "np.random.seed"), where
            if ".random." in name:  # the splits need numpy's legacy generator
                assert name in ("np.random.RandomState", "np.random.Generator"), where
                assert node.args, where
    assert found >= 5


def test_no_file_names_the_machine_it_was_written_on():
    here = [re.escape(f"{path}/") for path in (ROOT, Path.home()) if path != Path("/")]
    here += [r"(?<![\w./])/(?:home|Users)/\w+"]
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        text_file = path.suffix in (".py", ".md", ".toml", ".csv", ".json", ".tex", ".cff")
        if parts[0].startswith(".") or parts[0] == "data" or not text_file:
            continue
        if parts[0] == "results" and parts[1] not in ("reference", "README.md"):
            continue  # a user's own
        match = re.search("|".join(here), path.read_text())
        assert match is None, (path, match)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    tool("build", "--wheel", "--no-isolation", "--outdir", str(folder))
    [path] = folder.glob("*.whl")
    return path


def test_an_editable_installation_is_a_path_to_the_checkout(tmp_path):
    """What `make test` installs: nothing is copied that could hide or outlive the checkout's."""
    build = (
        "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        [path] = names
        assert path.endswith(".pth")
        assert archive.read(path).decode().split() == [str(ROOT)]


@pytest.mark.slow
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
    for name in ("studies/oneshot_cifar10.py", "analysis/page/report.py"):
        assert f"boss/bundled/{name}" in names
    assert not any("/state/" in name for name in names)
    # Tables and encoders of the reference come along, not the pages that are made from them.
    reference = {name for name in names if name.startswith("boss/bundled/reference/")}
    expected = [*(ROOT / "results/reference").glob("*/*/*.parquet")]
    expected += (ROOT / "results/reference/embeddings").glob("*.pt")
    assert reference == {
        f"boss/bundled/reference/{path.relative_to(ROOT / 'results/reference').as_posix()}"
        for path in expected
    }

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
