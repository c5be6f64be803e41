"""Noise-free photometry of the mock's stars: smooth functions of (Teff, log g, [M/H], mass, E(B-V)).

N stars.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .population import LOGG_SUN, M_BOL_SUN, T_SUN, Stars, bounded

CONSTANTS = Path(__file__).with_name("constants.json")
COLOURS = ("bp_rp", "g_j", "j_h", "j_k")
# Extinction in magnitudes per E(B-V): G, BP, RP from Casagrande & VandenBerg 2018 (MNRAS 479, L102, table 2), J, H, Ks
# from Yuan, Liu & Xiang 2013 (MNRAS 430, 2188, table 2).
EXTINCTION = {"g": 2.740, "bp": 3.374, "rp": 2.035, "j": 0.72, "h": 0.46, "k": 0.306}
REDDENING = np.array([EXTINCTION[a] - EXTINCTION[b] for a, b in (("bp", "rp"), ("g", "j"), ("j", "h"), ("j", "k"))])
# Bolometric correction in G as a polynomial of 5040 K / Teff - 1: one curve through both halves of Andrae et al. 2018
# (A&A 616, A8, table 4) from 3300 to 8000 K, within 0.02 mag.
BOLOMETRIC_CORRECTION = (-0.0485, -1.1965, -2.2096, 1.4603)
# Level, depth and rate of the skewed distribution of ln E(B-V), bound of its latent, and scale of the dust layer (kpc).
DUST, DUST_LAYER = (2.0, 3.5, 0.5, 2.2), 2.0


@dataclass(frozen=True)
class Photometry:
    """What a perfect observer on Earth would measure, (N,) each; magnitudes with extinction.

    Args:
        g, j, h: Apparent magnitudes in G, J, H (mag).
        bp_rp, j_h, j_k: Colours (mag).
        ebv: Reddening E(B-V) (mag).
        parallax: Parallax (mas).
    """

    g: np.ndarray
    j: np.ndarray
    h: np.ndarray
    bp_rp: np.ndarray
    j_h: np.ndarray
    j_k: np.ndarray
    ebv: np.ndarray
    parallax: np.ndarray

    @property
    def g_fakemag(self) -> np.ndarray:
        """Luminosity proxy: parallax (mas) times 10^(0.2 G)."""
        return self.parallax * 10 ** (0.2 * self.g)


@lru_cache(maxsize=1)
def constants() -> dict:
    """The fitted numbers; `fit.py` made them from real stars."""
    return {name: np.array(value) for name, value in json.loads(CONSTANTS.read_text()).items()}


def colour_terms(teff: np.ndarray, logg: np.ndarray, m_h: np.ndarray) -> np.ndarray:
    """What intrinsic colours are linear in, (N, 12): cubics of 5040 K / Teff, one of dwarfs that blends into one of
    giants about log g = 3.6, each with a metallicity term that depends on temperature.
    """
    from scipy.special import expit

    t = 5040 / teff - 1
    cubic = np.column_stack([np.ones_like(t), t, t**2, t**3, m_h, m_h * t])
    giant = expit((3.6 - logg) / 0.2)[:, None]
    return np.hstack([(1 - giant) * cubic, giant * cubic])


def intrinsic_colours(star: Stars) -> np.ndarray:
    """Colours without extinction, (N, 4), in the order of COLOURS (mag)."""
    return colour_terms(star.teff, star.logg, star.m_h) @ constants()["colours"]


def bolometric_magnitude(teff: np.ndarray, logg: np.ndarray, log_mass: np.ndarray) -> np.ndarray:
    """Absolute bolometric magnitude, (N,): L / L_sun = (M / M_sun) (T / T_sun)^4 (g_sun / g)."""
    return M_BOL_SUN - 2.5 * (log_mass + 4 * np.log10(teff / T_SUN) - (logg - LOGG_SUN))


def absolute_g(star: Stars) -> np.ndarray:
    """Absolute G magnitude without extinction, (N,)."""
    correction = np.polynomial.polynomial.polyval(5040 / star.teff - 1, BOLOMETRIC_CORRECTION)
    return bolometric_magnitude(star.teff, star.logg, star.log_mass) - correction


def reddening(distance: np.ndarray, dust: np.ndarray) -> np.ndarray:
    """E(B-V) at a distance (kpc) on a line of sight whose dustiness is a standard normal number, (N,).

    It rises through the disc's dust layer and then stays; skewed, so that no line of sight is opaque.
    """
    level, depth, rate, limit = DUST
    return np.exp(level - depth * np.exp(-rate * bounded(dust, limit))) * -np.expm1(-distance / DUST_LAYER)


def dustiness(distance: np.ndarray, ebv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `reddening` and its derivative by ln E(B-V), (N,) each; NaN for an E(B-V) out of reach."""
    level, depth, rate, limit = DUST
    with np.errstate(invalid="ignore", divide="ignore"):
        fall = (level - np.log(ebv / -np.expm1(-distance / DUST_LAYER))) / depth
        inside = -np.log(fall) / rate / limit
        dust = limit * np.arctanh(inside)
        return dust, 1 / (depth * rate * fall * (1 - inside**2))


def unreddened(star: Stars) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours (N, 4), apparent G magnitude (N,), both without extinction, and parallax in mas (N,)."""
    colour = intrinsic_colours(star)
    g_abs = absolute_g(star)
    modulus = star.h_0 - (g_abs - colour[:, 1] - colour[:, 2])
    return colour, g_abs + modulus, 10 ** (2 - 0.2 * modulus)


def photometry(star: Stars) -> Photometry:
    """Noise-free photometry of the stars."""
    colour, g_0, parallax = unreddened(star)
    ebv = reddening(1 / parallax, star.dust)
    bp_rp, g_j, j_h, j_k = (colour + ebv[:, None] * REDDENING).T
    g = g_0 + EXTINCTION["g"] * ebv
    return Photometry(g=g, j=g - g_j, h=g - g_j - j_h, bp_rp=bp_rp, j_h=j_h, j_k=j_k, ebv=ebv, parallax=parallax)
