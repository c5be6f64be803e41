"""Are the densities right? PIT, coverage, CRPS and the bands that say how far chance alone would go.

No single number answers the question. PIT catches a posterior that is too narrow, too wide or shifted, but a posterior
that ignores its inputs (the marginal of the table) passes it by construction. That one fails the CRPS skill against
the marginal, and the PIT inside bins of an input. `calibrate` therefore reports all three.

N rows, S posterior samples of each row, B bins. Every threshold holds for any sample size, not only asymptotically.
"""

from __future__ import annotations

import numpy as np

# The quantile levels by which every method is scored, so that samplers and quantile models compare, (99,).
LEVELS = np.arange(1, 100) / 100


def pit(samples: np.ndarray, truth: np.ndarray, seed: int) -> np.ndarray:
    r"""The probability integral transform: where the truth lies within its own posterior, as a fraction of it.

    .. math:: u = \frac{\#\{s < x\} + U (\#\{s = x\} + 1)}{S + 1}, \quad U \sim \mathcal{U}(0, 1)

    If truth and samples are exchangeable, u is uniform on (0, 1) exactly: for any S, and where truth and samples share
    values that are held by many rows (atoms), which without U pile up at one rank. Both are compared in the coarser
    of their two precisions, so that an atom of a float32 table still equals the same atom in float64 samples.

    Reference: Czado, Gneiting & Held 2009, Biometrics 65, 1254 (randomised PIT); Talts et al. 2018, arXiv:1804.06788.

    Args:
        samples: Posterior samples, (N, S), in the unit of the truth.
        truth: Observed values, (N,).
        seed: Seed of U.

    Returns:
        PIT values in [0, 1], (N,).

    Raises:
        ValueError: If the shapes disagree or a sample or a truth is not finite.

    Example:
        >>> draws = np.random.default_rng(0).normal(size=(1000, 51))
        >>> bool(ks_uniform(pit(draws[:, 1:], draws[:, 0], seed=1)) < ks_threshold(1000))
        True
    """
    samples, truth = _same_precision(samples, truth)
    _check_rows(samples, truth, "samples")
    below = (samples < truth[:, None]).sum(axis=1)
    equal = (samples == truth[:, None]).sum(axis=1)
    u = np.random.default_rng(seed).random(len(truth))
    return (below + u * (equal + 1)) / (samples.shape[1] + 1)


