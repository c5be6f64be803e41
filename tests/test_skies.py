"""What the notebooks ask of tables of stars: right selections, calibrated where the model is perfect, readable axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import norm

from model import datasets
from model.inference.calibration import ks_threshold, ks_uniform
from model.pictures import Sky, skies
from tests.exact import exact_emulator


@pytest.fixture(scope="module")
def mixture():
    return exact_emulator()


def test_random_questions_to_a_perfect_model_are_calibrated_and_others_are_not(mixture):
    data = datasets.load("mixture").to_frame()[:20_000]
    pit = skies.pit_of_random_questions(mixture, data, ["a", "c"], 600, seed=0)
    assert len(pit) == 600
    assert ks_uniform(pit) < ks_threshold(600, 0.99)
    wrong = data.assign(a=data["a"] + 0.5 * data["a"].std())
    assert ks_uniform(skies.pit_of_random_questions(mixture, wrong, ["a"], 600, seed=0)) > ks_threshold(600, 0.99)


def test_stars_without_the_column_are_not_asked_for_it(mixture):
    data = datasets.load("mixture").to_frame()[:100]
    data.loc[10:, "b"] = np.nan
    assert len(skies.pit_of_random_questions(mixture, data, ["b"], 50, seed=0)) == 10


def test_the_distance_to_an_exact_posterior():
    class Shifted:
        def cdf(self, x):
            return norm.cdf(x - 0.5)[None]

    assert Sky.ks(Shifted(), norm()) == pytest.approx(2 * norm.cdf(0.25) - 1, abs=1e-4)


def test_a_sky_without_data_is_drawn_from_the_model(mixture):
    sky = Sky("mock stars", mixture, mixture)
    assert "no data" in sky.caption
    drawn = sky.stars_or_samples(["a", "c"], 50)
    assert {name: len(values) for name, values in drawn.items()} == {"a": 50, "c": 50}
    data = datasets.load("mixture").to_frame()[:7]
    sky = Sky("mock stars", mixture, mixture, data)
    assert sky.caption == "7 mock stars"
    assert np.array_equal(sky.stars_or_samples(["c"])["c"], data["c"])


def test_luminosity_and_scatter():
    sun = 100 * 10 ** (skies.SUN_G / 5)  # parallax in mas times 10^(0.2 G), at 10 pc
    np.testing.assert_allclose(skies.luminosity(np.array([sun, -1.0, sun * 10])), [0, -2])
    x = np.random.default_rng(0).normal(3, 2, 40_000)
    assert abs(skies.robust_scatter(x) - 2) < 4 * 2 * 1.17 / np.sqrt(40_000)


def test_pictures_have_labels_with_units():
    rng = np.random.default_rng(0)
    teff, logg, m_h = rng.uniform(4000, 6000, 500), rng.uniform(1, 5, 500), rng.normal(0, 0.3, 500)
    fig, axes = plt.subplots(1, 3)
    assert len(skies.mean_on_kiel(axes[0], teff, logg, m_h).get_array()) > 0
    assert skies.counts_of_metallicity(axes[1], m_h, logg).get_array().sum() > 0
    skies.truth_against_prediction(axes[2], teff, teff + 10, np.full(500, 10.0))
    assert "[K]" in axes[0].get_xlabel()
    assert "[dex]" in axes[0].get_ylabel()
    assert all(axis.get_inverted() for axis in (axes[0].xaxis, axes[0].yaxis, axes[1].yaxis))
    plt.close(fig)
