"""The one form in which every source of data reaches the rest of the code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2
CHUNK = 65_536  # rows that are looked at together
NARROW = 0.01  # a column whose spread is less than this share of its median is stored as differences from an offset
LOOKED_AT = 100_000  # rows that an offset is computed from, at most


@dataclass(frozen=True)
class Table:
    """Rows of a table whose columns are the kinds of data that the model knows.

    Args:
        names: Column names, V of them, unique.
        values: Values in the columns' units, (N, V); NaN = not observed. Stored as float32; where float64 or integers
            are given and a column's spread is small beside its size (Julian dates), as differences from the column's
            `offset`. `column` and `physical` give values in the columns' units. A float32 memory map is not copied.
        errors: One-sigma uncertainties in the same units, (N, V), float32; NaN = unknown. None if not known or not
            asked for.
        units: One unit string per column as astropy writes it ("K", "mag", "dex"); "" for a pure number.
        requestable: The columns the model is trained to answer for; all of them if left out.
        ids: One integer or string per row that names the object, (N,), or None. Rows with the same id are
            observations of one object and always fall on the same side of a split.
        source: Where the rows come from, in words, for captions and logs.
        groups: One name per column: of the vector whose component it is, such as a spectrum, or the column's own.
        offset: What has been subtracted from the columns of `values`, (V,), float64. Left out, it is found from the
            values: 0 for most columns, and for all where they are float32.
        split: TRAIN, VALIDATION or TEST for each row, (N,), where that is decided already, by a run that goes on or by
            you; None leaves it to `split_rows`.

    Raises:
        ValueError: Says which column or row is wrong, and what would be right.

    Example:
        >>> table = Table(("x", "y"), np.array([[1.0, 2.0], [np.nan, 3.0]]))
        >>> len(table), table.requestable, float(table.column("y")[1])
        (2, ('x', 'y'), 3.0)
    """

    names: tuple[str, ...]
    values: np.ndarray
    errors: np.ndarray | None = None
    units: tuple[str, ...] = ()
    requestable: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    source: str = ""
    groups: tuple[str, ...] = ()
    offset: np.ndarray | None = None
    split: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "names", tuple(self.names))
        offset = _find_offset(np.asarray(self.values)) if self.offset is None else self.offset
        object.__setattr__(self, "values", _store(np.asarray(self.values), offset if self.offset is None else 0.0))
        object.__setattr__(self, "offset", np.asarray(offset, dtype=np.float64))
        object.__setattr__(self, "units", tuple(self.units) or ("",) * len(self.names))
        object.__setattr__(self, "requestable", tuple(self.requestable) or self.names)
        object.__setattr__(self, "groups", tuple(self.groups) or self.names)
        if self.errors is not None:
            object.__setattr__(self, "errors", np.ascontiguousarray(self.errors, dtype=np.float32))
        if self.ids is not None:
            object.__setattr__(self, "ids", np.asarray(self.ids))
        if self.split is not None:
            object.__setattr__(self, "split", np.asarray(self.split, dtype=np.uint8))
        self._check_shapes()
        self._check_columns()

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> np.ndarray:
        """The values of one column in its unit, (N,): float32, or float64 where it has an offset."""
        i = self.names.index(name)
        return self.values[:, i] if self.offset[i] == 0 else self.values[:, i].astype(np.float64) + self.offset[i]

    def physical(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The values of some rows in the columns' units, (N, V), float64."""
        return self.values[rows].astype(np.float64) + self.offset

    def take(self, rows: np.ndarray) -> Table:
        """The table of these rows only, in this order; a boolean mask or indices."""
        return replace(
            self,
            values=self.values[rows],
            errors=None if self.errors is None else self.errors[rows],
            ids=None if self.ids is None else self.ids[rows],
            split=None if self.split is None else self.split[rows],
        )

    def select(self, names: Sequence[str]) -> Table:
        """The table with these columns, in this order; of them, those that could be requested still can.

        Raises:
            ValueError: If a column is not in the table, or none of them can be requested.
        """
        if tuple(names) == self.names:
            return self  # a memory map stays one
        requestable = tuple(name for name in names if name in self.requestable)
        if not requestable:
            raise ValueError(f"none of {', '.join(names)} can be requested: keep one of {', '.join(self.requestable)}")
        index = [self.names.index(name) for name in names]
        return replace(
            self,
            names=tuple(names),
            values=self.values[:, index],
            errors=None if self.errors is None else self.errors[:, index],
            units=tuple(self.units[i] for i in index),
            requestable=requestable,
            groups=tuple(self.groups[i] for i in index),
            offset=self.offset[index],
        )

    def to_frame(self):
        """The values as a pandas DataFrame, ready to be given to an ``Emulator``."""
        import pandas as pd

        if self.offset.any():
            return pd.DataFrame({name: self.column(name) for name in self.names})
        return pd.DataFrame(self.values, columns=list(self.names))

    def fingerprint(self, first: int | None = None) -> str:
        """A checksum of names, values and ids, of all or of the first rows: the same for tables that are the same."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        digest.update(self.values[:first])  # no copy
        if self.offset.any():  # else as it was before there were offsets
            digest.update(self.offset)
        if self.ids is not None:
            digest.update("\n".join(map(str, self.ids[:first].tolist())).encode())
        return digest.hexdigest()

    def _check_shapes(self):
        n_columns = len(self.names)
        if self.values.ndim != 2 or self.values.shape[1] != n_columns:
            raise ValueError(f"values have shape {self.values.shape}; {n_columns} columns are named: (N, {n_columns})")
        if len(self.values) == 0:
            raise ValueError(f"the table {self.source or ''} is empty: at least one row is needed".replace("  ", " "))
        if len(self.units) != n_columns:
            raise ValueError(f"{len(self.units)} units for {n_columns} columns: give one per column, '' for none")
        if len(self.groups) != n_columns:
            raise ValueError(f"{len(self.groups)} groups for {n_columns} columns: give one per column")
        if self.errors is not None and self.errors.shape != self.values.shape:
            raise ValueError(f"errors have shape {self.errors.shape}, values {self.values.shape}: they must agree")
        if self.ids is not None and self.ids.shape != (len(self.values),):
            raise ValueError(f"ids have shape {self.ids.shape}: one per row is needed, ({len(self.values)},)")
        if self.offset.shape != (n_columns,) or not np.isfinite(self.offset).all():
            raise ValueError(f"offset has shape {self.offset.shape}: one finite number per column is needed")
        if self.split is not None and (self.split.shape != (len(self.values),) or self.split.max() > TEST):
            raise ValueError(f"split must hold {TRAIN}, {VALIDATION} or {TEST} for each of {len(self.values)} rows")

    def _check_columns(self):
        duplicates = sorted({name for name in self.names if self.names.count(name) > 1})
        if duplicates:
            raise ValueError(f"column names must be unique; more than once: {', '.join(duplicates)}")
        unknown = [name for name in self.requestable if name not in self.names]
        if unknown:
            raise ValueError(f"cannot request {', '.join(unknown)}: the columns are {', '.join(self.names)}")
        observed = np.zeros(len(self.names), dtype=bool)
        for start in range(0, len(self), CHUNK):  # by rows, as they lie on disk where the table is a memory map
            rows = self.values[start : start + CHUNK]
            infinite = np.argwhere(np.isinf(rows))
            if len(infinite):
                row, column = infinite[0]
                raise ValueError(
                    f"column {self.names[column]!r} holds an infinite value in row {start + row}: "
                    "use NaN for a value that was not observed"
                )
            observed |= ~np.isnan(rows).all(axis=0)
        if not observed.all():
            name = self.names[int(observed.argmin())]
            raise ValueError(f"column {name!r} has no observed value: leave it out")


def _find_offset(values: np.ndarray) -> np.ndarray:
    """What to subtract from each column before it becomes float32, (V,); rows are looked at evenly over the table."""
    n_columns = values.shape[1] if values.ndim == 2 else 0
    offset = np.zeros(n_columns)
    if len(values) and not np.can_cast(values.dtype, np.float32):
        rows = values[:: -(-len(values) // LOOKED_AT)]
        offset[:] = [_column_offset(rows[:, i].astype(np.float64)) for i in range(n_columns)]
    return offset


def _column_offset(column: np.ndarray) -> float:
    """A round number near the median of a column that is narrow beside its size, else 0.

    Round, so that the table keeps it when it grows, and integers stay integers.
    """
    column = column[np.isfinite(column)]
    if not len(column):
        return 0.0
    low, middle, high = np.quantile(column, [0.01, 0.5, 0.99])
    spread = high - low or np.ptp(column)
    if not spread:  # such a table is no use to train on, but it may be a question
        return 0.0 if abs(middle) > np.finfo(np.float32).max or np.float32(middle) == middle else middle
    if spread > NARROW * abs(middle):
        return 0.0
    step = 2.0 ** np.ceil(np.log2(4 * spread))
    return step * np.round(middle / step)


def _store(values: np.ndarray, offset: np.ndarray | float) -> np.ndarray:
    """The values less the offset, float32, in rows that lie together; the same array if it is that already."""
    with np.errstate(over="ignore"):  # infinite values are refused by name later
        if not np.any(offset):
            return np.ascontiguousarray(values, dtype=np.float32)
        stored = np.empty(values.shape, dtype=np.float32)
        for start in range(0, len(values), CHUNK):
            rows = slice(start, start + CHUNK)
            stored[rows] = values[rows] - offset
    return stored