def ecdf(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the empirical distribution function's staircase, x and height, (2N,) each."""
    values = _finite(np.asarray(values), "values")
    steps = np.arange(len(values) + 1) / len(values)
    return np.repeat(np.sort(values), 2), np.column_stack([steps[:-1], steps[1:]]).ravel()


def ks_uniform(pit: np.ndarray) -> float:
    """The Kolmogorov-Smirnov distance between PIT values, (N,), and the uniform distribution on (0, 1).

    Example:
        >>> ks_uniform(np.array([0.25, 0.75])), ks_uniform(np.array([0.9, 0.9]))
        (0.25, 0.9)
    """
    x, height = ecdf(_check_pit(pit))
    return float(np.abs(height - x).max())


def ks_threshold(n: int | np.ndarray, level: float = 0.99, tests: int = 1) -> float | np.ndarray:
    r"""The KS distance that n uniform values stay below with at least this probability.

    .. math:: \epsilon = \sqrt{\ln(2 / (1 - \mathrm{level})) / (2 n)}

    Reference: Dvoretzky, Kiefer & Wolfowitz 1956; Massart 1990, Ann. Probab. 18, 1269 (the constant 2).

    With more than one test, all of them pass together with this probability (Bonferroni). An array n gives an array.

    Example:
        >>> float(ks_threshold(1000).round(4))
        0.0515
    """
    return np.sqrt(np.log(2 * tests / (1 - level)) / (2 * n))


def ecdf_band(n: int, grid: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The band that holds the whole ECDF of n uniform values with at least this probability.

    Simultaneous over the grid, from the bound of `ks_threshold`: an ECDF leaves it only where KS exceeds that.
    Returns the lower and the upper limit at the grid points, (G,) each, cut to [0, 1].
    """
    grid, epsilon = np.asarray(grid, dtype=float), ks_threshold(n, level)
    return np.clip(grid - epsilon, 0, 1), np.clip(grid + epsilon, 0, 1)


def ks_two_sample(a: np.ndarray, b: np.ndarray) -> float:
    """The Kolmogorov-Smirnov distance between two samples of any sizes, exact, ties included.

    Example:
        >>> ks_two_sample(np.array([1.0, 2.0, 2.0]), np.array([2.0, 3.0]))
        0.5
    """
    a, b = _same_precision(a, b)
    a, b = np.sort(_finite(a, "the first sample")), np.sort(_finite(b, "the second sample"))
    # Both ECDFs are compared after the last of equal values: between ties the difference means nothing.
    ecdf_a, ecdf_b = (np.searchsorted(c, np.concatenate([a, b]), side="right") / len(c) for c in (a, b))
    return float(np.abs(ecdf_a - ecdf_b).max())


def pit_in_bins(pit: np.ndarray, x: np.ndarray, bins: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """KS of the PIT inside quantile bins of an input, to catch a posterior that does not look at its inputs.

    Args:
        pit: PIT values, (N,).
        x: An input of the same rows, (N,); rows where it is NaN are left out.
        bins: Number of bins of about equally many rows. Fewer come back where many rows share one value of x.

    Returns:
        Edges (B + 1,) in the unit of x (a bin holds its lower edge, the last one both), KS (B,), rows (B,). Judge the
        KS by ``ks_threshold(n, tests=B)``.

    Example:
        >>> x = np.linspace(-1, 1, 1000)
        >>> edges, ks, n = pit_in_bins((x + 1) / 2, x, bins=2)
        >>> edges.round(2).tolist(), ks.round(2).tolist(), n.tolist()
        ([-1.0, 0.0, 1.0], [0.5, 0.5], [500, 500])
    """
    pit, x = _check_pit(pit), np.asarray(x)
    if x.shape != pit.shape:
        raise ValueError(f"{pit.shape} PIT values and {x.shape} values of the input: they must agree")
    pit, x = pit[~np.isnan(x)], _finite(x[~np.isnan(x)], "the observed values of the input")
    # Cuts are observed values above the least one, so that no bin is ever empty.
    cuts = np.unique(np.quantile(x, np.arange(1, bins) / bins, method="higher"))
    cuts = cuts[cuts > x.min()]
    which = np.searchsorted(cuts, x, side="right")
    ks = np.array([ks_uniform(pit[which == b]) for b in range(len(cuts) + 1)])
    return np.concatenate([[x.min()], cuts, [x.max()]]), ks, np.bincount(which)


def coverage(pit: np.ndarray, levels: np.ndarray | float) -> np.ndarray:
    """The share of truths inside the central intervals that should hold these shares, (L,) for levels (L,)."""
    distance = np.sort(np.abs(2 * _check_pit(pit) - 1))
    return np.searchsorted(distance, np.asarray(levels), side="right") / len(distance)


def crps(quantiles: np.ndarray, truth: np.ndarray) -> np.ndarray:
    r"""The continuous ranked probability score: twice the mean pinball loss over `LEVELS`, (N,); lower is better.

    .. math:: \mathrm{CRPS} = \frac{2}{99} \sum_k (x - q_k) (\tau_k - 1[x < q_k])

    Reference: Gneiting & Raftery 2007, JASA 102, 359; Laio & Tamea 2007, HESS 11, 1267 (as an integral over quantiles).

    Args:
        quantiles: Quantiles of the predicted densities at `LEVELS`, (N, 99), or (1, 99) where all rows share them.
        truth: Observed values, (N,).

    Example:
        >>> crps(np.full((1, 99), 2.0), np.array([2.0, 5.0])).round(6).tolist()
        [0.0, 3.0]
    """
    quantiles, truth = np.asarray(quantiles, dtype=float), np.asarray(truth, dtype=float)
    if quantiles.ndim != 2 or quantiles.shape[1] != len(LEVELS):
        raise ValueError(f"quantiles have shape {quantiles.shape}: (N, {len(LEVELS)}), one per level, is needed")
    _check_rows(np.repeat(quantiles, len(truth), axis=0) if len(quantiles) == 1 else quantiles, truth, "quantiles")
    error = truth[:, None] - quantiles
    return 2 * (error * (LEVELS - (error < 0))).mean(axis=1)


def crps_skill(crps_model: np.ndarray, crps_reference: np.ndarray) -> float:
    """The share of the reference's mean CRPS that the model takes away: 1 = perfect, 0 = no better, < 0 = worse."""
    reference = np.mean(crps_reference)
    if reference == 0:
        raise ValueError("the reference is already perfect (CRPS 0): no skill can be measured against it")
    return float(1 - np.mean(crps_model) / reference)


def marginal_quantiles(training_values: np.ndarray) -> np.ndarray:
    """The quantiles of a column's training values, NaN left out, at `LEVELS`, (99,): the reference of `crps_skill`."""
    values = np.asarray(training_values)
    return np.quantile(_finite(values[~np.isnan(values)], "the training values"), LEVELS)


def calibrate(
    samples: np.ndarray, truth: np.ndarray, marginal: np.ndarray, x: np.ndarray | None = None, seed: int = 0
) -> dict[str, float]:
    """Everything that has to hold for a posterior to be believed, in one dictionary.

    Args:
        samples: Posterior samples, (N, S); their 99 quantiles want S of 200 or more.
        truth: Observed values, (N,).
        marginal: Training values of the same column, (M,), whose quantiles are the truth-blind reference.
        x: An input of the same rows, (N,), for the PIT in bins; NaN = not observed.
        seed: Seed of the randomised PIT.

    Returns:
        ``pit_ks`` with ``pit_ks_threshold`` (99%); with x, the bin furthest over its own threshold ``worst_bin_ks``
        with ``worst_bin_threshold`` (99% for all bins together); ``coverage_68``, ``coverage_95``; the mean ``crps``,
        ``crps_skill`` against the marginal, and the number of rows ``n``.

    Example:
        >>> x, noise = np.random.default_rng(0).normal(size=(2, 500)), np.random.default_rng(1).normal(size=(500, 200))
        >>> report = calibrate(x[0][:, None] + 0.1 * noise, x[0] + 0.1 * x[1], x[0], x[0])
        >>> report["pit_ks"] < report["pit_ks_threshold"], report["crps_skill"] > 0.8
        (True, True)
    """
    return assess(pit(samples, truth, seed), np.quantile(samples, LEVELS, axis=1).T, truth, marginal, x)


def assess(
    u: np.ndarray, quantiles: np.ndarray, truth: np.ndarray, marginal: np.ndarray, x: np.ndarray | None = None
) -> dict[str, float]:
    """`calibrate` for densities whose PIT values u, (N,), and quantiles at `LEVELS`, (N, 99), are known exactly."""
    score = crps(quantiles, truth)
    report = {"pit_ks": ks_uniform(u), "pit_ks_threshold": float(ks_threshold(len(u)))}
    if x is not None:
        _, ks, n = pit_in_bins(u, x)
        threshold = ks_threshold(n, tests=len(n))
        worst = np.argmax(ks / threshold)
        report |= {"worst_bin_ks": float(ks[worst]), "worst_bin_threshold": float(threshold[worst])}
    report["coverage_68"], report["coverage_95"] = coverage(u, [0.68, 0.95]).tolist()
    report["crps"] = float(score.mean())
    report["crps_skill"] = crps_skill(score, crps(marginal_quantiles(marginal)[None], truth))
    return report | {"n": float(len(u))}


def _same_precision(*arrays: np.ndarray) -> list[np.ndarray]:
    arrays = [a if np.issubdtype(a.dtype, np.floating) else a.astype(float) for a in map(np.asarray, arrays)]
    coarsest = min((a.dtype for a in arrays), key=lambda dtype: dtype.itemsize)
    return [a.astype(coarsest, copy=False) for a in arrays]


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{what} have shape {values.shape}: one dimension and at least one value are needed")
    if not np.isfinite(values).all():
        raise ValueError(f"{what}: {np.count_nonzero(~np.isfinite(values))} of {len(values)} are not finite")
    return values


def _check_pit(pit: np.ndarray) -> np.ndarray:
    pit = _finite(np.asarray(pit), "PIT values")
    if pit.min() < 0 or pit.max() > 1:
        raise ValueError(f"PIT values lie in [0, 1]; these reach from {pit.min()} to {pit.max()}")
    return pit


def _check_rows(rows: np.ndarray, truth: np.ndarray, what: str):
    if rows.ndim != 2 or rows.shape[1] == 0 or truth.shape != rows.shape[:1]:
        raise ValueError(f"{what} have shape {rows.shape}, the truth {truth.shape}: (N, >= 1) and (N,) are needed")
    if np.isnan(truth).any():
        raise ValueError(f"the truth is NaN in {np.isnan(truth).sum()} of {len(truth)} rows: select the observed rows")
    _finite(truth, "truths")
    _finite(rows.ravel(), what)
