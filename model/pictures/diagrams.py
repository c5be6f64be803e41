"""Two drawings of the project itself: the architecture, and the house with its rooms.

``python -m model.diagrams`` writes ``figs/architecture.png`` and ``figs/rooms.png``. What a room is for, which files it
has and what it imports is read from the sources: none of it is written down here again.
"""

from __future__ import annotations

import ast
import itertools
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from . import plotting

MODEL = Path(__file__).parents[1]
DPI = 200
INK, FAINT, PALE = "0.15", "0.45", "0.93"
KNOWN, REQUEST, CONDITION, HEAD = "C0", "C1", "C2", "C4"

TINTS = (CONDITION, REQUEST, "0.6", KNOWN, HEAD)  # of the storeys of the house, from its top
BORDER, GAP, STOREY = 0.12, 0.2, 0.42  # inches
LINE, CHARACTER = 0.0175, 0.0079  # inches that a line is high, and a character wide in the mean, for each point of size


class Room(NamedTuple):
    """What the drawing says of a room: its purpose, its files, and the rooms that it imports."""

    purpose: str
    files: str
    imports: set[str]


def read_rooms(package: Path) -> dict[str, Room]:
    """The rooms of a package by name.

    The files beside the rooms are drawn as one more room, if they import none of them. Those that do are doors, by
    which one comes in from a command line or a program: they are left out.
    """
    names = sorted(path.parent.name for path in package.glob("*/__init__.py"))
    beside = [path for path in sorted(package.glob("*.py")) if not _imports(path, package) & set(names)]
    foundation = ", ".join(path.stem for path in beside)
    home = dict.fromkeys(names) | {path.stem: foundation for path in beside}
    found = {foundation: Room("\n".join(map(purpose, beside)), "", set())} if beside else {}
    for name in names:
        sources = sorted((package / name).rglob("*.py"))
        inside = dict.fromkeys(path.relative_to(package / name).parts[0] for path in sources if path.stem != "__init__")
        files = ", ".join(part.removesuffix(".py") if part.endswith(".py") else f"{part}/" for part in inside)
        below = set().union(*(_imports(path, package) for path in sources))
        imports = {home[other] or other for other in below & set(home)} - {name}
        found[name] = Room(purpose(package / name / "__init__.py"), files, imports)
    return found


def purpose(source: Path) -> str:
    """The first line of a source's docstring, without its full stop."""
    return (ast.get_docstring(ast.parse(source.read_text())) or "").split("\n")[0].removesuffix(".")


def _imports(source: Path, package: Path) -> set[str]:
    """The files and folders of a package that the relative imports of one of its sources lead to."""
    here, found = source.relative_to(package).parts[:-1], set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            way = [*here[: len(here) + 1 - node.level], *(node.module or "").split(".")]
            found.update([way[0]] if way[0] else [alias.name for alias in node.names])
    return found


def in_words(house: dict[str, Room]) -> str:
    """What `rooms` draws, as text: kept in the picture's file, it says whether the picture is that of the sources."""
    arrows = direct({name: room.imports for name, room in house.items()})
    return "\n".join(
        f"{name}: {room.purpose}; {room.files} -> {', '.join(sorted(arrows[name]))}" for name, room in house.items()
    )


def rooms(house: dict[str, Room]) -> Figure:
    """The rooms as boxes, each below all that import it, with arrows that do not follow from others."""
    arrows = direct({name: room.imports for name, room in house.items()})
    figure, boxes, low = Figure(figsize=(9, 9), layout="none"), {}, BORDER
    for tint, names in reversed([*zip(itertools.cycle(TINTS), _storeys(arrows))]):
        width = (figure.get_figwidth() - 2 * BORDER + GAP) / len(names) - GAP
        lines = [_lines(name, house[name], width) for name in names]
        height = 0.2 + LINE * max(sum(style["size"] for _, style in words) for words in lines)
        for i, (name, words) in enumerate(zip(names, lines)):
            boxes[name] = (BORDER + i * (width + GAP), low, width, height, tint, words)
        low += height + STOREY
    figure.set_figheight(low - STOREY + BORDER)
    ax = _canvas(figure)
    for x, y, width, height, tint, words in boxes.values():
        _box(ax, x, y, width, height, tint)
        line = y + height - 0.07
        for text, style in words:
            line -= LINE * style["size"]
            ax.text(x + width / 2, line, text, ha="center", va="baseline", zorder=3, **style)
    for upper, below in arrows.items():
        for lower in below:
            (x, y, width, *_), (left, low, breadth, height, *_) = boxes[upper], boxes[lower]
            first, last = max(x, left), min(x + width, left + breadth)
            straight = (first + last) / 2 if first < last else None  # where both boxes are, if anywhere
            _arrow(ax, (straight or x + width / 2, y), (straight or left + breadth / 2, low + height))
    return figure


