"""Measurements with errors, and true values behind them, against a Gaussian mixture with noisy dimensions."""

import numpy as np
import pandas as pd
import pytest
import torch
from astropy import units as u

from benchmarks.densities import ks_exact, with_measurements
from model.datasets.mixture import GaussianMixture
from model.inference import OutsideTrainingRange, posterior
from tests.exact import MIXTURE, exact_emulator


@pytest.fixture(scope="module")
def emulator():
    return exact_emulator()


def truth_given(target: int, seen: dict[int, float], errors: dict[int, float]):
    """The exact density of a column's true value given values of others, some of them with errors."""
    place = {i: 4 + list(errors).index(i) if i in errors else i for i in seen}
    return with_measurements(MIXTURE, errors).conditional([target], {place[i]: x for i, x in seen.items()})


def test_the_reference_agrees_with_samples():
    """Rows drawn and measured, those kept whose measurement is near: their true values."""
    truth = with_measurements(MIXTURE, {2: 0.5})
    rows = truth.rvs(400_000, seed=0)
    assert np.corrcoef(rows[:, 4], rows[:, 2])[0, 1] == pytest.approx(
        MIXTURE.std()[2] / np.hypot(MIXTURE.std()[2], 0.5), abs=0.005
    )
    near = rows[np.abs(rows[:, 4] - 0.3) < 0.02, 0]
    assert near.mean() == pytest.approx(
        truth.conditional([0], {4: 0.3}).mean()[0], abs=4 * near.std() / len(near) ** 0.5
    )


@pytest.mark.parametrize("error", [0.05, 0.4, 2.0])
@pytest.mark.parametrize(("target", "given"), [(0, {}), (0, {2: 0.0}), (3, {0: -1.0, 1: 0.5, 2: 0.3})])
def test_denoised_values_are_exact(emulator, target, given, error):
    observed = 0.8
    names = emulator.columns
    p = emulator.denoise(names[target], observed, error, {names[i]: x for i, x in given.items()})
    exact = with_measurements(MIXTURE, {target: error}).conditional([target], {**given, 4: observed})
    assert ks_exact(p, exact) < 0.01
    assert p.mean()[0] == pytest.approx(exact.mean()[0], abs=0.01 * exact.std()[0])
    assert p.std()[0] == pytest.approx(exact.std()[0], rel=0.02)


def test_a_useless_measurement_leaves_the_prior_and_a_perfect_one_itself(emulator):
    prior, q = emulator.conditional("a", {"c": 0.0}), [0.02, 0.3, 0.5, 0.8, 0.98]
    useless = emulator.denoise("a", 0.7, 1e6, {"c": 0.0})
    np.testing.assert_allclose(useless.ppf(q), prior.ppf(q), atol=0.01)
    perfect = emulator.denoise("a", 0.7, 1e-4, {"c": 0.0})
    np.testing.assert_allclose(perfect.ppf(q), 0.7, atol=5e-4)
    assert perfect.std()[0] == pytest.approx(1e-4, rel=0.1)
    none = emulator.denoise("a", np.nan, 0.1, {"c": 0.0})
    np.testing.assert_allclose(none.ppf(q), prior.ppf(q), atol=0.01)
    # A measurement that the prior rules out: as near to it as the prior goes.
    with pytest.warns(OutsideTrainingRange):
        far = emulator.denoise("a", 50.0, 0.1, {"c": 0.0})
    assert prior.ppf(0.999)[0, 0] < far.median()[0] < 10


