"""What the notebooks ask of tables of stars: a table beside its models, and the pictures only stars have.

N rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from ..inference import Conditional, Emulator, OutsideTrainingRange

SUN_G = 4.67  # absolute G magnitude of the Sun, Casagrande & VandenBerg 2018, MNRAS 479, L102
TEFF_LIMITS, LOGG_LIMITS = (3500, 8500), (-0.3, 5.3)  # K, dex; of the Kiel diagrams


@dataclass
class Sky:
    """Stars and the models that were trained on such stars.

    Args:
        name: What the stars are, for titles: mock ones are called mock.
        emulator, published: Of the improved and of the published recipe.
        data: Their rows, a DataFrame; None if they are not there.
        exact: ``(given, request)`` -> the exact posterior (``cdf``, ``pdf``, ``ppf`` of a column's values), if known.
    """

    name: str
    emulator: Emulator
    published: Emulator
    data: object = None
    exact: Callable | None = None

    @property
    def units(self) -> Mapping[str, str]:
        return self.emulator.units

    @property
    def caption(self) -> str:
        return f"{self.name}: no data, models alone" if self.data is None else f"{len(self.data):,} {self.name}"

    def stars_or_samples(self, columns: Sequence[str], n: int = 10_000) -> dict[str, np.ndarray]:
        """The stars' columns, (N,) each; without data, n joint samples of the model."""
        if self.data is not None:
            return {name: self.data[name].to_numpy() for name in columns}
        return dict(zip(columns, self.emulator.joint(columns).rvs(n, seed=0)[0].T))

    @staticmethod
    def ks(density: Conditional, exact) -> float:
        """The KS distance of one row's density from its exact posterior."""
        x = np.linspace(*exact.ppf(np.array([1e-4, 1 - 1e-4])), 801)
        return float(np.abs(density.cdf(x)[0] - exact.cdf(x)).max())


def luminosity(g_fakemag: np.ndarray) -> np.ndarray:
    """log10 of the G-band luminosity over the Sun's, not corrected for extinction, of those that are positive."""
    return 0.4 * (SUN_G - 5 * np.log10(g_fakemag[g_fakemag > 0] / 100))


def robust_scatter(difference: np.ndarray) -> float:
    """1.4826 times the median absolute deviation: the standard deviation, were it normal."""
    return float(1.4826 * np.median(np.abs(difference - np.median(difference))))


def pit_of_random_questions(emulator: Emulator, data, columns: Sequence[str], n: int, seed: int) -> np.ndarray:
    """PIT values of n stars, each asked for one of these columns given a random choice of its other columns.

    Any number of the other columns is equally likely to be given, of those that the star has.

    Args:
        emulator: Asked.
        data: Rows, a DataFrame with the emulator's columns; those that lack the requested column are passed over.
        columns: One of them, at random, is asked of each star.
        n: Stars, if there are as many.
        seed: Of the choice of stars, columns and contexts.

    Returns:
        The places of the stars' values in their own densities; within an atom's jump a random one, (N,).
    """
    rng, pits = np.random.default_rng(seed), []
    request = rng.choice(list(columns), n)
    for name in np.unique(request):
        rows = data[data[name].notna()]
        rows = rows.iloc[rng.permutation(len(rows))[: np.count_nonzero(request == name)]]
        truth = rows[name].to_numpy()[:, None]
        others = rows.drop(columns=name)
        known = rng.random(others.shape) < rng.random((len(others), 1))
        with warnings.catch_warnings():
            # Rows that were set aside may lie a little outside the range of those that were not.
            warnings.simplefilter("ignore", OutsideTrainingRange)
            density = emulator.conditional(name, others.where(known))
        pits.append((density.cdf(truth) - rng.random(truth.shape) * density.pmf(truth))[:, 0])
    return np.clip(np.concatenate(pits), 0, 1)


def truth_against_prediction(ax: Axes, truth: np.ndarray, median: np.ndarray, sigma: np.ndarray) -> Artist:
    """Predicted medians against catalogued values, (N,) each, coloured by the predicted sigma (what is returned)."""
    points = ax.scatter(truth, median, s=7, c=sigma, vmax=np.quantile(sigma, 0.98))
    middle = float(np.median(truth))
    ax.axline((middle, middle), slope=1, color="0.4", linewidth=0.8, zorder=0)
    return points


def mean_on_kiel(ax: Axes, teff: np.ndarray, logg: np.ndarray, m_h: np.ndarray) -> Artist:
    """Mean [M/H] (dex) in cells of the Kiel diagram (K, dex) that hold two stars or more."""
    cells = ax.hexbin(
        teff, logg, C=m_h, vmin=-1.2, vmax=0.4, mincnt=2, gridsize=60, extent=(*TEFF_LIMITS, *LOGG_LIMITS)
    )
    ax.set(xlabel=r"$T_\mathrm{eff}$ [K]", ylabel=r"$\log g$ [dex]", xlim=TEFF_LIMITS[::-1], ylim=LOGG_LIMITS[::-1])
    return cells


def counts_of_metallicity(ax: Axes, m_h: np.ndarray, logg: np.ndarray) -> Artist:
    """Counts of stars over [M/H] and log g (dex)."""
    bins = (np.linspace(-2.5, 0.7, 80), np.linspace(*LOGG_LIMITS, 80))
    *_, mesh = ax.hist2d(m_h, logg, bins=bins, norm=LogNorm(1, 60), cmin=1, cmap="Greys")
    ax.set(xlabel="[M/H] [dex]", ylabel=r"$\log g$ [dex]", ylim=LOGG_LIMITS[::-1])
    return mesh