def direct(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports that do not follow from going through another imported room."""

    def reached(name: str) -> set[str]:
        return set().union(*({other} | reached(other) for other in imports[name]))

    return {
        name: {other for other in below if not any(other in reached(detour) for detour in below)}
        for name, below in imports.items()
    }


def _storeys(imports: dict[str, set[str]]) -> list[list[str]]:
    """Rooms from the top of the house to its bottom: one storey below the lowest room that imports them."""

    def storey(name: str) -> int:
        return max((storey(other) + 1 for other in imports if name in imports[other]), default=0)

    places = {name: storey(name) for name in imports}
    return [sorted(name for name in places if places[name] == i) for i in range(max(places.values()) + 1)]


def _lines(name: str, room: Room, width: float) -> list[tuple[str, dict]]:
    """What stands in a box, line by line, with its style."""
    lines = [(name, {"size": 11, "weight": "bold", "color": INK})]
    for text, size, color in ((room.purpose, 9.5, INK), (room.files, 9, "0.35")):
        wide = int((width - 0.2) / CHARACTER / size)
        wrapped = [part for line in text.splitlines() for part in textwrap.wrap(line, wide)]
        lines += [("", {"size": 2.5}), *((line, {"size": size, "color": color}) for line in wrapped)]
    return lines


def architecture() -> Figure:
    """The network from a row of the table to a density: the paper's figure 1, drawn anew."""
    figure = Figure(figsize=(9, 7.75), layout="none")
    ax, slots, width = _canvas(figure), 0.3 + 1.425 * np.arange(6), 1.275
    row = (
        ("log g", "requested", REQUEST, "$w_{\\log g}$"),
        ("Teff", "4700 K", KNOWN, "$y_{T_{\\mathrm{eff}}}$"),
        ("[M/H]", "\N{MINUS SIGN}0.2 dex", KNOWN, "$y_{[\\mathrm{M/H}]}$"),
        ("J \N{MINUS SIGN} H", "missing", "1", "padding"),
        ("BP \N{MINUS SIGN} RP", "1.36 mag", KNOWN, "$y_{\\mathrm{BP-RP}}$"),
        ("...", "", KNOWN, ""),
    )
    ax.text(slots[0], 7.5, "One row of a table, and what is asked about it", color=INK, va="center")
    for i, (x, (name, value, color, token)) in enumerate(zip(slots, row)):
        centre = x + width / 2
        for high, low in ((6.7, 6.3), (5.8, 5.5), (4.95, 4.7), (4.0, 3.72)):
            _arrow(ax, (centre, high), (centre, low))
        _box(ax, x, 6.7, width, 0.55, color, name, value)
        _box(ax, x, 4.95, width, 0.55, color, f"slot {i}" if token else "...", token)
        ax.add_patch(Circle((centre, 3.55), 0.17, facecolor=CONDITION if i == 0 else PALE, edgecolor=FAINT, zorder=2))
    end = slots[-1] + width
    _box(ax, slots[0], 5.8, width, 0.5, REQUEST, "request token", "name, no value")
    formula = "$y_x = f(w_x M_x + b_x)$, with weights of its own for each kind of data x"
    _box(ax, slots[1], 5.8, end - slots[1], 0.5, KNOWN, "non-linear embedding", formula)
    claim = "no positions: a set of any size; padding is masked"
    _box(ax, slots[0], 4.0, end - slots[0], 0.7, "0.6", "encoder-only Transformer", claim)
    ax.text(end, 3.2, "hidden states of the other slots: not read", color=FAINT, ha="right", va="center")
    _draw_head(ax, slots[0])
    _draw_paths(figure)
    return figure


def _draw_head(ax: Axes, left: float):
    """What leaves the Transformer, the head, and the two uses of it; `_draw_paths` fills the second."""
    _arrow(ax, (left + 0.64, 3.38), (left + 0.64, 2.65), CONDITION)
    ax.text(left + 0.8, 3.2, "condition c", color=CONDITION, weight="bold", va="center")
    task = "for ONE number:\n$x_t$, $t$, $c$ $\\to$ noise $\\epsilon$"
    _box(ax, left, 0.4, 1.75, 2.25, HEAD, "denoising head", task)
    for low, height, use in (
        (1.98, 1.0, "training: a random step t, random noise"),
        (0.1, 1.72, "inference: the probability-flow ODE, one path per quantile"),
    ):
        _box(ax, 2.6, low, 6.1, height, "1")
        ax.text(2.75, low + height - 0.18, use, color=INK, va="center", zorder=3)
        _arrow(ax, (left + 1.75, low + 0.4), (2.6, low + 0.4))
    noised = "$\\sqrt{\\bar{\\alpha}_t}\\,x_0 + \\sqrt{1-\\bar{\\alpha}_t}\\,\\epsilon$"
    _box(ax, 2.75, 2.07, 1.5, 0.58, REQUEST, "$x_0$", "observed log g")
    _box(ax, 4.6, 2.07, 1.95, 0.58, HEAD, "$x_t$", noised)
    _box(ax, 6.9, 2.07, 1.65, 0.58, HEAD, "loss", "$|\\epsilon - \\mathrm{head}(x_t, t, c)|^2$")
    for x in (4.25, 6.55):
        _arrow(ax, (x, 2.36), (x + 0.35, 2.36))


def _draw_paths(figure: Figure):
    """Paths of the ODE from a normal distribution to one with two peaks, and its density.

    In one dimension such a path is a quantile of the distribution at each noise level, which is known here.
    """
    from scipy.special import ndtr

    weight, mean, width = np.array([[0.6, 0.4], [-0.75, 1.15], [0.4, 0.2]])[:, :, None]
    x, signal = np.linspace(-2.6, 2.6, 1000), np.sin(np.linspace(0, np.pi / 2, 60))
    quantiles = np.linspace(0.02, 0.98, 25)
    spread = [np.sqrt((s * width) ** 2 + 1 - s**2) for s in signal]
    paths = [np.interp(quantiles, (weight * ndtr((x - s * mean) / sd)).sum(axis=0), x) for s, sd in zip(signal, spread)]
    size = figure.get_size_inches()[[0, 1, 0, 1]]
    left = figure.add_axes(np.array([2.8, 0.4, 3.7, 1.06]) / size, ylim=x[[0, -1]])
    right = figure.add_axes(np.array([6.55, 0.4, 2.0, 1.06]) / size, ylim=x[[0, -1]])
    left.plot(paths, color=KNOWN, linewidth=1, alpha=0.8)
    density = (weight / width * np.exp(-0.5 * ((x - mean) / width) ** 2)).sum(axis=0)
    right.fill_betweenx(x, density, color=REQUEST, alpha=0.6, linewidth=0)
    for ax in (left, right):
        ax.set_axis_off()
    for at, text in ((3.6, "normal noise, t = T"), (6.2, "t = 0"), (7.55, "density of log g")):
        figure.text(at / size[0], 0.26 / size[1], text, color=INK, ha="center", va="center")


def _canvas(figure: Figure) -> Axes:
    """Axes that cover the figure, in inches from its lower left corner."""
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, figure.get_figwidth()), ylim=(0, figure.get_figheight()))
    ax.set_axis_off()
    return ax


