"""The face of scipy.stats on quantile functions that are known: shapes, units, atoms, seeds."""

import numpy as np
import pytest
import torch
from astropy import units as u
from scipy import stats

from model.inference import Conditional
from model.inference.calibration import ks_threshold, ks_uniform
from model.inference.flow import COARSE
from model.scaling import QuantileStandardizer
from tests.exact import MIXTURE, Standard, exact_emulator, zero_inflated

N = 20_000
GIVEN = {"b": [0.0, 1.0, -1.0], "c": 0.2}


@pytest.fixture(params=["improved", "published"])
def p(request) -> Conditional:
    return exact_emulator(request.param).conditional("a", GIVEN)


def exact(row: int):
    return MIXTURE.conditional([0], {1: GIVEN["b"][row], 2: GIVEN["c"]})


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
    for function in (p.ppf, p.isf, p.cdf, p.logcdf, p.sf, p.pdf, p.logpdf, p.pmf):
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
    for function in (p.ppf, p.isf):
        with pytest.raises(ValueError, match=r"q must lie in \[0, 1\]"):
            function([0.5, np.nan])
    assert p.ppf([0.1, 0.5, 0.9]).shape == p.isf([0.1, 0.5, 0.9]).shape == (3, 3)  # as many levels as rows by chance


def test_as_many_values_as_rows_are_for_each_its_own_or_for_all(p):
    """Truths (N,) taken for every row are an answer of N x N numbers: 80 GB of 100,000 rows."""
    x = np.array([-0.5, 0.1, 1.0])
    for function in (p.cdf, p.logcdf, p.sf, p.pdf, p.logpdf, p.pmf):
        with pytest.raises(ValueError, match=r"truth\[:, None\], \(3, 1\).* x\[None, :\], \(1, 3\)"):
            function(x)
        every = function(x[None, :])
        assert every.shape == (3, 3)
        np.testing.assert_array_equal(function(x[:, None])[:, 0], np.diag(every))
    alone = exact_emulator(p._source.model.experiment.training.recipe).conditional("a", {"b": 0.0})
    assert alone.cdf([0.3]).shape == (1, 1)


def test_the_upper_tail_and_the_log_of_the_lower_keep_their_digits(p):
    x = np.linspace(-4, 4, 41)
    np.testing.assert_allclose(p.sf(x), 1 - p.cdf(x), atol=1e-12)
    np.testing.assert_allclose(p.logcdf(x), np.log(p.cdf(x)), rtol=1e-9)
    far = p.mean() + 12 * p.std()
    assert (p.cdf(far[:, None]) == 1).all()
    assert ((p.sf(far[:, None]) > 0) & (p.sf(far[:, None]) < 1e-20)).all()
    near = p.mean() - 100 * p.std()
    assert (p.cdf(near[:, None]) == 0).all()
    assert np.isfinite(p.logcdf(near[:, None])).all()
    # On a normal density both are known.
    standard = Conditional(Standard(np.random.default_rng(0).normal(size=N)))
    x = standard.ppf([0.01, 0.99])[0]
    xi = stats.norm.ppf([0.01, 0.99])
    np.testing.assert_allclose(standard.sf(x)[0], stats.norm.sf(xi), rtol=1e-6)
    np.testing.assert_allclose(standard.logcdf(x)[0], stats.norm.logcdf(xi), rtol=1e-5)


def test_isf_is_the_inverse_of_sf(p):
    q = np.array([1e-12, 1e-4, 0.2, 0.5, 0.999])
    np.testing.assert_allclose(p.sf(p.isf(q)), np.tile(q, (3, 1)), rtol=1e-5)
    np.testing.assert_allclose(p.isf(q[1:]), p.ppf(1 - q[1:]), rtol=1e-8)
    np.testing.assert_array_equal(p.isf([0.0, 1.0]), p.ppf([1.0, 0.0]))


def test_intervals_of_several_levels(p):
    low, high = p.interval([0.5, 0.9])
    assert low.shape == high.shape == (3, 2)
    for i, level in enumerate([0.5, 0.9]):
        np.testing.assert_array_equal([low[:, i], high[:, i]], p.interval(level))
    assert (np.diff(low) < 0).all()
    assert p.interval(np.float64(0.5))[0].shape == (3,)
    for bad in ([0.5, 1.1], [[0.5]], np.nan):
        with pytest.raises(ValueError, match="confidence"):
            p.interval(bad)


def test_var_and_support(p):
    np.testing.assert_allclose(p.var(), p.std() ** 2)
    low, high = p.support()
    assert low.shape == high.shape == (3,)
    assert (low == -np.inf).all()
    assert (high == np.inf).all()
    low, high = Conditional(Standard(zero_inflated(), rows=2)).support()
    np.testing.assert_array_equal([low, high], [[0, 0], [5, 5]])


def test_pit_is_the_place_of_each_truth_in_its_own_row(p):
    truth = np.array([-0.5, np.nan, 1.0])
    np.testing.assert_allclose(p.pit(truth)[[0, 2]], np.diag(p.cdf(truth[None, :]))[[0, 2]])
    assert np.isnan(p.pit(truth)[1])
    np.testing.assert_allclose(p.pit(truth * 1000 * u.mK), p.pit(truth))
    for bad in (0.5, [0.5, 0.1], truth[:, None]):
        with pytest.raises(ValueError, match=r"one value per row is needed, \(3,\)"):
            p.pit(bad)
    with pytest.raises(TypeError, match="seed"):
        p.pit(truth, seed=np.random.default_rng(0))


def test_pit_of_a_column_with_atoms_is_uniform():
    """Without the random place within an atom's jump, three tenths of the truths would have one PIT."""
    x = zero_inflated().astype(np.float32)
    x = x[:2000]
    p = Conditional(Standard(zero_inflated(), rows=len(x)))
    u_0 = p.pit(x)
    assert ks_uniform(u_0) < ks_threshold(len(x))
    np.testing.assert_array_equal(p.pit(x, seed=0), u_0)
    assert (p.pit(x, seed=1) != u_0).sum() == np.isin(x, [0, 2, 5]).sum()
    jump = p.pmf(0.0)[0, 0]
    assert ks_uniform(u_0[x == 0] / jump) < ks_threshold((x == 0).sum())


def test_a_row_of_text_says_what_is_asked():
    emulator = exact_emulator()
    assert repr(emulator.conditional("a", {"b": [0.0, np.nan], "c": 0.2})) == "Conditional(a [K] given b, c; 2 rows)"
    assert repr(emulator.conditional("d")) == "Conditional(d given nothing; 1 row)"
    noisy = emulator.conditional("a", {"b": 0.0, "c": [0.2, 0.3]}, errors={"c": 0.1})
    assert repr(noisy) == "Conditional(a [K] given b, c with errors; 2 rows)"
    assert repr(emulator.denoise("a", 0.3, 0.1, {"b": 0.0})) == "Conditional(a [K] given b, a with errors; 1 row)"


def test_quantities_are_converted_and_wrong_ones_refused():
    p = Conditional(Standard(np.random.default_rng(0).gamma(2, size=N)))
    assert p.unit == "km"
    np.testing.assert_allclose(p.cdf(1500 * u.m), p.cdf(1.5))
    np.testing.assert_allclose(p.logpdf([500, 1500] * u.m), p.logpdf([0.5, 1.5]))
    for function in (p.cdf, p.logcdf, p.sf, p.pdf, p.logpdf, p.pmf, p.pit):
        with pytest.raises(u.UnitConversionError, match="'x' is in 'km'"):
            function(3 * u.s)


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