def test_denoised_rows_are_broadcast_and_checked(emulator):
    given = {"c": [0.0, 1.0, np.nan]}
    assert len(emulator.denoise("a", 0.5, 0.1, given)) == 3
    p = emulator.denoise("a", [0.5, -0.5, np.nan], [0.1, 0.2, 0.3], given)
    alone = emulator.denoise("a", -0.5, 0.2, {"c": 1.0})
    np.testing.assert_allclose(p.ppf([0.1, 0.9])[1], alone.ppf([0.1, 0.9])[0], rtol=1e-3)
    assert len(emulator.denoise("a", [0.5, -0.5], 0.1)) == 2
    assert len(emulator.denoise("a", 0.5, [0.1, 0.2], {"c": 0.0})) == 2
    in_mk = emulator.denoise("a", 500 * u.mK, 100 * u.mK).ppf(0.3)
    np.testing.assert_allclose(in_mk, emulator.denoise("a", 0.5, 0.1).ppf(0.3))
    drawn = p.rvs(5000, seed=0)
    assert np.array_equal(drawn, p.rvs(5000, seed=0))
    assert (np.abs(drawn.mean(1) - p.mean()) < 4 * p.std() / 5000**0.5).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("a", 0.5, 0.0), ValueError, "must be positive, not 0.0"),
        (("a", 0.5, [0.1, -1.0]), ValueError, "must be positive, not -1.0"),
        (("a", 0.5, np.nan), ValueError, "must be positive, not nan"),
        (("a", np.inf, 0.1), ValueError, "infinite"),
        (("a", [0.5, 0.6], 0.1, {"c": [0.0, 1.0, 2.0]}), ValueError, "3 rows are given, 2 measurements, 1 errors"),
        (("a", 0.5, 0.1, {"a": 1.0}), ValueError, "asked for and given"),
        (("aa", 0.5, 0.1), KeyError, "nearest are: a"),
        (("a", 0.5 * u.s, 0.1), u.UnitConversionError, "'a' is in 'K'"),
        (("a", 0.5, 0.1 * u.s), u.UnitConversionError, "'a' is in 'K'"),
        (("a", "x", 0.1), TypeError, "plain numbers"),
    ],
)
def test_impossible_measurements_are_named(emulator, arguments, error, message):
    with pytest.raises(error, match=message):
        emulator.denoise(*arguments)


@pytest.mark.parametrize(
    ("target", "seen", "errors"),
    [
        (0, {2: -1.5}, {2: 0.9}),
        (0, {1: 1.2, 2: 0.1, 3: -0.4}, {2: 0.5}),
        (0, {1: 1.2, 2: -1.0}, {1: 0.3, 2: 0.8}),
        (3, {0: -0.2, 1: 0.9, 2: 0.4}, {0: 0.4, 1: 0.2, 2: 0.6}),
    ],
)
def test_answers_given_noisy_values_are_exact(emulator, target, seen, errors):
    names = emulator.columns
    given, sigma = ({names[i]: x for i, x in part.items()} for part in (seen, errors))
    p, exact = emulator.conditional(names[target], given, errors=sigma), truth_given(target, seen, errors)
    assert ks_exact(p, exact) < 0.015
    assert ks_exact(emulator.conditional(names[target], given), exact) > 0.03  # errors do matter here


def test_noisy_columns_inform_each_other():
    """A poor measurement of one column is corrected by a good one of another that goes along with it."""
    covariance = np.array([[1.0, 0.95, 0.9], [0.95, 1.0, 0.9], [0.9, 0.9, 1.0]])
    truth = GaussianMixture([1.0], [[0.0, 0.0, 0.0]], [covariance])
    emulator = exact_emulator(truth=truth, units=("", "", ""))
    for errors in ({0: 1.0, 1: 0.2}, {0: 0.2, 1: 1.0}):
        p = emulator.conditional("c", {"a": 1.5, "b": -0.2}, errors={"ab"[i]: error for i, error in errors.items()})
        exact = with_measurements(truth, errors).conditional([2], {3: 1.5, 4: -0.2})
        assert ks_exact(p, exact) < 0.03


def photometry(scatter: float = 0.1) -> GaussianMixture:
    """A temperature of three populations of stars, and four colours that hardly depend on anything else."""
    rng = np.random.default_rng(0)
    colours = np.concatenate([[[1.0, 0.0]], rng.normal(size=(4, 2)) * [1.0, 0.3]])  # of temperature and gravity
    means = np.array([[0.0, 0.0], [1.5, -1.0], [-1.0, 1.5]]) @ colours.T
    spread = np.diag([0.05**2] + 4 * [scatter**2])
    covariances = [colours @ np.diag(s) @ colours.T + spread for s in ([1.0, 0.3], [0.4, 0.2], [0.5, 0.4])]
    return GaussianMixture([0.5, 0.3, 0.2], means, covariances)


