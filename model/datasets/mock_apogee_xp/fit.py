"""Fit the mock's constants to real stars: ``python -m model.datasets.mock_apogee_xp.fit`` rewrites constants.json.

Reads, in DATA_FILES, ``gaia_xp/xp_continuous_combined_chunk0.fits`` (XP coefficients of 2,000 sources of Gaia DR3) and
the stars of Green et al. 2021. What is fitted: intrinsic colours; what turns Hermite
coefficients into Gaia's; errors of each XP order; the number of relevant orders.

N sources.
"""

from __future__ import annotations

import json

import numpy as np

from .. import green2021
from ..apogee_xp import N_BP, N_RP, N_XP
from ..files import data_folder
from . import errors, population, relations, spectrum

XP_FILE = "gaia_xp/xp_continuous_combined_chunk0.fits"
BANDS = {"bp": slice(0, N_BP), "rp": slice(N_BP, N_XP)}
MAD_TO_SD = 1.4826
# M dwarfs of solar metallicity, for which the labels of the real stars are poor: Teff (K), BP - RP, G - J, J - H,
# J - K, near the table of Pecaut & Mamajek 2013 (ApJS 208, 9, and its updates); their log g is 4.8.
M_DWARFS = np.array(
    [
        [4050.0, 1.60, 1.85, 0.63, 0.79],
        [3850.0, 1.84, 2.05, 0.63, 0.82],
        [3560.0, 2.24, 2.42, 0.61, 0.83],
        [3430.0, 2.45, 2.60, 0.60, 0.84],
        [3250.0, 2.75, 2.85, 0.60, 0.86],
    ]
)
METAL_POOR = np.array([0.0, -0.10, -0.08, -0.02, -0.03])  # bluer by this at [M/H] = -0.6
M_DWARF_WEIGHT = 10.0


def real_xp() -> dict[str, np.ndarray]:
    """XP coefficients of real sources.

    Returns:
        ``flux`` (N,): G flux (e-/s), from the two leading coefficients, as the file has no magnitudes;
        ``value``, ``error`` (N, 110): coefficients over that flux; ``bp_relevant``, ``rp_relevant`` (N,).
    """
    from astropy.io import fits

    data = fits.getdata(data_folder() / XP_FILE)

    def columns(pattern):
        names = [pattern.format(band=band, i=i) for band, n in (("bp", N_BP), ("rp", N_RP)) for i in range(n)]
        return np.stack([data[name] for name in names], axis=1).astype(np.float64)

    value, error = columns("{band}_coeff_{i}"), columns("e_{band}_coeff_{i}")
    bp, rp = value[:, 0] / spectrum.ZEROTH_ORDER[0], value[:, N_BP] / spectrum.ZEROTH_ORDER[N_BP]
    bp_rp = spectrum.ZERO_BP - spectrum.ZERO_RP - 2.5 * np.log10(bp / rp)
    flux = (bp + rp) / sum(spectrum.band_fluxes(bp_rp))
    return {
        "flux": flux,
        "bp_rp": bp_rp,
        "value": value / flux[:, None],
        "error": error / flux[:, None],
        "bp_relevant": data["bp_n_relevant_bases"].astype(int),
        "rp_relevant": data["rp_n_relevant_bases"].astype(int),
    }


