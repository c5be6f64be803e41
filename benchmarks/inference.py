"""Speed of answers: the published sampling loop, written out literally, against ours, in one run on one machine.

::

    python -m benchmarks.inference        # or make bench-inference; at most 10 minutes

Stars configuration, all 113 inputs given, synthetic values and random weights: neither changes the time. The literal
loop is timed over a few of its T steps, which are all alike, and scaled. Both sides are timed in turns, so that the
host's noise cancels in the ratios. The errors of the very same steps, nodes and dtype are measured on the trained
checkpoints (`benchmarks.solver`); memory: `benchmarks.memory`. Writes ``benchmarks/results/inference.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.memory import MILLION, measure_memory
from benchmarks.published import PublishedNetwork
from benchmarks.solver import measure_errors
from model import EXPERIMENTS, Emulator, Table
from model.datasets import apogee_xp
from model.device import describe_hardware
from model.inference.flow import COARSE, FULL, PUBLISHED_STEPS
from model.run_folder import write_atomically
from model.training import make_model

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "inference.json"
GAIA_XP = 219_197_643  # sources with BP/RP spectra in Gaia DR3
LABELS = "teff", "logg", "m_h", "logebv", "g_fakemag"
INPUTS = [name for name in apogee_xp.NAMES if name not in LABELS]
ONE_SOURCE, A_STAR, STARS = 10_000, 1000, 1000  # samples of one source, samples a star of a summary, its stars
JOINT, JOINT_SAMPLES, JOINT_STARS = ("m_h", "logg", "teff"), 500, 2
BATCH = 128  # stars that the published code takes at a time
FEW = 10  # stars at a time, so that the literal side has as many samples in a step as for one source
PAPER, SLOTS = 263_000, 20  # of the paper's table: what the improved recipe's sizes follow


class Literal:
    """The published procedure: encode, then T steps for every sample, of which few are timed.

    Args:
        device: Where.
        timed_steps: Of the T.
    """

    def __init__(self, device: torch.device, timed_steps: int):
        self.network = PublishedNetwork(len(apogee_xp.NAMES), EXPERIMENTS["stars"]).to(device).eval()
        self.device, self.timed_steps = device, timed_steps
        self.generator = torch.Generator(device).manual_seed(0)

    def seconds(self, rows: int, samples: int, given: int = len(INPUTS)) -> float:
        """Seconds from contexts of so many columns to samples of each row."""
        value = torch.randn(rows, given, generator=self.generator, device=self.device)
        token = torch.arange(1, given + 1, device=self.device).expand(rows, -1)
        request = torch.full((rows,), given + 1, device=self.device)
        with torch.inference_mode():
            batches = zip(*(x.split(BATCH) for x in (token, value, request)))
            cond, encoding = self._time(lambda: torch.cat([self.network.encode(*batch) for batch in batches]))
        _, start = self._time(lambda: self.network.sample(cond, samples, self.generator, 0))
        _, some = self._time(lambda: self.network.sample(cond, samples, self.generator, self.timed_steps))
        return encoding + start + (some - start) * len(self.network.schedule) / self.timed_steps

    def joint_seconds(self, given: int) -> float:
        """The same for samples of several columns of one star: each sample is the context of the next column."""
        first, *others = range(given, given + len(JOINT))
        return self.seconds(1, JOINT_SAMPLES, first) + sum(self.seconds(JOINT_SAMPLES, 1, n) for n in others)

    def _time(self, work: Callable) -> tuple[torch.Tensor, float]:
        start = time.perf_counter()
        result = work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return result, time.perf_counter() - start


class Ours:
    """An emulator asked through its public face, from question to array.

    Args:
        device: Where.
        recipe: Which head answers.
    """

    def __init__(self, device: torch.device, recipe: str):
        values = np.random.default_rng(0).standard_normal((5000, len(apogee_xp.NAMES)), dtype=np.float32)
        table = Table(apogee_xp.NAMES, values, source="synthetic values")
        experiment = EXPERIMENTS["stars"].override(recipe=recipe).follow(PAPER, SLOTS, patched=True)
        self.emulator = Emulator(make_model(table, experiment), device)
        self.frame = table.to_frame()[INPUTS]
        self.row = self.frame.iloc[0].to_dict()

    def one_source(self) -> float:
        return seconds(lambda: self.emulator.conditional("teff", self.row).rvs(ONE_SOURCE, seed=0))

    def summary(self, stars: int = STARS) -> float:
        given = self.frame.iloc[np.arange(stars) % len(self.frame)]
        return seconds(lambda: self.emulator.summary(given, ["teff"]))

    def joint(self, given: list[str]) -> float:
        frame = self.frame[given][:JOINT_STARS] if given else None  # None: one row of which nothing is known
        taken = seconds(lambda: self.emulator.joint(JOINT, frame).rvs(JOINT_SAMPLES, seed=0))
        return taken / len(frame) if given else taken


def seconds(work: Callable) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_ratios(rounds: int, steps: int, stars: int) -> dict:
    """Time all questions on both sides in turns; medians over the rounds, of which the first is not counted."""
    device = torch.device("cpu")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        literal, short = Literal(device, steps), Literal(device, 1)  # one step of 128,000 samples is long enough
        improved, published = Ours(device, "improved"), Ours(device, "published")
    questions = {
        "one_source": (lambda: literal.seconds(1, ONE_SOURCE), improved.one_source),
        "one_source_published_head": (None, published.one_source),
        "summary": (lambda: short.seconds(BATCH, A_STAR) * stars / BATCH, lambda: improved.summary(stars)),
        "summary_few_at_a_time": (lambda: literal.seconds(FEW, A_STAR) * stars / FEW, None),
        "joint": (lambda: literal.joint_seconds(len(INPUTS)), lambda: improved.joint(INPUTS)),
        "joint_nothing_given": (lambda: literal.joint_seconds(0), lambda: improved.joint([])),
    }
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds + 1):
        for name, sides in questions.items():
            for side, ask in enumerate(sides):
                if ask is not None:
                    times.setdefault((name, side), []).append(ask())
    median = {key: float(np.median(values[1:])) for key, values in times.items()}
    median["one_source_published_head", 0] = median["one_source", 0]
    median["summary_few_at_a_time", 1] = median["summary", 1]
    return {
        **{f"ratio_{name}": round(median[name, 0] / median[name, 1], 1) for name in questions},
        "hours_gaia_xp": round(GAIA_XP * median["summary", 1] / stars / 3600, 1),
        "seconds": {
            name: {side: float(f"{median[name, i]:.4g}") for i, side in enumerate(("literal", "ours"))}
            for name in questions
        },
    }


def measure_gpu(stars: int = 200_000) -> dict:
    """Milliseconds to 10,000 samples of one source, and the rate of summaries."""
    device = torch.device("cuda")
    ours = Ours(device, "improved")
    ours.summary(stars), ours.one_source()  # allocation, kernels
    rate = stars / min(ours.summary(stars) for _ in range(3))
    return {
        "hardware": describe_hardware(device),
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32),
        "one_source_ms": round(1000 * float(np.median([ours.one_source() for _ in range(20)])), 2),
        "summaries_per_second": round(rate, 1),
        "hours_gaia_xp": round(GAIA_XP / rate / 3600, 2),
    }


def settings(arguments: argparse.Namespace) -> dict:
    return {
        "full": {**FULL._asdict(), "points": FULL.points},
        "coarse": {**COARSE._asdict(), "points": COARSE.points},
        "steps_of_the_published_head": PUBLISHED_STEPS * FULL.steps,
        "dtype": "float32; splines float64",
        "threads": torch.get_num_threads(),
        "rounds": arguments.rounds,
        "literal": f"{arguments.steps} of 120 steps timed (summary: 1), in batches of {BATCH} stars",
        "given": len(INPUTS),
        "stars": arguments.stars,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="times that each side has its turn (default: 3)")
    parser.add_argument("--steps", type=int, default=4, help="steps of the literal loop that are timed (default: 4)")
    parser.add_argument("--stars", type=int, default=STARS, help=f"of a summary (default: {STARS})")
    parser.add_argument(
        "--questions", type=int, default=210, help="to the improved checkpoints together (default: 210)"
    )
    parser.add_argument("--rows", type=int, default=MILLION, help=f"of the memory's test (default: {MILLION})")
    parser.add_argument("--runs", type=Path, nargs="+", help="checkpoints (default: all in trained_models)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write")
    arguments = parser.parse_args()
    runs = arguments.runs or sorted(path.parent for path in (ROOT / "trained_models").glob("*/model.safetensors"))
    ratios = measure_ratios(arguments.rounds, arguments.steps, arguments.stars)
    with ThreadPoolExecutor(1) as pool:  # beside the errors: neither is timed
        memories = pool.submit(measure_memory, arguments.rows)
        errors = measure_errors(runs, arguments.questions)
    memories = memories.result()
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": describe_hardware(torch.device("cpu")),
        "torch": torch.__version__,
        "settings": settings(arguments),
        **ratios,
        **errors,
        "peak_memory_gb": max(result["peak_gb"] for result in memories.values()),
        "memory": memories,
        "gpu": measure_gpu() if torch.cuda.is_available() else None,
    }
    print(json.dumps(results, indent=1))
    arguments.results.parent.mkdir(exist_ok=True)
    write_atomically(arguments.results, json.dumps(results, indent=1).encode())


if __name__ == "__main__":
    main()
