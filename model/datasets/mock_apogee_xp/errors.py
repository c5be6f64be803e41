"""The mock's error model: one-sigma uncertainties as functions of a star's brightness, and the noise itself.

All noise is normal. Errors of different columns are independent, but for J - H and J - K, which share J.

N stars; columns of labels and photometry in the order of COLUMNS.
"""

from __future__ import annotations

import numpy as np

from ..apogee_xp import N_XP, SCALARS
from .population import Stars
from .relations import Photometry, constants
from .spectrum import g_flux

COLUMNS = tuple(SCALARS)  # bprp, jh, jk, teff, logg, m_h, logebv, g_fakemag
# The three 2MASS magnitudes have the same error, so two colours that share one have this correlation.
CORRELATED, CORRELATION = ("jh", "jk"), 0.5


def parallax_error(star: Stars, photometry: Photometry) -> np.ndarray:
    """Error of the parallax (mas), (N,): a floor, then photons (as in Lindegren et al. 2021, A&A 649, A2)."""
    photons = 10 ** (0.2 * (photometry.g - 15))
    return 0.018 * np.hypot(0.8, photons) * np.exp(0.15 * star.quality[:, 0])


def bp_rp_error(star: Stars, g: np.ndarray) -> np.ndarray:
    """Error of BP - RP (mag), (N,), for stars of apparent G magnitude g (mag)."""
    return np.hypot(0.003, 0.02 * 10 ** (0.3 * (g - 17))) * np.exp(0.1 * star.quality[:, 2])


def truth(star: Stars, photometry: Photometry) -> np.ndarray:
    """The noise-free columns, (N, 8)."""
    return np.column_stack(
        [
            photometry.bp_rp,
            photometry.j_h,
            photometry.j_k,
            star.teff,
            star.logg,
            star.m_h,
            np.log(photometry.ebv),
            photometry.g_fakemag,
        ]
    )


def errors(star: Stars, photometry: Photometry) -> np.ndarray:
    """One-sigma errors of the columns, (N, 8).

    G is taken as free of noise, so that the luminosity proxy is as normal as the parallax is.
    """
    _, spectroscopy, photons = star.quality.T
    two_mass = np.sqrt(2) * np.hypot(0.021, 0.03 * 10 ** (0.3 * (photometry.j - 14))) * np.exp(0.1 * photons)
    apogee = np.exp(0.35 * spectroscopy) * np.hypot(1, 10 ** (0.2 * (photometry.h - 12.5)))
    return np.column_stack(
        [
            bp_rp_error(star, photometry.g),
            two_mass,
            two_mass,
            16 * apogee * (star.teff / 4750) ** 2,
            0.032 * apogee,
            0.011 * apogee,
            np.hypot(0.1, 0.015 / (photometry.ebv + 0.015)),  # a map's absolute floor, relative to what there is
            parallax_error(star, photometry) * 10 ** (0.2 * photometry.g),
        ]
    )


def add_noise(truth: np.ndarray, errors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Catalogued columns, (N, 8): the truth with noise of these errors."""
    noise = rng.standard_normal(truth.shape)
    first, second = (COLUMNS.index(name) for name in CORRELATED)
    noise[:, second] = CORRELATION * noise[:, first] + np.sqrt(1 - CORRELATION**2) * noise[:, second]
    return truth + errors * noise


def xp_errors(g: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    r"""Errors of the XP coefficients over the G flux, (N, 110), float32, for stars of these G magnitudes (mag).

    .. math:: \sigma_k^2 = a_k / I_G + b_k

    Photons and a floor, both fitted order by order to real sources; the number of transits scatters by 15%.
    """
    photon, floor = (constants()[name].astype(np.float32) for name in ("xp_photon_variance", "xp_floor_variance"))
    transits = np.exp(0.15 * rng.standard_normal((len(g), 1), dtype=np.float32))
    return np.sqrt(photon / g_flux(g)[:, None].astype(np.float32) + floor) * transits


def relevant_orders(g: np.ndarray, n_orders: int, band: str, rng: np.random.Generator) -> np.ndarray:
    """How many coefficients of a band ("bp" or "rp") stand out of the noise, (N,), 1 .. n_orders; few if faint."""
    level, slope, scatter = constants()[f"{band}_relevant_orders"]
    log_n = level + slope * np.log10(g_flux(g) / 1e5) + scatter * rng.standard_normal(len(g))
    return np.clip(np.rint(np.exp(log_n)), 1, n_orders).astype(int)


def add_xp_noise(truth: np.ndarray, errors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Catalogued XP coefficients, (N, 110), float32."""
    return truth + errors * rng.standard_normal((len(truth), N_XP), dtype=np.float32)
