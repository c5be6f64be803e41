"""Every artist carries the data it was given, under the right label; nothing is changed on the way."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats

from model.inference import calibration
from model.pictures import Selection, plotting

matplotlib.use("Agg")
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def house_style():
    with plt.rc_context():
        plotting.use_style()
        yield
        plt.close("all")


@pytest.fixture
def ax():
    axes = plt.figure().subplots()
    yield axes
    axes.figure.canvas.draw()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def frozen(*arrays):
    """The arrays, such that writing to them is an error."""
    for array in arrays:
        array.setflags(write=False)
    return arrays if len(arrays) > 1 else arrays[0]


def area(artist):
    heights, edges, _ = artist.get_data()
    return float(np.sum(heights * np.diff(edges)))


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_style_is_the_house_style():
    assert plt.rcParams["axes.spines.top"] is False
    assert plt.rcParams["figure.constrained_layout.use"] is True
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"][0] == "#0072B2"


def test_density_shows_samples_and_data(ax, rng):
    samples, data = frozen(rng.normal(4700, 100, (40, 50)), np.r_[np.nan, rng.normal(5000, 100, 3000)])
    model, seen = plotting.density(ax, samples, data, label="Teff", unit="K", color="C1")
    heights, edges, _ = model.get_data()
    np.testing.assert_allclose(heights * np.diff(edges) * 2000, np.histogram(samples, edges)[0])
    np.testing.assert_allclose(seen.get_data()[0] * np.diff(edges) * 3000, np.histogram(data[1:], edges)[0])
    assert ax.get_xlabel() == "Teff [K]"
    assert ax.get_ylabel() == "density [1/K]"
    assert (model.get_label(), seen.get_label()) == ("model", "data")
    assert matplotlib.colors.same_color(model.get_edgecolor(), "C1")


def test_density_of_a_composite_unit_and_of_a_pure_number(ax, rng):
    plotting.density(ax, rng.normal(size=100), label="v", unit="km / s")
    assert ax.get_ylabel() == "density [1/(km / s)]"
    plotting.density(ax, rng.normal(size=100), label="n")
    assert ax.get_xlabel() == "n"
    assert ax.get_ylabel() == "density"


def test_samples_outside_the_range_stay_in_the_normalisation(ax, rng):
    data = rng.normal(size=1000)
    model, seen = plotting.density(ax, np.r_[rng.normal(size=500), np.full(500, 1e6)], data)
    assert area(model) == pytest.approx(0.5, abs=0.01)
    assert area(seen) == pytest.approx(1, abs=0.01)


def test_density_refuses_samples_that_are_not_finite(ax):
    with pytest.raises(ValueError, match="Teff: samples must be finite"):
        plotting.density(ax, np.array([1.0, np.nan]), label="Teff")
    with pytest.raises(ValueError, match="no observed value"):
        plotting.density(ax, np.ones(3), np.full(3, np.nan))


def test_bins_show_the_bulk(rng):
    heavy = np.r_[rng.lognormal(size=5000), 1e4]
    edges = plotting.bin_edges(heavy)
    assert 20 <= len(edges) - 1 <= 82
    assert edges[-1] < 100
    assert edges[0] >= heavy.min()
    np.testing.assert_allclose(np.diff(edges), edges[1] - edges[0])


def test_bins_of_whole_numbers_hold_equally_many_of_them(rng):
    ages = rng.integers(1, 53, 20_000).astype(float)
    edges = plotting.bin_edges(rng.normal(30, 10, 1000), ages)
    assert edges[1] - edges[0] == round(edges[1] - edges[0])
    assert edges[0] % 1 == 0.5
    assert np.histogram(ages, edges)[0].sum() == len(ages)


@pytest.mark.parametrize("values", [np.full(10, 3.0), np.full(10, 2.5), np.array([1.5])])
def test_bins_of_a_constant(values):
    edges = plotting.bin_edges(values)
    assert (np.diff(edges) > 0).all()
    assert np.histogram(values, edges)[0].sum() == len(values)


def test_bins_hold_a_cap_at_the_end_of_the_range(rng):
    capped = np.minimum(rng.normal(4, 2, 5000), 5.00001).astype(np.float32)
    edges = plotting.bin_edges(capped)
    counts = np.histogram(capped, edges)[0]
    assert counts.max() >= np.sum(capped == capped.max())


def test_conditional_cuts_the_data_by_its_own_title(ax, rng):
    income = rng.uniform(0, 10, 5000)
    data = {"MedInc": income, "HouseValue": income + rng.normal(size=5000)}
    data["HouseValue"][0], data["MedInc"][0] = np.nan, 7.0
    frozen(*data.values())
    samples = frozen(rng.normal(7, 1, 1000))
    selection = Selection({"MedInc": 7.0}, half_width={"MedInc": 0.25})
    _, seen = plotting.conditional(ax, "HouseValue", samples, selection, data, unit="1e5 USD")
    expected = data["HouseValue"][1:][np.abs(income[1:] - 7) <= 0.25]
    heights, edges, _ = seen.get_data()
    np.testing.assert_allclose(heights * np.diff(edges) * len(expected), np.histogram(expected, edges)[0])
    assert ax.get_title() == selection.caption(with_data=True)
    assert legend_texts(ax) == ["model", f"data ({len(expected)} rows)"]
    assert ax.get_xlabel() == "HouseValue [1e5 USD]"


@pytest.mark.parametrize("data", [None, {"MedInc": np.zeros(9), "HouseValue": np.ones(9)}])
def test_conditional_without_data_claims_none(ax, rng, data):
    selection = Selection({"MedInc": 7.0}, half_width={"MedInc": 0.25})
    artists = plotting.conditional(ax, "HouseValue", rng.normal(size=100), selection, data, label="House value")
    assert len(artists) == 1
    assert ax.get_title() == "MedInc = 7.0"
    assert legend_texts(ax) == ["model"]
    assert ax.get_xlabel() == "House value"


def test_marginals_draw_each_column_in_its_panel(rng):
    axes = plt.figure().subplots(2, 2)
    samples = {name: frozen(rng.normal(i * 100, 1, 500)) for i, name in enumerate("abc")}
    data = {name: frozen(rng.normal(i * 100, 1, 800)) for i, name in enumerate("cba"[::-1])}
    artists = plotting.marginals(axes, samples, data, labels={"b": "Beta"}, units={"b": "K"})
    for i, (panel, (model, seen)) in enumerate(zip(axes.ravel(), artists)):
        assert model in panel.patches
        assert abs(np.mean(panel.get_xlim()) - 100 * i) < 2
        assert area(model) > 0.95
        assert area(seen) > 0.95
    assert [panel.get_xlabel() for panel in axes.ravel()] == ["a", "Beta [K]", "c", ""]
    assert legend_texts(axes[0, 0]) == ["model", "data"]
    assert axes[0, 1].get_legend() is None
    assert not axes[1, 1].get_visible()
    axes[0, 0].figure.canvas.draw()
    with pytest.raises(ValueError, match="3 columns do not fit into 2 panels"):
        plotting.marginals(axes[0], samples)


def test_pit_ecdf_leaves_its_band_just_where_ks_says(ax, rng):
    pit = frozen(rng.random(400) ** 1.3)
    line, band = plotting.pit_ecdf(ax, pit)
    assert np.abs(line.get_ydata()).max() == pytest.approx(calibration.ks_uniform(pit))
    vertices = band.get_paths()[0].vertices
    assert np.abs(vertices[:, 1]).max() == pytest.approx(calibration.ks_threshold(400))
    assert ax.get_xlabel() == "PIT"
    assert "uniform" in ax.get_ylabel()
    assert legend_texts(ax) == [f"400 rows, KS {calibration.ks_uniform(pit):.3f}", "99% band"]
    assert ax.get_ylim()[1] > np.abs(line.get_ydata()).max()


def test_pit_histogram_has_the_binomial_interval(ax, rng):
    pit = frozen(rng.random(500))
    steps, band = plotting.pit_histogram(ax, pit, bins=10, level=0.95)
    np.testing.assert_allclose(steps.get_data()[0] * 50, np.histogram(pit, np.linspace(0, 1, 11))[0])
    low, high = scipy.stats.binom.ppf([0.025, 0.975], 500, 0.1) / 50
    assert band.get_xy()[1] == pytest.approx(low)
    assert band.get_xy()[1] + band.get_height() == pytest.approx(high)
    assert legend_texts(ax) == ["500 rows", "95% band per bin"]


@pytest.mark.parametrize("n", [1, 40, 44_080])
def test_binomial_interval_agrees_with_scipy(n):
    expected = scipy.stats.binom.ppf([0.005, 0.995], n, 0.05)
    np.testing.assert_array_equal(plotting._binomial_interval(n, 0.05, 0.99), expected)


def test_coverage_curve_falls_below_zero_for_a_narrow_posterior(ax, rng):
    pit = frozen(rng.beta(0.3, 0.3, 1000))
    line, _ = plotting.coverage_curve(ax, pit)
    promised, excess = line.get_data()
    np.testing.assert_allclose(excess, calibration.coverage(pit, promised) - promised)
    assert excess.min() < -calibration.ks_threshold(1000)
    assert excess.max() < calibration.ks_threshold(1000)


def test_pit_bins_stand_against_their_own_thresholds(ax, rng):
    pit, x = frozen(rng.random(1000), rng.normal(4700, 500, 1000))
    edges, ks, n = frozen(*calibration.pit_in_bins(pit, x))
    bars, limits = plotting.pit_bins(ax, edges, ks, n, label="Teff", unit="K")
    assert [bar.get_height() for bar in bars] == ks.tolist()
    heights = [segment[0, 1] for segment in limits.get_segments()]
    np.testing.assert_allclose(heights, calibration.ks_threshold(n, tests=5))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [f"{edge:.0f}" for edge in edges]
    assert ax.get_xlabel() == "Teff [K]"


def test_kiel_counts_stars_on_inverted_axes(ax, rng):
    teff, logg = frozen(np.r_[np.nan, rng.normal(4700, 300, 2000)], np.r_[2.0, rng.normal(2.5, 0.5, 2000)])
    selection = Selection({"teff": 4700}, half_width={"teff": 50}, units={"teff": "K"})
    mesh = plotting.kiel(ax, teff, logg, bins=30, selections=[selection])
    assert mesh.get_array().sum() == 2000
    assert ax.xaxis_inverted()
    assert ax.yaxis_inverted()
    assert ax.get_xlabel().endswith("[K]")
    assert ax.get_ylabel().endswith("[dex]")
    span = ax.patches[0]
    assert (span.get_x(), span.get_x() + span.get_width()) == selection.bounds("teff")