def fit_colours() -> np.ndarray:
    """Intrinsic colours, (12, 4): least squares through the medians of cells in Teff, log g and [M/H].

    Medians, because some labels are wrong; cells, because the few cool stars are to count as much as the many warm.
    """
    table = green2021.load()
    teff, logg, m_h, ebv = (table.column(name).astype(np.float64) for name in ("teff", "logg", "m_h", "ebv"))
    g_j = table.column("g_j")
    observed = [table.column("g_rp") - table.column("g_bp"), g_j, table.column("g_h") - g_j, table.column("g_ks") - g_j]
    colours = np.column_stack(observed) - ebv[:, None] * relations.REDDENING
    # Cool dwarfs that are catalogued as metal-poor are mostly M dwarfs with wrong labels.
    wrong = (teff < 4500) & (logg > 3.8) & (m_h < -0.5)
    used = ~wrong & np.isfinite(colours).all(axis=1) & (ebv < 0.4) & (teff < 9000) & (m_h > -2)
    teff, logg, m_h, colours = teff[used], logg[used], m_h[used], colours[used]

    cells = np.floor(np.column_stack([(5040 / teff) / 0.03, logg / 0.5, m_h / 0.4]))
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    members = [np.flatnonzero(cell.ravel() == i) for i in range(cell.max() + 1)]
    members = [rows for rows in members if len(rows) >= 3]
    labels = np.array([[np.median(x[rows]) for x in (teff, logg, m_h)] for rows in members])  # (cells, 3)
    medians = np.array([np.median(colours[rows], axis=0) for rows in members])  # (cells, 4)
    weight = np.sqrt([min(len(rows), 20) for rows in members])

    for m_h, rows in ((0.0, M_DWARFS), (-0.6, M_DWARFS + METAL_POOR)):
        labels = np.vstack([labels, [(teff, 4.8, m_h) for teff in rows[:, 0]]])
        medians = np.vstack([medians, rows[:, 1:]])
        weight = np.r_[weight, np.full(len(rows), M_DWARF_WEIGHT)]
    return np.linalg.lstsq(weight[:, None] * relations.colour_terms(*labels.T), weight[:, None] * medians, rcond=None)[
        0
    ]


