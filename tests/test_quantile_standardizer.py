"""Columns become normal, repeated values intervals; back again, nothing leaves the data's support."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.special import ndtr

from model import train
from model.datasets import Table
from model.inference.calibration import ks_threshold, ks_uniform
from model.run_folder import checkpoint
from model.scaling import QuantileStandardizer
from model.scaling.quantile import MARGIN
from tests.run_folders import SMALL

N = 20_000


def column(kind: str, n: int = N) -> np.ndarray:
    rng = np.random.default_rng(5)
    smooth = rng.gamma(2.0, 3.0, n)
    return {
        "normal": lambda: rng.normal(5000, 300, n),
        "lognormal": lambda: rng.lognormal(0, 2, n),
        "two peaks": lambda: np.where(rng.random(n) < 0.3, rng.normal(-5, 0.3, n), rng.normal(4, 1, n)),
        "zero-inflated": lambda: np.where(rng.random(n) < 0.4, 0.0, smooth),
        "capped": lambda: smooth.clip(max=8.0),
        "atom in the middle": lambda: np.where(rng.random(n) < 0.2, 4.0, smooth),
        "capped on both sides, atom between": lambda: np.where(rng.random(n) < 0.2, 4.0, smooth.clip(2.0, 8.0)),
        "integers": lambda: rng.poisson(3, n).clip(max=7).astype(float),
        "hundred values": lambda: np.repeat(np.arange(100.0), n // 100),
        "rounded": lambda: smooth.round(2),
        "two values": lambda: (rng.random(n) < 0.3).astype(float),
    }[kind]().astype(np.float32)


KINDS = ["normal", "lognormal", "two peaks", "zero-inflated", "capped", "atom in the middle"]
KINDS += ["capped on both sides, atom between", "integers", "hundred values", "rounded", "two values"]
SMOOTH = [kind for kind in KINDS if kind not in ("integers", "hundred values", "two values")]


def fit(x: np.ndarray) -> QuantileStandardizer:
    return QuantileStandardizer(1).fit(x[:, None], ("x",))


def atoms_of(standardizer: QuantileStandardizer) -> np.ndarray:
    return standardizer.atoms[0][standardizer.atoms[0].isfinite()].numpy()


def spread(standardizer: QuantileStandardizer, x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Values of the only column on the normal scale, atoms at a place in their intervals."""
    z = standardizer.standardize(x[:, None])[:, 0]
    return standardizer.spread(z, torch.zeros(len(x), dtype=torch.long), place)


@pytest.mark.parametrize("kind", KINDS)
def test_atoms_are_the_values_of_a_hundredth_of_the_rows(kind):
    x = column(kind)
    values, counts = np.unique(x, return_counts=True)
    np.testing.assert_array_equal(atoms_of(fit(x)), values[counts >= N / 100])


@pytest.mark.parametrize("kind", KINDS)
def test_training_rows_become_normal(kind):
    """Dequantised, whatever is repeated; the second term: the curve has only 32 knots, and few in a gap."""
    x = torch.from_numpy(column(kind))
    place = torch.rand(N, generator=torch.Generator().manual_seed(0))
    z = spread(fit(x.numpy()), x, place)
    assert ks_uniform(ndtr(z.double()).numpy()) < ks_threshold(N) + (0.03 if kind == "two peaks" else 0.004)


