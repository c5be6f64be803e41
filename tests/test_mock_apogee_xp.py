"""The mock catalogue: does it look like the paper's?"""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest

from model.datasets import apogee_xp, column_names, describe, load, mock_apogee_xp
from model.datasets.files import REPOSITORY
from model.datasets.mock_apogee_xp import catalogue, errors, fit, load_labels, population, relations, spectrum, write
from model.inference.calibration import ks_two_sample

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
    return apogee_xp.load(file, errors=True)


@pytest.fixture(scope="module")
def true_stars():
    star = population.stars(*population.draw_latents(20_000, np.random.default_rng(1)))
    return star, relations.photometry(star)


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
        few = apogee_xp.load(tmp_path / "few.h5", errors=True) if n > 1 else None
        with h5py.File(tmp_path / "few.h5") as h5:
            np.testing.assert_array_equal(h5["gaia_source_id"][:], table.ids[:n])
        if few is not None:
            np.testing.assert_array_equal(few.values, table.values[:n])
            np.testing.assert_array_equal(few.errors, table.errors[:n])
    write(tmp_path / "other.h5", 1000, seed=4)
    assert not np.array_equal(apogee_xp.load(tmp_path / "other.h5").values, table.values[:1000], equal_nan=True)


def test_load_gives_what_training_gets():
    table = load("mock_apogee_xp", columns=["teff", "logg", "bp0", "jk"])
    assert 190_000 < len(table) < 205_000  # of 300,000, those with Teff and log g
    assert not np.isnan(table.values[:, :2]).any()
    assert table.requestable == ("teff", "logg", "bp0")
    assert "mock" in table.source
    assert "no file" in describe("mock_apogee_xp")


def test_labels_alone_are_those_of_the_catalogue():
    labels, whole = load_labels(20_000, seed=1), mock_apogee_xp.load(30_000, seed=2)
    assert labels.names == tuple(mock_apogee_xp.LABELS)
    assert labels.requestable == tuple(name for name in labels.names if name in whole.requestable)
    assert labels.units == whole.select(labels.names).units
    assert np.isfinite(labels.values).all()
    assert np.array_equal(load_labels(100, seed=1).values, labels.values[:100])
    for name in labels.names:  # what is missing does not depend on the star, so the rest has the same distribution
        rest = whole.column(name)[np.isfinite(whole.column(name))]
        # One column exceeds this with a probability of 1/800, one of the eight with 1%.
        limit = np.sqrt(0.5 * np.log(2 * 800) * (1 / len(labels) + 1 / len(rest)))
        assert ks_two_sample(labels.column(name), rest) < limit, name


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "model.datasets.mock_apogee_xp", str(tmp_path / "x.h5"), "--stars", "7"]
    subprocess.run([*command, "--missing", "faint", "--seed", "2"], check=True, cwd=REPOSITORY, capture_output=True)
    with h5py.File(tmp_path / "x.h5") as h5:
        assert h5["raw/teff"].shape == (7,)
        assert h5.attrs["source"] == "mock catalogue, 7 stars, seed 2, missing faint"


def test_a_catalogue_that_is_not_finished_leaves_the_older_one(tmp_path, monkeypatch):
    write(tmp_path / "x.h5", 3)
    before = (tmp_path / "x.h5").read_bytes()
    block = catalogue._block

    def interrupted(number, *rest):
        if number == 1:
            raise KeyboardInterrupt
        return block(number, *rest)

    monkeypatch.setattr(catalogue, "_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x.h5", catalogue.BLOCK + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]
    assert (tmp_path / "x.h5").read_bytes() == before


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


def test_errors_of_faint_stars_are_larger():
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
