"""Files of every kind as a pandas DataFrame."""

from __future__ import annotations

import csv
import gzip
import logging
import warnings
from pathlib import Path
from xml.parsers.expat import ExpatError

import numpy as np

from .files import open_hdf5

log = logging.getLogger(__name__)

HDF5 = (".h5", ".hdf5")
FITS = (".fits", ".fit")
VOTABLE = (".vot", ".votable", ".xml")
ASTROPY_META = "__table_column_meta__"  # what astropy writes beside a table in HDF5


def read_frame(path: Path, key: str | None, id_column: str | None = None):
    """The file as a pandas DataFrame, and the units it states, column name -> unit string.

    Numbers keep the precision they have in the file.

    Args:
        path: A file whose suffix says what it is: .csv, .parquet, .fits, .ecsv, .vot, .h5, .npy, or a variant of them.
        key: Which data set or group of an HDF5 file, or which extension of a FITS file.
        id_column: A column of text, or of numbers that are names: a csv file does not tell.

    Raises:
        ValueError: If the file is damaged, of an unknown kind, or does not say which of its tables is meant.
    """
    import pandas as pd

    suffix = next((s.lower() for s in reversed(path.suffixes) if s.lower() != ".gz"), "")
    if key is not None and suffix not in HDF5 + FITS:
        raise ValueError(f"{path}: key chooses a table of an HDF5 or FITS file; this file holds only one")
    if suffix == ".csv":
        return _read_csv(path, id_column), {}
    if suffix == ".npy":
        records = map_npy(path)
        return pd.DataFrame({name: _native(records[name]) for name in records.dtype.names}), {}
    if suffix in (".parquet", ".pq"):
        try:
            return pd.read_parquet(path), {}
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as parquet: {error}") from error
    if suffix in HDF5:
        return _read_hdf5(path, key), {}
    if suffix in FITS:
        return _read_astropy(path, "fits", hdu=_choose_extension(path, key))
    if suffix == ".ecsv":
        return _read_astropy(path, "ascii.ecsv")
    if suffix in VOTABLE:
        return _read_astropy(path, "votable")
    raise ValueError(f"{path}: unknown kind of file {suffix!r}; known are .csv .parquet .fits .ecsv .vot .h5 .npy")


def map_npy(path: Path) -> np.ndarray:
    """A .npy file of records as a memory map, (N,), of which none is read yet.

    Raises:
        ValueError: If it is damaged or holds anything but records of plain fields.
    """
    try:
        # Copy on write: torch refuses memory that it may not write to, and the file stays as it is.
        records = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as .npy: {error}") from error
    names = records.dtype.names
    if records.ndim != 1 or not names or any(records.dtype[name].shape or records.dtype[name].names for name in names):
        raise ValueError(f"{path} holds {records.dtype} of shape {records.shape}; needed: records of numbers, (N,)")
    return records


def _read_csv(path: Path, id_column: str | None):
    import pandas as pd

    open_text = gzip.open if path.suffix.lower() == ".gz" else open
    with open_text(path, "rt", newline="", encoding="utf-8-sig") as file:
        header = next(csv.reader(file), [])
    # pandas would rename the second "x" to "x.1" without a word.
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: more than one column is called {', '.join(twice)}")
    if not header:
        raise ValueError(f"{path} is empty: a header and rows are expected")
    try:
        # Without index_col a comma at the end of each row would shift all columns by one, again without a word.
        dtype = {id_column: str} if id_column in header else None
        frame = pd.read_csv(path, encoding="utf-8-sig", low_memory=False, index_col=False, dtype=dtype)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as csv: {error}") from error
    if id_column in header:
        frame[id_column] = _names(frame[id_column])
    return frame


def _names(column):
    """A column of text as numbers if it is one of numbers, but whole ones of which a digit would be lost, as in 007."""
    import pandas as pd

    text = column.str.strip()
    numbers = pd.to_numeric(text, errors="coerce")
    if numbers.isna().any():
        return column
    whole = text.str.fullmatch(r"[+-]?\d+").all()
    return numbers if not whole or (numbers.astype(str) == text).all() else column