def _box(ax: Axes, x: float, y: float, width: float, height: float, color: str, title="", below="", size=10.0):
    """A rounded box, tinted, with a bold title above regular text."""
    tint = tuple(0.25 * channel + 0.75 for channel in to_rgb(color))
    shape = "round,pad=0,rounding_size=0.08"
    ax.add_patch(FancyBboxPatch((x, y), width, height, shape, facecolor=tint, edgecolor=FAINT, linewidth=0.8, zorder=2))
    centred = {"size": size, "color": INK, "ha": "center", "va": "center"}
    half = 0.009 * size if below else 0  # inches, of a line
    ax.text(x + width / 2, y + height / 2 + half * (below.count("\n") + 1), title, weight="bold", **centred)
    ax.text(x + width / 2, y + height / 2 - half, below, **centred)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str = FAINT):
    style = {"arrowstyle": "-|>", "color": color, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style, zorder=3)


def main():
    """Write both pictures into ``figs``."""
    plotting.use_style()
    house = read_rooms(MODEL)
    Path("figs").mkdir(exist_ok=True)
    said = {"Description": in_words(house)}
    for name, figure, metadata in (("architecture", architecture(), None), ("rooms", rooms(house), said)):
        figure.savefig(f"figs/{name}.png", dpi=DPI, metadata=metadata)
        print(f"figs/{name}.png")


if __name__ == "__main__":
    main()
