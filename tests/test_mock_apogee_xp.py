"""The mock catalogue: does it look like the paper's, and is its posterior exact?"""

from __future__ import annotations

import logging
import subprocess
import sys

import h5py
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from model.calibration import ks_threshold, ks_uniform
from model.datasets import apogee_xp, column_names, describe, load
from model.datasets.files import REPOSITORY
from model.datasets.mock_apogee_xp import (
    catalogue,
    errors,
    fit,
    mock_posterior,
    population,
    posterior,
    relations,
    spectrum,
    write,
)
from model.datasets.mock_apogee_xp.proposal import normalised

# Medians and MAD sd of the paper's table, and the fractions of rows that lack something.
PUBLISHED = {
    "bprp": (1.36, 0.55),
    "jh": (0.57, 0.20),
    "jk": (0.71, 0.27),
    "teff": (4746, 488),
    "logg": (2.57, 1.31),
    "m_h": (-0.17, 0.32),
    "logebv": (-2.41, 1.83),
    "g_fakemag": (244, 214),
}
N_FILE = 20_000


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("mock") / "all.h5"
    write(path, N_FILE, seed=3)
    return path


@pytest.fixture(scope="module")
def table(file):
    return apogee_xp.load(file)


@pytest.fixture(scope="module")
def true_stars():
    star = population.stars(*population.draw_latents(20_000, np.random.default_rng(1)))
    return star, relations.photometry(star)


@pytest.fixture(scope="module")
def observed():
    """Labels and photometry of many stars, nothing missing: column -> (N,)."""
    return dict(zip(errors.COLUMNS, catalogue.observe(400_000, seed=11)["values"].T))


def robust_sd(x):
    return 1.4826 * np.nanmedian(np.abs(x - np.nanmedian(x)))


def test_the_papers_loader_reads_it(file, table):
    assert len(table) == N_FILE
    assert table.names == apogee_xp.NAMES
    assert table.names == column_names("mock_apogee_xp")
    assert len(np.unique(table.ids)) == N_FILE
    with h5py.File(file) as h5:
        raw = h5["raw"]
        assert set(raw) >= {"xp_coeffs", "xp_coeffs_err", "parallax", "parallax_err", "phot_g_mean_mag", "logc19"}
        assert h5["2mass_designation"].shape == (N_FILE, 1)
        flux = spectrum.g_flux(raw["phot_g_mean_mag"][:])
        # Divided by the G flux, and parallax times 10^(0.2 G).
        np.testing.assert_allclose(raw["xp_coeffs"][:, 60] / flux, raw["xp_coeffs_gnorm"][:, 60], rtol=1e-4)
        fakemag = raw["parallax"][:] * 10 ** (0.2 * raw["phot_g_mean_mag"][:])
        np.testing.assert_allclose(fakemag, raw["g_fakemag"][:], rtol=1e-4)
    np.testing.assert_array_equal(np.isnan(table.values), np.isnan(table.errors))


def test_a_smaller_catalogue_holds_the_first_stars_of_a_larger_one(table, tmp_path):
    for n in (1, catalogue.BLOCK + 5):
        write(tmp_path / "few.h5", n, seed=3)
        few = apogee_xp.load(tmp_path / "few.h5") if n > 1 else None
        with h5py.File(tmp_path / "few.h5") as h5:
            np.testing.assert_array_equal(h5["gaia_source_id"][:], table.ids[:n])
        if few is not None:
            np.testing.assert_array_equal(few.values, table.values[:n])
            np.testing.assert_array_equal(few.errors, table.errors[:n])
    write(tmp_path / "other.h5", 1000, seed=4)
    assert not np.array_equal(apogee_xp.load(tmp_path / "other.h5").values, table.values[:1000], equal_nan=True)


def test_load_gives_what_training_gets():
    table = load("mock_apogee_xp", columns=["teff", "logg", "bp0", "jk"])
    assert 60_000 < len(table) < 70_000  # of 100,000, those with Teff and log g
    assert not np.isnan(table.values[:, :2]).any()
    assert table.requestable == ("teff", "logg", "bp0")
    assert "mock" in table.source
    assert "no file" in describe("mock_apogee_xp")


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "model.datasets.mock_apogee_xp", str(tmp_path / "x.h5"), "--stars", "7"]
    subprocess.run([*command, "--missing", "faint", "--seed", "2"], check=True, cwd=REPOSITORY, capture_output=True)
    with h5py.File(tmp_path / "x.h5") as h5:
        assert h5["raw/teff"].shape == (7,)
        assert h5.attrs["source"] == "mock catalogue, 7 stars, seed 2, missing faint"


