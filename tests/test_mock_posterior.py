"""The mock catalogue's exact posteriors, against samples, closed forms and themselves."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from model.datasets.mock_apogee_xp import catalogue, errors, mock_posterior, population, posterior
from model.datasets.mock_apogee_xp.proposal import normalised
from model.inference.calibration import ks_threshold, ks_uniform


@pytest.fixture(scope="module")
def observed():
    """Labels and photometry of many stars, nothing missing: column -> (N,)."""
    return dict(zip(errors.COLUMNS, catalogue.observe(400_000, seed=11)["values"].T))


@pytest.mark.parametrize(
    ("given", "width", "request_"),
    [
        ({"teff": 4700.0}, {"teff": 8.0}, "logg"),
        ({"jh": 0.55, "jk": 0.68}, {"jh": 0.006, "jk": 0.006}, "teff"),
        ({"jh": 0.55}, {"jh": 0.002}, "jk"),
        ({"bprp": 1.4, "logebv": -2.0}, {"bprp": 0.02, "logebv": 0.1}, "logg"),
    ],
)
def test_posterior_against_rejection_sampling(observed, given, width, request_):
    """Catalogued stars whose given values are nearly these: in the narrow limit, draws from the posterior."""
    near = np.all([np.abs(observed[name] - value) < width[name] for name, value in given.items()], axis=0)
    truth = observed[request_][near][:300]
    assert len(truth) == 300
    posterior = mock_posterior(given, request_)
    assert posterior.enough
    assert posterior.ess >= 2000
    # Chance of the sample, and of the posterior's own draws.
    allowed = ks_threshold(len(truth), level=0.999) + 1 / np.sqrt(posterior.ess)
    assert ks_uniform(posterior.cdf(truth)) < allowed


def test_likelihood_is_the_multivariate_normal_one():
    """Of all columns at once, up to a constant, with the noise of J that two of them share."""
    kind, latents = population.draw_latents(20, np.random.default_rng(3))
    truth, sigma = posterior._columns(kind, latents)
    observed = truth[0] + 2 * sigma[0]
    covariance = np.eye(8)
    covariance[1, 2] = covariance[2, 1] = errors.CORRELATION
    expected = [
        multivariate_normal.logpdf(observed, mean, covariance * np.outer(sd, sd)) for mean, sd in zip(truth, sigma)
    ]
    for order in (slice(None), slice(None, None, -1)):  # whichever of the two colours comes first
        given = dict(zip(errors.COLUMNS[order], observed[order]))
        ours = posterior._log_likelihood(truth, sigma, given)
        np.testing.assert_allclose(np.diff(ours), np.diff(expected), rtol=1e-9)


def test_fitted_proposals_give_what_the_prior_gives():
    """Importance sampling forgets where it drew: as with many stars from the generator itself."""
    given = {"bprp": 1.32}
    truth, sigma = posterior._columns(*population.draw_latents(400_000, np.random.default_rng(12)))
    weight = normalised(posterior._log_likelihood(truth, sigma, given))
    kept = weight > 1e-6 * weight.max()
    for request in ("logg", "teff", "logebv"):
        column = errors.COLUMNS.index(request)
        brute = posterior.Posterior(truth[kept, column], sigma[kept, column], weight[kept], len(truth), True)
        ours = mock_posterior(given, request)
        assert ours.drawn > posterior.FIRST_ROUND  # from a fitted proposal
        assert brute.ess > 500
        x = brute.ppf(np.linspace(0.05, 0.95, 19))
        assert np.abs(ours.cdf(x) - brute.cdf(x)).max() < ks_threshold(brute.ess) + ks_threshold(ours.ess) / 2


def test_the_labels_own_noise_is_in_its_posterior():
    """With all other columns given, little but the noise is left, less what the other colour says about it."""
    row = dict(zip(errors.COLUMNS, catalogue.observe(1, seed=31)["values"][0]))
    jk = row.pop("jk")
    low, high = mock_posterior(row, "jk").ppf([0.16, 0.84])
    noise = 0.03 * np.sqrt(1 - errors.CORRELATION**2)
    assert noise < (high - low) / 2 < 2 * noise
    assert abs(jk - (low + high) / 2) < 5 * noise


def test_posterior_without_context_is_the_marginal(observed):
    posterior = mock_posterior({}, "m_h")
    assert ks_uniform(posterior.cdf(observed["m_h"][:300])) < ks_threshold(300) + 1 / np.sqrt(posterior.ess)


def test_density_and_quantiles_agree_with_the_cdf():
    posterior = mock_posterior({"teff": 4800.0, "m_h": -0.2}, "logg")
    q = np.array([0.02, 0.1, 0.5, 0.9, 0.98])
    np.testing.assert_allclose(posterior.cdf(posterior.ppf(q)), q, atol=0.004)
    x = np.linspace(1.5, 5.5, 200)
    np.testing.assert_allclose(np.trapezoid(posterior.pdf(x), x), posterior.cdf(5.5) - posterior.cdf(1.5), atol=1e-3)


def test_each_given_value_counts():
    alone = mock_posterior({"bprp": 1.3, "jk": 0.65}, "logg")
    with_parallax = mock_posterior({"bprp": 1.3, "jk": 0.65, "g_fakemag": 150.0}, "logg")
    assert 0.1 < alone.cdf(3.5) < 0.99
    assert with_parallax.cdf(3.5) > 0.999
    missing = mock_posterior({"bprp": 1.3, "jk": 0.65, "g_fakemag": np.nan}, "logg")
    assert missing.cdf(3.5) == alone.cdf(3.5)


def test_a_posterior_that_is_not_reached_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        posterior = mock_posterior({"bprp": 1.3, "jk": 0.65, "teff": 4800.0}, "logg", max_draws=100)
    assert not posterior.enough
    assert "effective sample size" in caplog.text


def test_impossible_requests():
    with pytest.raises(KeyError, match="bp0"):
        mock_posterior({"bp0": 0.1}, "logg")
    with pytest.raises(ValueError, match="requested and given"):
        mock_posterior({"logg": 2.0}, "logg")
    with pytest.raises(ValueError, match="teff is -inf"):
        mock_posterior({"jk": 0.6, "teff": -np.inf}, "logg")


def test_catalogued_labels_are_uniform_within_their_posteriors():
    """Fresh stars, all kinds of context: five fixed ones, and random ones."""
    contexts = [("teff",), ("teff", "m_h"), ("bprp", "jh", "jk"), None, ("jk", "g_fakemag"), ("bprp", "logebv", "jk")]
    rng = np.random.default_rng(6)
    pit = []
    for i, row in enumerate(catalogue.observe(36, seed=[21, 0])["values"]):
        names = contexts[i % len(contexts)] or rng.choice(errors.COLUMNS, size=rng.integers(1, 8), replace=False)
        request = rng.choice([name for name in errors.COLUMNS if name not in names])
        posterior = mock_posterior({name: row[errors.COLUMNS.index(name)] for name in names}, request)
        assert posterior.ess >= 2000
        pit.append(float(posterior.cdf(row[errors.COLUMNS.index(request)])))
    assert ks_uniform(np.array(pit)) < ks_threshold(len(pit))
