"""Measure densities, joints, errors and denoising against closed forms, and samplers and solvers against each other.

::

    python -m benchmarks.densities trained_models/mixture_improved trained_models/california_housing_improved

Writes ``benchmarks/results/densities.json``: per checkpoint what its few solver steps cost and how far samples of the
two samplers differ; on the mixture, what is known exactly.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.solver import load_table, random_questions, solver_errors
from model import Emulator, Table
from model.datasets.mixture import MIXTURE, GaussianMixture
from model.device import describe_hardware
from model.inference import Conditional
from model.inference.calibration import ks_two_sample
from model.run_folder import write_atomically

RESULTS = Path(__file__).parent / "results" / "densities.json"


def with_measurements(truth: GaussianMixture, errors: Mapping[int, float]) -> GaussianMixture:
    """The mixture with one more dimension per noisy one: true value plus normal noise, in the order of `errors`."""
    n, noisy = truth.means.shape[1], list(errors)
    lift = np.concatenate([np.eye(n), np.eye(n)[noisy]])  # (V + M, V)
    noise = np.diag([*np.zeros(n), *np.square(list(errors.values()))])
    return GaussianMixture(truth.weights, truth.means @ lift.T, lift @ truth.covariances @ lift.T + noise)


def ks_exact(p: Conditional, exact: GaussianMixture) -> float:
    """The KS distance of one row's density from a closed form, without sampling noise."""
    x = grid(exact)
    return float(np.abs(p.cdf(x)[0] - exact.cdf(x)).max())


def grid(exact: GaussianMixture, n: int = 4001) -> np.ndarray:
    """Points that cover a mixture of one dimension."""
    (mean,), (sd,) = exact.mean(), exact.std()
    return mean + sd * np.linspace(-6, 6, n)


def logpdf_error(p: Conditional, exact: GaussianMixture) -> float:
    """Mean absolute error of one row's log density over the central 99% of a closed form, in nats."""
    x = grid(exact)
    at = np.interp(np.linspace(0.005, 0.995, 400), exact.cdf(x), x)
    return float(np.abs(p.logpdf(at)[0] - exact.logpdf(at[:, None])).mean())


def mixture_questions(names: tuple[str, ...], n: int) -> Iterator[tuple[int, dict[int, float]]]:
    """Random questions to the mixture given no, 1, 2 and 3 columns, n of each: the column asked for, values given."""
    rng = np.random.default_rng(11)
    for n_given in range(len(names)):
        for row in MIXTURE.rvs(n, seed=200 + n_given):
            target, *given = rng.permutation(len(names))[: n_given + 1].tolist()
            yield target, {i: float(row[i]) for i in given}


def measure_mixture(emulator: Emulator, n: int = 50) -> dict:
    """KS distance and error of the log density against the exact conditionals, n questions of each size."""
    names, results = emulator.columns, []
    for target, given in mixture_questions(names, n):
        p, exact = emulator.conditional(names[target], named(names, given)), MIXTURE.conditional([target], given)
        results.append((ks_exact(p, exact), logpdf_error(p, exact)))
    results = np.array(results).reshape(-1, n, 2)
    ks, nats = results[[1, 3]].reshape(-1, 2).T  # one column given, and all others
    by_number = results.mean(axis=1)  # no, 1, 2 and 3 columns
    return {
        "mean_ks_exact": _round(ks.mean()),
        "worst_ks_exact": _round(ks.max()),
        "mean_logpdf_error": _round(nats.mean()),
        "mean_ks_exact_given": [_round(x) for x in by_number[:, 0]],
        "mean_logpdf_error_given": [_round(x) for x in by_number[:, 1]],
    }


def measure_noisy(emulator: Emulator, n: int = 10, error: float = 0.4) -> dict:
    """KS distance of answers given one, two and three noisy columns, and of true values given their measurement."""
    names, rng = emulator.columns, np.random.default_rng(12)
    given_errors, denoised = [], []
    for n_given in range(1, len(names)):
        for row in MIXTURE.rvs(n, seed=300 + n_given):
            target, *given = rng.permutation(len(names))[: n_given + 1].tolist()
            noisy = dict.fromkeys(given[: rng.integers(1, n_given + 1)], error)
            seen = {i: float(row[i] + noisy.get(i, 0.0) * rng.standard_normal()) for i in given}
            truth = with_measurements(MIXTURE, noisy)
            place = {i: len(names) + list(noisy).index(i) if i in noisy else i for i in given}
            exact = truth.conditional([target], {place[i]: x for i, x in seen.items()})
            p = emulator.conditional(names[target], named(names, seen), errors=named(names, noisy))
            given_errors.append(ks_exact(p, exact))

            observed = float(row[target] + error * rng.standard_normal())
            known = {i: float(row[i]) for i in given}
            truth = with_measurements(MIXTURE, {target: error})
            exact = truth.conditional([target], {**known, len(names): observed})
            p = emulator.denoise(names[target], observed, error, given=named(names, known))
            denoised.append(ks_exact(p, exact))
    return {
        "errors_ks": _round(np.mean(given_errors)),
        "errors_ks_max": _round(np.max(given_errors)),
        "denoise_ks": _round(np.mean(denoised)),
        "denoise_ks_max": _round(np.max(denoised)),
    }


