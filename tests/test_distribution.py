"""The face of scipy.stats on quantile functions that are known: shapes, units, atoms, seeds."""

import numpy as np
import pytest
import torch
from astropy import units as u
from scipy import stats

from model.inference import Conditional, distribution, question
from model.inference.calibration import ks_threshold, ks_uniform
from model.inference.flow import COARSE
from model.scaling import MonotoneSpline, QuantileStandardizer
from tests.exact import MIXTURE, exact_emulator

N = 20_000
GIVEN = {"b": [0.0, 1.0, -1.0], "c": 0.2}


@pytest.fixture(params=["improved", "published"])
def p(request) -> Conditional:
    return exact_emulator(request.param).conditional("a", GIVEN)


def exact(row: int):
    return MIXTURE.conditional([0], {1: GIVEN["b"][row], 2: GIVEN["c"]})


class Standard:
    """Every row's density is the column's marginal one, as its standardizer sees it."""

    device = torch.device("cpu")

    class model:  # noqa: N801
        units = ("km",)

    column, index = "x", 0

    def __init__(self, values: np.ndarray, rows: int = 1):
        self.model.standardizer = QuantileStandardizer(1).fit(values.astype(np.float32)[:, None], ("x",))
        self.rows = rows

    def __len__(self):
        return self.rows

    def curves(self, rows, resolution):
        xi = torch.linspace(-4, 4, 9, dtype=torch.float64).expand(rows.stop - rows.start, -1).contiguous()
        return MonotoneSpline.through(xi, xi)


def test_answers_are_exact(p):
    x = np.linspace(-4, 4, 161)
    for row in range(3):
        truth = exact(row)
        np.testing.assert_allclose(p.cdf(x)[row], truth.cdf(x), atol=0.004)
        # A peak's height to a few percent where the density is not tiny.
        density = np.exp(truth.logpdf(x[:, None]))
        np.testing.assert_allclose(p.pdf(x)[row], density, atol=0.04 * density.max())
        assert p.mean()[row] == pytest.approx(truth.mean()[0], abs=0.005)
        assert p.std()[row] == pytest.approx(truth.std()[0], rel=0.005)


