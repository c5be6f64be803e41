"""Measure emulators of the mock sky against the exact posteriors of stars they never saw.

::

    python -m benchmarks.truth trained_models/mock_stars trained_models/mock_stars_improved

Writes ``benchmarks/results/truth.json`` and a picture of twelve of the stars, the first four of each kind of context,
``figs/mock_truth.png``.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from model import Conditional, Emulator
from model.datasets.mock_apogee_xp import Posterior, mock_posterior
from model.datasets.mock_apogee_xp.catalogue import observe
from model.datasets.mock_apogee_xp.errors import COLUMNS
from model.device import describe_hardware
from model.pictures import plotting
from model.run_folder import write_atomically

RESULTS = Path(__file__).parent / "results" / "truth.json"
PICTURE = Path(__file__).parent.parent / "figs" / "mock_truth.png"
SEED = 20_000  # of stars that are in no table a checkpoint was trained on
STARS = 200
MIN_ESS = 5_000  # the importance sampling's own KS noise is then about 0.01
POINTS = 301

# Kind of context -> columns given (of "labels" some, at random) and columns of which one, at random, is asked for.
KINDS = {
    "photometry": (("bprp", "jh", "jk"), ("teff", "logg", "m_h", "logebv", "g_fakemag")),
    "photometry, reddening and parallax": (("bprp", "jh", "jk", "logebv", "g_fakemag"), ("teff", "logg", "m_h")),
    "labels": (("teff", "logg", "m_h", "logebv"), ("teff", "logg", "m_h", "logebv", "g_fakemag", "jh")),
}


class Exact(NamedTuple):
    """An exact posterior on a grid that covers all but its outermost 2 / 10,000, (POINTS,) each.

    Attributes:
        x: Values of the column asked for.
        cdf, pdf: There.
        ess: Effective sample size behind it.
    """

    x: np.ndarray
    cdf: np.ndarray
    pdf: np.ndarray
    ess: float

    @classmethod
    def of(cls, posterior: Posterior) -> Exact:
        x = np.linspace(*posterior.ppf(np.array([1e-4, 1 - 1e-4])), POINTS)
        # Most draws together weigh a ten-thousandth.
        order = np.argsort(posterior.weight)
        heavy = order[np.searchsorted(np.cumsum(posterior.weight[order]), 1e-4) :]
        centre, sigma, weight = posterior.centre[heavy], posterior.sigma[heavy], posterior.weight[heavy]
        rest = replace(posterior, centre=centre, sigma=sigma, weight=weight / weight.sum())
        return cls(x, rest.cdf(x), rest.pdf(x), posterior.ess)


class Asked(NamedTuple):
    """A question to a star whose exact answer is known."""

    kind: str
    given: dict[str, float]
    request: str
    exact: Exact


def questions(n: int) -> list[Asked]:
    """One question of each kind to each of the first n of the benchmark's stars."""
    stars, rng, drawn = observe(STARS, SEED)["values"][:n], np.random.default_rng(SEED), []
    for star in stars:
        for kind, (columns, requests) in KINDS.items():
            request = str(rng.choice(requests))
            columns = [name for name in columns if name != request]
            if kind == "labels":
                columns = rng.permutation(columns)[: rng.integers(1, len(columns) + 1)].tolist()
            drawn.append((kind, {name: float(star[COLUMNS.index(name)]) for name in columns}, request))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        answers = list(tqdm(pool.map(_answer, drawn, chunksize=4), total=len(drawn), unit="posterior", disable=None))
    return [Asked(*question, exact) for question, exact in zip(drawn, answers)]


def _answer(question: tuple[str, dict[str, float], str]) -> Exact:
    _, given, request = question
    return Exact.of(mock_posterior(given, request, min_ess=MIN_ESS, max_draws=2**21))


def modes(density: np.ndarray) -> int | None:
    """Where a density on a grid has its deepest valley, if that is below half of both peaks beside it; else None.

    A twentieth of the mass, or more, is to lie on either side: in the tails, importance samples make valleys by chance.
    """
    left = np.maximum.accumulate(density)
    right = np.maximum.accumulate(density[::-1])[::-1]
    mass = density.cumsum() / density.sum()
    depth = np.where((mass > 0.05) & (mass < 0.95), density / np.minimum(left, right), 1.0)
    return int(depth.argmin()) if depth.min() < 0.5 else None


