"""Kill a short training at random instants and resume it: does it end as if nothing had happened?

::

    python -m benchmarks.resume          # or make bench-resume

Every kill is a SIGKILL at a random time, while weights are trained or while a checkpoint is written (one is after every
epoch). Bit-identical means: the same bytes in ``model.safetensors`` and in ``training_metrics.csv``. Writes
``benchmarks/results/resume.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from model.datasets import mixture
from model.run_folder import write_atomically

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "resume.json"
FLAGS = ["--recipe=published", "--epochs=60", "--cycles=3", "--checkpoint-every=1", "--dropout=0.1", "--device=cpu"]
COMPARED = "model.safetensors", "training_metrics.csv"


def start(table: Path, run: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "training.py", str(table), "--run", str(run), *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen):
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the training failed: {errors}")


def kill_and_resume(table: Path, run: Path, seconds: float) -> float:
    """Kill a new run this many seconds after its folder appeared, then resume it; returns the epochs it had done."""
    process = start(table, run, *FLAGS)
    while not (run / "training_metrics.csv").exists() and process.poll() is None:
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    done = (run / "training_metrics.csv").read_text().count("\n") - 1
    finish(start(table, run, "--resume"))
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the instants (default: 0)")
    arguments = parser.parse_args()
    rng, identical, epochs = np.random.default_rng(arguments.seed), 0, []
    with tempfile.TemporaryDirectory() as folder:
        table, whole = Path(folder) / "table.csv", Path(folder) / "whole"
        mixture.load(n=500, seed=0).to_frame().to_csv(table, index=False)
        process = start(table, whole, *FLAGS)
        while not (whole / "training_metrics.csv").exists():
            time.sleep(0.001)
        begin = time.perf_counter()
        finish(process)
        duration = time.perf_counter() - begin
        for i in range(arguments.kills):
            run = Path(folder) / f"killed_{i}"
            epochs.append(kill_and_resume(table, run, rng.uniform(0, 0.9 * duration)))
            same = all((run / name).read_bytes() == (whole / name).read_bytes() for name in COMPARED)
            identical += same
            what = "bit-identical" if same else "DIFFERENT"
            print(f"kill {i + 1}: after {epochs[-1]} of 60 epochs: {what}", flush=True)
    print(f"{identical} of {arguments.kills} runs ended bit-identical")
    RESULTS.parent.mkdir(exist_ok=True)
    results = {"date": time.strftime("%Y-%m-%d"), "kills": arguments.kills, "identical": identical, "epochs": epochs}
    write_atomically(RESULTS, json.dumps(results).encode())
    sys.exit(identical != arguments.kills)


if __name__ == "__main__":
    main()
