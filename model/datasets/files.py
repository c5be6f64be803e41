"""Where the data lie, and what to say when they do not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]  # of an installed package, where packages are installed


def data_folder() -> Path:
    """The folder of the data: the environment variable DATA_FILES, or ``data_files``.

    That is the folder of the repository, where the package lies in it. Of an installed package it is a folder in the
    current one: nobody looks for data between the packages of an environment.
    """
    folder = REPOSITORY / "data_files"
    in_the_repository = (folder / "README.rst").is_file()
    return Path(os.environ.get("DATA_FILES") or (folder if in_the_repository else Path.cwd() / "data_files"))


def require(path: Path, origin: str) -> Path:
    """The path itself, if there is a file.

    Args:
        path: Where the file should be.
        origin: Where a user gets it, in words.

    Raises:
        FileNotFoundError: Names the file, its origin and the folder it belongs into.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is not in {path.parent}: get it from {origin} and put it there")
    return path


@contextmanager
def open_hdf5(path: Path) -> Iterator:
    """An HDF5 file open for reading; a damaged one is reported by name.

    Raises:
        ValueError: If the file is truncated or no HDF5 at all.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except PermissionError:
        raise
    except OSError as error:
        raise ValueError(f"{path} is truncated or not an HDF5 file ({error}): get it again") from error


@contextmanager
def new_hdf5(path: str | Path) -> Iterator:
    """An HDF5 file to write, which takes its place once it is complete: until then an older one stands there."""
    import h5py

    part = Path(f"{path}.tmp")
    try:
        with h5py.File(part, "w") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
