"""Samples: of the right distribution, from the seed alone, with all their digits, in blocks."""

import numpy as np
import pytest
import torch
from scipy import stats

from model.datasets.mixture import GaussianMixture
from model.inference import Conditional, quantiles, question, samples
from model.inference.calibration import ks_threshold, ks_uniform
from tests.exact import MIXTURE, Standard, exact_emulator, zero_inflated

N = 20_000
GIVEN = {"b": [0.0, 1.0, -1.0], "c": 0.2}


@pytest.fixture(params=["improved", "published"])
def p(request) -> Conditional:
    return exact_emulator(request.param).conditional("a", GIVEN)


def exact(row: int):
    return MIXTURE.conditional([0], {1: GIVEN["b"][row], 2: GIVEN["c"]})


def test_samples_of_a_column_with_atoms_are_its_rows():
    x = zero_inflated().astype(np.float32)
    p = Conditional(Standard(x))
    drawn = p.rvs(N, seed=0)[0]
    for atom in (0.0, 2.0, 5.0):
        share = (x == atom).mean()
        assert abs((drawn == atom).mean() - share) < 4 * np.sqrt(share * (1 - share) / N)
    assert drawn.min() == 0
    assert drawn.max() == 5
    assert stats.ks_2samp(drawn, x).statistic < 2 * ks_threshold(N)
    assert abs(p.mean()[0] - x.mean()) < 0.01
    assert abs(p.std()[0] / x.std() - 1) < 0.01


@pytest.mark.parametrize("method", ["flow", "sde"])
def test_samples_follow_the_density(p, method):
    drawn = p.rvs(N, seed=4, method=method)
    assert drawn.dtype == np.float64
    for row in range(3):  # the last term: 100 steps are not infinitely many
        assert ks_uniform(exact(row).cdf(drawn[row])) < ks_threshold(N, tests=6) + 0.008


def test_ancestral_sampling_belongs_to_the_published_recipe():
    given = {"b": 0.3}
    drawn = [exact_emulator("published").conditional("a", given).rvs(50, 1, method) for method in ("ancestral", "sde")]
    assert np.array_equal(*drawn)
    with pytest.raises(ValueError, match="published"):
        exact_emulator().conditional("a", given).rvs(50, 1, "ancestral")
    noisy = exact_emulator().conditional("a", given, errors={"b": 0.2})
    with pytest.raises(ValueError, match="without errors"):
        noisy.rvs(50, 1, "sde")


def test_the_same_seed_gives_the_same_samples_whatever_is_solved_at_a_time(p, monkeypatch):
    """Noise comes from a place's block; how many rows are encoded or solved together is another matter."""
    drawn = {method: p.rvs(40, seed=3, method=method) for method in ("flow", "sde")}
    assert np.array_equal(drawn["flow"], p.rvs(40, seed=3))
    assert not np.array_equal(drawn["flow"], p.rvs(40, seed=4))
    fresh = Conditional(p._source)
    monkeypatch.setitem(question.TOKENS, "cpu", 4)
    np.testing.assert_allclose(fresh.rvs(40, 3, "sde"), drawn["sde"], rtol=1e-4, atol=1e-5)
    monkeypatch.setitem(question.ROWS, "cpu", 2)
    monkeypatch.setitem(question.BLOCK, "cpu", 64)
    monkeypatch.setattr(quantiles, "KEPT_ROWS", 1)
    np.testing.assert_allclose(fresh.rvs(40, seed=3), drawn["flow"], rtol=1e-4, atol=1e-4)
    q = [0.01, 0.3, 0.5, 0.99]
    np.testing.assert_allclose(fresh.ppf(q), p.ppf(q), rtol=1e-4, atol=1e-4)


def test_many_rows_and_samples_come_in_blocks(monkeypatch):
    """As many numbers, whether a block holds many rows or a part of one."""
    source = Standard(zero_inflated(), rows=7)
    monkeypatch.setattr(samples, "INTERPOLATED", 100)
    drawn = Conditional(source).rvs(30, seed=1), Conditional(source).rvs(250, seed=1)
    assert [x.shape for x in drawn] == [(7, 30), (7, 250)]
    assert all(len(np.unique(x[x > 0])) > 0.9 * (~np.isin(x, [0, 2, 5])).sum() for x in drawn)  # no block twice


@pytest.fixture(scope="module")
def dates():
    """An emulator of a column of Julian dates within a minute, and three others."""
    zero, scale = np.array([2_459_000.5, 0, 0, 0]), np.array([1e-4, 1, 1, 1])
    covariances = MIXTURE.covariances * np.outer(scale, scale)
    return exact_emulator(truth=GaussianMixture(MIXTURE.weights, zero + scale * MIXTURE.means, covariances))


def test_large_numbers_keep_their_digits(dates):
    """In single precision all these dates are one."""
    drawn = dates.conditional("a").rvs(500, seed=0)[0]
    assert len(np.unique(drawn)) > 490
    exact = 2_459_000.5 + 1e-4 * exact_emulator().conditional("a").rvs(500, seed=0)[0]
    np.testing.assert_allclose(drawn - 2_459_000.5, exact - 2_459_000.5, atol=1e-7)
    joint = dates.joint(["b", "a"]).rvs(500, seed=0)
    assert joint.dtype == np.float64
    assert len(np.unique(joint[0, :, 1])) > 490


@pytest.mark.parametrize("ask", [lambda e: e.conditional("a"), lambda e: e.joint(["a", "b"])])
def test_a_shape_or_a_generator_is_refused_by_name(ask):
    density = ask(exact_emulator())
    for size in ((3, 4), 2.5, "3", None):
        with pytest.raises(TypeError, match="size is the number of samples of each row"):
            density.rvs(size)
    for seed in (np.random.default_rng(0), torch.Generator(), 0.5, [1, 2]):
        with pytest.raises(TypeError, match="seed is a whole number or None"):
            density.rvs(2, seed=seed)
    with pytest.raises(ValueError, match="negative"):
        density.rvs(2, seed=-1)
    with pytest.raises(ValueError, match="at least one sample"):
        density.rvs(0)
    np.testing.assert_array_equal(density.rvs(np.int64(3), seed=np.int32(1)), density.rvs(3, seed=1))
