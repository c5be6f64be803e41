"""What a user gives and asks for: names and units outside, plain arrays inside."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

from ..datasets.table import Table
from ..datasets.vocabulary import Vocabulary


def read_given(given, vocabulary: Vocabulary, units: Sequence[str], differences: bool = False) -> np.ndarray:
    """Sort given columns, of whatever kind, into the order of the vocabulary and into its units.

    Args:
        given: A dict name -> number, list, array, Series, Quantity or Column; a pandas DataFrame; an astropy Table or
            QTable; a structured array; a `Table`; or nothing, ``{}`` or None, for one row in which nothing is known.
            Numbers are used for every row, and a table without columns has the rows that it has. NaN, None and masked
            entries are not observed. Values that carry a unit are converted, others are taken to be in the column's.
        vocabulary: The V columns that may be given.
        units: Their units as astropy writes them, "" for a pure number, (V,).
        differences: The values are differences, errors for instance: of a unit only its size counts, not its zero.

    Returns:
        Values in `units`, NaN where nothing is given, (N, V), float64.

    Raises:
        KeyError: If a column is unknown; lists the nearest names.
        TypeError: If a column is not made of numbers.
        ValueError: If a column is infinite somewhere, has more than one dimension or another length than the others,
            or there are no rows.
        astropy.units.UnitConversionError: If a unit is of the wrong physical type.

    Example:
        >>> read_given({"logg": [2.5, 4.5], "teff": 4700}, Vocabulary(["teff", "logg", "m_h"]), ["K", "dex", "dex"])
        array([[4.7e+03, 2.5e+00,     nan],
               [4.7e+03, 4.5e+00,     nan]])
    """
    columns: dict[str, np.ndarray] = {}
    for name, column, unit in _named_columns(given):
        if not isinstance(name, str):
            raise KeyError(
                f"columns are given by name, not by {name!r}; the first are {', '.join(vocabulary.names[:5])}"
            )
        index = vocabulary.index(name)
        if name in columns:
            raise ValueError(f"column {name!r} is given twice")
        columns[name] = _convert(name, _numbers(name, column), unit, units[index], differences)
    values = np.full((_n_rows(given, columns), len(vocabulary)), np.nan)
    for name, column in columns.items():
        values[:, vocabulary.index(name)] = column
    return values


def read_values(name: str, x, unit: str, differences: bool = False) -> np.ndarray:
    """Values of a column, a number, array or Quantity of any shape, as float64 in its unit; or differences of values.

    Masked values become NaN.

    Raises:
        TypeError: If they are not numbers.
        astropy.units.UnitConversionError: If their unit is of the wrong physical type.
    """
    return _convert(name, _unmasked(name, x), getattr(x, "unit", None), unit, differences)


def read_points(points, names: Sequence[str], units: Sequence[str], n: int) -> np.ndarray:
    """Points in the space of several columns, sorted by name into their order and converted into their units.

    Args:
        points: Anything that names its columns, as `read_given` takes it, each a number, (K,) or (N, K); or an array,
            (K, C) or (N, K, C), in the order of `names`, which may be a Quantity if they are of one physical type.
        names: The C columns.
        units: Their units, (C,).
        n: The number of rows N.

    Returns:
        (K, C) for every row, or (N, K, C), float64.

    Raises:
        KeyError: If a column is not one of these, or one of these is missing; lists the nearest names.
        ValueError: If the shape is another, there are no points, or a column is given twice.
        TypeError, astropy.units.UnitConversionError: As `read_values`.
    """
    if not _has_names(points):
        points = points if isinstance(points, np.ndarray) else np.asarray(points, dtype=np.float64)
        _check_points(points.shape, len(names), n)
        return np.stack([read_values(name, points[..., i], units[i]) for i, name in enumerate(names)], axis=-1)
    columns, own = {}, Vocabulary(names)
    for name, column, unit in _named_columns(points):
        if name in columns:
            raise ValueError(f"column {name!r} is given twice")
        columns[name] = _convert(name, _unmasked(name, column), unit, units[own.index(name)])
    for name in names:
        if name not in columns:
            nearest = ", ".join(difflib.get_close_matches(name, columns, cutoff=0)) or "none"
            raise KeyError(f"the points lack column {name!r}; the nearest they have are: {nearest}")
    try:
        stacked = np.stack(np.broadcast_arrays(*(columns[name] for name in names)), axis=-1)
    except ValueError as error:
        shapes = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
        raise ValueError(f"the points' columns do not fit together: {shapes}") from error
    _check_points(np.atleast_2d(stacked).shape, len(names), n)
    return np.atleast_2d(stacked)


def given_names(given) -> set[str]:
    """The names of the columns that are given, whatever is in them."""
    return {name for name, *_ in _named_columns(given)}


def read_request(request: str | Iterable[str]) -> list[str]:
    """The names of the requested columns: one name, or a list, tuple or array of names.

    Raises:
        TypeError: If it is anything else, a number or a table of names for instance.
        ValueError: If it is empty.
    """
    if isinstance(request, str):
        return [str(request)]
    # Only these keep an order that the answer can follow.
    names = list(request) if isinstance(request, list | tuple) or np.ndim(request) == 1 else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f"request one column name or a flat list of names, not {request!r}")
    if not names:
        raise ValueError("no column is requested")
    return [str(name) for name in names]


def _check_points(shape: tuple[int, ...], c: int, n: int):
    fits = len(shape) in (2, 3) and shape[-1] == c and (len(shape) == 2 or shape[0] in (1, n))
    if not fits or 0 in shape:
        raise ValueError(f"points have shape {shape}: (K, {c}) or ({n}, K, {c}) is expected, at least one of them")


def _has_names(given) -> bool:
    """Whether these are columns with names, rather than plain numbers."""
    return isinstance(given, Table) or hasattr(given, "items") or _fields(given) is not None


def _fields(given) -> tuple[str, ...] | None:
    """The names in a structured array, None if it is none."""
    return getattr(getattr(given, "dtype", None), "names", None)


def _named_columns(given) -> list[tuple[str, object, object]]:
    """Name, column and unit (None if it carries none) of the columns of any kind of table."""
    if given is None:
        return []
    if isinstance(given, Table):
        return [(name, given.column(name), unit or None) for name, unit in zip(given.names, given.units)]
    if not _has_names(given):
        raise TypeError(
            f"given is a {type(given).__name__}; a dict, a pandas DataFrame, an astropy Table or {{}} is expected"
        )
    if not hasattr(given, "items"):
        return [(name, given[name], getattr(given[name], "unit", None)) for name in _fields(given)]
    return [(name, column, getattr(column, "unit", None)) for name, column in given.items()]


def _n_rows(given, columns: dict[str, np.ndarray]) -> int:
    """The number of rows of columns that are scalars or share one length; of a table without columns, its own."""
    lengths = {name: len(column) for name, column in columns.items() if column.ndim == 1}
    if not lengths:
        # The length of a dict, or of one row of a DataFrame, is a number of columns.
        is_array = _fields(given) is not None and np.ndim(given) > 0
        is_table = is_array or isinstance(given, Table) or hasattr(given, "columns")
        n_rows = len(given) if is_table and not columns else 1
        if n_rows == 0:
            raise ValueError("the table given has no rows; {} asks about one row of which nothing is known")
        return n_rows
    first, n_rows = next(iter(lengths.items()))
    for name, length in lengths.items():
        if length != n_rows:
            raise ValueError(
                f"column {first!r} has {n_rows} values, column {name!r} {length}: give as many or one number"
            )
    if n_rows == 0:
        raise ValueError(f"column {first!r} has no rows")
    return n_rows


def _numbers(name: str, column) -> np.ndarray:
    """One column with NaN for what is missing, () or (N,), float64."""
    array = _unmasked(name, column)
    if array.ndim > 1:
        raise ValueError(f"column {name!r} has shape {array.shape}: one number per row is expected")
    too_large = np.abs(array) > np.finfo(np.float32).max  # of single precision, in which the network computes
    if too_large.any():
        raise ValueError(f"column {name!r} is infinite in row {int(np.argmax(too_large))}: use NaN for not observed")
    return array


def _unmasked(name: str, column) -> np.ndarray:
    """Numbers of any shape with NaN for what is missing, float64."""
    if hasattr(column, "to_numpy"):
        # A missing integer is pandas.NA, which is no float.
        column = column.to_numpy(float, na_value=np.nan) if column.dtype.kind in "biuf" else column.to_numpy()
    mask = np.asarray(getattr(column, "mask", False))
    return np.where(mask, np.nan, _floats(name, getattr(column, "unmasked", column)))


def _floats(name: str, column) -> np.ndarray:
    """Numbers as float64; numbers written as text are refused, as they may be codes or sentinels."""
    try:
        array = np.asarray(getattr(column, "value", column))
        is_text = array.dtype.kind == "O" and any(isinstance(entry, str | bytes) for entry in array.flat)
        if array.dtype.kind not in "biufO" or is_text:
            raise TypeError(f"it holds {array.dtype}, for instance {array.flat[:1]}")
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"column {name!r} is not made of plain numbers, one per row: {error}") from error


def _convert(name: str, values: np.ndarray, unit, target_unit: str, differences: bool = False) -> np.ndarray:
    """Values, or differences of values, in another unit of the same physical type.

    Logarithmic units are treated more strictly than by astropy, which turns magnitudes into dex and logarithms into
    plain numbers: in a column such a value is a mistake. A logarithm of a physical quantity that is given for a column
    in plain "dex" is taken in cgs, as log g is.
    """
    if unit is None or str(unit) == target_unit:
        return values
    if differences:
        return _convert(name, values, unit, target_unit) - _convert(name, np.zeros(()), unit, target_unit)
    from astropy import units as u

    source, target = u.Unit(unit), u.Unit(target_unit)
    physical = getattr(source, "physical_unit", u.dimensionless_unscaled)
    try:
        if _logarithm(source) != _logarithm(target):
            raise u.UnitConversionError("one is a logarithm, the other is not or another one")
        if target == u.dex and not physical.is_equivalent(u.dimensionless_unscaled):
            return values + np.log10(physical.cgs.scale)
        return np.asarray(source.to(target, values, equivalencies=u.temperature()))
    except u.UnitConversionError as error:
        column_unit = f"in {target_unit!r}" if target_unit else "a pure number"
        raise u.UnitConversionError(
            f"column {name!r} is {column_unit}, it cannot be given in {str(source)!r}"
        ) from error


def _logarithm(unit):
    """The kind of logarithm of a unit, mag or dex for instance; None if it is none."""
    from astropy import units as u

    return getattr(unit, "function_unit", unit if unit in (u.mag, u.dex, u.dB) else None)