def test_impossible_catalogues_are_refused(tmp_path):
    with pytest.raises(ValueError, match="n >= 1"):
        write(tmp_path / "x.h5", 0)
    with pytest.raises(ValueError, match="missing"):
        write(tmp_path / "x.h5", 1, missing="bright")


@pytest.mark.parametrize("name", PUBLISHED)
def test_medians_and_scatter_are_near_the_published_ones(table, name):
    median, sd = PUBLISHED[name]
    assert abs(np.nanmedian(table.column(name)) - median) < 0.15 * sd
    assert 0.7 < robust_sd(table.column(name)) / sd < 1.25


def test_missing_fractions_are_the_published_ones(table):
    missing = {name: np.isnan(table.column(name)) for name in ("teff", "logg", "m_h", "logebv", "jh", "jk")}
    no_xp = np.isnan(table.values[:, [0, 55]]).all(axis=1)
    no_apogee = np.isnan(table.values[:, [table.names.index(name) for name in ("teff", "logg", "m_h")]]).all(axis=1)
    published = 396_718
    for rows, count in (
        (~no_xp, 363_261),
        (no_apogee, 132_910),
        (no_xp & ~no_apogee, 33_457),
        (missing["logebv"], 11_947),
        (missing["jh"] & missing["jk"], 2_031),
        (~missing["teff"] & ~missing["logg"] & ~missing["m_h"], 260_921),
    ):
        expected = count / published
        assert abs(rows.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / N_FILE) + 0.003
    assert (no_xp & no_apogee).mean() < 0.002  # a survey's star whose labels failed, at most


@pytest.mark.parametrize("missing", ["random", "faint"])
def test_faint_stars_lack_more_only_if_asked(missing, tmp_path):
    write(tmp_path / "x.h5", 20_000, seed=5, missing=missing)
    with h5py.File(tmp_path / "x.h5") as h5:
        g, lacks = h5["raw/phot_g_mean_mag"][:], np.isnan(h5["raw/teff"][:])
    assert abs(lacks.mean() - 0.337) < 0.02
    faint = g > np.median(g)
    difference = lacks[faint].mean() - lacks[~faint].mean()
    assert difference > 0.15 if missing == "faint" else abs(difference) < 0.025


def test_log_g_at_4700_k_has_two_peaks(table):
    near = np.abs(table.column("teff") - 4700) < 150
    logg = table.column("logg")[near]
    giants, between, dwarfs = (((low < logg) & (logg < high)).mean() for low, high in ((2, 3), (3.3, 4.2), (4.3, 5)))
    assert giants > 0.5
    assert dwarfs > 0.1
    assert between < 0.1 * dwarfs


def test_metal_rich_giants_are_cooler(true_stars):
    star, _ = true_stars
    branch = (star.logg > 1.4) & (star.logg < 1.6)
    slope = np.polyfit(star.m_h[branch], star.teff[branch], 1)[0]
    assert -450 < slope < -200


def test_the_clump_is_a_clump(true_stars):
    """As bright as the real one: M_G = 0.5 (Hawkins et al. 2017, MNRAS 471, 722: 0.44)."""
    star, _ = true_stars
    around = np.histogram(star.logg, bins=[2.0, 2.1, 2.38, 2.48, 2.8, 2.9])[0] / np.array([0.1, 0.28, 0.1, 0.32, 0.1])
    assert around[2] > 2 * max(around[0], around[4])
    clump = (star.logg > 2.38) & (star.logg < 2.48)
    assert abs(np.median(relations.absolute_g(star)[clump]) - 0.5) < 0.15


def test_noise_free_relations_are_smooth():
    """A step of a thousandth of a latent changes nothing visibly, whatever the star."""
    kind, latents = population.draw_latents(500, np.random.default_rng(2))
    step = 1e-3 * np.random.default_rng(3).standard_normal(latents.shape)

    def look(latents):
        star = population.stars(kind, latents)
        photometry = relations.photometry(star)
        labels = errors.truth(star, photometry)
        labels[:, -1] = np.log(labels[:, -1])
        return labels, spectrum.xp_coefficients(star, photometry)

    (a, xp_a), (b, xp_b) = look(latents), look(latents + step)
    assert (np.abs(a - b) < 0.02 * a.std(axis=0)).all()
    assert (np.abs(xp_a - xp_b) < 0.05 * xp_a.std(axis=0)).all()


