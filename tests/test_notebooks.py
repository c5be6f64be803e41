"""The committed notebooks are run, clean and thin; that they run again anywhere, without data, is the slow test."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))
# A folder of somebody's machine, not of the repository; "8/home" or "https://x/home" are none.
MACHINE_PATH = re.compile(r"(?<![\w./:-])(/(?:work|tmp|root|home|Users|opt|usr|var|mnt)\b[^\s\"']*|[A-Z]:\\\\)")
MOST_LINES = 40


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def printed(path: Path) -> str:
    """All the text that a notebook's code wrote, the text that stands for a picture included."""
    texts = []
    for output in (output for cell in cells(path, "code") for output in cell["outputs"]):
        texts.append("".join(output.get("text", "")))
        texts += ["".join(text) for kind, text in output.get("data", {}).items() if not kind.startswith("image/")]
    return "\n".join(texts)


def pictures(path: Path) -> set[str]:
    return set(re.findall(r"figs/[\w.-]+\.png", "\n".join(map(source, cells(path, "code")))))


def test_the_notebooks_are_there():
    fixed = {"California_Housing", "DDPM", "DDPM_Conditional", "Dataset_Reduction", "Inference"}
    assert fixed | {"Mixture", "Mock_Catalogue"} == {path.stem for path in NOTEBOOKS}
    listed = re.search(r"^NOTEBOOKS := ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1)
    assert set(listed.replace("\\\n", " ").split()) == {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_is_valid(self, path):
        check = "import nbformat, sys; nbformat.validate(nbformat.read(sys.argv[1], as_version=4))"
        run = subprocess.run([sys.executable, "-c", check, str(path)], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr

    def test_begins_with_a_title_and_says_how_long_it_takes(self, path):
        first = json.loads(path.read_text())["cells"][0]
        assert first["cell_type"] == "markdown"
        assert source(first).startswith("# ")
        assert "minute" in source(first)

    def test_is_thin(self, path):
        lengths = {i: source(cell).count("\n") + 1 for i, cell in enumerate(cells(path, "code"))}
        assert max(lengths.values()) <= MOST_LINES, lengths

    def test_was_run_from_top_to_bottom_without_an_error(self, path):
        code = cells(path, "code")
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
        assert "display_data" in kinds, "no picture"
        assert "error" not in kinds
        assert code[-1]["outputs"], "the last cell prints the numbers"

    def test_has_no_warnings_and_no_progress_bars_among_its_outputs(self, path):
        outputs = [output for cell in cells(path, "code") for output in cell["outputs"]]
        assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
        assert not any("widget" in kind for output in outputs for kind in output.get("data", {}))

    def test_names_no_folder_of_any_machine(self, path):
        text = "\n".join([source(cell) for kind in ("code", "markdown") for cell in cells(path, kind)])
        assert not MACHINE_PATH.findall(text + "\n" + printed(path))

    def test_the_pictures_it_writes_are_there(self, path):
        missing = [picture for picture in pictures(path) if not (ROOT / picture).is_file()]
        assert not missing


@pytest.mark.parametrize("text", ["see /work/a.py", "'/home/me/x'", '("/tmp/x")', "in /root/.cache", "File /usr/lib/x"])
def test_a_machine_path_is_recognised(text):
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["https://site.org/home/x", "figs/tmp/a.png", "g/work", "1/(100,000 USD)"])
def test_other_text_is_no_machine_path(text):
    assert not MACHINE_PATH.search(text)


@pytest.mark.slow
def test_every_notebook_runs_without_data_and_without_network(tmp_path):
    """What `make figures` does, in a copy: densities are drawn, and a line says what is missing and how to get it."""
    copy, empty = tmp_path / "copy", tmp_path / "empty"
    empty.mkdir()
    skipped = shutil.ignore_patterns(".*", "__pycache__", "checkpoints", "data_files", "figs", "runs", "build", "tests")
    shutil.copytree(ROOT, copy, ignore=skipped)
    (copy / "figs").mkdir()
    closed = "http://127.0.0.1:9"  # the port of no server: every download is refused at once
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), closed)
    kept = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", "build/notebooks"]
    subprocess.run(
        [*command, *(path.name for path in NOTEBOOKS)],
        cwd=copy,
        # More threads than free cores make these small networks many times slower.
        env=kept | proxies | {"DATA_FILES": str(empty), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    executed = {path.stem: printed(copy / "build" / "notebooks" / path.name) for path in NOTEBOOKS}
    assert len(list((copy / "figs").glob("*.png"))) >= 4
    assert "fetch_california_housing" in executed["California_Housing"]
    assert "Calibration skipped" in executed["California_Housing"]
    assert "green2020_test_data_small.h5 is not in" in executed["Inference"]
    assert "skipped" in executed["Inference"]
    assert str(tmp_path) not in "".join(executed.values())
