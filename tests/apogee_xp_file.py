"""A small file with the layout of the paper's training_set.h5, for tests."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

SCALARS = ("bprp", "jh", "jk", "teff", "logg", "m_h", "logc19", "g_fakemag", "parallax")


def write_apogee_xp(path: Path, n_rows: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    """Write the file and return what was written, name -> array.

    Coefficient i of row n is n + i / 1000, so that a value tells where it comes from. Rows 1 and 2 lack teff and
    logg, row 3 has no XP spectrum, row 4 only 20 relevant coefficients of BP and 51 of RP. Rows 5 and 6 are two
    observations of one star. Rows 7 and 8 have no Gaia source id.
    """
    rng = np.random.default_rng(seed)
    raw = {name: rng.uniform(0.5, 1.5, n_rows) for name in SCALARS}
    raw["teff"] *= 5000
    raw["teff"][1] = np.nan
    raw["logg"][2] = -9999.0
    raw["jh"][9] = np.inf
    raw["g_fakemag"][9] = -12000.0  # a faint star with a negative parallax, no sentinel
    raw["g_fakemag"][10] = -9999.0
    raw |= {f"{name}_err": rng.uniform(0.01, 0.1, n_rows) for name in SCALARS}
    raw["phot_g_mean_mag"] = rng.uniform(10, 15, n_rows)
    raw["xp_coeffs_gnorm"] = np.arange(n_rows)[:, None] + np.arange(110) / 1000
    raw["xp_coeffs_gnorm_err"] = np.full((n_rows, 110), 0.01)
    raw["xp_coeffs"] = 100 * raw["xp_coeffs_gnorm"]
    raw["xp_coeffs_err"] = 100 * raw["xp_coeffs_gnorm_err"]
    raw["xp_relevancy"] = np.ones((n_rows, 110), dtype=bool)
    raw["xp_coeffs_gnorm"][3] = np.nan
    raw["xp_relevancy"][4, 20:55] = False
    # The published flags beyond index 51 of either band say nothing: they are overwritten by the loader.
    raw["xp_relevancy"][:, [52, 53, 54]] = rng.random((n_rows, 3)) < 0.5
    raw["xp_relevancy"][:, [107, 108, 109]] = rng.random((n_rows, 3)) < 0.5
    raw["xp_relevancy"][4, 106] = False
    ids = np.arange(n_rows) + 4_611_686_018_427_387_000  # needs all 63 bits, as Gaia's do
    ids[6] = ids[5]
    ids[7:9] = 0
    with h5py.File(path, "w") as h5:
        h5["gaia_source_id"] = ids
        h5["2mass_designation"] = np.array([[f"2M{n:05d}".encode()] for n in range(n_rows)])
        for name, column in raw.items():
            h5[f"raw/{name}"] = column
    return raw | {"gaia_source_id": ids}
