"""Gaia XP spectra, 2MASS colours and APOGEE labels of Leung, Bovy & Speagle 2024 (doi:10.5281/zenodo.12738256)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .files import data_folder, open_hdf5, require
from .table import Table

TRAINING_FILE = "training_set.h5"
TESTING_FILE = "testing_set.h5"
ORIGIN = "Zenodo record 12738256 (doi:10.5281/zenodo.12738256)"

# Gaia DR3: 55 coefficients of BP, then 55 of RP. Nothing outside this module knows the number.
N_BP = N_RP = 55
N_XP = N_BP + N_RP
# The relevancy of the last coefficients of each band is that of the last one before them.
RELEVANCY_COPIES = ((51, slice(52, 55)), (106, slice(107, 110)))

# Column of the table -> data set in the group `raw`; both in the published order.
SCALARS = {
    "bprp": "bprp",
    "jh": "jh",
    "jk": "jk",
    "teff": "teff",
    "logg": "logg",
    "m_h": "m_h",
    "logebv": "logc19",
    "g_fakemag": "g_fakemag",
}
NAMES = tuple(f"bp{i}" for i in range(N_BP)) + tuple(f"rp{i}" for i in range(N_RP)) + tuple(SCALARS)
UNITS = ("",) * N_XP + ("mag", "mag", "mag", "K", "dex", "dex", "", "")
GROUPS = ("bp",) * N_BP + ("rp",) * N_RP + tuple(SCALARS)
CONTEXT_ONLY = ("bprp", "jk")

LOWEST_VALUE = -9998.0  # surveys write -9999 for a value they do not have
MISSING_FAKEMAG = -9999.0  # a luminosity proxy with a negative parallax may itself lie below LOWEST_VALUE


def load(file: str | Path = TRAINING_FILE, errors: bool = False) -> Table:
    """The published table of stars: 118 columns.

    Columns are ``bp0 .. bp54, rp0 .. rp54`` (XP coefficients over the G-band flux), ``bprp, jh, jk`` (mag), ``teff``
    (K), ``logg`` and ``m_h`` (dex), ``logebv`` (ln E(B-V) of the Combined19 map) and ``g_fakemag`` (parallax in mas
    times 10^(0.2 G): a luminosity proxy whose error is still Gaussian). XP coefficients that are not relevant are
    missing. Rows of the training file without ``teff`` or ``logg`` are dropped, as published; any other file keeps all.

    Args:
        file: Name of a file in the data folder, or a path.
        errors: Load the errors of the values too.

    Returns:
        The table; ``ids`` are Gaia source ids, so that repeat observations of a star stay together. All columns but
        ``bprp`` and ``jk`` can be requested.

    Raises:
        FileNotFoundError: If the file is not there; says where to get it.
        ValueError: If it is truncated or laid out differently.
    """
    path = require(data_folder() / file, f"{ORIGIN}, as make data does,")
    with open_hdf5(path) as h5:
        n_rows = _check_layout(h5, path)
        rows = np.ones(n_rows, dtype=bool)
        if path.name == TRAINING_FILE:
            rows = np.isfinite(_read_scalar(h5, "teff")) & np.isfinite(_read_scalar(h5, "logg"))
            if not rows.any():
                raise ValueError(f"{path}: no row has both teff and logg, there is nothing to train on")
        values = _read_values(h5, rows)
        sigma = _read_errors(h5, rows, values) if errors else None
        ids = _read_ids(h5)[rows]
    return Table(
        names=NAMES,
        values=values,
        errors=sigma,
        units=UNITS,
        requestable=tuple(name for name in NAMES if name not in CONTEXT_ONLY),
        ids=ids,
        source=f"Leung, Bovy & Speagle 2024, {path.name}",
        groups=GROUPS,
    )


def _check_layout(h5, path: Path) -> int:
    """The number of rows of a file whose data sets are all there and of the published shapes."""
    n_rows = len(h5["gaia_source_id"]) if "gaia_source_id" in h5 else 0
    expected = {"gaia_source_id": n_rows, "2mass_designation": n_rows}
    for name in ("xp_coeffs_gnorm", "xp_coeffs_gnorm_err", "xp_relevancy"):
        expected[f"raw/{name}"] = n_rows * N_XP
    for name in SCALARS.values():
        expected[f"raw/{name}"] = expected[f"raw/{name}_err"] = n_rows
    missing = [name for name in expected if name not in h5]
    if missing:
        raise ValueError(f"{path} has not the layout of {ORIGIN}: it lacks {', '.join(missing)}")
    for name, size in expected.items():
        if h5[name].size != size or len(h5[name]) != n_rows:
            raise ValueError(f"{path}: {name} has shape {h5[name].shape}; {size} values in {n_rows} rows are expected")
    return n_rows


def _read_scalar(h5, name: str) -> np.ndarray:
    """One column of the group ``raw`` with NaN for what is missing, (N,), float32."""
    column = h5[f"raw/{name}"].astype("f4")[:].reshape(-1)
    sentinel = column == MISSING_FAKEMAG if name == "g_fakemag" else column < LOWEST_VALUE
    column[~np.isfinite(column) | sentinel] = np.nan
    return column


def _read_values(h5, rows: np.ndarray) -> np.ndarray:
    """Values of the selected rows, (N, 118), float32."""
    values = np.empty((int(rows.sum()), len(NAMES)), dtype=np.float32)
    relevant = h5["raw/xp_relevancy"][:].astype(bool)[rows]  # (N, 110)
    for last, following in RELEVANCY_COPIES:
        relevant[:, following] = relevant[:, [last]]
    values[:, :N_XP] = h5["raw/xp_coeffs_gnorm"].astype("f4")[:][rows]
    values[:, :N_XP][~relevant] = np.nan
    values[:, :N_XP][values[:, :N_XP] < LOWEST_VALUE] = np.nan
    for column, name in enumerate(SCALARS.values(), start=N_XP):
        values[:, column] = _read_scalar(h5, name)[rows]
    values[~np.isfinite(values)] = np.nan
    return values


def _read_errors(h5, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Errors of the selected rows, (N, 118), float32; NaN where there is no value."""
    errors = np.empty_like(values)
    errors[:, :N_XP] = h5["raw/xp_coeffs_gnorm_err"].astype("f4")[:][rows]
    for column, name in enumerate(SCALARS.values(), start=N_XP):
        errors[:, column] = h5[f"raw/{name}_err"].astype("f4")[:].reshape(-1)[rows]
    errors[~np.isfinite(errors) | (errors < 0) | np.isnan(values)] = np.nan
    return errors


def _read_ids(h5) -> np.ndarray:
    """Gaia source ids, (N,), int64; a star without one gets a negative number that its 2MASS designation decides.

    Without it all stars that Gaia does not know would count as one object and fall on one side of a split.
    """
    ids = h5["gaia_source_id"][:].reshape(-1).astype(np.int64)
    _, designation = np.unique(h5["2mass_designation"][:].reshape(-1), return_inverse=True)
    return np.where(ids > 0, ids, -1 - designation)
