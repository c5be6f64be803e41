"""The figures: axes and arrays in, artists out. Nothing here loads, calls a model or saves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import StepPatch

from ..inference.calibration import coverage, ecdf, ecdf_band, ks_threshold, ks_uniform
from .selection import Selection

DATA, BAND = "0.78", "0.88"


def use_style():
    """Apply the house style to all figures made from now on."""
    matplotlib.style.use(Path(__file__).with_name("figures.mplstyle"))


def bin_edges(samples: np.ndarray, data: np.ndarray | None = None) -> np.ndarray:
    """Histogram edges that show the bulk, whatever the tails.

    The range is that of the data (of the samples if there are none) between the 0.5th and the 99.5th percentile, and a
    tenth more on either side where samples or data are. The width is Freedman & Diaconis' for 20 to 80 bins, and a
    whole number where all values are, lest the histogram of an integer column be a comb.
    """
    shown = samples if data is None else data
    pooled = shown if data is None else np.concatenate([samples, data])
    low, q1, q3, high = np.percentile(shown, [0.5, 25, 75, 99.5])
    pad = 0.1 * (high - low)
    low, high = max(low - pad, pooled.min()), min(high + pad, pooled.max())
    if high <= low:
        low, high = low - 0.5, low + 0.5
    width = np.clip(2 * (q3 - q1) / len(shown) ** (1 / 3), (high - low) / 80, (high - low) / 20)
    if (shown == np.round(shown)).all():
        width = max(1, round(width))
        low = round(low) - 0.5
    # The last edge reaches beyond the range, so that no value at its upper end is lost to rounding.
    return low + width * np.arange(math.floor((high - low) / width) + 2)


def density(
    ax: Axes, samples: np.ndarray, data: np.ndarray | None = None, label: str = "", unit: str = "", color: str = "C0"
) -> list[Artist]:
    """The density of model samples as a line, over that of data as a grey area.

    Values outside the range of `bin_edges` count in the normalisation: an area below 1 is seen as such.

    Args:
        samples: Model samples, any shape, finite.
        data: Observed values, any shape; NaN are left out.
        label, unit, color: Name of the quantity, its unit ("" for a pure number), and the colour of the model.

    Returns:
        The model's line and, if there are data, their area.

    Raises:
        ValueError: If a sample is not finite, or there is no sample or no observed value.
    """
    samples = np.ravel(samples)
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise ValueError(f"{label or 'samples'}: samples must be finite, and at least one")
    if data is not None:
        data = np.ravel(data)[~np.isnan(np.ravel(data))]
        if len(data) == 0:
            raise ValueError(f"{label or 'data'}: no observed value to show; leave the data out")
    edges = bin_edges(samples, data)
    artists = [ax.stairs(_heights(samples, edges), edges, color=color, linewidth=1.6, zorder=2, label="model")]
    if data is not None:
        artists.append(ax.stairs(_heights(data, edges), edges, fill=True, color=DATA, zorder=1, label="data"))
    inverse = unit and (f"1/{unit}" if unit.isalnum() else f"1/({unit})")
    ax.set(xlabel=_with_unit(label, unit), ylabel=_with_unit("density", inverse), xlim=(edges[0], edges[-1]))
    ax.locator_params(axis="x", nbins=4, steps=[1, 2, 5, 10])
    return artists


def compare(ax: Axes, samples: np.ndarray, line: StepPatch, label: str, color: str = "C1") -> Artist:
    """Other samples as a thin dashed line in the bins of a line that `density` drew."""
    edges = line.get_data().edges
    return ax.stairs(
        _heights(np.ravel(samples), edges), edges, color=color, linewidth=1, linestyle="--", zorder=2, label=label
    )


def conditional(
    ax: Axes,
    name: str,
    samples: np.ndarray,
    selection: Selection,
    data: Mapping[str, np.ndarray] | None = None,
    label: str = "",
    unit: str = "",
    color: str = "C0",
) -> list[Artist]:
    """The density of a column under a condition: data and title come from the selection that conditioned the model.

    Args:
        name, samples: The column and its model samples given ``selection.given()``, any shape.
        selection: What is given.
        data: All the rows, column name -> values (N,): the column itself and those of the selection. If no row
            belongs to the selection, none is drawn and the title names none.
        label, unit, color: As of `density`; the label is the column's name if empty.
    """
    shown = np.empty(0) if data is None else np.asarray(data[name])[selection.mask(data)]
    shown = shown[~np.isnan(shown)]
    with_data = len(shown) > 0
    artists = density(ax, samples, shown if with_data else None, label or name, unit, color)
    if with_data:
        artists[1].set_label(f"data ({len(shown)} rows)")
    ax.set(title=selection.caption(with_data), ylim=(0, 1.2 * ax.dataLim.y1))
    ax.legend(ncols=2, loc="upper center")
    return artists


def marginals(
    axes: Iterable[Axes],
    samples: Mapping[str, np.ndarray],
    data: Mapping[str, np.ndarray] | None = None,
    labels: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> list[list[Artist]]:
    """The unconditional density of one column per panel, with one legend in the first.

    Args:
        axes: Panels, at least as many as columns, in any array shape; those left over are hidden.
        samples, data: Column name -> model samples, and -> observed values, NaN = missing.
        labels, units: Column name -> label, where it is not the name, and -> unit, where it has one.

    Returns:
        The artists of `density`, one list per column.
    """
    panels = list(np.ravel(axes))
    if len(panels) < len(samples):
        raise ValueError(f"{len(samples)} columns do not fit into {len(panels)} panels")
    artists = []
    for ax, (name, values) in zip(panels, samples.items()):
        shown = None if data is None else data[name]
        artists.append(density(ax, values, shown, (labels or {}).get(name, name), (units or {}).get(name, "")))
    for ax in panels[len(samples) :]:
        ax.set_visible(False)
    panels[0].legend()
    return artists


def pit_ecdf(ax: Axes, pit: np.ndarray, level: float = 0.99) -> list[Artist]:
    """The ECDF of PIT values, (N,), less the uniform's, with the band it stays in everywhere if calibrated.

    Returns the line and the band.
    """
    x, height = (np.r_[0, corners, 1] for corners in ecdf(pit))
    (line,) = ax.plot(x, height - x, label=f"{len(pit)} rows, KS {ks_uniform(pit):.3f}")
    return [line, _ecdf_band(ax, len(pit), level, "PIT", "ECDF minus uniform")]


def coverage_curve(ax: Axes, pit: np.ndarray, level: float = 0.99) -> list[Artist]:
    """The share of truths inside central intervals, less what these promise, against what they promise.

    Below zero the posterior is too narrow, above it too wide. If PIT is uniform, so is abs(2 PIT - 1), of
    which coverage is the ECDF: the band of `pit_ecdf` holds here too. Returns the line and the band.
    """
    promised = np.linspace(0, 1, 201)
    (line,) = ax.plot(promised, coverage(pit, promised) - promised, label=f"{len(pit)} rows")
    return [line, _ecdf_band(ax, len(pit), level, "central interval", "coverage minus interval")]


def pit_histogram(ax: Axes, pit: np.ndarray, bins: int = 20, level: float = 0.99) -> list[Artist]:
    """The histogram of PIT values, (N,), as a density, with the binomial interval of a single calibrated bin.

    Of many bins a few may leave their own interval; the test of all at once is `pit_ecdf`.
    Returns the histogram and the band.
    """
    edges = np.linspace(0, 1, bins + 1)
    low, high = _binomial_interval(len(pit), 1 / bins, level) * bins / len(pit)
    heights = np.histogram(pit, edges)[0] * bins / len(pit)
    line = ax.stairs(heights, edges, baseline=None, linewidth=1.6, color="C0", label=f"{len(pit)} rows")
    band = ax.axhspan(low, high, color=BAND, linewidth=0, zorder=0, label=f"{100 * level:g}% band per bin")
    ax.axhline(1, color="0.4", linewidth=0.8, zorder=1)
    ax.set(xlabel="PIT", ylabel="density", xlim=(0, 1), ylim=(0, 1.35 * max(high, heights.max())))
    ax.legend(ncols=2, loc="upper center")
    return [line, band]


def pit_bins(
    ax: Axes, edges: np.ndarray, ks: np.ndarray, n: np.ndarray, level: float = 0.99, label: str = "", unit: str = ""
) -> list[Artist]:
    """KS of the PIT inside bins of an input, against what all of them together stay below if calibrated.

    Bins are drawn equally wide, with their edges written between them.

    Args:
        edges, ks, n: Edges (B + 1,), KS (B,) and rows (B,) of the bins, as `calibration.pit_in_bins` returns them.
        level: Probability that a calibrated posterior stays below all the thresholds.
        label, unit: Name of the input and its unit.
    """
    bins = len(ks)
    threshold = ks_threshold(n, level, tests=bins)
    bars = ax.bar(np.arange(bins) + 0.5, ks, width=0.8, label="KS of the PIT")
    limits = ax.hlines(threshold, np.arange(bins), np.arange(bins) + 1, color="0.2", label=f"{100 * level:g}% limit")
    ax.set_xticks(np.arange(bins + 1), [f"{edge:.3g}" if abs(edge) < 1000 else f"{edge:.0f}" for edge in edges])
    ax.set(xlabel=_with_unit(label, unit), ylabel="KS", ylim=(0, 1.35 * max(np.max(ks), np.max(threshold))))
    ax.legend(ncols=2, loc="upper center")
    return [bars, limits]


def kiel(ax: Axes, teff: np.ndarray, logg: np.ndarray, bins=150, selections: Sequence[Selection] = ()) -> Artist:
    """The Kiel diagram: surface gravity against effective temperature, both axes inverted, as counts (returned).

    Args:
        teff, logg: Effective temperatures in K and surface gravities in dex (cgs), (N,) each, NaN = missing.
        bins: As of ``numpy.histogram2d``: a number, or the edges of both axes.
        selections: Conditions on the column ``teff``, marked in the colours C0, C1, ... where data are cut.
    """
    observed = ~(np.isnan(teff) | np.isnan(logg))
    *_, mesh = ax.hist2d(teff[observed], logg[observed], bins=bins, norm=LogNorm(), cmin=1, cmap="Greys")
    for i, selection in enumerate(selections):
        ax.axvspan(*selection.bounds("teff"), color=f"C{i}", alpha=0.35, linewidth=0)
    ax.set(xlabel=r"$T_\mathrm{eff}$ [K]", ylabel=r"$\log g$ [dex]")
    ax.locator_params(nbins=5)
    ax.xaxis.set_inverted(True)
    ax.yaxis.set_inverted(True)
    return mesh


def _heights(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(values, edges)[0] / (len(values) * np.diff(edges))


def _with_unit(label: str, unit: str) -> str:
    return f"{label} [{unit}]" if unit else label


def _ecdf_band(ax: Axes, n: int, level: float, xlabel: str, ylabel: str) -> Artist:
    """The simultaneous band of the ECDF of n uniform values less the diagonal, and the axes that show it."""
    grid = np.linspace(0, 1, 201)
    lower, upper = ecdf_band(n, grid, level)
    label = f"{100 * level:g}% band"
    band = ax.fill_between(grid, lower - grid, upper - grid, color=BAND, linewidth=0, zorder=0, label=label)
    ax.axhline(0, color="0.4", linewidth=0.8, zorder=1)
    # Room for the legend above the band and the line, which may be anywhere.
    reach = max(ks_threshold(n, level), *(np.abs(line.get_ydata()).max() for line in ax.get_lines()))
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(-1.1 * reach, 1.5 * reach))
    ax.legend(ncols=2, loc="upper center")
    return band


def _binomial_interval(n: int, p: float, level: float) -> np.ndarray:
    """The counts between which a binomial variable lies with at least this probability, exactly, (2,)."""
    k = np.arange(1, n + 1)
    log_pmf = n * math.log1p(-p) + np.r_[0, np.cumsum(np.log((n - k + 1) / k * (p / (1 - p))))]
    return np.searchsorted(np.cumsum(np.exp(log_pmf)), [(1 - level) / 2, (1 + level) / 2])