def test_many_columns_that_go_together_are_integrated_over_whatever_their_order():
    """Taken as they come, the least precise first, a few particles carried the answer: KS 0.02 in the mean, 0.05 worst.

    In half of the rows the columns' errors are the other way round.
    """
    truth, names, n, errors = photometry(), "bcde", 6, (0.2, 0.1, 0.05, 0.02)
    emulator = exact_emulator(truth=truth, units=("",) * 5)
    seen = [with_measurements(truth, dict(zip(range(1, 5), e))) for e in (errors, errors[::-1])]
    rows = [seen[i % 2].rvs(n, seed=3)[i, 5:] for i in range(n)]
    sigma = {name: [(errors, errors[::-1])[i % 2][k] for i in range(n)] for k, name in enumerate(names)}
    p = emulator.conditional("a", dict(zip(names, np.transpose(rows))), errors=sigma)
    exact = [seen[i % 2].conditional([0], dict(zip(range(5, 9), row))) for i, row in enumerate(rows)]
    x = [each.mean()[0] + each.std()[0] * np.linspace(-6, 6, 2001) for each in exact]
    ks = [np.abs(cdf - each.cdf(at)).max() for cdf, each, at in zip(p.cdf(np.array(x)), exact, x)]
    assert np.mean(ks) < 0.005
    assert max(ks) < 0.015
    alone = emulator.conditional(
        "a", {name: rows[1][k] for k, name in enumerate(names)}, {name: sigma[name][1] for name in names}
    )
    np.testing.assert_allclose(alone.ppf([0.1, 0.5, 0.9])[0], p.ppf([0.1, 0.5, 0.9])[1], rtol=1e-3, atol=1e-3)


def test_measurements_that_contradict_each_other_are_warned_of():
    """Two colours that are one, 30 of their errors apart: few of the values that one allows are near the other."""
    truth = photometry(scatter=0.02)
    emulator = exact_emulator(truth=truth, units=("",) * 5)
    row = truth.rvs(1, seed=1)[0, 1:]
    errors = dict.fromkeys("bcde", 0.02)
    good = emulator.conditional("a", dict(zip("bcde", row)), errors=errors)
    assert np.isfinite(good.median()).all()
    bad = emulator.conditional("a", dict(zip("bcde", row + np.array([0.6, -0.6, 0.6, 0.6]))), errors=errors)
    with pytest.warns(UserWarning, match="hardly go together in 1 of the rows 0 to 0: .* below 32 of 128"):
        bad.median()


def test_particles_are_drawn_anew_by_their_weights_in_the_rows_that_need_it():
    weight = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64).repeat(1, 2) / 2
    weight[0, 4:] = 0  # four of eight particles, of which one holds half
    weight[0] /= weight[0].sum()
    chosen, log_weight = posterior._resample(weight.log())
    assert chosen.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, *range(8, 16)]
    np.testing.assert_allclose(log_weight.softmax(1), 1 / 8)


def test_tiny_errors_are_none(emulator):
    given, q = {"b": [0.3, -1.0], "c": 0.2}, [0.02, 0.3, 0.5, 0.8, 0.98]
    exact = emulator.conditional("a", given)
    tiny = emulator.conditional("a", given, errors={"b": 1e-5, "c": 1e-5})
    assert np.abs(exact.cdf(tiny.ppf(q)) - q).max() < 0.015
    for none in (0.0, np.nan, [0.0, np.nan]):
        np.testing.assert_array_equal(emulator.conditional("a", given, errors={"b": none}).ppf(q), exact.ppf(q))


def test_rows_without_an_error_are_exact_among_rows_that_have_one(emulator):
    """Also far out, where a measurement, however good, would be held against what the others say."""
    given, q = {"b": [0.3, 0.3, 6.5, np.nan, 0.3], "c": 0.2}, np.array([0.02, 0.3, 0.5, 0.8, 0.98])
    p = emulator.conditional("a", given, errors={"b": [0.5, 0.0, np.nan, 0.2, 0.5], "c": [np.nan] * 4 + [0.3]})
    exact = emulator.conditional("a", given)
    for row in (1, 2):
        np.testing.assert_allclose(p.ppf(q)[row], exact.ppf(q)[row], rtol=1e-5, atol=1e-5)
    assert np.abs(exact.cdf(p.ppf(q))[3] - q).max() < 0.015
    for row, errors in ((0, {1: 0.5}), (4, {1: 0.5, 2: 0.3})):
        truth = truth_given(0, {1: 0.3, 2: 0.2}, errors)
        assert np.abs(truth.cdf(p.ppf(q)[row]) - q).max() < 0.015


def test_errors_in_any_form(emulator):
    given, q = {"a": [0.3, -1.0], "c": 0.2}, [0.1, 0.5, 0.9]
    answer = emulator.conditional("b", given, errors={"a": [0.4, 0.2]}).ppf(q)
    for errors in ({"a": [400, 200] * u.mK}, {"a": [0.4, 0.2] * u.deg_C}, pd.DataFrame({"a": [0.4, 0.2]})):
        np.testing.assert_allclose(emulator.conditional("b", given, errors=errors).ppf(q), answer, rtol=1e-6)
    for row, error in enumerate([0.4, 0.2]):
        alone = emulator.conditional("b", {"a": given["a"][row], "c": 0.2}, errors={"a": error})
        np.testing.assert_allclose(alone.ppf(q)[0], answer[row], rtol=1e-3, atol=1e-3)
    summary = emulator.summary(given, "b", errors={"a": [0.4, 0.2]})
    np.testing.assert_allclose(summary["b_median"], answer[:, 1], atol=0.02)
    wider = emulator.conditional("b", given, errors={"a": 1.0}).std()
    assert (wider > emulator.conditional("b", given).std()).all()
    with pytest.raises(u.UnitConversionError, match="'a' is in 'K'"):
        emulator.conditional("b", given, errors={"a": 1 * u.s})


