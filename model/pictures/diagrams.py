"""Two drawings of the project itself: the architecture, and the house with its floors.

``python -m model.diagrams`` writes ``figs/architecture.png`` and ``figs/floors.png``. The floors are those of the
README's list, the imports are read from the sources: neither is written down here again.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from . import plotting

MODEL = Path(__file__).parent
README = MODEL.parent / "README.rst"
DPI = 200
INK, FAINT, PALE = "0.15", "0.45", "0.93"
KNOWN, REQUEST, CONDITION, HEAD = "C0", "C1", "C2", "C4"

# A line of the README's list: module, floor. What stands beside the house has none.
LISTED = re.compile(r"^      (\w+)(?:\.py|/) +(\d+|side)\b", re.MULTILINE)
SIDE = "side"
BOX_HEIGHT, ROW_HEIGHT = 0.5, 0.8  # inches
ROLES = {
    "authors_checkpoint": "import", "batching": "draws", "calibration": "scores", "checkpoint": "folder",
    "columns": "units", "config": "sizes", "datasets": "tables", "ddpm": "head", "device": "processor",
    "diagrams": "drawings", "distributed": "processes", "distribution": "density", "embedding": "tokens",
    "emulator": "answers", "flow": "map", "initial": "start", "joint": "chain", "network": "parts",
    "plotting": "figures", "posterior": "errors", "quantile_standardizer": "shape", "question": "query",
    "run_log": "logs", "schedule": "noise", "selection": "condition", "skies": "stars", "spline": "curves",
    "standardizer": "scale", "toys": "demonstration", "trainer": "door", "training_loop": "steps",
    "training_state": "resume", "transformer": "encoder", "velocity": "head", "vocabulary": "names",
}  # fmt: skip


def read_floors(readme: str) -> dict[str, str]:
    """Module -> floor, "0", "1", ... or "side", of all modules in the README's list of the house."""
    return dict(LISTED.findall(readme))


def read_imports(folder: Path) -> dict[str, set[str]]:
    """Module -> the other modules of a package that it imports; a folder in it counts as one module."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        module = path.relative_to(folder).parts[0].removesuffix(".py")
        names = found.setdefault(module, set())
        for node in ast.walk(ast.parse(path.read_text())):
            origin = (getattr(node, "module", None) or "").split(".")
            if origin[0] == folder.name:
                names.update(origin[1:2] or [alias.name for alias in node.names])
    return {module: names - {module} for module, names in found.items() if module != "__init__"}


def floors(floor_of: dict[str, str], imports: dict[str, set[str]]) -> Figure:
    """The modules in rows, one row a floor, and their imports as lines that should point down.

    Args:
        floor_of: Module -> floor, as of `read_floors`.
        imports: Module -> modules, as of `read_imports`. Those that follow from others are not drawn.

    Raises:
        ValueError: If a module has no floor.
    """
    homeless = sorted(set(imports) - set(floor_of))
    if homeless:
        raise ValueError(f"README.rst: the list of the house has no line for {', '.join(homeless)}")
    names = sorted(set(floor_of.values()), key=lambda floor: np.inf if floor == SIDE else int(floor))
    row_of = {module: names.index(floor) for module, floor in floor_of.items()}
    figure = Figure(figsize=(9, 0.55 + ROW_HEIGHT * len(names)), layout="none")
    ax = _canvas(figure)
    for row, name in enumerate(names):
        low = ROW_HEIGHT * row
        ax.axhspan(low, low + ROW_HEIGHT, color=PALE if row % 2 == 0 else "1", linewidth=0, zorder=0)
        ax.text(0.1, low + ROW_HEIGHT / 2, name, color=FAINT, weight="bold", va="center")
    note = "model/: each module and, below it, what it imports (lines that follow from others are left out)"
    ax.text(0.1, ROW_HEIGHT * len(names) + 0.28, note, color=INK, va="center")
    _draw_house(ax, row_of, _direct(imports))
    return figure


def _direct(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports that do not follow from going through another imported module."""

    def reached(module: str) -> set[str]:
        return set().union(*({other} | reached(other) for other in imports[module]))

    return {
        module: {other for other in below if not any(other in reached(detour) for detour in below)}
        for module, below in imports.items()
    }


def _draw_house(ax: Axes, row_of: dict[str, int], imports: dict[str, set[str]]):
    """Boxes, and lines between them that go around other boxes.

    A line that crosses a row has a place of its own in it, (module it leads to, row); lines to the same module merge.
    """
    links = set()
    for module, below in imports.items():
        for other in below:
            stops = [(other, row) for row in range(row_of[module] - 1, row_of[other], -1)]
            links |= set(zip([module, *stops], [*stops, other]))
    rows = [[module for module in row_of if row_of[module] == row] for row in range(max(row_of.values()) + 1)]
    for stop in {node for link in links for node in link} - set(row_of):
        rows[stop[1]].append(stop)
    x = _arrange([sorted(row, key=str) for row in rows], links)
    y = {node: ROW_HEIGHT * (i + 0.5) - BOX_HEIGHT / 2 for i, row in enumerate(rows) for node in row}
    line = {"color": KNOWN, "alpha": 0.6, "linewidth": 1.2, "zorder": 1}
    bend = np.linspace(0, 1, 30)
    for upper, lower in links:
        start, end = y[upper], y[lower] + BOX_HEIGHT
        if y[upper] == y[lower]:  # neighbours beside the house
            start = end = y[upper] + BOX_HEIGHT / 2
        across = x[upper] + (x[lower] - x[upper]) * bend**2 * (3 - 2 * bend)
        ax.plot(across, start + (end - start) * bend, **line)
    for node in x:
        if node in row_of:
            width = _width(node)
            _box(ax, x[node] - width / 2, y[node], width, BOX_HEIGHT, "1", node, ROLES.get(node, ""), size=8.5)
        else:
            ax.vlines(x[node], y[node], y[node] + BOX_HEIGHT, **line)


def _arrange(rows: list[list], links: set[tuple]) -> dict:
    """Horizontal places of all nodes in inches: near those they are linked with, without overlap."""
    from scipy.optimize import isotonic_regression

    linked: dict = {node: [] for row in rows for node in row}
    for upper, lower in sorted(links, key=str):  # the same picture each time
        linked[upper].append(lower)
        linked[lower].append(upper)
    x: dict = {}
    for row in [*rows, *(rows[::-1] + rows) * 20]:
        wanted = {node: np.mean([x.get(other, 4.7) for other in linked[node]] or 4.7) for node in row}
        row.sort(key=wanted.get)
        width = np.array([_width(node) for node in row])
        offset = np.cumsum(width + 0.12) - width / 2  # centres, if all stood as far left as they can
        first = isotonic_regression([wanted[node] for node in row] - offset).x
        x |= dict(zip(row, np.clip(first, 0.6, 8.95 - offset[-1] - width[-1] / 2) + offset))
    return x


def _width(node: str | tuple) -> float:
    return 0.2 + 0.075 * max(len(node), len(ROLES.get(node, "")) - 1) if isinstance(node, str) else 0.05


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
    house = floors(read_floors(README.read_text()), read_imports(MODEL))
    Path("figs").mkdir(exist_ok=True)
    for name, figure in (("architecture", architecture()), ("floors", house)):
        figure.savefig(f"figs/{name}.png", dpi=DPI)
        print(f"figs/{name}.png")


if __name__ == "__main__":
    main()
