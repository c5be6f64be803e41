"""Peak memory of large answers, each in a process of its own; Linux only, whose account of the process it reads.

::

    python -m benchmarks.memory samples_of_one_row      # what benchmarks.inference runs
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from model import EXPERIMENTS, Emulator, Table
from model.datasets import mixture
from model.training import make_model

ROOT = Path(__file__).parent.parent
MILLION = 1_000_000
FITTED = 20_000  # rows of the table that the model is made for

# Rows, samples of each or None for three quantiles, overrides of the mixture's sizes. A million rows take a real
# network an hour: a tiny one shows what grows with the rows, the real one, with few of them, what a block takes.
TINY = {"embedding_dim": 8, "heads": 1, "feedforward_dim": 8, "layers": 1, "head_width": 8, "head_layers": 1}
QUESTIONS = {
    "samples_of_one_row": (1, MILLION, {}),
    "three_quantiles_few_rows": (2000, None, {}),
    "three_quantiles_tiny_network": (MILLION, None, TINY),
}


def measure_memory(most_rows: int) -> dict:
    """What `measure` says of every question, of fresh processes."""
    results = {}
    for name in QUESTIONS:
        command = [sys.executable, "-m", "benchmarks.memory", name, "--rows", str(most_rows)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
        results[name] = json.loads(output.splitlines()[-1])
        print(name, results[name], flush=True)
    return results


def measure(name: str, most_rows: int) -> dict:
    """Answer one question; the peak is beyond the model, the given table and the returned array."""
    rows, samples, sizes = QUESTIONS[name]
    rows = min(rows, most_rows)
    names = tuple(mixture.NAMES)
    values = np.random.default_rng(0).standard_normal((max(rows, FITTED), len(names)), dtype=np.float32)
    table = Table(names, values, source="synthetic values")
    model = make_model(table.take(slice(0, FITTED)), EXPERIMENTS["mixture"].override(recipe="improved", **sizes))
    emulator, (asked, *others) = Emulator(model, "cpu"), names
    given = {other: table.column(other)[:rows] for other in others}
    emulator.conditional(asked).rvs(10)  # what torch allocates once
    before = memory("VmRSS")
    answer = emulator.conditional(asked, given)
    result = answer.rvs(samples, seed=0) if samples else answer.ppf([0.16, 0.5, 0.84])
    peak = memory("VmHWM") - before - result.nbytes
    return {"rows": rows, "values": result.size, "peak_gb": round(peak / 1e9, 3)}


def memory(key: str) -> int:
    """Bytes of this process that are resident (VmRSS), or were at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--rows", type=int, default=MILLION, help=f"at most (default: {MILLION})")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # small matrices; leaves a core to whatever runs beside
    print(json.dumps(measure(arguments.question, arguments.rows)))


if __name__ == "__main__":
    main()
