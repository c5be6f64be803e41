"""Densities that are too sure of themselves are widened; those that are right are left alone."""

import numpy as np
import torch

from model.inference.calibration import coverage
from model.scaling import Answers, MonotoneSpline, Recalibration


def answers(n: int, seed: int, shift=0.0, width=1.0, column=0) -> Answers:
    """Truths of a network whose densities are too narrow by this factor where everything is given."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(n, generator=generator)
    xi = share * shift + width**share * torch.randn(n, generator=generator)
    return Answers(torch.full((n,), column), share, xi)


def test_what_is_too_narrow_is_widened_in_proportion_to_what_is_given():
    made = Recalibration(2).fit([answers(2000, i, shift=0.2, width=1.5) for i in range(2)], rows=4000)
    assert abs(made.shift[0] - 0.2) < 0.1
    assert abs(made.log_width[0].exp() - 1.5) < 0.1
    new = answers(4000, 9, shift=0.2, width=1.5)
    xi = made.from_network(new.xi[:, None].double(), 0, new.share)[:, 0]
    u = torch.special.ndtr(xi).numpy()
    assert np.abs(coverage(u, [0.68, 0.95]) - [0.68, 0.95]).max() < 4 * 0.5 / np.sqrt(4000)
    nothing = made.from_network(new.xi[:, None].double(), 0, torch.zeros(4000))
    assert torch.equal(nothing[:, 0], new.xi.double())
    assert made.log_width[1] == 0


def test_what_is_right_is_left_alone_but_for_noise():
    kept = [Recalibration(1).fit([answers(100, 2 * i + j) for j in range(2)], rows=200) for i in range(30)]
    assert sum(bool(made.log_width[0] or made.shift[0]) for made in kept) < 15
    assert max(abs(made.log_width[0]) for made in kept) < 0.25


def test_few_rows_asked_often_do_not_count_as_many():
    few = Answers(*(x.repeat(200) for x in answers(5, 3, width=3.0)))
    trusting, doubting = (Recalibration(1).fit([few, few], rows=rows) for rows in (2000, 10))
    assert abs(doubting.log_width[0]) < abs(trusting.log_width[0])
    assert torch.allclose(Recalibration(3).expect(0).log_width, torch.full((3,), 0.25).double())


def test_curves_points_and_their_inverses_agree():
    made = Recalibration(1)
    made.shift[0], made.log_width[0] = 0.3, 0.5
    x = torch.linspace(-4, 4, 20).double().expand(5, -1).contiguous()
    curve = MonotoneSpline.through(x, x.exp())
    share, xi = torch.linspace(0, 1, 5), torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).double()
    widened = made.curves(curve, 0, share)
    torch.testing.assert_close(widened(xi), curve(made.to_network(xi, 0, share)))
    torch.testing.assert_close(made.from_network(made.to_network(xi, 0, share), 0, share), xi)
    torch.testing.assert_close(widened.inverse(widened(xi)), xi)
    slope = widened.value_and_slope(xi)[1]
    step = (widened(xi + 1e-6) - widened(xi - 1e-6)) / 2e-6
    torch.testing.assert_close(slope, step, rtol=1e-4, atol=1e-5)
