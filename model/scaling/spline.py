"""Smooth monotone curves through given points, with exact derivative and exact inverse.

R curves, K knots each, Q points on each curve.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class MonotoneSpline(NamedTuple):
    r"""R increasing curves, rational quadratic between knots and straight beyond them.

    With :math:`\theta` the place between two knots, :math:`h` their distance in y, :math:`s` the mean slope and
    :math:`d_0, d_1` the slopes at the knots,

    .. math:: y = y_0 + h\,\frac{s \theta^2 + d_0 \theta (1 - \theta)}{s + (d_0 + d_1 - 2 s) \theta (1 - \theta)}

    Reference: Gregory & Delbourgo 1982, IMA J. Numer. Anal. 2, 123; the inverse: Durkan et al. 2019, arXiv:1906.04032.

    Attributes:
        x: Knots, strictly increasing, (R, K).
        y: Their images, strictly increasing, (R, K).
        slope: dy/dx at the knots, positive, (R, K).

    Example:
        >>> curve = MonotoneSpline.through(torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[0.0, 1.0, 2.0]]))
        >>> curve.inverse(curve(torch.tensor([[0.5, 2.0, 4.0]]))).round(decimals=4).tolist()
        [[0.5, 2.0, 4.0]]
    """

    x: Tensor
    y: Tensor
    slope: Tensor

    @classmethod
    def through(cls, x: Tensor, y: Tensor) -> MonotoneSpline:
        """The curves through these points, (R, K) each, K >= 2, with slopes from their neighbours.

        Slopes are weighted harmonic means of those on both sides (Fritsch & Butland 1984, SIAM J. Sci. Stat. Comput. 5,
        300); at the ends, that of the last pair.
        """
        width = x.diff()  # (R, K - 1)
        mean_slope = y.diff() / width
        left, right = mean_slope[:, :-1], mean_slope[:, 1:]
        w_left, w_right = 2 * width[:, 1:] + width[:, :-1], width[:, 1:] + 2 * width[:, :-1]
        inner = (w_left + w_right) / (w_left / left + w_right / right)
        return cls(x, y, torch.cat([mean_slope[:, :1], inner, mean_slope[:, -1:]], dim=1))

    def rows(self, rows) -> MonotoneSpline:
        """Some of the curves."""
        return MonotoneSpline(self.x[rows], self.y[rows], self.slope[rows])

    def __call__(self, x: Tensor) -> Tensor:
        """The curves at (R, Q) points: (R, Q)."""
        return self.value_and_slope(x)[0]

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The curves and their derivatives at (R, Q) points: (R, Q) each."""
        x_0, width, y_0, height, d_0, d_1 = self._segment(self.x, x)
        s = height / width
        theta = ((x - x_0) / width).clamp(0, 1)
        both = theta * (1 - theta)
        denominator = s + (d_0 + d_1 - 2 * s) * both
        y = y_0 + height * (s * theta.square() + d_0 * both) / denominator
        slope = s.square() * (d_1 * theta.square() + 2 * s * both + d_0 * (1 - theta).square()) / denominator.square()
        beyond = (x - self.x[:, :1]).clamp(max=0) * d_0 + (x - self.x[:, -1:]).clamp(min=0) * d_1
        return y + beyond, slope

    def inverse(self, y: Tensor) -> Tensor:
        """Where the curves reach (R, Q) values: (R, Q)."""
        x_0, width, y_0, height, d_0, d_1 = self._segment(self.y, y)
        s = height / width
        eta = (y - y_0).clamp(min=0).minimum(height)
        bend = d_0 + d_1 - 2 * s
        a, b, c = height * (s - d_0) + eta * bend, height * d_0 - eta * bend, -s * eta
        root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
        theta = 2 * c / (-b - root)  # the stable of the two forms: b > 0
        beyond = (y - self.y[:, :1]).clamp(max=0) / d_0 + (y - self.y[:, -1:]).clamp(min=0) / d_1
        return x_0 + width * theta + beyond

    def _segment(self, knots: Tensor, points: Tensor) -> tuple[Tensor, ...]:
        """x, width, y, height and both slopes of the segment each point falls in."""
        i = torch.searchsorted(knots[:, 1:-1].contiguous(), points.contiguous())  # (R, Q) in 0 .. K - 2
        x_0, y_0, d_0 = (table.gather(1, i) for table in self)
        x_1, y_1, d_1 = (table.gather(1, i + 1) for table in self)
        return x_0, x_1 - x_0, y_0, y_1 - y_0, d_0, d_1
