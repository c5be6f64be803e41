"""The two drawings: nothing left out, nothing on top of something else, and floors that are those of the README."""

import itertools
import os
import struct
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from model.pictures import diagrams, plotting

FLOORS = {"tables": "0", "sizes": "0", "network": "1", "trainer": "2", "pictures": "side"}
IMPORTS = {
    "tables": set(),
    "sizes": set(),
    "network": {"sizes"},
    "trainer": {"network", "sizes", "tables"},
    "pictures": set(),
}


@pytest.fixture(autouse=True)
def _style():
    with matplotlib.rc_context():
        plotting.use_style()
        yield


def draw(name: str):
    if name == "architecture":
        return diagrams.architecture()
    return diagrams.floors(diagrams.read_floors(diagrams.README.read_text()), diagrams.read_imports(diagrams.MODEL))


def texts(figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def holds(outer, inner) -> bool:
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1


def words(figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def modules() -> set[str]:
    found = {path.stem for path in diagrams.MODEL.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    return found - {"__init__"}


def test_every_module_is_drawn_on_a_floor_of_the_readme():
    written = set(words(draw("floors")))
    assert modules() <= written
    assert set(diagrams.read_floors(diagrams.README.read_text()).values()) <= written


def test_every_module_has_a_role_in_one_word():
    assert set(diagrams.ROLES) == modules(), "give the module a word in diagrams.ROLES"
    assert not [role for role in diagrams.ROLES.values() if " " in role]


def test_imports_point_down():
    for line in draw("floors").axes[0].get_lines():
        assert (np.diff(line.get_ydata()) <= 0).all()
    (wrong,) = diagrams.floors({"low": "0", "high": "1"}, {"low": {"high"}, "high": set()}).axes[0].get_lines()
    assert (np.diff(wrong.get_ydata()) > 0).any(), "one that points up is seen"


@pytest.mark.parametrize("name", ["architecture", "floors"])
class TestLegible:
    def test_no_text_lies_on_other_text_or_leaves_the_page(self, name):
        figure = draw(name)
        figure.draw_without_rendering()
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
        for (first, box), (second, other) in itertools.combinations(boxes, 2):
            assert not box.overlaps(other), f"{first!r} and {second!r}"
        assert not [text for text, box in boxes if not holds(figure.bbox, box)]

    def test_text_stays_in_the_box_it_stands_in(self, name):
        figure = draw(name)
        figure.draw_without_rendering()
        frames = [patch.get_window_extent() for patch in figure.findobj(FancyBboxPatch)]
        for text in texts(figure):
            box = text.get_window_extent()
            crossed = [frame for frame in frames if frame.overlaps(box) and not holds(frame, box)]
            assert not crossed, text.get_text()

    def test_text_can_be_read_at_900_pixels(self, name):
        figure = draw(name)
        assert min(text.get_fontsize() for text in texts(figure)) * 900 / 72 / figure.get_figwidth() >= 10


def test_the_architecture_says_what_leaves_the_transformer_and_what_comes_out():
    said = " ".join(words(diagrams.architecture()))
    for part in (
        "request token",
        "missing",
        "padding",
        "f(w_x M_x + b_x)",
        "slot 0",
        "condition c",
        "not read",
        "ONE",
        "x_t",
        "loss",
        "one path per quantile",
        "density of log g",
    ):
        assert part in said, part


def test_the_paths_go_from_a_normal_distribution_to_one_with_two_peaks():
    paths = diagrams.architecture().axes[1].get_lines()
    start, end = np.array([line.get_ydata()[[0, -1]] for line in paths]).T
    np.testing.assert_allclose(start, -start[::-1], atol=1e-6)  # has no side
    assert (np.diff([line.get_ydata() for line in paths], axis=0) > 0).all(), "paths never cross"
    assert ((end > 0.1) & (end < 0.7)).sum() <= 1, "hardly any end between the peaks"


def test_floors_are_read_from_the_list():
    readme = """
    model/           floor  what it owns
      config.py      0  sizes
      datasets/      10 tables
      plotting.py    side: axes
"""
    assert diagrams.read_floors(readme) == {"config": "0", "datasets": "10", "plotting": "side"}


def test_imports_are_read_from_the_sources(tmp_path):
    package = tmp_path / "house"
    (package / "tables").mkdir(parents=True)
    (package / "__init__.py").write_text("from house.door import enter")
    (package / "tables" / "rows.py").write_text("from house.tables import cells\nfrom house.names import Names")
    (package / "names.py").write_text("")
    (package / "door.py").write_text("def enter():\n    from house import names, tables\n")
    assert diagrams.read_imports(package) == {"tables": {"names"}, "names": set(), "door": {"names", "tables"}}


def test_what_follows_from_other_imports_is_not_drawn():
    lines = diagrams.floors(FLOORS, IMPORTS).axes[0].get_lines()
    assert len(lines) == 4  # network - sizes, trainer - network, and trainer - tables by way of the floor between


def test_a_module_without_a_floor_is_an_error():
    with pytest.raises(ValueError, match="no line for attic"):
        diagrams.floors(FLOORS, IMPORTS | {"attic": set()})


def test_the_command_writes_both_pictures(tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "model.diagrams"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(diagrams.MODEL.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["figs/architecture.png", "figs/floors.png"]
    for name in run.stdout.split():
        header = (tmp_path / name).read_bytes()[:24]
        assert header[1:4] == b"PNG"
        assert struct.unpack(">II", header[16:])[0] == 9 * diagrams.DPI
