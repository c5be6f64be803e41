"""The paper's 118 columns, 13 minutes of one core: how far the improved recipe's defaults come (``make bench-wide``).

Trained on the mock sky with untouched defaults and one thread, for so many minutes of processor time that other work on
the machine does not count. Asked on 600 test stars each: labels given everything else, given photometry, given ten
coefficients. CRPS is in the column's unit.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from model import EXPERIMENTS, Emulator, datasets, train
from model.datasets import TEST
from model.device import describe_hardware
from model.inference.calibration import LEVELS, crps
from model.run_folder import write_atomically
from model.training import loop

RESULTS = Path(__file__).parent / "results" / "wide.json"
MINUTES, STARS = 13.0, 600
PHOTOMETRY = ("bprp", "jh", "jk")
COEFFICIENTS = tuple(f"bp{i}" for i in range(10))
# Name of the question -> requested column, given columns (None: all others).
QUESTIONS = {
    "teff, all given": ("teff", None),
    "m_h, all given": ("m_h", None),
    "logebv, all given": ("logebv", None),
    "teff, photometry": ("teff", PHOTOMETRY),
    "logg, photometry": ("logg", PHOTOMETRY),
    "teff, ten BP coefficients": ("teff", COEFFICIENTS),
}


class ProcessorTime:
    """What the loop takes for the time: that of this process on the processor."""

    perf_counter = staticmethod(time.process_time)


def ask(emulator: Emulator, table: datasets.Table, request: str, given: tuple[str, ...] | None) -> float:
    """Mean CRPS of a column over test stars that have it, and something of what is given."""
    names = [name for name in given or table.names if name != request]
    truth, values = table.column(request), table.select(table.names).to_frame()[names]
    rows = np.flatnonzero((emulator.model.split == TEST) & ~np.isnan(truth) & values.notna().any(axis=1).to_numpy())
    rows = rows[:STARS]
    quantiles = emulator.conditional(request, values.iloc[rows].reset_index(drop=True)).ppf(LEVELS)
    return float(crps(quantiles, truth[rows]).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of processor time, on one thread")
    parser.add_argument("--precision", default="bf16", help="of matrix products in training")
    parser.add_argument("--run", help="keep the run in this folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loop.time = ProcessorTime
    table = datasets.load("mock_apogee_xp")
    options = {"recipe": "improved", "max_minutes": arguments.minutes, "precision": arguments.precision}
    emulator = train(table, EXPERIMENTS["mock_stars"], run=arguments.run, device="cpu", **options)
    result = {"minutes": arguments.minutes, "precision": arguments.precision}
    result |= {name: ask(emulator, table, *question) for name, question in QUESTIONS.items()}
    result |= {"hardware": describe_hardware(emulator.device), "date": time.strftime("%Y-%m-%d")}
    print(json.dumps(result, indent=1))
    write_atomically(arguments.results, json.dumps(result, indent=1).encode())


if __name__ == "__main__":
    main()
