"""Stars with spectroscopic labels, photometry and parallaxes of Green et al. 2021 (ApJ 907, 57): 10,000 rows."""

from __future__ import annotations

import numpy as np

from .files import data_folder, open_hdf5, require
from .table import Table

FILE = "green2021/green2020_test_data_small.h5"
ORIGIN = "the repository gregreen/green2020-stellar-model on GitHub"

# The bands in the order of the file's `mag`: Gaia DR2, Pan-STARRS 1, 2MASS, unWISE.
BANDS = ("g", "bp", "rp", "ps_g", "ps_r", "ps_i", "ps_z", "ps_y", "j", "h", "ks", "w1", "w2")
LABELS = ("teff", "logg", "m_h")
NAMES = (*LABELS, "g", *(f"g_{band}" for band in BANDS[1:]), "g_fakemag", "ebv")
UNITS = ("K", "dex", "dex") + ("mag",) * len(BANDS) + ("", "mag")
FIELDS = {
    "atm_param": (len(LABELS),),
    "atm_param_cov": (len(LABELS), len(LABELS)),
    "mag": (len(BANDS),),
    "mag_err": (len(BANDS),),
    "parallax": (),
    "parallax_err": (),
    "r": (),
    "r_err": (),
    "r_source": (),
}


def load(errors: bool = False) -> Table:
    """The 10,000 stars as a table of 18 columns.

    Columns are ``teff`` (K), ``logg``, ``m_h`` (dex) from LAMOST, APOGEE or GALAH; Gaia DR2 ``g`` (mag); the colours
    ``g_x`` = G - x with x = BP, RP (Gaia), g, r, i, z, y (Pan-STARRS 1), J, H, Ks (2MASS), W1, W2 (unWISE), PS1 and
    WISE magnitudes being AB, the others Vega; ``g_fakemag`` = parallax in mas times 10^(0.2 G); ``ebv`` = E(B-V) of
    the file's maps (mag), missing where the file has only its default, 0 with a large error.

    The file has no identifiers. Two of its stars are there twice, with labels of two surveys: rows with identical
    photometry and parallax get the same id.

    Args:
        errors: Load the errors of the values too.

    Raises:
        FileNotFoundError: If the file is not there; says where to get it.
        ValueError: If it is truncated or laid out differently.
    """
    path = require(data_folder() / FILE, ORIGIN)
    with open_hdf5(path) as h5:
        stars = h5["data"][:] if "data" in h5 else np.empty(0)
    fields = stars.dtype.fields or {}
    wrong = [name for name, shape in FIELDS.items() if name not in fields or fields[name][0].shape != shape]
    if wrong:
        raise ValueError(f"{path}: the data set 'data' lacks, or has in another shape: {', '.join(wrong)}")

    values, sigma = _columns(stars)
    return Table(
        names=NAMES,
        values=values,
        errors=sigma if errors else None,
        units=UNITS,
        ids=_object_ids(stars),
        source="Green et al. 2021",
    )


def _columns(stars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and one-sigma errors, each (N, 18), float64."""
    mag, mag_err = stars["mag"].astype(np.float64), stars["mag_err"].astype(np.float64)  # (N, 13)
    g, g_err = mag[:, :1], mag_err[:, :1]  # (N, 1)
    parallax, parallax_err = stars["parallax"][:, None], stars["parallax_err"][:, None]
    variance = np.diagonal(stars["atm_param_cov"], axis1=1, axis2=2)  # (N, 3)
    no_reddening = stars["r_source"][:, None] == b"default"

    scale = 10 ** (0.2 * g)  # d(g_fakemag) / d(parallax)
    slope = 0.2 * np.log(10) * parallax * scale  # d(g_fakemag) / d(G)
    values = [
        stars["atm_param"],
        g,
        g - mag[:, 1:],
        parallax * scale,
        np.where(no_reddening, np.nan, stars["r"][:, None]),
    ]
    errors = [
        np.sqrt(variance),
        g_err,
        np.hypot(g_err, mag_err[:, 1:]),
        np.hypot(scale * parallax_err, slope * g_err),
        np.where(no_reddening, np.nan, stars["r_err"][:, None]),
    ]
    return np.hstack(values), np.hstack(errors)


def _object_ids(stars: np.ndarray) -> np.ndarray:
    """One number per star, (N,), int64: the same for rows that repeat all magnitudes and the parallax."""
    observed = np.column_stack([stars["mag"], stars["parallax"]])
    # NaN differs from itself; any number that is no magnitude makes missing bands comparable.
    return np.unique(np.nan_to_num(observed, nan=-9999.0), axis=0, return_inverse=True)[1].reshape(-1)