@pytest.mark.parametrize("kind", KINDS)
def test_anything_inside_an_atoms_interval_is_the_atom(kind):
    x = column(kind)
    standardizer = fit(x)
    for atom in atoms_of(standardizer):
        low, high = standardizer.edges(torch.tensor([atom]).double(), 0)
        share = (x == np.float32(atom)).mean()
        assert (ndtr(high) - ndtr(low)).item() == pytest.approx(share, abs=1e-9)
        z = low + (high - low).clamp(max=20) * torch.linspace(1e-6, 1 - 1e-6, 11)
        z = torch.where(low.isinf(), high - torch.linspace(1e-6, 5, 11), z)
        assert (standardizer.restore(z, 0) == np.float32(atom)).all()
        middle = standardizer.standardize(torch.tensor([[atom]], dtype=torch.float32))
        assert standardizer.restore(middle, 0).item() == np.float32(atom)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind):
    x = column(kind)
    standardizer = fit(x)
    z = standardizer.standardize(torch.from_numpy(x[:, None]))
    back = standardizer.restore(z.double(), 0)[:, 0].numpy()
    scale = np.subtract(*np.quantile(x, [0.84, 0.16])) + 1e-3 * np.ptp(x)
    inside = (x > np.quantile(x, 0.001)) & (x < np.quantile(x, 0.999))  # z is float32: tails have fewer digits
    np.testing.assert_allclose(back[inside], x[inside], rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("kind", SMOOTH)
def test_log_slope_is_the_derivative_of_the_smooth_part(kind):
    standardizer = fit(column(kind))
    x = torch.from_numpy(np.quantile(column(kind), np.linspace(0.02, 0.98, 97))).float().double()
    x = x[[not np.isclose(atoms_of(standardizer), value.item(), rtol=0, atol=0.02).any() for value in x]]
    step = (1e-3 * x.abs()).clamp(min=1e-3)
    (below, _), (above, _) = (standardizer.edges(x + side * step, 0) for side in (-1, 1))
    width = (x + step).float().double() - (x - step).float().double()  # as edges sees it
    keep = (below.isfinite() & above.isfinite() & (x > standardizer.minimum[0]) & (x < standardizer.maximum[0])).numpy()
    assert keep.sum() > 20
    numeric, exact = ((above - below) / width).log(), standardizer.log_slope(x, 0)
    # Within a step of a knot the second derivative jumps.
    assert np.quantile((numeric - exact).abs().numpy()[keep], 0.95) < 5e-3


def test_log_slope_at_an_atom_is_that_of_the_rest():
    """The limit from above: the normal scale is where the atom's interval ends."""
    standardizer = fit(column("atom in the middle"))
    at = torch.tensor([4.0, 4.0 + 1e-4]).double()
    slope = standardizer.log_slope(at, 0)
    assert slope[0].item() == pytest.approx(slope[1].item(), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_stay_within_the_margin_and_never_pass_an_atom_at_the_bound(kind):
    x = column(kind)
    standardizer = fit(x)
    z = torch.cat([torch.linspace(-9, 9, 10_001).double(), torch.tensor([-torch.inf, torch.inf]).double()])
    back = standardizer.restore(z, 0).numpy()
    assert np.isfinite(back).all()
    assert (np.diff(back[:-2]) >= 0).all()
    margin, low, high = MARGIN * np.ptp(x.astype(float)), float(x.min()), float(x.max())
    atoms = atoms_of(standardizer)
    assert back.min() >= low - (0 if low in atoms else margin) - 1e-9
    assert back.max() <= high + (0 if high in atoms else margin) + 1e-9
    if kind in ("integers", "hundred values", "two values"):
        assert set(back.tolist()) == set(np.unique(x).tolist())


def test_missing_stays_missing():
    x = column("zero-inflated")
    x[::3] = np.nan
    standardizer = fit(x)
    z = standardizer.standardize(torch.from_numpy(x[:, None]))
    assert torch.equal(z.isnan(), torch.from_numpy(np.isnan(x[:, None])))
    assert standardizer.restore(torch.tensor([torch.nan]), 0).isnan().all()
    place = torch.full((len(x),), 0.3)
    drawn = spread(standardizer, torch.from_numpy(x), place)
    assert torch.equal(drawn.isnan(), z[:, 0].isnan())


def test_atoms_of_a_column_with_an_offset_are_recognised_and_come_back_exactly():
    """Nights of a survey, in days: float32 would have quarters of a day."""
    rng = np.random.default_rng(0)
    nights = Table(("jd",), 2_459_000.123 + rng.integers(0, 20, (N, 1)))
    standardizer = QuantileStandardizer(1).fit(nights.values, nights.names, nights.offset)
    stored, physical = torch.from_numpy(nights.values), torch.from_numpy(nights.physical())
    np.testing.assert_array_equal(atoms_of(standardizer), np.unique(nights.column("jd")))
    np.testing.assert_allclose(atoms_of(standardizer), 2_459_000.123 + np.arange(20), rtol=0, atol=1e-5)
    asked = 2_459_007.123  # as a user types it
    low, high = standardizer.edges(torch.tensor([asked], dtype=torch.float64), 0)
    assert (ndtr(high) - ndtr(low)).item() == pytest.approx((nights.column("jd").round(3) == asked).mean(), abs=1e-9)
    place = torch.rand(N, generator=torch.Generator().manual_seed(0))
    z = spread(standardizer, physical[:, 0], place)
    assert torch.equal(standardizer.restore(z.double(), 0), physical[:, 0])
    assert torch.equal(standardizer.restore(standardizer.standardize_stored(stored).double(), 0), physical)


def test_few_rows_and_few_values():
    for x in ([1.0, 2.0], [1.0, 2.0, 2.0, 7.0], [0.0] * 30 + [1.0], [0.0] * 30 + [1.0, 2.0]):
        standardizer = fit(np.array(x, np.float32))
        z = standardizer.standardize(torch.tensor(x)[:, None])
        assert z.isfinite().all()
        np.testing.assert_allclose(standardizer.restore(z.double(), 0)[:, 0].numpy(), x, atol=1e-4)


@pytest.mark.parametrize(("values", "message"), [([7.0, 7.0, np.nan], "constant"), ([np.nan] * 3, "no observed value")])
def test_columns_that_cannot_be_scaled_are_named(values, message):
    with pytest.raises(ValueError, match=f"'bad'.*{message}"):
        QuantileStandardizer(2).fit(np.column_stack([[1.0, 2.0, 3.0], values]), ("good", "bad"))


@pytest.fixture
def capped(table):
    """The table with an atom at the end of column a and one in the middle of column b."""
    values = table.values.copy()
    values[:, 0] = values[:, 0].clip(max=np.float32(1))
    values[::3, 1] = np.float32(0.25)
    return replace(table, values=values)


def test_curves_and_atoms_are_saved_with_the_model(capped, tiny, tmp_path):
    experiment = tiny.override(recipe="improved", **SMALL)
    trained = train(capped, experiment, run=tmp_path / "run", device="cpu", progress=False).model.standardizer
    loaded = checkpoint.load_model(tmp_path / "run").standardizer
    for name, tensor in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    values = torch.from_numpy(capped.values)
    assert torch.equal(loaded.standardize(values).nan_to_num(9), trained.standardize(values).nan_to_num(9))
    assert atoms_of(loaded).tolist() == [1.0]


def test_a_run_that_starts_from_a_trained_model_keeps_its_curves(capped, tiny, tmp_path):
    experiment = tiny.override(recipe="improved", **SMALL)
    old = train(capped.select(("b", "c")), experiment, run=tmp_path / "old", device="cpu", progress=False)
    new = train(capped, experiment, init_from=tmp_path / "old", device="cpu", progress=False)
    assert new.columns == ("b", "c", "a", "d")
    for name, tensor in old.model.standardizer.state_dict().items():
        if name not in ("minimum", "maximum"):  # the new rows widen the range
            assert torch.equal(new.model.standardizer.state_dict()[name][:2], tensor), name
    p = new.conditional("a", {"b": 0.25})
    assert p.pmf(1.0)[0, 0] > 0
    assert p.rvs(100, seed=0).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_far_outside_the_scale_goes_on(kind):
    """Outliers must get a low density, not none: the scale stays ordered, its slope a number."""
    x, standardizer = column(kind), fit(column(kind))
    centre, width = (x.min() + x.max()) / 2, x.max() - x.min()
    points = torch.from_numpy(np.linspace(centre - 10 * width, centre + 10 * width, 4001, dtype=np.float32))
    low, high = standardizer.edges(points, 0)
    assert not (low.isnan() | high.isnan()).any()
    assert (high[1:] >= high[:-1]).all()
    slope = standardizer.log_slope(points, 0)
    assert not slope.isnan().any()
    if kind in SMOOTH:
        assert low.isfinite().all()
        assert slope.isfinite().all()
    else:
        assert (slope == -torch.inf).all()  # between the values there is nothing
