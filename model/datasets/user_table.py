"""A user's own table: csv, parquet, FITS, ECSV, VOTable or HDF5."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .readers import map_npy, read_frame
from .table import Table
from .vocabulary import Vocabulary

log = logging.getLogger(__name__)

EXACT = 2**53  # float64 has all integers up to it


def load(
    path: str | Path,
    id_column: str | None = None,
    columns: Sequence[str] | None = None,
    request: Sequence[str] | None = None,
    key: str | None = None,
) -> Table:
    """Read a file by its suffix: .csv, .parquet, .fits (.gz), .ecsv, .vot / .votable / .xml, .h5 / .hdf5, .npy.

    Masked and empty entries are missing values (NaN). FITS, ECSV and VOTable files bring their units along. A .npy file
    of float32 records is mapped rather than read, for tables larger than memory; records of other numbers are read. Of
    a column of float64 or integers that is narrow beside its size, such as a Julian date, no digits are lost that
    matter: see `Table.offset`.

    Args:
        path: The file.
        id_column: The column, of integers or strings, that names the object of each row; it is no kind of data.
        columns: Columns to keep, in this order; by default all numeric ones but `id_column`.
        request: Columns the model will be asked for; by default all that are kept.
        key: Which data set or group of an HDF5 file, or which extension of a FITS file; needed if there are several.

    Raises:
        FileNotFoundError: If there is no such file.
        KeyError: If a column is unknown; lists the nearest names.
        ValueError: If the file is damaged or of an unknown kind, or a column cannot be learned from (text, constant,
            infinite, nothing observed, named twice); names the column, and the row where there is one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if path.suffix == ".npy" and id_column is None and columns is None:
        records = map_npy(path)
        if all(records.dtype[name] == np.float32 for name in records.dtype.names):
            return _map(path, records, request)
    frame, units = read_frame(path, key, id_column)
    if len(frame) == 0:
        raise ValueError(f"{path} has no rows")
    names = _choose_columns(path, frame, id_column, columns)
    values = np.column_stack([_numbers(path, name, frame[name]) for name in names])
    if request is not None:
        chosen = Vocabulary(names)
        for name in request:
            chosen.index(name)
    return Table(
        names=names,
        values=values,
        units=tuple(units.get(name, "") for name in names),
        requestable=() if request is None else tuple(request),
        ids=None if id_column is None else _ids(path, id_column, frame[id_column]),
        source=path.name,
    )


def _map(path: Path, records: np.ndarray, request: Sequence[str] | None) -> Table:
    """A table whose values stay on disk until rows of it are asked for."""
    names = records.dtype.names
    values = records.view(np.float32).reshape(len(records), len(names))
    return Table(names=names, values=values, requestable=tuple(request or ()), source=path.name)


def _choose_columns(path: Path, frame, id_column: str | None, columns: Sequence[str] | None) -> tuple[str, ...]:
    """The columns to learn from."""
    from pandas.api.types import is_numeric_dtype

    known = Vocabulary(frame.columns)
    if id_column is not None:
        known.index(id_column)
    if columns is not None:
        for name in columns:
            known.index(name)
        if id_column in columns:
            raise ValueError(f"{path}: {id_column!r} names the objects, it cannot be a column to learn from as well")
        return tuple(columns)
    numeric = [name for name in frame.columns if is_numeric_dtype(frame[name])]
    left_out = [name for name in frame.columns if name not in numeric and name != id_column]
    if left_out:
        log.info("%s: columns left out because they are not numeric: %s", path, ", ".join(left_out))
    names = tuple(name for name in numeric if name != id_column)
    if not names:
        raise ValueError(f"{path} has no numeric column; its columns are {', '.join(frame.columns)}")
    return names


def _numbers(path: Path, name: str, column) -> np.ndarray:
    """The values of a column as float64 with NaN for missing ones, (N,), fit to be learned from."""
    import pandas as pd

    if column.dtype.kind in "mM":
        raise ValueError(f"{path}: column {name!r} holds {column.dtype}, times are not numbers: give days or years")
    try:
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    except TypeError as error:
        raise ValueError(f"{path}: column {name!r} holds {column.dtype}, not one number a row") from error
    text = np.isnan(numbers) & column.notna().to_numpy()
    if text.any():
        row = int(text.argmax())
        raise ValueError(f"{path}: column {name!r} holds {column.iloc[row]!r} in row {row}, which is not a number")
    too_large = np.abs(numbers) > np.finfo(np.float32).max
    if too_large.any():
        row = int(too_large.argmax())
        raise ValueError(
            f"{path}: column {name!r} holds {numbers[row]} in row {row}, infinite in single precision: "
            "leave the entry empty if nothing was observed"
        )
    observed = numbers[~np.isnan(numbers)]
    if observed.size == 0:
        raise ValueError(f"{path}: column {name!r} has no observed value: leave it out with columns=[...]")
    if observed.min() == observed.max():
        raise ValueError(f"{path}: column {name!r} is constant ({observed[0]}): leave it out with columns=[...]")
    if column.dtype.kind in "iu" and np.abs(observed).max() > EXACT:
        log.warning("%s: column %r holds integers beyond 2^53, whose last digits are lost: are they ids?", path, name)
    return numbers


def _ids(path: Path, name: str, column) -> np.ndarray:
    """The objects of the rows as int64 or strings, (N,)."""
    from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

    missing = column.isna().to_numpy()
    if missing.any():
        raise ValueError(f"{path}: the id column {name!r} is empty in row {int(missing.argmax())}: every row needs one")
    if is_integer_dtype(column):
        return column.to_numpy(dtype=np.uint64 if column.max() > np.iinfo(np.int64).max else np.int64)
    if is_numeric_dtype(column) or is_bool_dtype(column):
        raise ValueError(f"{path}: the id column {name!r} holds {column.dtype}: ids must be integers or strings")
    return np.asarray(column.astype(str).tolist())