def test_dust_is_inverted():
    distance, dust = np.array([0.1, 1.0, 10.0]), np.array([-2.0, 0.3, 3.0])
    ebv = relations.reddening(distance, dust)
    back, slope = relations.dustiness(distance, ebv)
    np.testing.assert_allclose(back, dust, rtol=1e-6)
    np.testing.assert_allclose(
        slope, 1e-4 / (np.log(relations.reddening(distance, dust + 1e-4)) - np.log(ebv)), rtol=1e-3
    )
    assert np.isnan(relations.dustiness(distance, np.array([-0.1, 100.0, 0.0]))[0][:2]).all()


def test_hermite_functions_are_orthonormal():
    u = np.arange(-16, 16, 0.05)
    phi = spectrum.hermite_functions(u, 55)
    np.testing.assert_allclose(phi @ phi.T * 0.05, np.eye(55), atol=1e-9)


def at_real_brightness(true_stars, flux, seed=4):
    """XP coefficients of mock stars that are as bright as real sources, with the noise these have; and their errors."""
    star, photometry = true_stars
    rng = np.random.default_rng(seed)
    g = spectrum.ZERO_G - 2.5 * np.log10(rng.choice(flux, len(photometry.g)))
    sigma = errors.xp_errors(g, rng)
    return errors.add_xp_noise(spectrum.xp_coefficients(star, photometry), sigma, rng), sigma, g


def test_scale_of_xp_orders(true_stars):
    flux = relations.constants()["real_flux_quantiles"]
    value, _, _ = at_real_brightness(true_stars, flux)
    ratio = np.median(np.abs(value), axis=0) / relations.constants()["real_xp_median"]
    assert ratio.shape == (110,)
    assert 1 / 1.5 < ratio.min() < ratio.max() < 1.5


def rank_correlations(value, low, high):
    """Root mean square of the rank correlations among orders low .. high of a band."""
    ranks = value[:, low:high].argsort(axis=0).argsort(axis=0)
    matrix = np.corrcoef(ranks.T)
    return np.sqrt(np.mean(matrix[np.triu_indices(high - low, 1)] ** 2))


@pytest.mark.real_data
def test_xp_against_real_sources(true_stars, real_data):
    real_data(fit.XP_FILE)
    real = fit.real_xp()
    value, sigma, g = at_real_brightness(true_stars, real["flux"])
    for ours, theirs in (
        (np.median(np.abs(value), axis=0), np.median(np.abs(real["value"]), axis=0)),
        (np.median(sigma, axis=0), np.median(real["error"], axis=0)),
        (fit.robust_sd(value)[1:55], fit.robust_sd(real["value"])[1:55]),
        (fit.robust_sd(value)[56:], fit.robust_sd(real["value"])[56:]),
    ):
        assert (np.abs(np.log(ours / theirs)) < np.log(1.5)).all()
    np.testing.assert_allclose(
        np.median(np.abs(real["value"]), axis=0), relations.constants()["real_xp_median"], rtol=1e-3
    )
    # Bright ones: correlations show, and fall off as theirs do.
    flux = spectrum.g_flux(g)
    limit = np.quantile(real["flux"], 0.75)
    for start in (0, 55):
        falls = []
        for low, high in ((0, 4), (4, 8), (8, 12), (12, 20), (20, 30), (30, 40), (40, 55)):
            ours = rank_correlations(value[flux > limit][:2000], start + low, start + high)
            theirs = rank_correlations(real["value"][real["flux"] > limit], start + low, start + high)
            assert abs(ours - theirs) < 0.25
            falls.append(ours)
        assert falls[0] > 0.5
        assert max(falls[3:]) < 0.5 * falls[0]


def test_error_of_faint_stars_is_larger(table):
    bright = table.column("g_fakemag") < np.nanmedian(table.column("g_fakemag"))
    assert np.nanmedian(table.errors[~bright, 110]) > 0.003
    star = population.stars(*population.draw_latents(5000, np.random.default_rng(1)))
    photometry = relations.photometry(star)
    faint = photometry.g > np.median(photometry.g)
    sigma = errors.errors(star, photometry)
    assert (np.median(sigma[faint], axis=0) >= np.median(sigma[~faint], axis=0))[[0, 1, 3, 4, 5, 7]].all()


def test_colours_share_the_noise_of_j():
    star = population.stars(*population.draw_latents(50_000, np.random.default_rng(8)))
    photometry = relations.photometry(star)
    truth, sigma = errors.truth(star, photometry), errors.errors(star, photometry)
    noise = (errors.add_noise(truth, sigma, np.random.default_rng(9)) - truth) / sigma
    expected = np.eye(8)
    expected[1, 2] = expected[2, 1] = errors.CORRELATION
    np.testing.assert_allclose(np.corrcoef(noise.T), expected, atol=0.02)
    np.testing.assert_allclose(noise.std(axis=0), 1, atol=0.015)


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
