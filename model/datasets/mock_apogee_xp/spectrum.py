"""Noise-free XP coefficients of the mock: a smooth spectrum seen by BP and RP, projected on Hermite functions.

Gaia represents the BP and the RP spectrum each by 55 coefficients of Hermite functions of a pseudo-wavelength, rotated
such that the first function resembles a mean source (De Angeli et al. 2023, A&A 674, A2). Here a black body with
broad absorption features is attenuated by dust, multiplied by a passband and projected. In place of the rotation each
order is mixed with the leading ones of its band, with weights fitted to real sources (`fit.py`).

N stars, P points in pseudo-wavelength.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..apogee_xp import N_BP, N_RP, N_XP
from .population import Stars
from .relations import Photometry, constants

# Gaia DR3 zero points of G, BP, RP in the Vega system: magnitude of 1 e-/s (Riello et al. 2021, A&A 649, A3).
ZERO_G, ZERO_BP, ZERO_RP = 25.6874, 25.3385, 24.7479
# (I_BP + I_RP) / I_G of single stars as a polynomial of BP - RP (Riello et al. 2021, table 2, middle range).
FLUX_EXCESS = (1.162004, 0.011464, 0.049255, -0.005879)
# Coefficient 0 over the band's flux. For Proxima Cen the Gaia archive has 0.148 and 0.099; with these values the real
# sources of `fit.py` end at G = 17.65, the limit of the published spectra, and the bright ones have BP - RP near 0.75.
ZEROTH_ORDER = np.repeat([0.120, 0.107], [N_BP, N_RP])
# Typical Hermite coefficient 0 of spectra whose integral is 1.
MEAN_HERMITE = np.repeat([0.51, 0.43], [N_BP, N_RP])
N_LEADING = 6  # leading orders of a band that all others are mixed with

# Pseudo-wavelength u = (middle - 1 / wavelength) / width: a prism spreads the blue more. Middle and width (1 / micron),
# and the passband's limits in wavelength (micron).
BANDS = {"bp": (1.80, 0.28, 0.33, 0.69), "rp": (1.26, 0.16, 0.62, 1.06)}
# Centre and width (micron) of absorption features.
FEATURES = {
    "balmer": ((0.4340, 0.010), (0.4861, 0.010), (0.6563, 0.010)),
    "metals": ((0.3930, 0.018), (0.4300, 0.012), (0.5270, 0.012)),
    "magnesium": ((0.5150, 0.014),),
    "cyanogen": ((0.4215, 0.010), (0.7900, 0.015), (0.9200, 0.020)),
    "oxides": ((0.4760, 0.012), (0.5450, 0.014), (0.6150, 0.016), (0.6700, 0.016), (0.7100, 0.018), (0.7650, 0.018),
               (0.8450, 0.020), (0.9300, 0.025)),
    "calcium": ((0.8600, 0.012),),
}  # fmt: skip


def g_flux(g: np.ndarray) -> np.ndarray:
    """Flux in the G band (e-/s) of a star of this G magnitude (mag)."""
    return 10 ** (0.4 * (ZERO_G - g))


def band_fluxes(bp_rp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """BP and RP flux over the G flux of stars of this colour (mag), (N,) each."""
    excess = np.polynomial.polynomial.polyval(bp_rp, FLUX_EXCESS)
    ratio = 10 ** (0.4 * (ZERO_BP - ZERO_RP - bp_rp))
    return excess * ratio / (1 + ratio), excess / (1 + ratio)


def hermite_functions(u: np.ndarray, n: int) -> np.ndarray:
    r"""The first n orthonormal Hermite functions at points u (P,), (n, P).

    .. math:: \phi_{k+1} = \sqrt{2 / (k + 1)}\, u \phi_k - \sqrt{k / (k + 1)}\, \phi_{k-1}
    """
    phi = np.empty((n, len(u)))
    phi[0] = np.pi**-0.25 * np.exp(-0.5 * u**2)
    phi[1] = np.sqrt(2) * u * phi[0]
    for k in range(1, n - 1):
        phi[k + 1] = np.sqrt(2 / (k + 1)) * u * phi[k] - np.sqrt(k / (k + 1)) * phi[k - 1]
    return phi


def strengths(star: Stars) -> dict[str, np.ndarray]:
    """Optical depths of the features at their centres, (N,) each: smooth in temperature, gravity and metallicity."""
    from scipy.special import expit

    metal = 10 ** (0.35 * star.m_h)
    cool = expit((5000 - star.teff) / 400)
    dwarf = expit((star.logg - 3.2) / 0.6)
    return {
        "balmer": 0.25 * expit((star.teff - 6600) / 600),
        "metals": 0.45 * metal * expit((5900 - star.teff) / 600),
        "magnesium": (0.15 + 0.45 * dwarf) * metal * cool,
        "cyanogen": 0.25 * metal * cool * (1 - dwarf),
        "oxides": 0.9 * metal * expit((3850 - star.teff) / 130),
        "calcium": 0.12 * metal * (1.5 - dwarf),
    }


@lru_cache(maxsize=2)
def _projection(band: str) -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths (P,) in micron and what turns a photon spectrum at them into Hermite coefficients, (P, 55), float32.

    The coefficients are divided by the integral of the spectrum elsewhere: the last column is that integral, (P, 56).
    """
    from scipy.special import expit

    middle, width, blue, red = BANDS[band]
    u = np.arange(-6.5, 6.5, 0.1)
    inverse = middle - width * u
    wavelength = 1 / np.maximum(inverse, 0.6)
    passband = expit((wavelength - blue) / 0.012) * expit((red - wavelength) / 0.012)
    kept = passband > 1e-4
    weight = (passband * wavelength**2)[kept]  # photons per unit of pseudo-wavelength: d(wavelength) / du
    phi = hermite_functions(u[kept], {"bp": N_BP, "rp": N_RP}[band])  # (55, P)
    return wavelength[kept], (np.vstack([phi, np.ones(len(weight))]) * weight).T.astype(np.float32)