def measure_joint(emulator: Emulator, n: int = 300, columns: tuple[int, ...] = (0, 1, 2)) -> dict:
    """What the order of three columns changes in their joint log density, and its error, in nats."""
    names, points = emulator.columns, MIXTURE.rvs(n, seed=400)[:, columns]
    exact, orders = MIXTURE.conditional(columns, {}).logpdf(points), []
    for order in itertools.permutations(range(len(columns))):
        joint = emulator.joint([names[columns[i]] for i in order])
        orders.append(joint.logpdf(points[:, order])[0])
    central = exact > np.quantile(exact, 0.01)
    return {
        "joint_order_spread": _round(np.std(orders, axis=0)[central].mean()),
        "joint_logpdf_error": _round(np.abs(orders - exact)[:, central].mean()),
    }


def measure_c2st(emulator: Emulator, n: int = 10_000) -> dict:
    """How well a classifier tells joint samples of all columns from exact ones: 0.5 is not at all."""
    from sklearn.model_selection import cross_val_score
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    drawn, true = emulator.joint(emulator.columns).rvs(n, seed=0)[0], MIXTURE.rvs(n, seed=500)
    order = np.random.default_rng(0).permutation(2 * n)
    x, y = np.concatenate([drawn, true])[order], np.repeat([0, 1], n)[order]
    width = 10 * x.shape[1]
    network = MLPClassifier((width, width), max_iter=1000, random_state=0)
    return {"c2st": _round(cross_val_score(make_pipeline(StandardScaler(), network), x, y, cv=5).mean())}


def measure_solver(emulator: Emulator, table: Table, n: int = 200) -> dict:
    """KS distance of n random questions' answers from the same network's, solved finely (`benchmarks.solver`)."""
    questions = random_questions(emulator, table, n, np.random.default_rng(0))
    distance = np.concatenate([solver_errors(question)[:, 0] for question in questions])
    return {"mean_ks_solver": _round(distance.mean(), 5), "worst_ks_solver": _round(distance.max(), 5)}


def measure_samplers(emulator: Emulator, table: Table, n: int = 50, size: int = 40_000) -> dict:
    """KS distance between samples of the deterministic map and of the head's own stochastic sampler, n questions."""
    distances = []
    for question in random_questions(emulator, table, n, np.random.default_rng(1)):
        p = Conditional(question)
        pairs = zip(*(p.rvs(size, seed=seed, method=method) for seed, method in enumerate(("flow", "sde"))))
        distances += [ks_two_sample(*pair) for pair in pairs]
    return {"ks_flow_sde": _round(np.mean(distances)), "ks_flow_sde_max": _round(np.max(distances))}


def measure(run: Path, n_samplers: int) -> dict:
    emulator = Emulator.load(run)
    start, table = time.perf_counter(), load_table(emulator)
    results = {"date": time.strftime("%Y-%m-%d"), "hardware": describe_hardware(emulator.device)}
    results |= measure_solver(emulator, table) | measure_samplers(emulator, table, n_samplers)
    if emulator.model.experiment.dataset == "mixture":
        results |= measure_mixture(emulator) | measure_noisy(emulator) | measure_joint(emulator)
        results |= measure_c2st(emulator)
    return results | {"seconds": round(time.perf_counter() - start, 1)}


def named(names: tuple[str, ...], values: Mapping[int, float]) -> dict[str, float]:
    return {names[i]: x for i, x in values.items()}


def _round(x: float, digits: int = 4) -> float:
    return round(float(x), digits)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--samplers", type=int, default=50, help="questions to both samplers (default: 50)")
    arguments = parser.parse_args()
    for run in arguments.runs:
        try:
            result = measure(run, arguments.samplers)
        except FileNotFoundError as error:
            print(f"{run.name} is left out: {error}")
            continue
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}  # others may have been measured beside
        results[run.name] = result
        write_atomically(RESULTS, json.dumps(results, indent=1).encode())
        print(run.name, json.dumps(results[run.name], indent=1), flush=True)


if __name__ == "__main__":
    main()