def test_cdf_and_ppf_are_inverses_and_pdf_is_the_derivative(p):
    q = np.linspace(0.001, 0.999, 999)
    np.testing.assert_allclose(p.cdf(p.ppf(q)), np.tile(q, (3, 1)), atol=1e-3)
    x = np.linspace(-8, 8, 8001)
    assert np.trapezoid(p.pdf(x), x, axis=1) == pytest.approx(1, abs=1e-3)
    step = 1e-4
    derivative = (p.cdf(x + step) - p.cdf(x - step)) / (2 * step)
    np.testing.assert_allclose(p.pdf(x), derivative, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(p.logpdf(x), np.log(p.pdf(x)))
    assert (np.diff(p.cdf(x)) >= 0).all()
    assert not p.pmf(x).any()


def test_shapes(p):
    rows = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    for function in (p.ppf, p.cdf, p.pdf, p.logpdf, p.pmf):
        assert function(0.5).shape == (3, 1)
        assert function([0.1, 0.5]).shape == (3, 2)
        np.testing.assert_array_equal(function(rows)[1], function(rows[1])[1])
        np.testing.assert_array_equal(function(rows[:1]), function(rows[0]))
        for bad in (rows[:2], rows[None]):
            with pytest.raises(ValueError, match="shape"):
                function(bad)
    assert p.summary().shape == (3, 4)
    assert np.isnan(p.cdf(np.nan)).all()
    assert (p.ppf([0.0, 1.0]) == [[-np.inf, np.inf]] * 3).all()
    assert (p.cdf([-np.inf, np.inf]) == [[0, 1]] * 3).all()
    with pytest.raises(ValueError, match=r"q must lie in \[0, 1\]"):
        p.ppf([0.5, np.nan])


def test_quantities_are_converted_and_wrong_ones_refused():
    p = Conditional(Standard(np.random.default_rng(0).gamma(2, size=N)))
    assert p.unit == "km"
    np.testing.assert_allclose(p.cdf(1500 * u.m), p.cdf(1.5))
    np.testing.assert_allclose(p.logpdf([500, 1500] * u.m), p.logpdf([0.5, 1.5]))
    for function in (p.cdf, p.pdf, p.logpdf, p.pmf):
        with pytest.raises(u.UnitConversionError, match="'x' is in 'km'"):
            function(3 * u.s)


def zero_inflated() -> np.ndarray:
    rng = np.random.default_rng(1)
    x = np.where(rng.random(N) < 0.3, 0.0, rng.gamma(3.0, 1.0, N)).clip(max=5.0)
    x[rng.random(N) < 0.1] = 2.0
    return x


def test_atoms():
    """Three: a bound below, a cap, one in the middle."""
    x = zero_inflated().astype(np.float32)
    p = Conditional(Standard(x, rows=2))
    for atom in (0.0, 2.0, 5.0):
        share = (x == atom).mean()
        assert p.pmf(atom)[1, 0] == pytest.approx(share, abs=1e-6)
        at, before, after = p.cdf([atom, atom - 1e-5, atom + 1e-5])[0]
        assert at - before == pytest.approx(share, abs=1e-3)  # it jumps,
        assert after - at == pytest.approx(0, abs=1e-3)  # and is continuous from the right
        q = np.linspace(before + 1e-4, at - 1e-9, 50)
        assert (p.ppf(q) == atom).all()  # the generalised inverse
    assert p.pmf([1.0, -1.0, 6.0]).max() == 0
    q = np.linspace(0.001, 0.999, 999)
    quantile = p.ppf(q)[0]
    assert (p.cdf(quantile)[0] >= q - 1e-6).all()
    assert (p.cdf(quantile - 1e-3)[0] <= q + 1e-6).all()
    grid = np.linspace(0, 5, 50_001)[1:-1]
    grid = grid[np.abs(grid - 2) > 1e-9]
    total = np.trapezoid(p.pdf(grid)[0], grid) + p.pmf([0.0, 2.0, 5.0])[0].sum()
    assert total == pytest.approx(1, abs=1e-3)


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


def test_log_probability_of_a_question_counts_atoms_with_their_mass():
    emulator = exact_emulator()
    rng = np.random.default_rng(0)
    values = MIXTURE.rvs(N, seed=0).astype(np.float32)
    values[:, 0] = values[:, 0].clip(min=-1.0)
    emulator.model.standardizer = QuantileStandardizer(4).fit(values, tuple("abcd"))
    p = emulator.conditional("a", {"b": rng.normal(size=3)})
    x = torch.tensor([[-1.0, 0.0, 2.0]], dtype=torch.float64).expand(3, -1)
    log = p._source.log_probability(slice(0, 3), x).numpy()
    np.testing.assert_allclose(log[:, 0], np.log(p.pmf(-1.0)[:, 0]), atol=0.05)
    np.testing.assert_allclose(log[:, 1:], p.logpdf(x[0, 1:].numpy()), atol=0.1)


@pytest.mark.parametrize("method", ["flow", "sde"])
def test_samples_follow_the_density(p, method):
    drawn = p.rvs(N, seed=4, method=method)
    assert drawn.dtype == np.float32
    for row in range(3):  # the last term: 100 steps are not infinitely many
        assert ks_uniform(exact(row).cdf(drawn[row].astype(float))) < ks_threshold(N, tests=6) + 0.008


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
    monkeypatch.setattr(distribution, "KEPT_ROWS", 1)
    np.testing.assert_allclose(fresh.rvs(40, seed=3), drawn["flow"], rtol=1e-4, atol=1e-4)
    q = [0.01, 0.3, 0.5, 0.99]
    np.testing.assert_allclose(fresh.ppf(q), p.ppf(q), rtol=1e-4, atol=1e-4)


def test_rows_together_are_rows_alone(p):
    for row in range(3):
        given = {"b": GIVEN["b"][row], "c": 0.2}
        alone = exact_emulator(p._source.model.experiment.training.recipe).conditional("a", given)
        q = [0.01, 0.3, 0.5, 0.99]
        np.testing.assert_allclose(alone.ppf(q)[0], p.ppf(q)[row], rtol=1e-4, atol=1e-4)


def test_summary_is_median_std_and_quantiles_solved_coarsely(p):
    summary, std = p.summary(), p.std()
    for column, answer in enumerate((p.median(), std, *p.interval(0.68))):
        assert np.abs(summary[:, column] - answer).max() < 0.03 * std.max()
    assert COARSE.points < 30


def test_many_rows_and_samples_come_in_blocks(monkeypatch):
    """As many numbers, whether a block holds many rows or a part of one."""
    source = Standard(zero_inflated(), rows=7)
    monkeypatch.setattr(distribution, "INTERPOLATED", 100)
    drawn = Conditional(source).rvs(30, seed=1), Conditional(source).rvs(250, seed=1)
    assert [x.shape for x in drawn] == [(7, 30), (7, 250)]
    assert all(len(np.unique(x[x > 0])) > 0.9 * (~np.isin(x, [0, 2, 5])).sum() for x in drawn)  # no block twice
