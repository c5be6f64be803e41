"""True stars of the mock sky: a smooth function of a kind (dwarf, subgiant, giant, clump) and of normal latents.

Because every star is a function of independent standard normals, its prior density is known in closed form, which is
what the exact posterior (`posterior.py`) rests on. The sequences are drawn by hand through the Kiel diagram of the
real stars of Green et al. 2021 and tuned to the medians of the paper's table; they are no stellar evolution.

N stars.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

KINDS = ("dwarf", "subgiant", "giant", "clump")
FRACTIONS = np.array([0.28, 0.06, 0.44, 0.22])
# One standard normal number each: chemistry, place along the sequence, age and mass at that place, apparent magnitude,
# line of sight, and how well astrometry, spectroscopy and photometry went.
LATENTS = ("m_h", "place", "age", "mass", "magnitude", "dust", "astrometry", "spectroscopy", "photometry")
T_SUN, LOGG_SUN, M_BOL_SUN = 5772.0, 4.438, 4.74  # nominal solar values, IAU 2015 resolutions B2 and B3


@dataclass(frozen=True)
class Stars:
    """Properties of N true stars, (N,) each.

    Args:
        teff: Effective temperature (K).
        logg: Surface gravity (dex of cm / s^2).
        m_h: Metallicity (dex).
        log_mass: log10 of the mass (solar masses).
        h_0: Apparent H magnitude without extinction (mag).
        dust: Standard normal number that says how dusty the line of sight is.
        quality: The latents of astrometry, spectroscopy and photometry, (N, 3): log of the errors in their own sd.
    """

    teff: np.ndarray
    logg: np.ndarray
    m_h: np.ndarray
    log_mass: np.ndarray
    h_0: np.ndarray
    dust: np.ndarray
    quality: np.ndarray

    def take(self, rows: np.ndarray | slice) -> Stars:
        """These stars only."""
        return Stars(*(getattr(self, field.name)[rows] for field in fields(self)))


def draw_latents(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Kinds (n,), indices into KINDS, and latents (n, 9) of n random stars."""
    kind = np.searchsorted(np.cumsum(FRACTIONS)[:-1], rng.random(n), side="right")
    return kind, rng.standard_normal((n, len(LATENTS)))


def bounded(latent: np.ndarray, limit: float) -> np.ndarray:
    """The latent with its tails bent in, so that no star lies farther than `limit` standard deviations out."""
    return limit * np.tanh(latent / limit)


def stars(kind: np.ndarray, latents: np.ndarray) -> Stars:
    """The stars of these kinds (N,) and latents (N, 9)."""
    latent = dict(zip(LATENTS, np.asarray(latents, dtype=np.float64).T))
    # Skewed to the metal-poor side, as the sample is; no star above +0.45.
    m_h = 0.45 - 0.62 * np.exp(-0.53 * bounded(latent["m_h"], 3.5))
    # Where a star is dwarf, subgiant, ..., (N, 4) each: all four are evaluated, one is chosen.
    sequences = [sequence(m_h, latent["place"], latent["age"], latent["mass"]) for sequence in SEQUENCES]
    teff, logg, log_mass = (np.choose(kind, choices) for choices in zip(*sequences))
    return Stars(
        teff=teff,
        logg=logg,
        m_h=m_h,
        log_mass=log_mass,
        h_0=11.2 + 1.3 * bounded(latent["magnitude"], 2.5),
        dust=latent["dust"],
        quality=np.column_stack([latent["astrometry"], latent["spectroscopy"], latent["photometry"]]),
    )


def _dwarf(m_h, place, age, mass):
    """Main sequence; stars hotter than the old turn-off have evolved by up to 0.5 dex in log g."""
    from scipy.special import expit, ndtr

    teff = 5000 * np.exp(0.18 * bounded(place, 2.6))
    cool = np.logaddexp(0, (4200 - teff) / 300)  # M dwarfs are ever more compact
    zero_age = 4.51 - 0.17 * np.tanh((teff - 5600) / 900) + 0.015 * cool - 0.06 * m_h
    evolved = 0.5 * ndtr(age) * expit((teff - 5550 + 150 * m_h) / 180)
    return teff, zero_age - evolved, 1.6 * np.log10(teff / T_SUN) + 0.03 * mass


def _subgiant(m_h, place, age, mass):
    """From the turn-off to the foot of the giant branch, higher up for the more massive ones."""
    from scipy.special import ndtr

    along = ndtr(place)
    teff = 6050 - 1050 * along - 200 * (m_h + 0.1) + 60 * age
    return teff, 4.05 - 0.25 * along - 0.25 * along**2 - 0.1 * mass, 0.06 + 0.05 * mass


def _giant(m_h, place, age, mass):
    """Giant branch, thinning out towards its tip; cooler by 270 K per dex of metallicity, more so at low log g."""
    from scipy.special import ndtr

    logg = 0.6 + 2.9 * ndtr(place) ** 0.9
    x = logg - 2.5
    teff = 4680 + 480 * x - 30 * x**2 - (270 - 40 * x) * (m_h + 0.1) + 45 * age + 35 * mass
    return teff, logg, 0.06 + 0.09 * mass


def _clump(m_h, place, age, mass):
    """Red clump: helium-burning stars of nearly one luminosity, a little hotter than the branch beside them."""
    teff = 4790 - 300 * (m_h + 0.1) + 50 * age
    return teff, 2.43 + 0.05 * place + 0.04 * mass, 0.06 + 0.08 * mass


SEQUENCES = (_dwarf, _subgiant, _giant, _clump)
