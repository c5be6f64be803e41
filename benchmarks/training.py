"""Training speed: the published procedure, written out literally, against ours, in one run on one machine.

::

    python -m benchmarks.training        # or make bench-training; at most 10 minutes

Stars configuration, batches of 1024, synthetic values, on the CPU and, where there is one, the GPU. The host's noise
cancels in the ratios: both sides are timed in turns. Writes ``benchmarks/results/training.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.published import PublishedNetwork, prepare_epoch, train_step
from model import EXPERIMENTS, Table
from model.device import describe_hardware
from model.run_folder import write_atomically
from model.training import Training
from model.training.procedures import TOKENS_AT_ONCE, in_parts

RESULTS = Path(__file__).parent / "results" / "training.json"
COLUMNS, BATCH, CONTEXT = 118, 1024, 64
PUBLISHED_EPOCHS = 10_240
# Stars that are trained on in the paper's file as it is, and all stars of it.
CATALOGUES = (237_000, 396_718)
ALL_LENGTHS = np.arange(CONTEXT + 1)


def synthetic_stars(n: int) -> Table:
    """Values of nothing: no column is missing, which is the harder case for us."""
    names = tuple(f"column_{i}" for i in range(COLUMNS))
    values = np.random.default_rng(0).standard_normal((n, COLUMNS), dtype=np.float32)
    return Table(names, values, source="synthetic values")


class Published:
    """The literal procedure, a step at a time."""

    def __init__(self, table: Table, device: torch.device):
        experiment = EXPERIMENTS["stars"]
        self.rng = np.random.default_rng(0)
        self.network = PublishedNetwork(COLUMNS, experiment).to(device).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=experiment.training.learning_rate)
        start = time.perf_counter()
        self.values, self.tokens = prepare_epoch(table.values, self.rng)
        self.preparation = (time.perf_counter() - start) / len(table)  # seconds per star

    def step(self, length: int) -> None:
        rows = self.rng.integers(0, len(self.values) - BATCH)
        rows = slice(rows, rows + BATCH)
        # Its time does not depend on the length: all 64 slots are computed.
        train_step(self.network, self.optimizer, self.values[rows], self.tokens[rows], CONTEXT, self.rng)


class Ours:
    """One `Training`, its steps taken one by one with a given context length."""

    def __init__(self, table: Table, device: torch.device, **overrides):
        experiment = EXPERIMENTS["stars"].override(val_fraction=0.0, **overrides)
        with torch.random.fork_rng():
            self.training = Training(table, experiment, None, device)
        self.training.model.network.train()
        self.preparation = 0.0  # drawn on the device within the step

    def step(self, length: int) -> None:
        procedure, device = self.training.procedure, self.training.device
        rows = torch.randint(len(procedure.z), (BATCH,), device=device)
        batch = procedure.draw(rows, int(length), procedure.generator)
        self.training.step(list(in_parts(batch, TOKENS_AT_ONCE.get(device.type))), BATCH)


def seconds_per_star(side, device: torch.device, lengths: np.ndarray) -> float:
    """Mean time of a star over steps with these context lengths."""
    synchronize(device)
    start = time.perf_counter()
    for length in lengths:
        side.step(length)
    synchronize(device)
    return (time.perf_counter() - start) / (BATCH * len(lengths)) + side.preparation


def synchronize(device: torch.device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops_per_star() -> float:
    """Multiply-adds x 2 x 3 (forward, backward) of ours, averaged over the context lengths."""
    size, head = EXPERIMENTS["stars"].network, EXPERIMENTS["stars"].head
    dim, inner = size.embedding_dim, size.feedforward_dim
    slots = ALL_LENGTHS + 1
    full = slots * (4 * dim**2 + 2 * dim * inner) + 2 * slots**2 * dim
    last = slots * 2 * dim**2 + 2 * dim**2 + 2 * dim * inner + 2 * slots * dim
    denoiser = head.head_layers * head.head_width * dim + (head.head_layers - 1) * head.head_width**2
    return 6 * float(np.mean(full * (size.layers - 1) + last) + denoiser)


def matmul_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    n = 2048 if device.type == "cpu" else 8192
    a = torch.randn(n, n, device=device, dtype=dtype)
    a @ a
    synchronize(device)
    start = time.perf_counter()
    repeats = 0
    while time.perf_counter() - start < 2:
        a @ a
        synchronize(device)
        repeats += 1
    return repeats * 2 * n**3 / (time.perf_counter() - start)


def measure(device: torch.device, rounds: int, steps: int, variants: dict[str, dict]) -> dict:
    """Time all sides in turns; medians over the rounds."""
    table = synthetic_stars(20_000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sides = {"published": Published(table, device)} | {k: Ours(table, device, **v) for k, v in variants.items()}
    lengths = np.linspace(0, CONTEXT, steps).round().astype(int)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for name, side in sides.items():  # compilation, allocation
        seconds_per_star(side, device, lengths if name != "published" else lengths[:1])
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(seconds_per_star(side, device, lengths if name != "published" else lengths[:2]))
    best = {name: float(np.median(values)) for name, values in times.items()}
    result = {"hardware": describe_hardware(device), "tf32": bool(torch.backends.cuda.matmul.allow_tf32)}
    for name, seconds in best.items():
        result[name] = {
            "stars_per_second": round(1 / seconds, 1),
            "ratio": round(best["published"] / seconds, 2),
            **{f"hours_{n}_stars": round(PUBLISHED_EPOCHS * n * seconds / 3600, 2) for n in CATALOGUES},
        }
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        ceiling = matmul_ceiling(device, dtype)
        achieved = flops_per_star() / best[name]
        result[name] |= {
            "gflops": round(achieved / 1e9, 1),
            "ceiling_gflops": round(ceiling / 1e9, 1),
            "share_of_ceiling": round(achieved / ceiling, 3),
        }
    return result


def scaling() -> dict:
    """Time per star with small and large tables, and the peak memory beyond the table, each in a fresh process."""
    small, large = 10_000, 400_000
    runs = {n: [json.loads(_run_child(n)) for _ in range(2)] for n in (small, large)}
    seconds = {n: min(run["seconds_per_star"] for run in results) for n, results in runs.items()}
    last = runs[large][-1]
    return {
        "time_per_star_400000_over_10000": round(seconds[large] / seconds[small], 3),
        "peak_memory_beyond_the_table_gb": round((last["peak_bytes"] - last["table_bytes"]) / 1e9, 2),
        "table_gb": round(last["table_bytes"] / 1e9, 2),
    }


def _run_child(n: int) -> str:
    command = [sys.executable, "-m", "benchmarks.training", "--child", str(n)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]


def child(n: int) -> dict:
    """What `scaling` asks of a process of its own: ours alone, in fp32, on a table of n stars."""
    import resource

    table = synthetic_stars(n)
    ours, lengths = Ours(table, torch.device("cpu")), np.linspace(0, CONTEXT, 5).round().astype(int)
    ours.step(CONTEXT)
    seconds = min(seconds_per_star(ours, torch.device("cpu"), lengths) for _ in range(2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds_per_star": seconds, "peak_bytes": peak, "table_bytes": table.values.nbytes}


def profile(device: torch.device) -> list[str]:
    """Where the time of our fp32 step goes: the ten most expensive operators."""
    ours = Ours(synthetic_stars(5_000), device)
    ours.step(32)
    with torch.profiler.profile() as profiler:
        for length in (0, 16, 32, 48, 64):
            ours.step(length)
    events = sorted(profiler.key_averages(), key=lambda e: e.self_cpu_time_total, reverse=True)
    total = sum(event.self_cpu_time_total for event in events)
    return [f"{100 * event.self_cpu_time_total / total:5.1f}%  {event.key}" for event in events[:10]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="times that each side has its turn (default: 2)")
    parser.add_argument("--steps", type=int, default=9, help="our steps in a turn, with lengths 0 .. 64 (default: 9)")
    parser.add_argument("--compile", action="store_true", help="compile our side")
    parser.add_argument("--child", type=int, metavar="N", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.child)))
        return
    variants = {name: {"precision": name, "compile": arguments.compile} for name in ("fp32", "bf16")}
    results = {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__, "compiled": arguments.compile}
    scales = scaling()  # first: a child's peak memory starts at what its parent holds
    results["cpu"] = measure(torch.device("cpu"), arguments.rounds, arguments.steps, variants) | scales
    results["gpu"] = None
    if torch.cuda.is_available():
        results["gpu"] = measure(torch.device("cuda"), arguments.rounds, 65, variants)
        results["gpu"]["stars_per_second"] = results["gpu"]["bf16"]["stars_per_second"]
    results["ratio_fp32"] = results["cpu"]["fp32"]["ratio"]
    results["ratio_bf16"] = results["cpu"]["bf16"]["ratio"]
    print(json.dumps(results, indent=1))
    print("\n".join(["where the time of an fp32 step goes:", *profile(torch.device("cpu"))]))
    RESULTS.parent.mkdir(exist_ok=True)
    write_atomically(RESULTS, json.dumps(results, indent=1).encode())


if __name__ == "__main__":
    main()
