"""The README is executed, and its numbers are those of the committed files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import model
from benchmarks import report
from model.config import EXPERIMENTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.rst").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)", README)
    return ["\n".join(line[4:] for line in block.splitlines()) for block in found]


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.split("\n")[-1][:30] or "block")
def test_python_blocks_run(block):
    result = subprocess.run([sys.executable, "-W", "error", "-c", block], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_commands_exist():
    lines = [line.split("  #")[0] for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"``make ([a-z-]+)``", README)) <= targets
    trainings = [line.split()[2:] for line in lines if line.startswith("python training.py")]
    assert len(trainings) >= 3
    from training import make_parser

    for arguments in trainings:
        make_parser().parse_args(arguments)


def test_the_numbers_are_those_of_the_committed_files():
    for name, block in report.blocks().items():
        assert f".. {name} begin\n\n{block}\n\n.. {name} end" in README, "run python -m benchmarks.report --write"


def test_the_tree_is_that_of_the_folder_and_fits_a_screen():
    """That the rooms are all there, and what they own, is compared in `test_diagrams`."""
    (tree,) = re.findall(r"^::\n\n((?:    .*\n)+)\n(?=Arrows point down)", README, re.MULTILINE)
    lines = tree.splitlines()
    assert len(lines) <= 24
    for line in lines:
        name = line.split()[0].replace("<name>", "*")
        folder = ROOT / "model" if line.startswith("      ") else ROOT
        assert list(folder.glob(name)), f"the tree names {name}, which is not there"
        assert len(line) <= 120


def test_every_experiment_and_picture_is_there():
    for name in EXPERIMENTS:
        assert re.search(rf"^{name}  ", README, re.MULTILINE), name
    for image in re.findall(r"image:: (\S+)", README):
        assert (ROOT / image).exists(), image


def test_every_path_into_the_package_exists():
    for text in (README, (ROOT / "data_files" / "README.rst").read_text()):
        paths = re.findall(r"``(model/[\w/.]*)``", text)
        paths += [
            f"model/{path}.py" for path in re.findall(r"``((?:training|nn|inference|run_folder|scaling)/\w+)``", text)
        ]
        paths += [name.replace(".", "/") for name in re.findall(r"python -m (model[\w.]*)", text)]
        assert paths
        for path in paths:
            assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), path


def test_the_public_face_is_what_it_says():
    assert all(hasattr(model, name) for name in model.__all__)


def test_importing_the_package_loads_no_optional_package():
    """astropy, sklearn and pandas are imported where they are used: a machine without them can train."""
    optional = ("astropy", "sklearn", "pandas", "h5py", "matplotlib")
    script = f"import sys, model; print([name for name in {optional} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": "."}
    )
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