def test_samples_given_noisy_values(emulator):
    p = emulator.conditional("a", {"c": [0.1, 0.2]}, errors={"c": 0.5})
    drawn = p.rvs(10_000, seed=0)
    assert np.array_equal(drawn, p.rvs(10_000, seed=0))
    for q in (0.1, 0.5, 0.9):
        share = (drawn <= p.ppf(q)).mean(1)
        assert (np.abs(share - q) < 4 * (q * (1 - q) / 10_000) ** 0.5).all()


def test_the_log_density_of_whole_rows(emulator):
    rows = MIXTURE.rvs(60, seed=8)
    table = pd.DataFrame(rows, columns=list("abcd"))
    exact = MIXTURE.logpdf(rows)
    log = emulator.logpdf(table)
    assert log.shape == (60,)
    assert np.median(np.abs(log - exact)) < 0.05
    # By hand: each column given those before it.
    for row in (0, 1):
        total, before = 0.0, {}
        for name in "abcd":
            total += emulator.conditional(name, before).logpdf(table[name][row])[0, 0]
            before[name] = table[name][row]
        assert log[row] == pytest.approx(total, abs=0.1)
    # What was not observed does not count, in whichever row.
    gaps = table.mask(np.random.default_rng(0).random(table.shape) < 0.4)
    gaps.iloc[0] = np.nan
    log = emulator.logpdf(gaps)
    assert log[0] == 0
    for row in range(1, 10):
        seen = np.flatnonzero(gaps.iloc[row].notna())
        expected = MIXTURE.conditional(seen, {}).logpdf(rows[row, seen])
        assert log[row] == pytest.approx(expected, abs=0.15)


def test_a_wrong_cross_match_scores_lowest(emulator):
    """Each of its values is ordinary; together they are not."""
    rows = MIXTURE.rvs(200, seed=9)
    rows[77] = [-1.5, 1.8, 1.7, -1.7]
    assert (np.abs(rows[77] - MIXTURE.mean()) < 2 * MIXTURE.std()).all()
    log = emulator.logpdf(dict(zip("abcd", rows.T)))
    assert np.argmin(log) == np.argmin(MIXTURE.logpdf(rows)) == 77


def test_columns_that_cannot_be_requested_are_context_only():
    emulator = exact_emulator()
    emulator.model.requestable = ("a", "c")
    rows = MIXTURE.rvs(20, seed=10)
    log = emulator.logpdf(dict(zip("abcd", rows.T)))
    expected = [MIXTURE.conditional([0, 2], {1: row[1], 3: row[3]}).logpdf(row[[0, 2]]) for row in rows]
    assert np.median(np.abs(log - expected)) < 0.05


def test_missing_measurements_are_none(emulator):
    prior = emulator.conditional("a", {"b": 0.5}).median()[0]
    masked = np.ma.MaskedArray([1.0, -9999.0], mask=[False, True])
    for observed, error in ((masked, 0.3), ([1.0, np.nan], 0.3), ([1.0, np.nan], [0.3, np.nan])):
        medians = emulator.denoise("a", observed, error, given={"b": [0.5, 0.5]}).median()
        assert medians[0] == pytest.approx(emulator.denoise("a", 1.0, 0.3, given={"b": 0.5}).median()[0], abs=1e-6)
        assert medians[1] == pytest.approx(prior, abs=0.01)


def test_an_error_of_a_missing_value_plays_no_part(emulator):
    alone = emulator.conditional("a", {"b": 0.5, "c": np.nan}, errors={"c": 0.4}).median()
    np.testing.assert_allclose(alone, emulator.conditional("a", {"b": 0.5}).median(), atol=0.01)
    with pytest.raises(ValueError, match="'c', but no value"):
        emulator.conditional("a", {"b": 0.5}, errors={"c": 0.4})


def test_a_noisy_column_must_be_one_that_was_trained_for():
    emulator = exact_emulator()
    emulator.model.requestable = ("a", "b")
    with pytest.raises(KeyError, match="not with an error"):
        emulator.conditional("a", {"c": 0.5}, errors={"c": 0.4})