def dust_law(wavelength: np.ndarray) -> np.ndarray:
    """Extinction (mag) per E(B-V) at wavelengths in micron, a power law near that of R_V = 3.1."""
    return 3.1 * (wavelength / 0.55) ** -1.4


def hermite_coefficients(star: Stars, ebv: np.ndarray) -> np.ndarray:
    """Coefficients of BP and RP spectra whose integral is 1 each, (N, 110), float32."""
    depth = {name: value[:, None].astype(np.float32) for name, value in strengths(star).items()}
    teff, ebv = star.teff[:, None].astype(np.float32), ebv[:, None].astype(np.float32)
    coefficients = []
    for band in BANDS:
        wavelength, project = _projection(band)
        optical_depth = (0.4 * np.log(10) * dust_law(wavelength)).astype(np.float32) * ebv  # (N, P)
        for name, lines in FEATURES.items():
            profile = sum(np.exp(-0.5 * ((wavelength - centre) / width) ** 2) for centre, width in lines)
            optical_depth += depth[name] * profile.astype(np.float32)
        # Photons of a black body, hc / k = 14388 micron K; the constant keeps float32 in range.
        wavelength = wavelength.astype(np.float32)
        photons = wavelength**-4 / np.expm1(14388 / (wavelength * teff)) * np.exp(-optical_depth)
        projected = photons @ project  # (N, 56)
        coefficients.append(projected[:, :-1] / projected[:, -1:])
    return np.hstack(coefficients)


def scaled_hermite(star: Stars, photometry: Photometry) -> np.ndarray:
    """Hermite coefficients over the G flux, (N, 110), float32, scaled to Gaia's order 0."""
    hermite = hermite_coefficients(star, photometry.ebv)
    fluxes = np.column_stack(band_fluxes(photometry.bp_rp)).astype(np.float32)
    return hermite * np.repeat(fluxes, [N_BP, N_RP], axis=1) * (ZEROTH_ORDER / MEAN_HERMITE).astype(np.float32)


def xp_coefficients(star: Stars, photometry: Photometry) -> np.ndarray:
    """Noise-free XP coefficients over the G flux, (N, 110), float32, BP then RP.

    Each is linear in the spectrum: a constant (times the G flux), the leading Hermite coefficients of its band, and
    the one of its own order.
    """
    scaled = scaled_hermite(star, photometry)
    basis = constants()["xp_basis"].astype(np.float32)  # (110, 8)
    coefficients = basis[:, -1] * scaled + basis[:, 0]
    for orders in (slice(0, N_BP), slice(N_BP, N_XP)):
        coefficients[:, orders] += scaled[:, orders][:, :N_LEADING] @ basis[orders, 1:-1].T
    return coefficients
