"""The mixture's closed forms against integration and sampling."""

from __future__ import annotations

import numpy as np
import pytest

from model.datasets.mixture import MIXTURE, GaussianMixture


def pdf_on_grid(mixture: GaussianMixture, points: int = 4001) -> tuple[np.ndarray, np.ndarray]:
    grid = np.linspace(-12, 12, points)
    return grid, np.exp(mixture.logpdf(grid[:, None]))


def test_conditional_is_joint_over_marginal():
    given = {0: 0.4, 3: -0.7}
    conditional = MIXTURE.conditional([2, 1], given)
    joint, marginal = MIXTURE.conditional([2, 1, 0, 3], {}), MIXTURE.conditional([0, 3], {})
    points = np.random.default_rng(0).normal(size=(50, 2))
    expected = joint.logpdf(np.column_stack([points, np.tile([0.4, -0.7], (50, 1))])) - marginal.logpdf([0.4, -0.7])
    np.testing.assert_allclose(conditional.logpdf(points), expected, rtol=1e-10)


def test_marginal_is_the_integral_of_the_joint():
    grid = np.linspace(-12, 12, 2001)
    pair = MIXTURE.conditional([1, 2], {})
    points = np.stack(np.broadcast_arrays(0.3, grid), axis=-1)
    integral = np.trapezoid(np.exp(pair.logpdf(points)), grid)
    np.testing.assert_allclose(integral, np.exp(MIXTURE.conditional([1], {}).logpdf([0.3])), rtol=1e-8)


@pytest.mark.parametrize("given", [{}, {2: 0.15}, {1: 3.0, 2: -4.0, 3: 2.0}])
def test_cdf_is_the_integral_of_the_pdf(given):
    conditional = MIXTURE.conditional([0], given)
    grid, pdf = pdf_on_grid(conditional)
    integral = np.concatenate([[0], np.cumsum((pdf[1:] + pdf[:-1]) / 2 * np.diff(grid))])
    np.testing.assert_allclose(conditional.cdf(grid), integral, atol=1e-4)
    mean = np.trapezoid(grid * pdf, grid)
    np.testing.assert_allclose(conditional.mean(), [mean], atol=1e-6)
    np.testing.assert_allclose(conditional.std() ** 2, [np.trapezoid((grid - mean) ** 2 * pdf, grid)], rtol=1e-6)


def test_samples_follow_every_marginal():
    n = 20_000
    samples = MIXTURE.rvs(n, seed=0)
    for dim in range(4):
        u = np.sort(MIXTURE.conditional([dim], {}).cdf(samples[:, dim]))
        distance = np.abs(u - (np.arange(n) + 0.5) / n).max()
        assert distance < 1.95 / np.sqrt(n)  # Kolmogorov-Smirnov, false alarm 0.1 %
    correlation = np.corrcoef(samples, rowvar=False)
    within = np.einsum("k,kij->ij", MIXTURE.weights, MIXTURE.covariances)
    between = np.cov(MIXTURE.means.T, aweights=MIXTURE.weights, ddof=0)
    expected = (within + between) / np.outer(MIXTURE.std(), MIXTURE.std())
    np.testing.assert_allclose(correlation, expected, atol=4 / np.sqrt(n))


def test_samples_follow_conditionals_given_the_rest_of_their_row():
    n = 2000
    u = [float(MIXTURE.conditional([0], {1: b, 2: c, 3: d}).cdf(a)) for a, b, c, d in MIXTURE.rvs(n, seed=1)]
    distance = np.abs(np.sort(u) - (np.arange(n) + 0.5) / n).max()
    assert distance < 1.95 / np.sqrt(n)


def test_one_conditional_has_two_peaks():
    _, pdf = pdf_on_grid(MIXTURE.conditional([0], {2: 0.15}))
    peaks = np.flatnonzero((pdf[1:-1] > pdf[:-2]) & (pdf[1:-1] > pdf[2:])) + 1
    assert len(peaks) == 2
    valley = pdf[peaks[0] : peaks[1]].min()
    assert valley < 0.5 * pdf[peaks].min()


def test_no_conditional_is_narrow():
    marginal_std = MIXTURE.std()
    rng = np.random.default_rng(0)
    for row in MIXTURE.rvs(300, seed=2):
        request = int(rng.integers(4))
        given = {dim: row[dim] for dim in range(4) if dim != request and rng.random() < 0.8}
        assert MIXTURE.conditional([request], given).std()[0] > 0.1 * marginal_std[request]


def test_conditional_far_from_everything_is_finite():
    conditional = MIXTURE.conditional([0], {1: 1e4})
    assert np.isfinite(conditional.mean()).all()
    assert np.isclose(conditional.weights.sum(), 1)


def test_same_seed_same_samples():
    np.testing.assert_array_equal(MIXTURE.rvs(10, seed=5), MIXTURE.rvs(10, seed=5))


@pytest.mark.parametrize(("request_dims", "given"), [([0], {0: 1.0}), ([1, 1], {})])
def test_contradictory_questions_are_refused(request_dims, given):
    with pytest.raises(ValueError, match="requested or given once"):
        MIXTURE.conditional(request_dims, given)


def test_impossible_mixtures_are_refused():
    with pytest.raises(ValueError, match="sum 1"):
        GaussianMixture([0.5], [[0.0]], [[[1.0]]])
    with pytest.raises(ValueError, match="shapes"):
        GaussianMixture([1.0], [[0.0, 1.0]], [[[1.0]]])
    with pytest.raises(np.linalg.LinAlgError):
        GaussianMixture([1.0], [[0.0]], [[[-1.0]]])
    with pytest.raises(ValueError, match="one dimension"):
        MIXTURE.cdf(0.0)
