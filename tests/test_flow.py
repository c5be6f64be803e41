"""The deterministic map against exact mixtures: one network that is perfect, so that only the solver errs."""

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from model.inference import flow
from model.inference.flow import COARSE, FULL, REACH
from model.scaling import MonotoneSpline
from tests.exact import condition, mixture_cdf, noise_head, velocity_head

# The densities, and the KS distance that 16 steps and 57 nodes are allowed.
MIXTURES = {
    "normal": (condition((1.0, 0.3, 0.7)), 0.0005),
    "far out and narrow": (condition((1.0, -3.0, 0.02)), 0.0005),
    "two peaks": (condition((0.5, -1.0, 0.3), (0.5, 1.0, 0.3)), 0.003),
    "a peak beside a hill": (condition((0.8, 0.0, 1.0), (0.2, 2.0, 0.1)), 0.003),
    "heavy tails": (condition((0.9, 0.0, 0.1), (0.1, 0.0, 1.0)), 0.003),
    "a gap of eighty widths": (condition((0.5, -2.0, 0.05), (0.5, 2.0, 0.05)), 0.012),
}
HEADS = {"improved": velocity_head, "published": noise_head}
XI = torch.linspace(-3.7, 3.7, 741, dtype=torch.float64)[None]


def ks(cond: torch.Tensor, curve: MonotoneSpline) -> float:
    xi = XI.expand(len(cond), -1)
    return float(np.abs(mixture_cdf(cond, curve(xi).numpy()) - ndtr(xi.numpy())).max())


@pytest.mark.parametrize("recipe", HEADS)
@pytest.mark.parametrize("density", MIXTURES)
def test_quantiles_of_exact_mixtures(recipe, density):
    cond, bound = MIXTURES[density]
    assert ks(cond, flow.curves(HEADS[recipe](), cond, FULL)) < bound + (0.002 if recipe == "published" else 0)
    if density != "a gap of eighty widths":
        assert ks(cond, flow.curves(HEADS[recipe](), cond, COARSE)) < max(10 * bound, 0.005)


@pytest.mark.parametrize("density", [name for name in MIXTURES if name != "a gap of eighty widths"])
def test_many_steps_and_nodes_leave_no_error(density):
    cond, _ = MIXTURES[density]
    assert ks(cond, flow.curves(velocity_head(), cond, flow.Resolution(200, 201, 3))) < 0.0005


@pytest.mark.parametrize("steps", [100, 120])
@pytest.mark.parametrize("mean", [-2.0, 2.0])
def test_the_published_map_starts_at_the_moment_matched_normal(steps, mean):
    """Trap 8: the schedule leaves some signal, which a start at N(0, 1) ignores; the ODE remembers it."""
    head, cond = noise_head(steps), condition((0.3, mean - 0.5, 0.3), (0.7, mean + 0.2, 0.4))
    assert ks(cond, flow.curves(head, cond, FULL)) <= 0.009
    zero = torch.zeros(1, 1)
    naive = flow._discrete(head, cond, zero, zero + 1, 10 * FULL.steps).push(XI.float())
    distance = np.abs(mixture_cdf(cond, naive.numpy()) - ndtr(XI.numpy())).max()
    assert 0.03 < distance < 0.09


def test_a_map_without_moments_would_be_as_wrong_for_all_steps():
    """The bias is the start's, not the solver's: all T steps do not help."""
    head, cond = noise_head(100), condition((1.0, 2.0, 0.5))
    zero = torch.zeros(1, 1)
    x = flow._discrete(head, cond, zero, zero + 1, 5000).push(XI.float())
    assert np.abs(mixture_cdf(cond, x.numpy()) - ndtr(XI.numpy())).max() > 0.03
    assert ks(cond, flow.curves(head, cond, FULL)) < 0.003


@pytest.mark.parametrize("recipe", HEADS)
def test_pull_is_the_inverse_of_push(recipe):
    cond = MIXTURES["two peaks"][0]
    few, many = (flow.field(HEADS[recipe](), cond, steps) for steps in (FULL.steps, 200))
    xi = torch.linspace(-3, 3, 61)[None]
    assert (many.pull(many.push(xi)) - xi).abs().max() < 0.01
    # In probability, which is what is asked for; more where densities are tiny.
    assert np.abs(ndtr(few.pull(few.push(xi)).numpy()) - ndtr(xi.numpy())).max() < 0.005


@pytest.mark.parametrize("recipe", HEADS)
def test_pull_gives_the_distribution_function(recipe):
    for name in ("normal", "a peak beside a hill", "heavy tails"):
        cond, _ = MIXTURES[name]
        x = torch.linspace(-2.5, 2.5, 201)[None]
        u = ndtr(flow.field(HEADS[recipe](), cond, FULL.steps).pull(x).numpy())
        assert np.abs(u - mixture_cdf(cond, x.numpy())).max() < 0.008, name


def test_nodes_are_added_where_a_density_has_a_gap():
    cond, _ = MIXTURES["two peaks"]
    curve = flow.curves(velocity_head(), cond, FULL)
    assert curve.x.shape == (1, FULL.points)
    in_gap = (curve.y.abs() < 0.8).sum().item()  # three hundredths of the probability
    even = torch.linspace(-REACH, REACH, FULL.points)
    assert in_gap >= 15 > 3 * (even.abs() < 0.04).sum().item()
    # The same number of even nodes does worse.
    assert ks(cond, flow.curves(velocity_head(), cond, flow.Resolution(16, FULL.points, 0))) > 2 * ks(cond, curve)


def test_curves_increase_whatever_the_network_says():
    class Chaos:
        def project(self, cond):
            return [cond]

        def project_time(self, t):
            return [t]

        def __call__(self, x_t, time, projected):
            return 30 * torch.sin(40 * x_t)

    head = velocity_head()
    head.denoiser = Chaos()
    curve = flow.curves(head, condition((1.0, 0.0, 1.0)), FULL)
    assert (curve.y.diff() > 0).all()
    assert (curve.slope > 0).all()
    assert curve.slope.isfinite().all()


@pytest.mark.parametrize("recipe", HEADS)
def test_rows_together_are_rows_alone(recipe):
    cond = torch.cat([torch.cat([c, c[:, :0]], 1) for c, _ in MIXTURES.values() if c.shape[1] == 6])
    head = HEADS[recipe]()
    together = flow.curves(head, cond, FULL)
    for i in range(len(cond)):
        alone = flow.curves(head, cond[i : i + 1], FULL)
        torch.testing.assert_close(alone(XI), together.rows(slice(i, i + 1))(XI), rtol=1e-4, atol=1e-4)


def test_quantiles_beyond_the_nodes_go_on_straight():
    cond = condition((1.0, 0.3, 0.7))
    curve = flow.curves(velocity_head(), cond, FULL)
    xi = torch.tensor([[-8.0, -6.0, 6.0, 8.0]], dtype=torch.float64)
    torch.testing.assert_close(curve(xi), 0.3 + 0.7 * xi, rtol=1e-3, atol=1e-3)
