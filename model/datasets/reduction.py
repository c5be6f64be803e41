"""A file in the layout of the paper's, for stars of your own: Gaia's XP spectra and catalogues, joined by source id.

``write("my_stars.h5", gaia, read_spectra("XP_CONTINUOUS_RAW.csv"), apogee, two_mass, dust)`` writes what
``apogee_xp.load("my_stars.h5")`` reads as it reads the paper's file. Which stars and labels are good enough is decided
before: rows that are not wanted are left out, labels that are not trusted are NaN.

N stars, 110 coefficients: 55 of BP, then 55 of RP.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from xml.parsers.expat import ExpatError

import numpy as np

from .apogee_xp import LOWEST_VALUE, N_BP, N_RP, N_XP
from .files import new_hdf5, require
from .mock_apogee_xp.spectrum import g_flux
from .readers import FITS, VOTABLE

log = logging.getLogger(__name__)

ORIGIN = "the Gaia archive (DataLink, XP_CONTINUOUS, data structure RAW)"
KINDS = {".csv": "ascii.csv"} | dict.fromkeys(FITS, "fits") | dict.fromkeys(VOTABLE, "votable")
BANDS = {"bp": N_BP, "rp": N_RP}
G, DESIGNATION = "phot_g_mean_mag", "2mass_designation"
# What the tables have to bring, each with its error in a column of that name and "_err".
MEASURED = ("bprp", "jh", "jk", "teff", "logg", "m_h", "ebv", "parallax")
UNITS = {"parallax": "mas", "teff": "K"}  # of columns that catalogues have in others, too
LEAST_LOG_EBV = -7.0  # ln E(B-V) of less than dust maps resolve, and of no dust, whose logarithm is no number


@dataclass(frozen=True)
class Spectra:
    """XP spectra as Gaia publishes them; shapes and ids are checked.

    Args:
        source_id: Gaia source ids, (N,), integers, each one once.
        coefficients, errors: In e-/s, (N, 110); NaN where a source has no spectrum of that band.
        n_relevant: How many coefficients of BP and of RP stand out of the noise, (N, 2); 0 without a spectrum.
    """

    source_id: np.ndarray
    coefficients: np.ndarray
    errors: np.ndarray
    n_relevant: np.ndarray

    def __post_init__(self):
        n = len(_ids(self.source_id, "spectra"))
        for name, shape in (("coefficients", (n, N_XP)), ("errors", (n, N_XP)), ("n_relevant", (n, 2))):
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{name} have shape {np.shape(getattr(self, name))}, not {shape}")
        if (self.n_relevant < 0).any() or (self.n_relevant > (N_BP, N_RP)).any():
            raise ValueError(f"n_relevant is not within 0 .. {N_BP} (BP) and 0 .. {N_RP} (RP)")


def read_spectra(*paths: str | Path) -> Spectra:
    """Read XP continuous spectra from files of the Gaia archive, or from tables with one column a coefficient.

    Args:
        paths: Files .csv, .fits or .xml (VOTable), also .gz, with columns ``source_id, bp_coefficients,
            bp_coefficient_errors, bp_n_relevant_bases`` and the same of ``rp``; or with ``bp_coeff_0, e_bp_coeff_0``
            and so on in place of the arrays.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is damaged or lacks a column, a spectrum has another number of coefficients than 55, or a
            source is there twice.
    """
    parts = [_read_file(require(Path(path), ORIGIN)) for path in paths]
    return Spectra(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Spectra)))


def relevancy(n_relevant: np.ndarray) -> np.ndarray:
    """Which coefficients stand out of the noise, (N, 110), bool: so many of either band, (N, 2), the first ones."""
    return np.hstack([np.arange(n) < n_relevant[:, [i]] for i, n in enumerate(BANDS.values())])


def normalise(spectra: Spectra, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and their errors over the flux in the G band, (N, 110) each.

    The flux counts as exact: its own error is about a thousandth, and common to all coefficients of a star.

    Args:
        spectra: N spectra.
        flux: G-band fluxes of the same sources in e-/s, (N,): Gaia's ``phot_g_mean_flux``, or ``g_flux`` of G.

    Raises:
        ValueError: If there are not N fluxes, or one is not positive and finite though there is a spectrum.
    """
    if np.shape(flux) != spectra.source_id.shape:
        raise ValueError(f"fluxes have shape {np.shape(flux)}, not {spectra.source_id.shape}: one a spectrum is needed")
    usable = np.isfinite(flux) & (flux > 0)
    wrong = ~usable & np.isfinite(spectra.coefficients).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"source {spectra.source_id[row]} has a spectrum, but a G flux of {flux[row]} e-/s")
    scale = np.where(usable, flux, np.nan)[:, None]
    return spectra.coefficients / scale, spectra.errors / scale


