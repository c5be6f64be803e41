"""Every source of data as one Table: yours and the paper's, named columns, the mock sky.

``load("california_housing")``, or ``load("my_stars.fits")``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from . import apogee_xp, california_housing, green2021, mixture, mock_apogee_xp, user_table
from .files import data_folder
from .split import split_rows
from .table import TEST, TRAIN, VALIDATION, Table
from .vocabulary import Vocabulary

__all__ = ["TEST", "TRAIN", "VALIDATION", "Table", "column_names", "data_folder", "describe", "load", "split_rows"]

LOADERS: dict[str, Callable[..., Table]] = {
    "apogee_xp": apogee_xp.load,
    "california_housing": california_housing.load,
    "green2021": green2021.load,
    "mixture": mixture.load,
    "mock_apogee_xp": mock_apogee_xp.load,
    "mock_labels": mock_apogee_xp.load_labels,
}
WITH_ERRORS = ("apogee_xp", "green2021", "mock_apogee_xp", "mock_labels")
NAMES = {
    "apogee_xp": apogee_xp.NAMES,
    "california_housing": california_housing.NAMES,
    "green2021": green2021.NAMES,
    "mixture": mixture.NAMES,
    "mock_apogee_xp": mock_apogee_xp.NAMES,
    "mock_labels": tuple(mock_apogee_xp.LABELS),
}
# Relative to the data folder; the first one that is there is read.
FILES = {
    "apogee_xp": (apogee_xp.TRAINING_FILE,),
    "california_housing": tuple(
        f"{california_housing.FOLDER}/{file}" for file in (california_housing.CACHE, california_housing.CSV)
    ),
    "green2021": (green2021.FILE,),
}


def load(
    dataset: str | Path,
    *,
    id_column: str | None = None,
    columns: Sequence[str] | None = None,
    request: Sequence[str] | None = None,
    key: str | None = None,
    errors: bool = False,
) -> Table:
    """Read a table by the name of its data set, or a user's own file.

    Args:
        dataset: ``apogee_xp``, ``california_housing``, ``green2021``, ``mixture``, ``mock_apogee_xp``, ``mock_labels``,
            or the path of a file.
        id_column: The column of an own file that names the object of each row.
        columns: Columns to keep, in this order; by default all (of an own file: all numeric ones but the ids).
        request: Columns to be answered for; by default all those kept that the data set answers for.
        key: Which table of an own HDF5 file.
        errors: Load the errors of the values too, for measures of noise: training does not use them, and they take as
            much memory as the values. Of ``apogee_xp``, ``green2021``, ``mock_apogee_xp`` and ``mock_labels`` only.

    Raises:
        KeyError: If a column is unknown; lists the nearest names.
        FileNotFoundError: If the data are not there; says where to get them.
        ValueError: If the data are unusable, `id_column` or `key` is given for a named data set, or `errors` asked
            of one that has none.

    Example:
        >>> load("mixture", columns=["c", "a"]).names
        ('c', 'a')
    """
    if errors and str(dataset) not in WITH_ERRORS:
        raise ValueError(f"{str(dataset)!r} has no errors; {', '.join(WITH_ERRORS)} have")
    if str(dataset) not in LOADERS:
        _check_is_file(dataset)
        return user_table.load(dataset, id_column=id_column, columns=columns, request=request, key=key)
    if id_column is not None or key is not None:
        raise ValueError(f"id_column and key are for own files: {dataset!r} knows its objects and its layout")
    loader = LOADERS[str(dataset)]
    return _select(loader(errors=True) if errors else loader(), columns, request)


def describe(dataset: str | Path) -> str:
    """One line that says what `load` would read and whether it is there; nothing is read."""
    if dataset == "mixture":
        return "mixture: drawn from a distribution in closed form, no file is read"
    if dataset in ("mock_apogee_xp", "mock_labels"):
        return f"{dataset}: drawn by a generator in the layout of the paper's files, no file is read"
    paths = [data_folder() / file for file in FILES.get(str(dataset), ())] or [Path(dataset)]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        return f"{dataset}: {' or '.join(map(str, paths))} (missing)"
    return f"{dataset}: {found} ({found.stat().st_size:,} bytes)"


def column_names(dataset: str | Path) -> tuple[str, ...] | None:
    """The columns of a named data set, None for a user's own file; nothing is read."""
    return NAMES.get(str(dataset))


def _check_is_file(dataset: str | Path):
    if not Path(dataset).is_file():
        raise FileNotFoundError(f"no file {str(dataset)!r}; the named data sets are {', '.join(LOADERS)}")


def _select(table: Table, columns: Sequence[str] | None, request: Sequence[str] | None) -> Table:
    """The table with these columns in this order, of which `request` can be asked for."""
    vocabulary = Vocabulary(table.names)
    for name in columns or ():
        vocabulary.index(name)
    table = table if columns is None else table.select(columns)
    kept = Vocabulary(table.names)
    for name in request or ():
        kept.index(name)
    return table if request is None else replace(table, requestable=tuple(request))
