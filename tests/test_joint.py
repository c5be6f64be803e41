"""Joint densities by the chain rule against a closed form."""

import itertools

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import QTable

from model.inference import joint, question, samples
from model.inference.calibration import ks_threshold, ks_two_sample
from tests.exact import MIXTURE, exact_emulator

N = 4000


@pytest.fixture(params=["improved", "published"])
def emulator(request):
    return exact_emulator(request.param)


@pytest.mark.parametrize("order", ["abc", "cab", "db"])
def test_logpdf_is_exact_in_any_order(emulator, order):
    index = ["abcd".index(name) for name in order]
    points = MIXTURE.rvs(60, seed=1)[:, index]
    log = emulator.joint(list(order)).logpdf(points)
    exact = MIXTURE.conditional(index, {}).logpdf(points)
    assert log.shape == (1, 60)
    central = exact > np.quantile(exact, 0.05)
    assert np.abs(log[0] - exact)[central].mean() < 0.02 * len(order)


def test_all_orders_agree():
    points = MIXTURE.rvs(50, seed=2)[:, :3]
    orders = [
        exact_emulator().joint(["abc"[i] for i in order]).logpdf(points[:, order])[0]
        for order in itertools.permutations(range(3))
    ]
    assert np.median(np.std(orders, axis=0)) < 0.02


def test_logpdf_is_the_sum_of_the_conditionals(emulator):
    """The chain rule written out; quantile functions and the map run upwards err differently, a little."""
    given, points = {"d": [0.0, 0.5]}, MIXTURE.rvs(6, seed=3)[:, [2, 0]].reshape(2, 3, 2)
    log = emulator.joint(["c", "a"], given).logpdf(points)
    assert log.shape == (2, 3)
    for row, k in itertools.product(range(2), range(3)):
        c, a = points[row, k]
        first = emulator.conditional("c", {"d": given["d"][row]}).logpdf(c)
        second = emulator.conditional("a", {"d": given["d"][row], "c": c}).logpdf(a)
        assert log[row, k] == pytest.approx((first + second).item(), abs=0.1)


def test_samples_follow_the_joint_density(emulator):
    index = [2, 0, 1]
    drawn = emulator.joint(["c", "a", "b"], {"d": 0.3}).rvs(N, seed=0)[0]
    exact = MIXTURE.conditional(index, {3: 0.3}).rvs(N, seed=5)
    assert drawn.shape == (N, 3)
    rng = np.random.default_rng(0)
    for _ in range(5):  # along any direction; the last term is the solver's
        direction = rng.normal(size=3)
        assert ks_two_sample(drawn @ direction, exact @ direction) < 2 * ks_threshold(N, tests=10) + 0.005


def test_points_for_every_row_and_for_each():
    several = exact_emulator().joint(["a", "c"], {"b": [0.0, 1.0, 2.0]})
    assert len(several) == 3
    assert several.columns == ("a", "c")
    assert several.units == ("K", "dex")
    points = MIXTURE.rvs(4, seed=3)[:, [0, 2]]
    same = several.logpdf(points)
    assert same.shape == (3, 4)
    np.testing.assert_allclose(several.logpdf(np.tile(points, (3, 1, 1))), same, rtol=1e-5)
    np.testing.assert_allclose(several.logpdf(points[None]), same, rtol=1e-5)
    assert several.rvs(2, seed=0).shape == (3, 2, 2)
    for shape in ((2,), (4, 3), (2, 4, 2), (1, 3, 4, 2)):
        with pytest.raises(ValueError, match=r"\(K, 2\) or \(3, K, 2\) is expected"):
            several.logpdf(np.zeros(shape))


def test_points_with_names_may_come_in_any_order_and_unit():
    """A DataFrame whose columns stand in another order was taken for an array."""
    several = exact_emulator().joint(["a", "c"], {"b": [0.0, 1.0, 2.0]})
    values = MIXTURE.rvs(4, seed=3)[:, [0, 2]]
    log, (a, c) = several.logpdf(values), values.T
    np.testing.assert_array_equal(several.logpdf(pd.DataFrame({"c": c, "a": a})), log)
    np.testing.assert_array_equal(several.logpdf({"c": c[None], "a": a[None]}), log)
    np.testing.assert_allclose(several.logpdf(QTable({"c": u.Dex(c), "a": 1000 * a * u.mK})), log, rtol=1e-6)
    own = several.logpdf({"c": c[:3, None], "a": a[:3, None]})  # of each row its own
    np.testing.assert_allclose(own[:, 0], np.diag(log[:, :3]), rtol=1e-5)
    with pytest.raises(KeyError, match="'b'"):
        several.logpdf({"a": a, "b": c})
    with pytest.raises(u.UnitConversionError, match="'a' is in 'K'"):
        several.logpdf({"a": a * u.s, "c": c})


def test_a_row_of_text_says_what_is_asked():
    several = exact_emulator().joint(["a", "d"], {"b": [0.0, 1.0, 2.0]})
    assert repr(several) == "Joint(a [K], d given b; 3 rows)"
    assert repr(exact_emulator().joint(["c"])) == "Joint(c [dex] given nothing; 1 row)"


def test_seeds_and_blocks(monkeypatch):
    several = exact_emulator().joint(["a", "c"], {"b": [0.0, 1.0, 2.0]})
    points = MIXTURE.rvs(4, seed=3)[:, [0, 2]]
    drawn, log = several.rvs(20, seed=1), several.logpdf(points)
    assert np.array_equal(drawn, several.rvs(20, seed=1))
    assert not np.array_equal(drawn, several.rvs(20, seed=2))
    assert not np.array_equal(several.rvs(20), several.rvs(20))
    assert len(np.unique(drawn[:, :, 1])) == 60
    monkeypatch.setitem(question.BLOCK, "cpu", 50)
    monkeypatch.setitem(question.TOKENS, "cpu", 5)
    monkeypatch.setitem(question.ROWS, "cpu", 2)
    np.testing.assert_allclose(several.rvs(20, seed=1), drawn, rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(joint, "CHUNK", 7)
    np.testing.assert_allclose(several.logpdf(points), log, rtol=1e-3, atol=1e-3)


def test_every_block_has_noise_of_its_own(monkeypatch):
    seeds = []

    def record(*parts):
        seeds.append(parts)
        return samples.block_seed(*parts)

    monkeypatch.setattr(joint, "block_seed", record)
    monkeypatch.setattr(joint, "CHUNK", 7)
    exact_emulator().joint(["a", "c", "d"], {"b": [0.0, 1.0]}).rvs(10, seed=1)
    assert len(seeds) == len(set(seeds)) == 1 + 2 * 3


def test_other_samplers_and_their_errors():
    drawn = exact_emulator().joint(["c", "a"]).rvs(1000, seed=0, method="sde")[0]
    assert abs(np.corrcoef(drawn.T)[0, 1] - np.corrcoef(MIXTURE.rvs(100_000, 0)[:, [2, 0]].T)[0, 1]) < 4 / np.sqrt(1000)
    assert exact_emulator("published").joint(["c", "a"]).rvs(3, seed=0, method="ancestral").shape == (1, 3, 2)
    for method in ("ancestral", "magic"):
        with pytest.raises(ValueError, match="method"):
            exact_emulator().joint(["c", "a"]).rvs(3, method=method)


def test_a_requested_column_may_not_be_given():
    with pytest.raises(ValueError, match="'c' is asked for and given"):
        exact_emulator().joint(["a", "c"], {"c": 1.0})
    with pytest.raises(ValueError, match="once"):
        exact_emulator().joint(["a", "c", "a"])
