"""The mock's catalogue: noisy columns with gaps, in the HDF5 layout of the paper's files.

Stars are drawn in blocks, each with its own random generator: star i is the same however many there are.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import apogee_xp
from ..apogee_xp import N_BP, N_RP, N_XP, SCALARS
from ..files import new_hdf5
from ..table import Table
from . import errors, population, relations, spectrum

BLOCK = 8192
MISSING_KINDS = ("random", "faint")
# Fractions of the paper's 396,718 rows that lack something. No row lacks both XP and APOGEE labels.
WITHOUT_XP, WITHOUT_APOGEE = 33_457 / 396_718, 132_910 / 396_718
WITHOUT_EBV, WITHOUT_2MASS = 11_947 / 396_718, 2_031 / 396_718
# Of the 263,808 with APOGEE, about 263,000 have Teff and log g, and 260,921 have [M/H] too.
WITHOUT_TEFF_LOGG, WITHOUT_M_H = 808 / 263_808, 2_079 / 263_808
WITHOUT_GAIA = 0.005  # BP - RP and, independently, the parallax: not published, a guess
FIRST_ID = 10**15
COLOURS = ("bprp", "jh", "jk")  # come together, if at all: a group of `load_labels`


def observe(n: int, seed: int | list[int]) -> dict[str, np.ndarray]:
    """Labels and photometry of n random stars, nothing missing, without XP coefficients.

    Returns:
        ``values`` and ``errors`` (n, 8) of the columns `errors.COLUMNS`, what was measured and its one-sigma error.
    """
    star, photometry, rng = _draw(n, seed)
    sigma = errors.errors(star, photometry)
    return {"values": errors.add_noise(errors.truth(star, photometry), sigma, rng), "errors": sigma}


def write(path: str | Path, n: int, seed: int = 0, missing: str = "random"):
    """Write a mock catalogue that `apogee_xp.load` reads as it reads the paper's files.

    Args:
        path: The HDF5 file; an older one is replaced when the new one is complete.
        n: Number of stars.
        seed: Seed; a smaller catalogue of the same seed holds the first stars of a larger one.
        missing: "random" if what is missing does not depend on the star; "faint" if faint stars lack more, as in real
            surveys. The overall fractions are the same; the exact posterior holds for "random".

    Raises:
        ValueError: If n is not positive or `missing` is unknown.
    """
    from tqdm import trange

    if n < 1 or missing not in MISSING_KINDS:
        raise ValueError(f"needed: n >= 1, not {n}, and missing one of {MISSING_KINDS}, not {missing!r}")
    with new_hdf5(path) as h5:
        h5.attrs["source"] = f"mock catalogue, {n} stars, seed {seed}, missing {missing}"
        for block in trange(-(-n // BLOCK), unit="block", disable=None):
            start = block * BLOCK
            stop = min(start + BLOCK, n)
            for name, column in _block(block, seed, missing).items():
                if name not in h5:
                    h5.create_dataset(name, (n, *column.shape[1:]), column.dtype)
                h5[name][start:stop] = column[: stop - start]


def load(n: int = 300_000, seed: int = 0, missing: str = "random", errors: bool = False) -> Table:
    """The mock catalogue as the table that the paper's training file would give.

    Args:
        n: Number of stars in the catalogue. As in the paper's training file, those without Teff or log g (a third)
            are no rows of the table.
        seed, missing: See `write`.
        errors: Load the errors of the values too.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / apogee_xp.TRAINING_FILE
        write(path, n, seed, missing)
        table = apogee_xp.load(path, errors)
    return replace(table, source=f"mock catalogue in the layout of {apogee_xp.ORIGIN}, no real star in it")


