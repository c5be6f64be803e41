"""The two drawings: nothing left out, nothing on top of something else, and rooms that are those of the sources."""

import itertools
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Annotation, Text
from PIL import Image

from model.pictures import diagrams, plotting

ROOT = Path(__file__).parent.parent
HOUSE = {
    "kitchen": diagrams.Room("Meals", "oven, table", {"cellar", "stairs"}),
    "study": diagrams.Room("Letters", "desk", {"kitchen", "cellar", "stairs"}),
    "stairs": diagrams.Room("Steps", "", set()),
    "cellar": diagrams.Room("Wine", "barrel", {"stairs"}),
}


@pytest.fixture(autouse=True)
def _style():
    with matplotlib.rc_context():
        plotting.use_style()
        yield


def draw(name: str):
    return diagrams.architecture() if name == "architecture" else diagrams.rooms(diagrams.read_rooms(diagrams.MODEL))


def texts(figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def holds(outer, inner) -> bool:
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1


def words(figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def boxes(figure) -> dict:
    """The corners of each box in pixels, by the first line that stands in it."""
    figure.draw_without_rendering()
    corners = [patch.get_window_extent() for patch in figure.findobj(FancyBboxPatch) if patch.axes]
    titles = [text for text in texts(figure) if text.get_weight() == "bold"]
    return {title.get_text(): box for title in titles for box in corners if holds(box, title.get_window_extent())}


def arrows(figure) -> list[tuple]:
    """Start and end of each arrow in pixels."""
    to_pixels = figure.axes[0].transData.transform
    return [(to_pixels(mark.xyann), to_pixels(mark.xy)) for mark in figure.findobj(Annotation)]


def drawn_imports(figure) -> set[tuple[str, str]]:
    """Which box each arrow leaves, and in which it ends."""

    def at(point) -> str:
        corners = [(name, np.array([[box.x0, box.y0], [box.x1, box.y1]])) for name, box in boxes(figure).items()]
        (name,) = [name for name, (low, high) in corners if (low - 1 <= point).all() and (point <= high + 1).all()]
        return name

    return {(at(start), at(end)) for start, end in arrows(figure)}


def test_eight_rooms_at_most_are_drawn_each_with_its_purpose_and_files():
    house = diagrams.read_rooms(diagrams.MODEL)
    folders = {path.parent.name for path in diagrams.MODEL.glob("*/__init__.py")}
    assert len(house) <= 8
    assert set(house) == folders | {"config, defaults, device"}
    figure = draw("rooms")
    assert set(boxes(figure)) == set(house)
    written = " ".join(words(figure))
    for room in house.values():
        assert " ".join(room.purpose.split()) in written
        assert room.files in written


def test_the_arrows_are_the_imports_that_follow_from_no_other():
    figure = diagrams.rooms(HOUSE)
    assert drawn_imports(figure) == {("study", "kitchen"), ("kitchen", "cellar"), ("cellar", "stairs")}
    house = diagrams.read_rooms(diagrams.MODEL)
    direct = diagrams.direct({name: room.imports for name, room in house.items()})
    assert drawn_imports(draw("rooms")) == {(name, other) for name in direct for other in direct[name]}


def test_an_arrow_between_boxes_that_do_not_stand_above_each_other_goes_aslant():
    below = {"attic": {"den"}, "balcony": {"cellar"}, "cellar": set(), "den": set()}
    house = {name: diagrams.Room(name, "", imports) for name, imports in below.items()}
    assert drawn_imports(diagrams.rooms(house)) == {("attic", "den"), ("balcony", "cellar")}


def test_arrows_point_down_and_cross_no_box():
    figure = draw("rooms")
    frames = boxes(figure).values()
    for start, end in arrows(figure):
        assert start[1] > end[1]
        for share in np.linspace(0.02, 0.98, 50):
            x, y = start + share * (end - start)
            assert not [box for box in frames if box.x0 < x < box.x1 and box.y0 < y < box.y1]


def test_the_readme_says_of_each_room_what_the_room_says():
    tree = dict(re.findall(r"^      (\w+)(?:\.py|/) +(\S.*)$", (ROOT / "README.rst").read_text(), re.MULTILINE))
    files = [diagrams.MODEL / f"{name}.py" for name in ("config", "defaults", "device")]
    for path in [*files, *diagrams.MODEL.glob("*/__init__.py")]:
        name = path.parent.name if path.stem == "__init__" else path.stem
        assert tree.pop(name, None) == diagrams.purpose(path), f"README.rst, the house: the line of {name}"
    assert not tree, "README.rst, the house, has rooms that are not there"


def test_the_committed_picture_is_that_of_the_sources():
    with Image.open(ROOT / "figs" / "rooms.png") as picture:
        said = picture.text["Description"]
    assert said == diagrams.in_words(diagrams.read_rooms(diagrams.MODEL)), "run python -m model.diagrams"


@pytest.mark.parametrize("name", ["architecture", "rooms"])
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


def test_rooms_are_read_from_the_sources(tmp_path):
    package = tmp_path / "house"
    sources = {
        "__init__.py": "from .study import write",
        "draw.py": "from .study.desk import write",
        "sizes.py": '"""Every size.\n\nAnd more."""',
        "names.py": '"""Every name."""',
        "cellar/__init__.py": '"""What is kept."""\nfrom .shelf import wine',
        "cellar/shelf.py": "import os\nfrom .rack.bottle import wine",
        "cellar/rack/__init__.py": "",
        "cellar/rack/bottle.py": "from ...sizes import LITRE\nfrom .. import shelf",
        "study/__init__.py": '"""Letters: written, read."""\nfrom . import desk',
        "study/desk.py": "def write():\n    from .. import cellar, names\n    from ..cellar import wine",
    }
    for name, text in sources.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert diagrams.read_rooms(package) == {
        "names, sizes": ("Every name\nEvery size", "", set()),
        "cellar": ("What is kept", "rack/, shelf", {"names, sizes"}),
        "study": ("Letters: written, read", "desk", {"cellar", "names, sizes"}),
    }


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
    assert run.stdout.split() == ["figs/architecture.png", "figs/rooms.png"]
    for name in run.stdout.split():
        header = (tmp_path / name).read_bytes()[:24]
        assert header[1:4] == b"PNG"
        assert struct.unpack(">II", header[16:])[0] == 9 * diagrams.DPI
