"""The house: who may import whom, by which door, and how large a room may be.

Each rule is a function that lists what breaks it in a package. It is tried on `model/`, where it must find nothing,
and on a house of a few lines that breaks it, where it must find something.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from model.datasets import LOADERS

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "model"

BASE = {"config", "defaults", "device"}
MAY_IMPORT = {
    "config": {"defaults"},
    "defaults": set(),
    "device": set(),
    "scaling": set(),
    "datasets": set(),
    "nn": {"config"},
    "run_folder": {"nn", "scaling", "datasets"} | BASE,
    "inference": {"run_folder", "nn", "scaling", "datasets"} | BASE,
    "training": {"inference", "run_folder", "nn", "scaling", "datasets"} | BASE,
    "pictures": {"inference", "run_folder", "nn", "scaling", "datasets"} | BASE,
}
# The published head and the Transformer know sizes, and nothing of columns, files or each other.
ONLY = {"nn/ddpm": {"config", "nn/schedule"}, "nn/transformer": {"config"}}
# Files beside the rooms that open one: the package's own face, and commands whose names are older than the rooms.
DOORS = {"__init__", "diagrams", "authors_checkpoint"}
# Its files are one a source, each with names of its own: they are entered one by one.
OPEN_ROOMS = {"datasets"}
HEAVY = {"astropy", "pooch", "sklearn", "h5py", "pandas", "matplotlib", "scipy"}
# matplotlib is what the room is for.
MAY_IMPORT_AT_THE_TOP = {"pictures": {"matplotlib"}}
WITHOUT_TORCH = ("datasets/", "inference/calibration", "inference/columns", "pictures/selection")
LINES, LINES_OF_A_FUNCTION, FILES = 280, 50, 10


class Import(NamedTuple):
    module: tuple[str, ...]  # within the package, where `inside`
    name: str
    inside: bool


@cache
def read(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def sources(package: Path) -> dict[str, Path]:
    """Every source by its place in the package, such as ``nn/ddpm``."""
    return {str(path.relative_to(package).with_suffix("")): path for path in sorted(package.rglob("*.py"))}


def at_the_top(tree: ast.AST) -> Iterator[ast.AST]:
    """What is executed when the file is imported."""
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if not for_types and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from at_the_top(node)


def imports(nodes: Iterator[ast.AST], place: str = "") -> Iterator[Import]:
    """What import statements name; relative ones are resolved for a file at this place of its package."""
    here = tuple(place.split("/")[:-1])
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            start = here[: len(here) + 1 - node.level] if node.level else ()
            module = (*start, *(node.module.split(".") if node.module else ()))
            yield from (Import(module, alias.name, bool(node.level)) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (Import(tuple(alias.name.split(".")), "", False) for alias in node.names)


def inner_imports(package: Path, place: str, path: Path) -> Iterator[Import]:
    return (found for found in imports(ast.walk(read(path)), place) if found.inside)


def file_of(found: Import, package: Path) -> str:
    """The place of the file that an import inside the package leads to."""
    full = (*found.module, found.name)
    for parts in (full, (*full, "__init__"), found.module, (*found.module, "__init__")):
        if (package.joinpath(*parts[:-1]) / f"{parts[-1]}.py").is_file():
            return "/".join(parts)
    return "/".join(full)


def room(place: str) -> str:
    return place.split("/")[0]


def public(package: Path, name: str) -> set[str]:
    """The ``__all__`` of a room."""
    for node in read(package / name / "__init__.py").body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def arrows(package: Path) -> Iterator[str]:
    """Rooms import only rooms below them, and some files less than that."""
    for place, path in sources(package).items():
        if place in DOORS:
            continue
        if room(place) not in MAY_IMPORT:
            yield f"{place}: {room(place)} is no room of the house"
            continue
        for found in inner_imports(package, place, path):
            target = file_of(found, package)
            if room(target) not in MAY_IMPORT[room(place)] | {room(place)}:
                yield f"{place} must not import {target}"
            if place in ONLY and target not in ONLY[place]:
                yield f"{place} may import only {sorted(ONLY[place])}, not {target}"


def faces(package: Path) -> Iterator[str]:
    """From outside, a room gives what its ``__all__`` names, and the files that are named there."""
    for place, path in sources(package).items():
        if place not in DOORS - {"__init__"}:
            inside = inner_imports(package, place, path)
            yield from (f"{place}: {line}" for line in _past_the_face(inside, room(place), package))


def faces_from_outside(package: Path) -> Iterator[str]:
    """The command line and the benchmarks enter by the same doors as the rooms do."""
    for path in (package.parent / "training.py", *(package.parent / "benchmarks").glob("*.py")):
        if path.exists():
            found = [each for each in imports(ast.walk(read(path))) if each.module[0] == package.name]
            inside = [Import(each.module[1:], each.name, True) for each in found]
            yield from (f"{path.name}: {line}" for line in _past_the_face(inside, "", package))


def _past_the_face(found: Iterable[Import], home: str, package: Path) -> Iterator[str]:
    for module, name, _ in found:
        if not module or module[0] == home or not (package / module[0] / "__init__.py").is_file():
            continue  # a room as a whole, one's own, or no room
        other, door = module[0], module[1] if len(module) > 1 else name
        inside = [package / other / f"{door}.py", package / other / door / "__init__.py"]
        is_open = other in OPEN_ROOMS and not door.startswith("_") and any(path.is_file() for path in inside)
        if not is_open and door not in public(package, other):
            yield f"{door} is not in the __all__ of {other}"


def faces_are_true(package: Path) -> Iterator[str]:
    """A room says what it owns, and has the names that its ``__all__`` promises."""
    for path in package.glob("*/__init__.py"):
        name = path.parent.name
        if not ast.get_docstring(read(path)):
            yield f"{name} does not say what it owns"
        if not public(package, name):
            yield f"{name} has no __all__"
        tree = read(path)
        known = {found.asname or found.name for node in tree.body for found in getattr(node, "names", ())}
        known |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        yield from (f"{name} has no {missing}" for missing in sorted(public(package, name) - known))


def circles(package: Path) -> Iterator[str]:
    """No file imports itself by way of others, not even within its room."""
    leads_to = {
        place: {file_of(found, package) for found in inner_imports(package, place, path)} - {place}
        for place, path in sources(package).items()
    }
    done: set[str] = set()

    def walk(place: str, way: list[str]) -> Iterator[str]:
        if place in way:
            yield " -> ".join([*way[way.index(place) :], place])
        elif place not in done:
            for other in sorted(leads_to.get(place, ())):
                yield from walk(other, [*way, place])
            done.add(place)

    for place in leads_to:
        yield from walk(place, [])


def relative(package: Path) -> Iterator[str]:
    """The package has another name where it is installed: no import, and no example, may name it."""
    for place, path in sources(package).items():
        if any(found.module[:1] == (package.name,) for found in imports(ast.walk(read(path))) if not found.inside):
            yield f"{place} imports {package.name} by name"
        for line in path.read_text().splitlines():
            if line.strip().startswith((f">>> from {package.name}", f">>> import {package.name}")):
                yield f"{place}: {line.strip()}"


def heavy(package: Path) -> Iterator[str]:
    """What is slow to import, or not needed by all, is imported where it is used."""
    for place, path in sources(package).items():
        top = {found.module[0] for found in imports(at_the_top(read(path))) if not found.inside}
        for name in sorted((top & HEAVY) - MAY_IMPORT_AT_THE_TOP.get(room(place), set())):
            yield f"{place} imports {name} at its top"
        if place.startswith(WITHOUT_TORCH) and "torch" in top:
            yield f"{place} imports torch"


def long_files(package: Path) -> Iterator[str]:
    for place, path in sources(package).items():
        lines = path.read_text().count("\n")
        if lines > LINES:
            yield f"{place} has {lines} lines"
        for node in ast.walk(read(path)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = node.end_lineno - body[0].lineno + 1 if body else 0
                if length > LINES_OF_A_FUNCTION:
                    yield f"{place}: {node.name} has {length} lines"


def crowded(package: Path) -> Iterator[str]:
    """A room that grows past ten files is two rooms; sources of data, one file each, are what `datasets` grows by."""
    for path in package.rglob("__init__.py"):
        if path.parent != package:
            inside = {other.stem for other in path.parent.glob("*.py")} - {"__init__", "__main__"}
            inside |= {other.parent.name for other in path.parent.glob("*/__init__.py")}
            inside -= set(LOADERS) if path.parent == package / "datasets" else set()
            if len(inside) > FILES:
                yield f"{path.parent.relative_to(package)} has {len(inside)} files"


def half_precision(package: Path) -> Iterator[str]:
    """Trap 11: fp16 needs a scaler; bf16 does not, and is the only short type that may appear."""
    for place, path in sources(package).items():
        text = path.read_text().replace("bfloat16", "")
        yield from (f"{place}: {word}" for word in ("float16", ".half()", "GradScaler") if word in text)


RULES = (
    arrows,
    faces,
    faces_from_outside,
    faces_are_true,
    circles,
    relative,
    heavy,
    long_files,
    crowded,
    half_precision,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule):
    assert list(rule(MODEL)) == []


HOUSE = {
    "__init__.py": "from .nn import Network",
    "diagrams.py": "from .pictures.diagrams import main",
    "config.py": "SIZE = 3",
    "nn/__init__.py": '"""Networks."""\nfrom .ddpm import Head\nfrom .network import Network\n__all__ = ["Network"]',
    "nn/schedule.py": "",
    "nn/ddpm.py": "from ..config import SIZE\nfrom .schedule import betas\nclass Head: ...",
    "nn/network.py": "import torch\nfrom ..config import SIZE\nfrom .ddpm import Head\nclass Network: ...",
    "datasets/__init__.py": '"""Tables."""\nfrom . import mixture\n__all__ = ["Table"]\nclass Table: ...',
    "datasets/mixture.py": "def load():\n    from scipy.special import ndtr",
    "inference/__init__.py": '"""Answers."""\nfrom . import flow\n__all__ = ["flow"]',
    "inference/flow.py": "from ..nn import Network\nfrom ..datasets import Table\nfrom ..datasets.mixture import load",
    "pictures/__init__.py": '"""Figures."""\nfrom . import diagrams\n__all__ = ["diagrams"]',
    "pictures/diagrams.py": "import matplotlib\nfrom ..inference.flow import curves\nfrom ..inference import flow",
    "training/__init__.py": '"""Runs."""\nfrom .loop import Training\n__all__ = ["Training"]',
    "training/loop.py": "from .. import datasets\nfrom ..nn import Network\nclass Training: ...",
    "../training.py": "from house import nn\nfrom house.inference.flow import curves\nfrom house.nn import Network",
}
LONG = "def long():\n" + "    x = 1\n" * 51
# A rule, the files that break it, and words of what it finds.
BROKEN = [
    (arrows, {"nn/ddpm.py": "from ..training import Training"}, "nn/ddpm must not import training"),
    (arrows, {"nn/network.py": "def late():\n    from ..datasets import Table"}, "nn/network must not import datasets"),
    (arrows, {"training/loop.py": "from .. import pictures"}, "training/loop must not import pictures"),
    (arrows, {"config.py": "from . import nn"}, "config must not import nn"),
    (
        arrows,
        {"nn/ddpm.py": "from .network import Network"},
        "nn/ddpm may import only",
    ),
    (arrows, {"nn/transformer.py": "from .ddpm import Head"}, "['config'], not nn/ddpm"),
    (arrows, {"attic/__init__.py": ""}, "attic is no room"),
    (arrows, {"helpers.py": ""}, "helpers is no room"),
    (faces, {"inference/flow.py": "from ..nn.ddpm import Head"}, "ddpm is not in the __all__ of nn"),
    (faces, {"inference/flow.py": "from ..nn import Head"}, "Head is not in the __all__ of nn"),
    (faces, {"__init__.py": "from .training.loop import Training"}, "loop is not in the __all__ of training"),
    (faces, {"inference/flow.py": "from ..datasets.attic import load"}, "attic is not in the __all__ of datasets"),
    (faces_from_outside, {"../training.py": "from house.nn.ddpm import Head"}, "training.py: ddpm is not in"),
    (faces_from_outside, {"../benchmarks/speed.py": "from house.nn import Head"}, "speed.py: Head is not in"),
    (faces_are_true, {"nn/__init__.py": '__all__ = ["Network"]\nclass Network: ...'}, "nn does not say what it owns"),
    (faces_are_true, {"nn/__init__.py": '"""Networks."""'}, "nn has no __all__"),
    (faces_are_true, {"nn/__init__.py": '"""Networks."""\n__all__ = ["Network"]'}, "nn has no Network"),
    (circles, {"nn/schedule.py": "from .network import Network"}, "nn/ddpm -> nn/schedule -> nn/network -> nn/ddpm"),
    (circles, {"nn/schedule.py": "def late():\n    from . import ddpm"}, "nn/ddpm -> nn/schedule -> nn/ddpm"),
    (circles, {"nn/schedule.py": "from . import Network"}, "nn/__init__ -> nn/ddpm -> nn/schedule -> nn/__init__"),
    (relative, {"nn/schedule.py": "def late():\n    from house.config import SIZE"}, "nn/schedule imports house"),
    (relative, {"nn/schedule.py": "import house.config"}, "nn/schedule imports house"),
    (relative, {"nn/schedule.py": 'def f():\n    """\n    >>> from house import nn\n    """'}, ">>> from house"),
    (heavy, {"training/loop.py": "import pandas as pd"}, "training/loop imports pandas"),
    (
        heavy,
        {"nn/schedule.py": "try:\n    from matplotlib import style\nexcept ImportError: ..."},
        "imports matplotlib",
    ),
    (heavy, {"datasets/mixture.py": "import torch"}, "datasets/mixture imports torch"),
    (heavy, {"inference/columns.py": "from torch import Tensor"}, "inference/columns imports torch"),
    (long_files, {"nn/schedule.py": "\n" * 281}, "nn/schedule has 281 lines"),
    (long_files, {"nn/schedule.py": LONG}, "long has 51 lines"),
    (crowded, {f"nn/file{i}.py": "" for i in range(11)}, "nn has 14 files"),
    (crowded, {f"datasets/file{i}.py": "" for i in range(11)}, "datasets has 11 files"),
    (half_precision, {"nn/schedule.py": "x = torch.float16"}, "nn/schedule: float16"),
]


def build(folder: Path, changes: dict[str, str]) -> Path:
    for name, text in (HOUSE | changes).items():
        path = folder / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "house"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_small_house_keeps_the_rules(rule, tmp_path):
    assert list(rule(build(tmp_path, {}))) == []


@pytest.mark.parametrize(("rule", "changes", "words"), BROKEN, ids=lambda part: getattr(part, "__name__", ""))
def test_a_broken_rule_is_seen(rule, changes, words, tmp_path):
    assert any(words in line for line in rule(build(tmp_path, changes))), list(rule(tmp_path / "house"))


def test_each_rule_is_seen_broken():
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_every_file_has_its_tests():
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    # Tested under an older or a larger name: by what they do, or by what they are parts of.
    elsewhere = {
        "device": "emulator",
        "nn/slots": "questions",
        "training/procedures": "training_loop",
        "training/validation": "training_loop",
        "authors_checkpoint": "network",
        "scaling/base": "standardizer",
        "scaling/robust": "standardizer",
        "scaling/quantile": "quantile_standardizer",
        "datasets/apogee_xp": "datasets",
        "datasets/california_housing": "datasets",
        "datasets/green2021": "datasets",
        "datasets/files": "datasets",
        "datasets/readers": "user_table",
        "datasets/vocabulary": "columns",
        "nn/embedding": "network",
        "nn/schedule": "ddpm",
        "nn/transformer": "network",
        "run_folder/authors_checkpoint": "network",
        "run_folder/files": "checkpoint",
        "inference/question": "distribution",
        "training/initial": "training",
        "training/log": "training",
        "training/loop": "training_loop",
        "training/state": "training",
        "training/trainer": "training",
    }
    places = [place for place in sources(MODEL) if place.count("/") < 2 and not place.endswith("__init__")]
    assert not set(elsewhere) - set(places), "there is no such file"
    missing = [place for place in places if elsewhere.get(place, place.split("/")[-1]) not in tests]
    assert not missing
    assert {"mock_apogee_xp", "mock_posterior"} <= tests  # a room within a room
