"""The package as others install it: a wheel, under its own name, where nothing of the repository is."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from model import Emulator

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN = "trained_models/green2021_improved"
# Asks a checkpoint, reads what comes with the package, and opens its doors; run where there is no repository.
SCRIPT = """
import importlib.metadata, importlib.util, json, runpy, sys
import density_emulator.datasets
from density_emulator import Emulator
from density_emulator.datasets.mock_apogee_xp import relations

answer = Emulator.load(sys.argv[1]).conditional("logg", {"teff": 4700.0}).median().tolist()
for door, options in (("diagrams", []), ("authors_checkpoint", ["-h"]), ("datasets.mock_apogee_xp", ["-h"])):
    sys.argv[1:] = options
    try:
        runpy.run_module(f"density_emulator.{door}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code
print(json.dumps({
    "answer": answer,
    "version": importlib.metadata.version("density-emulator"),
    "file": density_emulator.__file__,
    "finds_model": importlib.util.find_spec("model") is not None,
    "data_folder": str(density_emulator.datasets.data_folder()),
    "constants": len(relations.constants()),
    "modules": sorted(name for name in sys.modules if name.split(".")[0] in ("model", "benchmarks", "tests")),
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    own = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "DATA_FILES"}}
    own["OMP_NUM_THREADS"] = "1"  # on a busy machine several threads wait for each other
    result = subprocess.run(command, cwd=cwd, env=own, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: where the repository was built before, old files of its build folder would come along."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "model", folder / "sources" / "model", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, folder / "sources")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, folder / "sources", cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> tuple[dict, Path]:
    """What the script says in an environment with the wheel alone, which sees the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    options = ("--no-deps", "--no-index", "--no-compile", "--quiet")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=folder)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    dependencies = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    said = run(python, "-W", "error", "-c", SCRIPT, ROOT / RUN, cwd=elsewhere)
    return json.loads(said.splitlines()[-1]), elsewhere


def test_an_installed_package_answers_as_the_repository_does(installed):
    said, _ = installed
    ours = Emulator.load(ROOT / RUN).conditional("logg", {"teff": 4700.0}).median()
    assert said["answer"] == pytest.approx(ours.tolist(), rel=1e-5)


def test_it_is_found_under_its_own_name_only(installed):
    said, folder = installed
    assert Path(said["file"]).is_relative_to(folder.parent / "venv")
    assert not said["finds_model"]
    assert said["modules"] == []


def test_its_version_is_the_project_s(installed):
    assert installed[0]["version"] == PROJECT["project"]["version"]
    assert f"\nversion: {PROJECT['project']['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_it_brings_its_files_and_looks_for_data_where_it_is_run(installed):
    said, folder = installed
    assert said["constants"] > 0
    assert Path(said["data_folder"]) == folder / "data_files"
    assert {path.name for path in (folder / "figs").iterdir()} == {"architecture.png", "rooms.png"}


def test_the_wheel_holds_the_whole_folder_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    paths = (path.relative_to(ROOT / "model") for path in (ROOT / "model").rglob("*") if path.is_file())
    assert held == {f"density_emulator/{path}" for path in paths if "__pycache__" not in path.parts}
    assert {"density_emulator/py.typed", "density_emulator/pictures/figures.mplstyle"} <= held


def test_what_the_package_imports_is_what_it_depends_on():
    nodes = [node for path in (ROOT / "model").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    imported = {module.split(".")[0] for module in modules} - sys.stdlib_module_names
    names = {"sklearn": "scikit-learn"}
    needed = {Requirement(line).name for line in PROJECT["project"]["dependencies"]}
    assert {names.get(name, name) for name in imported} == needed - {"pyarrow"}  # pandas imports it, for parquet


def test_the_exact_versions_lie_in_the_ranges():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    pinned = {canonicalize_name(pin.name): pin for pin in map(Requirement, filter(None, lines))}
    extras = PROJECT["project"]["optional-dependencies"].values()
    ranges = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["build-system"]["requires"],
        *(line for extra in extras for line in extra),
    ]
    for requirement in map(Requirement, ranges):
        (exact,) = pinned[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(exact.version), requirement