def fit_xp_errors(real: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Photon and floor variance of each order, and how many orders are relevant at a flux of 1e5 e-/s."""
    edges = np.quantile(real["flux"], np.linspace(0, 1, 21))
    bins = np.digitize(real["flux"], edges[1:-1])
    flux = np.array([np.median(real["flux"][bins == i]) for i in range(20)])
    variance = np.array([np.median(real["error"][bins == i] ** 2, axis=0) for i in range(20)])  # (20, 110)
    terms = np.column_stack([1 / flux, np.ones(20)])
    fitted = []
    for target in variance.T:  # relative errors of the variance are what matters; neither part may be negative
        solution = np.linalg.lstsq(terms / target[:, None], np.ones(20), rcond=None)[0]
        fitted.append(solution if (solution > 0).all() else (np.median(target * flux), 0.0))
    photon, floor = np.array(fitted).T
    constants = {"xp_photon_variance": photon, "xp_floor_variance": floor}
    for band in BANDS:
        log_n = np.log(real[f"{band}_relevant"])
        terms = np.vander(np.log10(real["flux"] / 1e5), 2, increasing=True)
        level, slope = np.linalg.lstsq(terms, log_n, rcond=None)[0]
        scatter = (log_n - terms @ [level, slope]).std()
        constants[f"{band}_relevant_orders"] = np.array([level, slope, scatter])
    return constants


def robust_fit(terms: np.ndarray, target: np.ndarray, rounds: int = 6) -> np.ndarray:
    """Least squares of target (N,) on terms (N, K), leaving out what lies beyond 4 robust sd; (K,)."""
    kept = np.ones(len(target), dtype=bool)
    for _ in range(rounds):
        solution = np.linalg.lstsq(terms[kept], target[kept], rcond=None)[0]
        off = target - terms @ solution
        kept = np.abs(off) <= 4 * robust_sd(off)
    return solution


def robust_sd(x: np.ndarray) -> np.ndarray:
    """Standard deviation of normal distributions with the median absolute deviations of the columns of x."""
    return MAD_TO_SD * np.median(np.abs(x - np.median(x, axis=0)), axis=0)


def fit_basis(real: dict[str, np.ndarray], n_mock: int = 50_000) -> np.ndarray:
    """What turns Hermite coefficients into Gaia's, (110, 8): see `spectrum.xp_coefficients`.

    Order by order, the regression on the leading orders of the same band is taken from the bright real sources, and
    what the mock's own regression leaves over is scaled to what theirs leaves over beyond the noise.
    """
    star = population.stars(*population.draw_latents(n_mock, np.random.default_rng(0)))
    mock = spectrum.scaled_hermite(star, relations.photometry(star)).astype(np.float64)
    bright = real["flux"] > np.quantile(real["flux"], 0.7)
    all_sources = real["flux"] > 0
    basis = np.zeros((N_XP, 2 + spectrum.N_LEADING))
    for orders in BANDS.values():
        x = mock[:, orders]
        rows = basis[orders]  # a view
        rows[0, 1] = 1
        for n in range(1, x.shape[1]):
            m = min(n, spectrum.N_LEADING)
            # All sources, the red ones among them, for orders that stand out of the noise; bright ones for the others.
            rows_used = all_sources if n < m + 1 else bright
            value, error = real["value"][rows_used, orders], real["error"][rows_used, orders]
            terms, terms_mock = (np.column_stack([np.ones(len(c)), c[:, :m]]) for c in (value, x))
            slope, slope_mock = robust_fit(terms, value[:, n]), robust_fit(terms_mock, x[:, n])
            left, left_mock = robust_sd(value[:, n] - terms @ slope), robust_sd(x[:, n] - terms_mock @ slope_mock)
            gain = np.sqrt(max(left**2 - np.median(error[:, n]) ** 2, (0.2 * left) ** 2)) / left_mock
            rows[n, : 1 + m] = slope[1:] @ rows[:m, : 1 + m] - gain * slope_mock
            rows[n, 0] += slope[0]
            rows[n, 1 + n if n < spectrum.N_LEADING else -1] = gain
    return basis


def fit_scale(real: dict[str, np.ndarray], n_mock: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Factor and constant of each order, (110,) each, that give the mock the real sources' scatter and median.

    The mock holds more giants and more dust than their corner of the sky, so its leading orders would differ. It is
    looked at with the noise of the real sources' brightness.
    """
    rng = np.random.default_rng(1)
    star = population.stars(*population.draw_latents(n_mock, rng))
    truth = spectrum.xp_coefficients(star, relations.photometry(star))
    g = spectrum.ZERO_G - 2.5 * np.log10(rng.choice(real["flux"], n_mock))
    noise = errors.add_xp_noise(np.zeros_like(truth), errors.xp_errors(g, rng), rng)
    target = robust_sd(real["value"])
    low, high = np.full(N_XP, np.log(0.1)), np.full(N_XP, np.log(10.0))
    for _ in range(12):  # bisection: the scatter grows with the factor
        middle = (low + high) / 2
        small = robust_sd(np.exp(middle) * truth + noise) < target
        low, high = np.where(small, middle, low), np.where(small, high, middle)
    factor = np.exp((low + high) / 2)
    factor[[0, N_BP]] = 1  # these are tied to BP - RP
    constant = np.median(real["value"], axis=0) - factor * np.median(truth, axis=0)
    constant[[0, N_BP]] = 0
    return factor, constant


def save(constants: dict[str, np.ndarray]):
    """Write the constants, one line each, in five digits, and make the mock use them."""
    rounded = {name: np.vectorize(lambda x: float(f"{x:.5g}"))(value).tolist() for name, value in constants.items()}
    lines = [f' "{name}": {json.dumps(value)}' for name, value in rounded.items()]
    relations.CONSTANTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    relations.constants.cache_clear()


def main():
    """Fit everything; each step rests on those before."""
    real = real_xp()
    constants = {
        "real_flux_quantiles": np.quantile(real["flux"], np.linspace(0, 1, 101)),
        "real_xp_median": np.median(np.abs(real["value"]), axis=0),
        "colours": fit_colours(),
    }
    constants |= fit_xp_errors(real)
    save(constants)
    constants["xp_basis"] = fit_basis(real)
    save(constants)
    factor, constant = fit_scale(real)
    constants["xp_basis"] *= factor[:, None]
    constants["xp_basis"][:, 0] += constant
    save(constants)


if __name__ == "__main__":
    main()