def load_labels(n: int = 1_000_000, seed: int = 0, errors: bool = False) -> Table:
    """Photometry and labels of n mock stars, nothing missing: the columns that exact posteriors are known for.

    Args:
        n: Number of stars.
        seed: As of `write`.
        errors: Load the errors of the values too.
    """
    blocks = [observe(BLOCK, [seed, block]) for block in range(-(-n // BLOCK))]
    return Table(
        names=tuple(SCALARS),
        values=np.concatenate([block["values"] for block in blocks])[:n],
        errors=np.concatenate([block["errors"] for block in blocks])[:n] if errors else None,
        units=apogee_xp.UNITS[N_XP:],
        requestable=tuple(name for name in SCALARS if name not in apogee_xp.CONTEXT_ONLY),
        groups=tuple("colours" if name in COLOURS else name for name in SCALARS),
        source=f"photometry and labels of {n:,} mock stars, no real star in it",
    )


def _draw(n: int, seed: int | list[int]):
    rng = np.random.default_rng(seed)
    star = population.stars(*population.draw_latents(n, rng))
    return star, relations.photometry(star), rng


def _block(block: int, seed: int, missing: str) -> dict[str, np.ndarray]:
    """All data sets of the file for one block of stars, (BLOCK, ...) each."""
    star, photometry, rng = _draw(BLOCK, [seed, block])
    sigma = errors.errors(star, photometry)
    values = errors.add_noise(errors.truth(star, photometry), sigma, rng)
    raw = {name: values[:, i].astype(np.float32) for i, name in enumerate(SCALARS.values())}
    raw |= {f"{name}_err": sigma[:, i].astype(np.float32) for i, name in enumerate(SCALARS.values())}
    scale = 10 ** (-0.2 * photometry.g)
    raw["parallax"] = (values[:, -1] * scale).astype(np.float32)
    raw["parallax_err"] = (sigma[:, -1] * scale).astype(np.float32)
    raw["phot_g_mean_mag"] = photometry.g.astype(np.float32)

    flux = spectrum.g_flux(photometry.g)[:, None].astype(np.float32)
    raw["xp_coeffs_gnorm_err"] = errors.xp_errors(photometry.g, rng)
    raw["xp_coeffs_gnorm"] = errors.add_xp_noise(
        spectrum.xp_coefficients(star, photometry), raw["xp_coeffs_gnorm_err"], rng
    )
    raw["xp_coeffs"], raw["xp_coeffs_err"] = (flux * raw[f"xp_coeffs_gnorm{suffix}"] for suffix in ("", "_err"))
    n_relevant = [errors.relevant_orders(photometry.g, n, band, rng) for band, n in (("bp", N_BP), ("rp", N_RP))]
    raw["xp_relevancy"] = np.hstack([np.arange(n) < k[:, None] for n, k in zip((N_BP, N_RP), n_relevant)])

    _leave_gaps(raw, missing, rng)
    number = block * BLOCK + np.arange(BLOCK)
    designations = np.array([[f"MOCK{i:012d}".encode()] for i in number])
    columns = {"gaia_source_id": FIRST_ID + number, "2mass_designation": designations}
    return columns | {f"raw/{name}": column for name, column in raw.items()}


def _leave_gaps(raw: dict[str, np.ndarray], missing: str, rng: np.random.Generator):
    """Make values and errors NaN where the paper's table has none."""
    from scipy.special import ndtr

    # Mean 1 over the stars, whose median G is 13.7.
    odds = 2 * ndtr((raw["phot_g_mean_mag"] - 13.7) / 1.6) if missing == "faint" else np.ones(BLOCK)

    def lack(fraction: float) -> np.ndarray:
        return rng.random(BLOCK) < fraction * odds

    either = rng.random(BLOCK)
    no_apogee = either < WITHOUT_APOGEE * odds
    no_xp = 1 - either < WITHOUT_XP * odds
    no_atmosphere = no_apogee | lack(WITHOUT_TEFF_LOGG)
    no_2mass, no_parallax = lack(WITHOUT_2MASS), lack(WITHOUT_GAIA)
    gaps = {
        "teff": no_atmosphere,
        "logg": no_atmosphere,
        "m_h": no_atmosphere | lack(WITHOUT_M_H),
        "logc19": lack(WITHOUT_EBV),
        "jh": no_2mass,
        "jk": no_2mass,
        "bprp": lack(WITHOUT_GAIA),
        "parallax": no_parallax,
        "g_fakemag": no_parallax,
        "xp_coeffs": no_xp,
        "xp_coeffs_gnorm": no_xp,
    }
    for name, rows in gaps.items():
        raw[name][rows] = np.nan
        raw[f"{name}_err"][rows] = np.nan
    raw["xp_relevancy"][no_xp] = False
    assert raw["xp_relevancy"].shape == (BLOCK, N_XP)