def _read_astropy(path: Path, format: str, **options):
    from astropy import table
    from astropy import units as u

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*truncated.*")
            read = table.Table.read(path, format=format, **options)
    except (OSError, KeyError, IndexError, ValueError, TypeError, ExpatError, UserWarning) as error:
        raise ValueError(f"{path} is damaged or not of the format {format}: {error}") from error
    usable = [name for name in read.colnames if isinstance(read[name], table.Column) and read[name].ndim == 1]
    _log_left_out(path, [name for name in read.colnames if name not in usable])
    units = {name: read[name].unit for name in usable if read[name].unit is not None}
    # A unit that astropy cannot read is of no use to convert with.
    units = {name: str(unit) for name, unit in units.items() if not isinstance(unit, u.UnrecognizedUnit)}
    return read[usable].to_pandas(), units


def _choose_extension(path: Path, key: str | None) -> int:
    """The index of the wanted table of a FITS file, or of its only one."""
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*truncated.*")
            with fits.open(path) as hdus:
                kinds = fits.BinTableHDU | fits.TableHDU
                tables = {i: hdu.name for i, hdu in enumerate(hdus) if isinstance(hdu, kinds)}
    except (OSError, UserWarning) as error:
        raise ValueError(f"{path} is truncated or not a FITS file ({error})") from error
    chosen = [i for i, name in tables.items() if key is None or key.upper() in (str(i), name.upper())]
    if len(chosen) != 1:
        known = ", ".join(f"{i} {name}".strip() for i, name in tables.items()) or "none found"
        raise ValueError(f"{path}: choose one of its tables with key=; there are: {known}")
    return chosen[0]


def _read_hdf5(path: Path, key: str | None):
    import h5py
    import pandas as pd

    with open_hdf5(path) as file:
        tables = _find_tables(file)
        chosen = [name for name in tables if key is None or name == key.strip("/")]
        if len(chosen) != 1:
            known = ", ".join(repr(name or "/") for name in tables) or "none found"
            raise ValueError(f"{path}: choose one of its tables with key=; there are: {known}")
        item = tables[chosen[0]]
        rows = item[:] if isinstance(item, h5py.Dataset) else {name: data[:] for name, data in _plain(item).items()}
    names = rows.dtype.names if isinstance(rows, np.ndarray) else list(rows)
    _log_left_out(path, [name for name in names if rows[name].ndim > 1])
    columns = {name: _native(rows[name]) for name in names if rows[name].ndim == 1}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{path}: the columns of {chosen[0] or '/'!r} differ in length: {lengths}")
    return pd.DataFrame(columns)


def _find_tables(file) -> dict:
    """What may be a table: data sets with fields, and groups of one-dimensional data sets; "" is the root."""
    import h5py

    items = {"": file}
    file.visititems(items.__setitem__)
    return {
        name: item
        for name, item in items.items()
        if (item.dtype.names and item.ndim == 1 if isinstance(item, h5py.Dataset) else _plain(item))
    }


def _plain(group) -> dict:
    """The data sets of a group that may be columns of one table: one-dimensional, without fields."""
    return {
        name: item
        for name, item in group.items()
        if getattr(item, "ndim", 0) == 1 and not item.dtype.names and not name.endswith(ASTROPY_META)
    }


def _native(column: np.ndarray) -> np.ndarray:
    """Bytes as text, numbers in the byte order of this machine, as pandas wants them."""
    if column.dtype.kind == "S":
        return np.char.decode(column, "utf-8")
    if column.dtype.kind == "O":
        return np.array([x.decode() if isinstance(x, bytes) else x for x in column], dtype=object)
    return column.astype(column.dtype.newbyteorder("="))


def _log_left_out(path: Path, names: list[str]):
    if names:
        log.info("%s: columns left out because they hold more than one value a row: %s", path, ", ".join(names))
