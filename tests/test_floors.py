"""The house: who may import whom, and how large a room may be."""

import ast
from pathlib import Path

import pytest

MODEL = Path(__file__).parent.parent / "model"
FLOORS = {
    "config": 0,
    "vocabulary": 0,
    "calibration": 0,
    "selection": 0,
    "device": 0,
    "distributed": 0,
    "training_state": 0,
    "spline": 0,
    "datasets": 1,
    "schedule": 1,
    "standardizer": 1,
    "embedding": 1,
    "batching": 1,
    "columns": 2,
    "quantile_standardizer": 2,
    "transformer": 2,
    "ddpm": 2,
    "velocity": 2,
    "flow": 3,
    "toys": 3,
    "network": 4,
    "checkpoint": 5,
    "authors_checkpoint": 6,
    "question": 6,
    "run_log": 6,
    "initial": 6,
    "distribution": 7,
    "joint": 8,
    "posterior": 7,
    "emulator": 9,
    "training_loop": 10,
    "trainer": 11,
    "plotting": 12,
    "diagrams": 13,
    "skies": 12,
    "__init__": 14,
}
# What a module may import of the project, where its floor alone would allow too much.
ONLY = {
    "ddpm": {"config", "schedule"},
    "transformer": {"config"},
    "plotting": {"calibration", "selection"},
    "diagrams": {"plotting"},
    "batching": set(),
    "velocity": {"config"},
    "datasets": {"datasets", "vocabulary"},
}
HEAVY = {"astropy", "pooch", "sklearn", "h5py", "pandas", "matplotlib", "scipy"}
# matplotlib is what they are for.
MAY_IMPORT_AT_THE_TOP = {name: {"matplotlib"} for name in ("plotting", "skies", "diagrams")}


def files():
    return sorted(MODEL.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(MODEL).parts[0].removesuffix(".py")


def imports(nodes):
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def imported_rooms(tree: ast.AST):
    for module, name in imports(ast.walk(tree)):
        if module == "model":
            yield name
        elif module.startswith("model."):
            yield module.split(".")[1]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(MODEL)))
def test_imports_point_down(path):
    tree, here = ast.parse(path.read_text()), room(path)
    for other in imported_rooms(tree):
        assert other in FLOORS, f"{path.name} imports {other}, which has no floor"
        assert FLOORS[other] < FLOORS[here] or other == here == "datasets", f"{here} must not import {other}"
        assert here not in ONLY or other in ONLY[here], f"{here} may import only {ONLY[here]}, not {other}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(MODEL)))
def test_heavy_packages_are_imported_where_they_are_used(path):
    top = {module.split(".")[0] for module, _ in imports(ast.parse(path.read_text()).body)}
    allowed = MAY_IMPORT_AT_THE_TOP.get(room(path), set())
    assert not (top & HEAVY) - allowed
    if room(path) in {"datasets", "calibration", "selection", "columns"}:
        assert "torch" not in top


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(MODEL)))
def test_rooms_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 280, f"{path.name} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = node.end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 50, f"{path.name}: {node.name} has {length} lines"


def test_no_half_precision_with_unscaled_gradients():
    """Trap 11: fp16 needs a scaler; bf16 does not, and is the only short type that may appear."""
    for path in files():
        text = path.read_text()
        assert not any(word in text.replace("bfloat16", "") for word in ("float16", ".half()", "GradScaler")), path


def test_every_room_has_its_tests():
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    # Tested through the network they are parts of, through the runs that use them, or at the front door.
    elsewhere = {
        "__init__": "readme",
        "schedule": "ddpm",
        "embedding": "network",
        "transformer": "network",
        "authors_checkpoint": "network",
        "vocabulary": "columns",
        "device": "emulator",
        "trainer": "training",
        "training_loop": "training_loop",
        "run_log": "training",
        "distributed": "training",
        "training_state": "training",
        "initial": "training",
        "question": "distribution",
    }
    for name in FLOORS:
        assert elsewhere.get(name, name) in tests, f"no tests for {name}"