def compare(p: Conditional, exact: Exact) -> dict[str, float]:
    """One row's answer against the truth: KS, the ratio of widths (16 to 84%), and the mass left of the valley.

    Returns:
        ``ks``, ``width``, and where the exact density has two peaks ``mode_mass``, the model's less the exact one.
    """
    difference = p.cdf(exact.x)[0] - exact.cdf
    ends = np.array([0.16, 0.84])
    width = np.diff(p.ppf(ends)[0])[0] / np.diff(np.interp(ends, exact.cdf, exact.x))[0]
    result = {"ks": np.abs(difference).max(), "width": float(width)}
    valley = modes(exact.pdf)
    if valley is not None:
        result["mode_mass"] = float(difference[valley])
    return result


def measure(emulator: Emulator, asked: list[Asked]) -> dict:
    """`compare`, over all questions and by kind of context."""
    results = [compare(emulator.conditional(q.request, q.given), q.exact) for q in tqdm(asked, disable=None)]
    ks = np.array([result["ks"] for result in results])
    kinds = {kind: ks[[q.kind == kind for q in asked]] for kind in KINDS}
    width = np.array([result["width"] for result in results])
    masses = np.array([result["mode_mass"] for result in results if "mode_mass" in result])
    return {
        "mean_ks": _round(ks.mean()),
        "sd_ks": _round(ks.std()),
        "worst_context_ks": _round(max(of_kind.mean() for of_kind in kinds.values())),
        "ks": {
            kind: {
                "mean": _round(of_kind.mean()),
                "90%": _round(np.quantile(of_kind, 0.9)),
                "worst": _round(max(of_kind)),
            }
            for kind, of_kind in kinds.items()
        },
        "width_ratio": [_round(x) for x in np.quantile(width, [0.16, 0.5, 0.84])],
        "two_peaks": len(masses),
        "mode_mass_error": _round(np.abs(masses).mean()) if len(masses) else None,
    }


def draw(emulators: dict[str, Emulator], asked: list[Asked], per_kind: int = 4):
    """The models' pdfs over the exact ones for the first questions of each kind."""
    import matplotlib.pyplot as plt

    plotting.use_style()
    fig, axes = plt.subplots(len(KINDS), per_kind, figsize=(14, 3.1 * len(KINDS)))
    for row, kind in zip(axes, KINDS):
        for ax, q in zip(row, [q for q in asked if q.kind == kind]):
            x, exact = q.exact.x, q.exact.pdf
            ax.fill_between(x, exact, color=plotting.DATA, linewidth=0, label="exact")
            for (name, emulator), style in zip(emulators.items(), ("-", "--", ":")):
                ax.plot(x, emulator.conditional(q.request, q.given).pdf(x)[0], linestyle=style, label=name)
            unit = next(iter(emulators.values())).units[q.request]
            ax.set(xlabel=f"{q.request} [{unit}]" if unit else q.request, yticks=[], ylim=(0, 1.6 * exact.max()))
            # For labels the context differs from star to star.
            ax.set_title(f"given {', '.join(q.given)}" if kind == "labels" else kind, fontsize="small")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=1 + len(emulators))
    fig.suptitle("Mock stars: the density of one more column, and the exact posterior")
    fig.savefig(PICTURE, dpi=120)


def _round(x: float) -> float:
    return round(float(x), 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders of checkpoints of the mock sky")
    parser.add_argument("--stars", type=int, default=STARS, help=f"stars to ask, of {STARS} (default: all)")
    arguments = parser.parse_args()
    if not 1 <= arguments.stars <= STARS:
        parser.error(f"--stars must be 1 .. {STARS}, not {arguments.stars}")
    start, asked = time.perf_counter(), questions(arguments.stars)
    emulators = {run.name: Emulator.load(run) for run in arguments.runs}
    checkpoints = {}
    for name, emulator in emulators.items():
        checkpoints[name] = measure(emulator, asked)
        print(name, json.dumps(checkpoints[name], indent=1), flush=True)
    # What is quoted is the best of them, by name; the others stand beside it.
    best = min(checkpoints, key=lambda name: checkpoints[name]["mean_ks"])
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": describe_hardware(next(iter(emulators.values())).device),
        "stars": arguments.stars,
        "least_effective_sample_size": round(min(q.exact.ess for q in asked)),
        "questions_below_2000": sum(q.exact.ess < 2000 for q in asked),
        "checkpoint": best,
        "mean_ks": checkpoints[best]["mean_ks"],
        "worst_context_ks": checkpoints[best]["worst_context_ks"],
        "checkpoints": checkpoints,
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_atomically(RESULTS, json.dumps(results, indent=1).encode())
    draw(emulators, asked)
    print(f"mean KS {results['mean_ks']}, worst kind of context {results['worst_context_ks']}: {best}")


if __name__ == "__main__":
    main()
