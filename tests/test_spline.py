"""Curves that increase, hit their knots, and whose inverse and derivative are exact."""

import pytest
import torch

from model.scaling import MonotoneSpline


@pytest.fixture(params=[2, 3, 40])
def curve(request) -> MonotoneSpline:
    """Five curves with knots at wild distances."""
    generator = torch.Generator().manual_seed(request.param)
    steps = torch.randn(2, 5, request.param, generator=generator, dtype=torch.float64).mul(2).exp()
    return MonotoneSpline.through(*(steps.cumsum(2) - 3))


def points(curve: MonotoneSpline, n: int = 2001) -> torch.Tensor:
    """Even in each curve's range and half of it beyond, on both sides."""
    width = curve.x[:, -1:] - curve.x[:, :1]
    return curve.x[:, :1] + width * torch.linspace(-0.5, 1.5, n, dtype=torch.float64)


def test_knots_are_hit_with_their_slopes(curve):
    y, slope = curve.value_and_slope(curve.x)
    torch.testing.assert_close(y, curve.y)
    torch.testing.assert_close(slope, curve.slope)
    torch.testing.assert_close(curve.inverse(curve.y), curve.x)


def test_curves_increase(curve):
    y, slope = curve.value_and_slope(points(curve))
    assert (y.diff() > 0).all()
    assert (slope > 0).all()


def test_the_inverse_is_exact_both_ways(curve):
    x = points(curve)
    torch.testing.assert_close(curve.inverse(curve(x)), x, rtol=1e-9, atol=1e-9)
    height = curve.y[:, -1:] - curve.y[:, :1]
    y = curve.y[:, :1] + height * torch.linspace(-0.5, 1.5, 2001, dtype=torch.float64)
    torch.testing.assert_close(curve(curve.inverse(y)), y, rtol=1e-9, atol=1e-9)


def test_the_slope_is_the_derivative(curve):
    x = points(curve).requires_grad_()
    y, slope = curve.value_and_slope(x)
    (derivative,) = torch.autograd.grad(y.sum(), x)
    # At the outermost knots autograd has no unique answer.
    margin = 1e-6 * (curve.x[:, -1:] - curve.x[:, :1])
    elsewhere = ((x - curve.x[:, :1]).abs() > margin) & ((x - curve.x[:, -1:]).abs() > margin)
    torch.testing.assert_close(slope[elsewhere], derivative[elsewhere], rtol=1e-7, atol=1e-10)


def test_beyond_the_knots_the_last_slopes_go_on(curve):
    x = torch.cat([curve.x[:, :1] - 7, curve.x[:, -1:] + 11], dim=1)
    y, slope = curve.value_and_slope(x)
    first, last = curve.slope[:, 0], curve.slope[:, -1]
    torch.testing.assert_close(y, torch.stack([curve.y[:, 0] - 7 * first, curve.y[:, -1] + 11 * last], dim=1))
    torch.testing.assert_close(slope, torch.stack([first, last], dim=1))


def test_infinite_and_missing_points():
    curve = MonotoneSpline.through(torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[0.0, 1.0, 2.0]]))
    ends = torch.tensor([[-torch.inf, torch.inf, torch.nan]])
    for y in (curve(ends), curve.inverse(ends)):
        assert y[0, 0] == -torch.inf
        assert y[0, 1] == torch.inf
        assert y[0, 2].isnan()


def test_a_straight_line_stays_one():
    x = torch.tensor([[0.0, 0.1, 5.0, 6.0]], dtype=torch.float64)
    line = MonotoneSpline.through(x, 3 * x - 1)
    at = torch.linspace(-2, 8, 101, dtype=torch.float64)[None]
    torch.testing.assert_close(line(at), 3 * at - 1)


def test_rows_are_those_curves():
    x = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)).sort(1).values
    curve = MonotoneSpline.through(x, x.sinh())
    at = torch.linspace(-3, 3, 50).expand(4, -1)
    assert torch.equal(curve.rows(slice(1, 3))(at[1:3]), curve(at)[1:3])
