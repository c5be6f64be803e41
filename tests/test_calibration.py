"""The measures must pass the true posterior and fail each kind of wrong one, with thresholds that follow from N."""

import numpy as np
import pytest
import scipy.stats
from scipy.special import ndtr

from model.inference import calibration

N, S = 4000, 200
SIGMA = 0.5  # of the noise; the input has unit variance, so the marginal's is 1 + SIGMA**2
RNG = np.random.default_rng(0)
X = RNG.normal(size=N)
TRUTH = X + SIGMA * RNG.normal(size=N)
MARGINAL = np.random.default_rng(1).normal(0, np.hypot(1, SIGMA), size=20_000)
# Over all seeds, chance alone would fail a comparison at this level once in a million times.
LEVEL = 1 - 1e-6


def posterior(shift=0.0, width=1.0):
    noise = np.random.default_rng(2).normal(size=(N, S))
    return X[:, None] + shift + width * SIGMA * noise


def truth_blind():
    return np.random.default_rng(3).choice(MARGINAL, size=(N, S))


def test_true_posterior_passes_everything():
    report = calibration.calibrate(posterior(), TRUTH, MARGINAL, X)
    assert report["pit_ks"] < calibration.ks_threshold(N, LEVEL)
    # All five bins hold N / 5 rows.
    assert report["worst_bin_ks"] < calibration.ks_threshold(N // 5, LEVEL, tests=5)
    for level in (0.68, 0.95):
        # Five binomial standard deviations.
        assert abs(report[f"coverage_{100 * level:.0f}"] - level) < 5 * np.sqrt(level * (1 - level) / N)
    # A Gaussian's CRPS is proportional to its sigma: the ratio is 0.5 / 1.118 = 0.447. Over rows either CRPS scatters
    # by 0.72 of its mean, so the ratio by less than 0.447 * 0.72 * sqrt(2 / N), of which five are allowed.
    ratio = SIGMA / np.hypot(1, SIGMA)
    assert report["crps_skill"] == pytest.approx(1 - ratio, abs=5 * ratio * 0.72 * np.sqrt(2 / N))
    assert report["n"] == N


@pytest.mark.parametrize(
    ("shift", "width", "distance"),
    [
        (0.0, 0.01, 0.4),  # 100x too narrow: the truth is below or above nearly all samples, KS -> 1/2
        (0.5, 1.0, 2 * ndtr(0.5) - 1),  # shifted by one sigma: KS = Phi(1/2) - Phi(-1/2) = 0.38
        (0.0, 2.0, 0.16),  # twice too wide: max over z of |Phi(2 z) - Phi(z)| = 0.161
    ],
)
def test_wrong_posterior_fails_pit(shift, width, distance):
    ks = calibration.ks_uniform(calibration.pit(posterior(shift, width), TRUTH, seed=0))
    assert ks > distance - calibration.ks_threshold(N, LEVEL) > 2 * calibration.ks_threshold(N)


def test_truth_blind_posterior_passes_pit_but_fails_skill_and_bins():
    report = calibration.calibrate(truth_blind(), TRUTH, MARGINAL, X)
    assert report["pit_ks"] < calibration.ks_threshold(N, LEVEL)
    # No skill against itself; S = 200 samples cost the quantiles a relative 1 / S or so, never a gain of 1%.
    assert -0.02 < report["crps_skill"] < 0.01
    assert report["worst_bin_ks"] > 5 * report["worst_bin_threshold"]


def test_atoms_are_uniform_only_because_pit_is_randomised():
    cap = np.quantile(MARGINAL, 0.9)  # a tenth of all rows lies exactly at the cap
    samples, truth = np.minimum(truth_blind(), cap), np.minimum(TRUTH, cap)
    assert np.mean(truth == cap) == pytest.approx(0.1, abs=0.03)
    unrandomised = (samples <= truth[:, None]).mean(axis=1)
    # Every row at the cap has the PIT 1 without randomisation: KS is about their share.
    assert calibration.ks_uniform(unrandomised) > 0.1 - calibration.ks_threshold(N, LEVEL) > calibration.ks_threshold(N)
    assert calibration.ks_uniform(calibration.pit(samples, truth, seed=0)) < calibration.ks_threshold(N, LEVEL)


def test_atoms_tie_across_precisions():
    cap = 5.00001  # float32 does not hold this number
    samples, truth = np.full((N, S), cap), np.full(N, cap, dtype=np.float32)
    assert calibration.ks_uniform(calibration.pit(samples, truth, seed=0)) < calibration.ks_threshold(N, LEVEL)
    assert calibration.ks_two_sample(samples[0], truth) == 0


def test_pit_is_exactly_uniform_for_few_samples():
    draws = np.random.default_rng(4).integers(0, 3, size=(N, 4)).astype(float)  # S = 3, all of it ties
    assert calibration.ks_uniform(calibration.pit(draws[:, 1:], draws[:, 0], 0)) < calibration.ks_threshold(N, LEVEL)


def test_pit_repeats_with_its_seed_and_leaves_its_input_alone():
    samples, truth = posterior()[:50], TRUTH[:50].copy()
    before = samples.copy()
    first = calibration.pit(samples, truth, seed=5)
    np.testing.assert_array_equal(first, calibration.pit(samples, truth, seed=5))
    assert (first != calibration.pit(samples, truth, seed=6)).any()
    np.testing.assert_array_equal(samples, before)
    np.testing.assert_array_equal(truth, TRUTH[:50])


def test_bad_input_is_named():
    samples, truth = np.zeros((4, 3)), np.array([0.0, np.nan, 0.0, np.nan])
    with pytest.raises(ValueError, match="NaN in 2 of 4 rows"):
        calibration.pit(samples, truth, seed=0)
    with pytest.raises(ValueError, match="1 of 12 are not finite"):
        calibration.pit(np.where(np.arange(12) == 7, np.inf, 0.0).reshape(4, 3), np.zeros(4), seed=0)
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        calibration.pit(samples, np.zeros(3), seed=0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        calibration.ks_uniform(np.array([0.2, 1.2]))
    with pytest.raises(ValueError, match="99"):
        calibration.crps(np.zeros((4, 9)), np.zeros(4))
    with pytest.raises(ValueError, match="quantiles"):
        calibration.crps(np.zeros((3, 99)), np.zeros(4))
    with pytest.raises(ValueError, match="already perfect"):
        calibration.crps_skill(np.ones(2), np.zeros(2))
    with pytest.raises(ValueError, match="input"):
        calibration.pit_in_bins(np.full(4, 0.5), np.full(4, np.nan))


def test_ks_uniform_agrees_with_scipy():
    u = np.random.default_rng(5).random(537) ** 1.2
    assert calibration.ks_uniform(u) == pytest.approx(scipy.stats.kstest(u, "uniform").statistic, abs=1e-12)


def test_ks_two_sample_agrees_with_scipy():
    rng = np.random.default_rng(6)
    for a, b in [
        (rng.normal(size=1000), rng.normal(0.1, size=333)),
        (rng.integers(0, 5, 200), rng.integers(0, 6, 70)),  # ties within and between
        (np.array([1.0]), np.array([1.0, 1.0, 2.0])),
        (rng.normal(size=50), 10 + rng.normal(size=20)),  # disjoint: 1
    ]:
        expected = scipy.stats.ks_2samp(a, b).statistic
        assert calibration.ks_two_sample(a, b) == pytest.approx(expected, abs=1e-12)
        assert calibration.ks_two_sample(b, a) == calibration.ks_two_sample(a, b)


def test_bins_leave_out_missing_inputs_and_survive_atoms():
    u = np.random.default_rng(7).random(1000)
    x = np.where(np.arange(1000) < 300, np.nan, np.arange(1000) % 2)  # two values only
    edges, ks, n = calibration.pit_in_bins(u, x)
    assert edges.tolist() == [0, 1, 1]
    assert n.tolist() == [350, 350]
    assert ks[0] == calibration.ks_uniform(u[x == 0])
    assert ks[1] == calibration.ks_uniform(u[x == 1])
    edges, ks, n = calibration.pit_in_bins(u, np.full(1000, 3.0))  # a constant: a single bin
    assert edges.tolist() == [3, 3]
    assert n.tolist() == [1000]
    _, _, n = calibration.pit_in_bins(u, u)
    assert n.sum() == 1000
    assert n.max() - n.min() <= 2


def test_coverage_of_known_pit():
    u = (np.arange(1000) + 0.5) / 1000
    np.testing.assert_allclose(calibration.coverage(u, [0.0, 0.5, 0.68, 1.0]), [0.0, 0.5, 0.68, 1.0], atol=1e-12)
    assert calibration.coverage(np.full(10, 0.01), 0.9) == 0


def test_crps_agrees_with_the_closed_form_of_a_gaussian():
    truth = np.linspace(-3, 3, 61)
    z = scipy.stats.norm.ppf(calibration.LEVELS)
    score = calibration.crps(z[None], truth)
    # Gneiting & Raftery 2007, equation 21.
    exact = truth * (2 * ndtr(truth) - 1) + 2 * scipy.stats.norm.pdf(truth) - 1 / np.sqrt(np.pi)
    # The integral over all levels is replaced by the mean over 0.01 .. 0.99. The half percent at either end that is
    # left out weighs next to nothing, but the division is by 99 instead of 100: 1.01% too much, alike for every method.
    np.testing.assert_allclose(score, exact, rtol=0.012)


def test_crps_is_least_for_the_truth_and_scales_with_the_unit():
    z = scipy.stats.norm.ppf(calibration.LEVELS)
    truth = np.random.default_rng(8).normal(size=20_000)
    right = calibration.crps(z[None], truth)
    assert (right >= 0).all()
    # A point forecast is scored by its absolute error, which bounds that of any forecast around the same median.
    np.testing.assert_allclose(calibration.crps(np.zeros((1, 99)), truth), np.abs(truth), atol=1e-12)
    for wrong in (0.5 * z, 2 * z, z + 0.5):
        assert calibration.crps(wrong[None], truth).mean() > right.mean()
    np.testing.assert_allclose(calibration.crps(1000 * z[None], 1000 * truth), 1000 * right)


def test_marginal_quantiles_leave_out_missing_values():
    values = np.array([np.nan, *np.arange(101)])
    np.testing.assert_allclose(calibration.marginal_quantiles(values), np.arange(1, 100), atol=1e-9)


def test_ecdf_is_a_staircase():
    x, height = calibration.ecdf(np.array([3.0, 1.0]))
    assert x.tolist() == [1, 1, 3, 3]
    assert height.tolist() == [0, 0.5, 0.5, 1]


@pytest.mark.parametrize("n", [20, 300])
def test_band_holds_the_whole_ecdf_as_often_as_it_says(n):
    level, simulations = 0.9, 2000
    u = np.sort(np.random.default_rng(9).random((simulations, n)), axis=1)
    lower, upper = calibration.ecdf_band(n, u.ravel(), level)
    # Just before each value the ECDF is least against the upper limit, at it greatest: both ends of each step count.
    after, before = np.arange(1, n + 1) / n, np.arange(n) / n
    inside = (after <= upper.reshape(u.shape)) & (before >= lower.reshape(u.shape))
    # At least the level, less four binomial standard deviations of this many simulations: 0.9 - 0.027.
    assert inside.all(axis=1).mean() > level - 4 * np.sqrt(level * (1 - level) / simulations)
    # And not by being infinitely wide: the bound is known to be nearly tight.
    assert inside.all(axis=1).mean() < 0.95


def test_bonferroni_threshold():
    assert calibration.ks_threshold(100, 0.95, tests=5) == pytest.approx(calibration.ks_threshold(100, 0.99))
    assert calibration.ks_threshold(np.array([100, 400])).tolist() == pytest.approx([0.16276, 0.08138], abs=1e-5)
