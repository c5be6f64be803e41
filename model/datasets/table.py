"""The one form in which every source of data reaches the rest of the code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2
CHUNK = 65_536  # rows that are looked at together


@dataclass(frozen=True)
class Table:
    """Rows of a table whose columns are the kinds of data that the model knows.

    Args:
        names: Column names, V of them, unique.
        values: Values in the columns' units, (N, V), float32; NaN = not observed. A memory map is never copied whole.
        errors: One-sigma uncertainties in the same units, (N, V), float32; NaN = unknown. None if none is known.
        units: One unit string per column as astropy writes it ("K", "mag", "dex"); "" for a pure number.
        requestable: The columns the model is trained to answer for; all of them if left out.
        ids: One integer or string per row that names the object, (N,), or None. Rows with the same id are
            observations of one object and always fall on the same side of a split.
        source: Where the rows come from, in words, for captions and logs.
        groups: One name per column: of the vector whose component it is, such as a spectrum, or the column's own.

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

    def __post_init__(self):
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "values", np.ascontiguousarray(self.values, dtype=np.float32))
        object.__setattr__(self, "units", tuple(self.units) or ("",) * len(self.names))
        object.__setattr__(self, "requestable", tuple(self.requestable) or self.names)
        object.__setattr__(self, "groups", tuple(self.groups) or self.names)
        if self.errors is not None:
            object.__setattr__(self, "errors", np.ascontiguousarray(self.errors, dtype=np.float32))
        if self.ids is not None:
            object.__setattr__(self, "ids", np.asarray(self.ids))
        self._check_shapes()
        self._check_columns()

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> np.ndarray:
        """The values of one column, (N,)."""
        return self.values[:, self.names.index(name)]

    def take(self, rows: np.ndarray) -> Table:
        """The table of these rows only, in this order; a boolean mask or indices."""
        return replace(
            self,
            values=self.values[rows],
            errors=None if self.errors is None else self.errors[rows],
            ids=None if self.ids is None else self.ids[rows],
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
        )

    def to_frame(self):
        """The values as a pandas DataFrame, ready to be given to an ``Emulator``."""
        import pandas as pd

        return pd.DataFrame(self.values, columns=list(self.names))

    def fingerprint(self) -> str:
        """A checksum of names, values and ids: two tables with the same one split in the same way."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        digest.update(self.values)  # no copy
        if self.ids is not None:
            digest.update("\n".join(map(str, self.ids.tolist())).encode())
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


def split_rows(table: Table, seed: int, test_fraction: float, val_fraction: float) -> np.ndarray:
    """Deal the table's objects to training, validation and test.

    Objects (rows, or unique ids where the table has ids) are permuted by ``numpy.random.default_rng(seed)``; the
    first ``test_fraction`` of them are test objects, the next ``val_fraction`` validation objects. The test objects
    do not depend on ``val_fraction``.

    Returns:
        TRAIN, VALIDATION or TEST for each row, (N,), uint8.

    Raises:
        ValueError: If a fraction is out of range or no row is left to train on.
    """
    if not (0 <= test_fraction < 1 and 0 <= val_fraction < 1):
        raise ValueError(f"fractions must lie in [0, 1): test {test_fraction}, validation {val_fraction}")
    if table.ids is None:
        objects = np.arange(len(table))
    else:
        _, first, inverse = np.unique(table.ids, return_index=True, return_inverse=True)
        # Number the objects by first appearance, so that unique ids split exactly like no ids.
        objects = np.argsort(np.argsort(first))[inverse]
    n = int(objects.max()) + 1
    order = np.random.default_rng(seed).permutation(n)
    n_test, n_val = round(n * test_fraction), round(n * val_fraction)
    if n - n_test - n_val < 1:
        raise ValueError(f"{n} objects leave none to train on beside {n_test} for test and {n_val} for validation")
    part = np.full(n, TRAIN, dtype=np.uint8)
    part[order[:n_test]] = TEST
    part[order[n_test : n_test + n_val]] = VALIDATION
    return part[objects]
