"""Small files of XP spectra in the formats of the Gaia archive, for tests."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
from astropy.table import MaskedColumn
from astropy.table import Table as AstropyTable

from model.datasets.reduction import Spectra

IDS = np.array([5853498713190525696, 5405570973190252288, 4295806720])  # more digits than a float has


def draw_spectra(ids: np.ndarray = IDS, without_bp: int | None = 1) -> Spectra:
    """Spectra with coefficients of both signs, the largest as large as those of real bright stars."""
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(len(ids), 110)) * 10 ** rng.uniform(-1, 5.5, (len(ids), 110))).astype(np.float32)
    errors = rng.uniform(0.1, 5, (len(ids), 110)).astype(np.float32)
    n_relevant = rng.integers(1, 56, (len(ids), 2))
    if without_bp is not None:
        values[without_bp, :55] = errors[without_bp, :55] = np.nan
        n_relevant[without_bp, 0] = 0
    return Spectra(ids, values, errors, n_relevant)


def archive_table(spectra: Spectra) -> AstropyTable:
    """The columns of the archive that are read: arrays that are empty where there is no spectrum."""
    table = AstropyTable({"source_id": spectra.source_id})
    for i, band in enumerate(("bp", "rp")):
        n, orders = spectra.n_relevant[:, i], slice(55 * i, 55 * (i + 1))
        for name, part in (("coefficients", spectra.coefficients), ("coefficient_errors", spectra.errors)):
            arrays = np.empty(len(n), dtype=object)
            vectors = (row[orders] if has else row[:0] for row, has in zip(part, n > 0))
            arrays[:] = [np.ma.array(vector, mask=np.zeros(len(vector), bool)) for vector in vectors]  # for VOTable
            table[f"{band}_{name}"] = arrays
        table[f"{band}_n_relevant_bases"] = MaskedColumn(n.astype(np.int16), mask=n == 0, fill_value=-32768)
    return table


def write_archive(path: Path, table: AstropyTable) -> Path:
    """A file as the archive hands it out: BINARY2 in VOTable, variable-length arrays in FITS, "(a, b)" in csv."""
    if ".csv" not in path.name:
        table.write(path, **({"format": "votable", "tabledata_format": "binary2"} if path.suffix == ".xml" else {}))
        return path
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(table.colnames)
        rows.writerows(map(as_text, row) for row in table)
    return path


def as_text(cell) -> str:
    if cell is np.ma.masked or np.size(cell) == 0:
        return ""
    return f"({', '.join(map(str, cell.tolist()))})" if np.ndim(cell) else str(cell)
