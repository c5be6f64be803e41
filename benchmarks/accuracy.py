"""Measure trained emulators on rows they never saw; the numbers go into each run's ``metrics.json`` under ``test``.

::

    python -m benchmarks.accuracy trained_models/california_housing trained_models/green2021 trained_models/mixture
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from model import Emulator, Table, datasets
from model.datasets import TEST, TRAIN, mixture
from model.device import describe_hardware
from model.inference.calibration import LEVELS, assess, calibrate, ks_two_sample
from model.run_folder import write_atomically


def measure_columns(emulator: Emulator, table: Table, samples: int, max_rows: int) -> dict:
    """Calibration and CRPS of every requestable column of test rows given all the others that are observed."""
    split, results = emulator.model.split, {}
    for name in emulator.requestable:
        truth = table.column(name)
        rows = np.flatnonzero((split == TEST) & ~np.isnan(truth))
        if len(rows) > max_rows:  # at random: a table may be sorted
            rows = np.sort(np.random.default_rng(0).choice(rows, max_rows, replace=False))
        others = table.take(rows).to_frame().drop(columns=name)
        density = emulator.conditional(name, others)
        training = truth[(split == TRAIN) & ~np.isnan(truth)]
        # One more column, the first other one, to look for miscalibration that hides in its bins.
        what = {"truth": truth[rows], "marginal": training, "x": others.iloc[:, 0].to_numpy()}
        if is_published(emulator):
            results[name] = calibrate(density.rvs(samples, seed=0, method="ancestral"), **what)
        else:
            results[name] = assess(density.pit(truth[rows]), density.ppf(LEVELS), **what)
        print(f"{name:12s}", *(f"{key} {value:.4g}" for key, value in results[name].items()), flush=True)
    return results


def is_published(emulator: Emulator) -> bool:
    """Whether the model is asked in the published way, by ancestral samples."""
    return emulator.model.experiment.training.recipe == "published"


def draw(emulator: Emulator, name: str, given: dict, size: int) -> np.ndarray:
    """Samples in the way of the model's recipe, (N, size)."""
    method = "ancestral" if is_published(emulator) else "flow"
    return emulator.conditional(name, given).rvs(size, seed=0, method=method)


def measure_marginals(emulator: Emulator, table: Table, size: int = 20_000) -> dict:
    """KS distance between unconditional samples and all rows, for every requestable column."""
    distances = {}
    for name in emulator.requestable:
        observed = table.column(name)[~np.isnan(table.column(name))]
        drawn = draw(emulator, name, {}, size)[0]
        distances[name] = round(ks_two_sample(drawn, observed), 4)
    mean = round(float(np.mean(list(distances.values()))), 4)
    return {"date": time.strftime("%Y-%m-%d"), "mean": mean, **distances}


def measure_bimodality(emulator: Emulator, table: Table, samples: int = 1000) -> dict:
    """Giants and dwarfs at 4400 < Teff < 5000 K: the mass that p(log g | Teff) puts below log g = 3.5."""
    stars = table.take(emulator.model.split == TEST)
    stars = stars.take((stars.column("teff") > 4400) & (stars.column("teff") < 5000))
    drawn = draw(emulator, "logg", {"teff": stars.column("teff")}, samples)
    fraction = float((stars.column("logg") < 3.5).mean())
    edges = np.arange(0.0, 6.01, 0.1)
    height, centre = np.histogram(drawn, edges, density=True)[0], edges[:-1] + 0.05
    giants, dwarfs = height[centre < 3.5].max(), height[centre > 4.0].max()
    between = (centre > centre[height == giants][0]) & (centre < centre[height == dwarfs][-1])
    return {
        "stars": len(stars),
        "fraction_of_giants": round(fraction, 4),
        "standard_error": round(float(np.sqrt(fraction * (1 - fraction) / len(stars))), 4),
        "predicted_fraction": round(float((drawn < 3.5).mean()), 4),
        "valley_over_lower_peak": round(float(height[between].min() / min(giants, dwarfs)), 4),
    }


def measure_exact(emulator: Emulator, size: int = 20_000) -> dict:
    """KS distance to the mixture's exact conditionals, ten random questions with 1, 2 and all other columns given."""
    rng, truth, names = np.random.default_rng(7), mixture.MIXTURE, emulator.columns
    distances: dict[str, list[float]] = {}
    for n_given in (1, 2, len(names) - 1):
        for row in truth.rvs(10, seed=100 + n_given):
            order = rng.permutation(len(names))
            target, given = int(order[0]), sorted(int(i) for i in order[1 : n_given + 1])
            exact = truth.conditional([target], {i: float(row[i]) for i in given})
            drawn = draw(emulator, names[target], {names[i]: row[i] for i in given}, size)[0]
            distances.setdefault(f"given_{n_given}", []).append(ks_exact(drawn, exact.cdf))
    every = np.concatenate(list(distances.values()))
    means = {key: round(float(np.mean(values)), 4) for key, values in distances.items()}
    return {"mean": round(float(every.mean()), 4), "worst": round(float(every.max()), 4), **means}


def ks_exact(samples: np.ndarray, cdf) -> float:
    """Largest distance between the samples' ECDF and a distribution function."""
    ordered = np.sort(samples.astype(np.float64))
    expected, n = cdf(ordered), len(ordered)
    return float(max((np.arange(1, n + 1) / n - expected).max(), (expected - np.arange(n) / n).max()))


def open_run(run: Path) -> tuple[Emulator, Table]:
    """A trained emulator and the table that it was trained on."""
    emulator = Emulator.load(run)
    table = datasets.load(emulator.model.experiment.dataset)
    if table.fingerprint() != emulator.model.fingerprint:
        raise ValueError(f"{run} was trained on another table than the one in {datasets.data_folder()}")
    return emulator, table


def measure(run: Path, samples: int, max_rows: int) -> dict:
    emulator, table = open_run(run)
    print(f"{emulator!r}, {(emulator.model.split == TEST).sum()} test rows")
    start = time.perf_counter()
    results = {"date": time.strftime("%Y-%m-%d"), "hardware": describe_hardware(emulator.device), "samples": samples}
    if emulator.model.experiment.dataset == "mixture":
        results["ks_exact"] = measure_exact(emulator)
    else:
        results["columns_given_all_others"] = measure_columns(emulator, table, samples, max_rows)
        results["ks_unconditional"] = measure_marginals(emulator, table)
    if emulator.model.experiment.dataset == "green2021":
        results["bimodality"] = measure_bimodality(emulator, table)
    results["seconds"] = round(time.perf_counter() - start, 1)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--samples", type=int, default=250, help="samples per row and column (default: 250)")
    parser.add_argument("--rows", type=int, default=10**9, help="test rows per column at most (default: all)")
    parser.add_argument("--marginals", action="store_true", help="only what is answered with nothing given, again")
    arguments = parser.parse_args()
    for run in arguments.runs:
        metrics = json.loads((run / "metrics.json").read_text())
        if arguments.marginals:
            emulator, table = open_run(run)
            results = metrics["test"] | {"ks_unconditional": measure_marginals(emulator, table)}
        else:
            results = measure(run, arguments.samples, arguments.rows)
        metrics |= {"test": results}
        write_atomically(run / "metrics.json", json.dumps(metrics, indent=1).encode())
        print(json.dumps({k: v for k, v in results.items() if k != "columns_given_all_others"}, indent=1))


if __name__ == "__main__":
    main()
