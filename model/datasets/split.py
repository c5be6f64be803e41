"""Which rows are trained on, which validated on and which kept for tests: decided by what a row is, not by its place.

N rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from .table import CHUNK, TEST, TRAIN, VALIDATION, Table

SPLIT_VERSIONS = (1, 2)
FEW = 10  # objects, from which on no side that was asked for stays empty


class SplitKey(NamedTuple):
    """What decides the side of a row that a run's table does not have yet, for a run that starts from its model.

    Attributes:
        version: Of `split_rows`; 1 also where the table brought its split: either way a row's place decides.
        seed: Key of the hash.
        columns: Whose values are hashed where there are no ids.
        ids: Whether there are.
        test_fraction: The least one of the runs that led to this one: other objects have been learned from.
    """

    version: int
    seed: int
    columns: tuple[str, ...]
    ids: bool
    test_fraction: float

    @classmethod
    def from_config(cls, config: dict, training) -> SplitKey:
        """That of a run, from its ``config.json``; the training in it says all that is known of old runs."""
        saved = config.get("split_key") or {
            "version": training.split_version,
            "seed": training.seed,
            "columns": config["columns"],
            "ids": False,
            "test_fraction": training.test_fraction,
        }
        return cls(**saved | {"columns": tuple(saved["columns"])})


def split_rows(
    table: Table, seed: int, test_fraction: float, val_fraction: float, version: int = SPLIT_VERSIONS[-1]
) -> np.ndarray:
    """Deal the table's objects to training, validation and test.

    In version 2 a hash with the seed as its key gives each object a place in 0 .. 1: below ``test_fraction`` it is a
    test object, in the ``val_fraction`` above that a validation object. So an object keeps its side when rows are
    appended, left out or put in another order, and the numbers of objects fluctuate as those of random draws do. What
    is hashed is the id as text, without blanks around it: an object whose id is the integer 17 in one file and the text
    "17" in another is the same. Of a table without ids it is the row's own values in single precision, by the names of
    the columns: copies of a row are one object and the order of the columns plays no part, but another column or one
    more digit makes it another object. Ids are better.

    In tables so small that a side would be empty, the object whose place is nearest to it moves there: always for
    training, for the other two (where their fraction is not 0) if there are at least 10 objects.

    Version 1, of runs that were started before there was version 2, permutes the objects in the order of their first
    rows by ``numpy.random.default_rng(seed)``, and takes test and validation objects from the front.

    In both versions, the test objects do not depend on ``val_fraction``. A table that brings its split keeps it.

    Returns:
        TRAIN, VALIDATION or TEST for each row, (N,), uint8.

    Raises:
        ValueError: If a fraction is out of range, no row is left to train on, or the version is unknown.
    """
    if version not in SPLIT_VERSIONS:
        raise ValueError(f"there is no version {version} of the split, only {SPLIT_VERSIONS}")
    if not (0 <= test_fraction < 1 and 0 <= val_fraction < 1):
        raise ValueError(f"fractions must lie in [0, 1): test {test_fraction}, validation {val_fraction}")
    if table.split is not None:
        return table.split
    return (_split_by_hash if version == 2 else _split_by_permutation)(table, seed, test_fraction, val_fraction)


def _split_by_hash(table: Table, seed: int, test_fraction: float, val_fraction: float) -> np.ndarray:
    if test_fraction + val_fraction >= 1:
        raise ValueError(f"none to train on: test {test_fraction} and validation {val_fraction} are all")
    place = _places(table, seed)
    part = np.full(len(table), TRAIN, dtype=np.uint8)
    part[place < test_fraction + val_fraction] = VALIDATION
    part[place < test_fraction] = TEST
    wanted = [side for side, fraction in ((TEST, test_fraction), (VALIDATION, val_fraction)) if fraction > 0]
    if all((part == side).any() for side in (TRAIN, *wanted)):
        return part
    if not (part == TRAIN).any():
        part[place == place.max()] = TRAIN
    if len(np.unique(place)) >= FEW:
        for side in wanted:  # below the places of training objects lie those of the others
            if not (part == side).any():
                part[place == place[part == TRAIN].min()] = side
    return part


def _places(table: Table, seed: int) -> np.ndarray:
    """A number in 0 .. 1 for each row that its id alone decides, or else its values, (N,), float64."""
    texts = _row_bytes(table) if table.ids is None else (_canonical(name) for name in table.ids.tolist())
    key = str(seed).encode()
    hashes = np.frombuffer(b"".join(blake2b(text, digest_size=8, key=key).digest() for text in texts), dtype="<u8")
    return (hashes >> np.uint64(11)) * 2.0**-53


def _canonical(name: int | str | bytes) -> bytes:
    """An id as it is hashed: integers and texts that print alike are the same object."""
    return (name if isinstance(name, bytes) else str(name).encode()).strip()


def _row_bytes(table: Table) -> Iterable[bytes]:
    """The values of each row in single precision, columns by name; one bit pattern for all NaN, one for both zeros."""
    order = np.argsort(table.names)
    for start in range(0, len(table), CHUNK):
        # Without the offsets, which change when the table grows.
        rows = table.physical(slice(start, start + CHUNK))[:, order].astype("<f4") + np.float32(0)
        rows[np.isnan(rows)] = np.nan
        data, width = rows.tobytes(), rows.itemsize * len(order)
        yield from (data[i : i + width] for i in range(0, len(data), width))


def _split_by_permutation(table: Table, seed: int, test_fraction: float, val_fraction: float) -> np.ndarray:
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