def luminosity_proxy(parallax: np.ndarray, error: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``g_fakemag`` and its error: parallax (mas) times 10^(0.2 G), as normal as the parallax is, and as negative."""
    return parallax * 10 ** (0.2 * g), error * 10 ** (0.2 * g)


def log_reddening(ebv: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln E(B-V) and, to first order, its error; less than e^-7 mag, zero and negative too, counts as e^-7 mag."""
    ebv = np.maximum(ebv, np.exp(LEAST_LOG_EBV))
    return np.log(ebv), error / ebv


def match(source_id: np.ndarray, catalogue: np.ndarray, name: str = "the catalogue") -> np.ndarray:
    """For each star the row of a catalogue that has its source id, (N,); -1 where there is none.

    Raises:
        ValueError: If no star is in it: it is empty, or the ids are others, of another data release for instance.
    """
    if not len(catalogue):
        raise ValueError(f"there are no rows in {name}")
    order = np.argsort(catalogue)
    place = np.searchsorted(catalogue, source_id, sorter=order)
    rows = order[np.minimum(place, len(catalogue) - 1)]
    rows = np.where(catalogue[rows] == source_id, rows, -1)
    found = int((rows >= 0).sum())
    if found == 0:
        raise ValueError(f"none of the {len(source_id)} stars is in {name}, by source_id")
    log.info("%s: %d of the %d stars; %d others are left out", name, found, len(rows), len(catalogue) - found)
    return rows


def write(path: str | Path, gaia: Mapping, spectra: Spectra, *catalogues: Mapping):
    """Write the HDF5 file that `apogee_xp.load` reads: one row for each row of `gaia`, in its order.

    Each table is a dict, DataFrame or astropy Table with a column ``source_id`` of integers, each one once. Together
    they bring ``phot_g_mean_mag, bprp, jh, jk, ebv`` (mag), ``parallax`` (mas), ``teff`` (K), ``logg``, ``m_h`` (dex),
    and errors of all but the first, ``bprp_err`` and so on; ``2mass_designation`` is copied if it is there. It does not
    matter which table has which. Parallaxes and temperatures that carry a unit are converted. What a star lacks, and
    what is NaN, infinite, masked or -9999, is missing in the file.

    Args:
        path: The file; an older one is replaced when the new one is complete.
        gaia: The stars.
        spectra: XP spectra in any order; stars may lack theirs.
        catalogues: More tables, likewise; their rows for stars that `gaia` does not have are left out.

    Raises:
        ValueError: If a column is lacking, is in two tables or has another length than its ids; if ids are not unique
            integers, or none is among the stars; if a star with a spectrum has no G magnitude.
    """
    source_id = _ids(gaia["source_id"], "gaia")
    columns = _join(source_id, (gaia, *catalogues))
    designation, ebv, ebv_err = (columns.pop(name) for name in (DESIGNATION, "ebv", "ebv_err"))
    rows = match(source_id, spectra.source_id, "spectra")
    parts = (spectra.coefficients, spectra.errors, spectra.n_relevant)
    spectra = Spectra(source_id, *(_take(part, rows) for part in parts))
    raw = columns | {"xp_coeffs": spectra.coefficients, "xp_coeffs_err": spectra.errors}
    raw["xp_coeffs_gnorm"], raw["xp_coeffs_gnorm_err"] = normalise(spectra, g_flux(columns[G]))
    raw["logc19"], raw["logc19_err"] = log_reddening(ebv, ebv_err)
    raw["g_fakemag"], raw["g_fakemag_err"] = luminosity_proxy(columns["parallax"], columns["parallax_err"], columns[G])
    with new_hdf5(path) as h5:
        h5["gaia_source_id"], h5[DESIGNATION] = source_id, designation[:, None]
        h5["raw/xp_relevancy"] = relevancy(spectra.n_relevant)
        for name, column in raw.items():
            h5[f"raw/{name}"] = column.astype(np.float32)


def _read_file(path: Path) -> Spectra:
    from astropy.table import Table

    suffix = next((s.lower() for s in reversed(path.suffixes) if s.lower() != ".gz"), "")
    if suffix not in KINDS:
        raise ValueError(f"{path}: unknown kind of file {suffix!r}; known are {' '.join(KINDS)}")
    try:
        table = Table.read(path, format=KINDS[suffix])
        bands = [_read_band(table, band, n) for band, n in BANDS.items()]
        return Spectra(_ids(table["source_id"], "the file"), *(np.column_stack(parts) for parts in zip(*bands)))
    except KeyError as error:
        raise ValueError(f"{path}: no column {error}; read_spectra says which ones are needed") from error
    except (OSError, IndexError, TypeError, ValueError, ExpatError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _read_band(table, band: str, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients and errors (N, n), float32, and numbers of relevant coefficients (N,) of one band."""
    if f"{band}_coeff_0" in table.colnames:
        parts = [np.column_stack([_floats(table[f"{e}{band}_coeff_{i}"]) for i in range(n)]) for e in ("", "e_")]
    else:
        names = (f"{band}_coefficients", f"{band}_coefficient_errors")
        parts = [np.array([_vector(*cell, name, n) for cell in zip(table[name], table["source_id"])]) for name in names]
    n_relevant = np.nan_to_num(_floats(table[f"{band}_n_relevant_bases"])).astype(int)
    return *(part.astype(np.float32) for part in parts), n_relevant


def _vector(cell, source_id: int, name: str, n: int) -> np.ndarray:
    """An array of the archive, (n,): in csv it is text, "(1.5, -0.2, ...)"; without a spectrum it is empty."""
    if isinstance(cell, str):
        cell = cell.strip("() ").split(",") if cell.strip("() ") else ()
    vector = _floats(() if cell is np.ma.masked else cell)
    if len(vector) not in (0, n):
        raise ValueError(f"source {source_id} has {len(vector)} {name}, {n} are expected")
    return vector if len(vector) else np.full(n, np.nan)


def _join(source_id: np.ndarray, tables: Sequence[Mapping]) -> dict[str, np.ndarray]:
    """The columns that are needed, from whichever table has them, in the order of the stars, (N,) each."""
    needed = {G, *MEASURED, *(f"{name}_err" for name in MEASURED)}
    columns: dict[str, np.ndarray] = {}
    for i, table in enumerate(tables):
        what = f"catalogue {i}" if i else "gaia"
        ids = _ids(table["source_id"], what)
        rows = match(source_id, ids, what)
        for name in (needed | {DESIGNATION}).intersection(table.keys()):
            column = _texts(table[name]) if name == DESIGNATION else _in_unit(name, table[name])
            if column.shape != ids.shape or name in columns:
                raise ValueError(f"{name} of {what}: {len(ids)} numbers are needed, and from one table only")
            if name != DESIGNATION:
                column[column < LOWEST_VALUE] = np.nan
            columns[name] = _take(column, rows)
    if needed - columns.keys():
        raise ValueError(f"no table has {', '.join(sorted(needed - columns.keys()))}: give NaN for what is unknown")
    return {DESIGNATION: np.full(len(source_id), b"", dtype="S16")} | columns


def _take(column: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """These rows of a column; where a row is -1, NaN, or the nothing of whole numbers and bytes."""
    taken = column[rows]
    taken[rows < 0] = np.nan if column.dtype.kind == "f" else column.dtype.type()
    return taken


def _floats(column) -> np.ndarray:
    """A column as float64, a copy, with NaN for what is masked or infinite."""
    if hasattr(column, "to_numpy"):  # pandas.NA is no float
        column = column.to_numpy(float, na_value=np.nan)
    floats = np.asarray(getattr(column, "unmasked", column), dtype=np.float64)
    return np.where(np.isfinite(floats) & ~np.asarray(getattr(column, "mask", False)), floats, np.nan)


def _in_unit(name: str, column) -> np.ndarray:
    """A column as `_floats`, converted to the unit of the file if it carries another one."""
    floats, unit, target = _floats(column), getattr(column, "unit", None), UNITS.get(name.removesuffix("_err"))
    if unit is None or target is None:
        return floats
    from astropy.units import Quantity, UnitConversionError

    try:
        return Quantity(floats, unit).to_value(target)
    except UnitConversionError as error:
        raise ValueError(f"{name} is in {str(unit)!r}: {target} is needed, or what can be converted") from error


def _texts(column) -> np.ndarray:
    """A column of short texts as bytes, empty for what is missing."""
    import pandas as pd

    texts = np.asarray(column, dtype=object)
    return np.where(pd.isna(texts) | np.ma.getmask(column), b"", texts.astype("S16"))


def _ids(column, what: str) -> np.ndarray:
    """Source ids as int64, (N,)."""
    ids = np.asarray(column)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or np.ma.is_masked(column) or len(ids) == 0:
        raise ValueError(f"source_id of {what}: {ids.dtype}, {ids.shape}; integers are needed, floats are inexact")
    unique, count = np.unique(ids, return_counts=True)
    if count.max() > 1:
        raise ValueError(f"source_id of {what}: {unique[count.argmax()]} is there {count.max()} times, keep one row")
    return ids.astype(np.int64)
