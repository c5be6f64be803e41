"""California housing (Pace & Barry 1997, Statistics & Probability Letters 33, 291): 20,640 districts in 1990."""

from __future__ import annotations

import socket
import warnings
from pathlib import Path

import numpy as np

from .files import data_folder
from .table import Table

FOLDER = "california_housing"
CACHE = "cal_housing_py3.pkz"  # what scikit-learn writes
CSV = "california_housing.csv"

NAMES = (
    "MedInc",
    "HouseAge",
    "AveRooms",
    "AveBedrms",
    "Population",
    "AveOccup",
    "Latitude",
    "Longitude",
    "HouseValue",
)
UNITS = ("", "yr", "", "", "", "", "deg", "deg", "")
TIMEOUT = 20  # seconds; without a network the download should fail soon
CSV_HEADER = ",".join([*NAMES[:-1], "MedHouseVal"])


def load() -> Table:
    """The nine columns of scikit-learn in its order, the target renamed to ``HouseValue``.

    ``MedInc`` is in 10,000 US dollars, ``HouseValue`` in 100,000 US dollars and capped at 5.00001, ``HouseAge`` in
    years and capped at 52, the coordinates in degrees; the others are counts or ratios. Reads scikit-learn's cache
    in the folder ``california_housing`` of the data folder; failing that ``california_housing.csv`` there; failing
    that, scikit-learn downloads the data into that folder.

    Raises:
        FileNotFoundError: If the data are not there and cannot be downloaded; says how to get them.
        ValueError: If the csv file has other columns.
    """
    folder = data_folder() / FOLDER
    only_csv = (folder / CSV).is_file() and not (folder / CACHE).is_file()
    values = _read_csv(folder / CSV) if only_csv else _fetch(folder)
    return Table(names=NAMES, values=values, units=UNITS, source="California housing, Pace & Barry 1997")


def _read_csv(path: Path) -> np.ndarray:
    """The table of a csv file, (20640, 9)."""
    with path.open() as file:
        header = file.readline().strip()
    if header != CSV_HEADER:
        raise ValueError(f"{path}: the header is {header!r} and should be {CSV_HEADER!r}")
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)


def _fetch(folder: Path) -> np.ndarray:
    """The table from scikit-learn's cache in a folder, which it downloads first if need be, (20640, 9)."""
    from sklearn.datasets import fetch_california_housing

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Retry downloading")  # the error below says all
            housing = fetch_california_housing(data_home=str(folder), n_retries=1, delay=0.1)
    except OSError as error:
        raise FileNotFoundError(
            f"neither {CACHE} nor {CSV} is in {folder}, and scikit-learn could not download them ({error}). Where "
            f"there is a network, run sklearn.datasets.fetch_california_housing(data_home='{FOLDER}') and put the "
            f"file {CACHE} that it writes into {folder}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return np.column_stack([housing.data, housing.target])
