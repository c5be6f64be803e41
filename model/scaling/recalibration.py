"""What was too narrow on validation rows is widened: a straight map of normal quantiles for each requested column.

N rows, Q points per row, V kinds of data.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .spline import MonotoneSpline

REACH = 3.5  # quantiles further out say how the solver ends, not how wide a density is
MOST = 0.25  # log width that is expected at most
DOUBT = 0.3  # how large shift and log width are expected to be: few rows leave both near 0
ITERATIONS = 50


class Answers(NamedTuple):
    """Where a network's densities have their truths.

    Attributes:
        column: Requested columns, 0 .. V-1, (N,).
        share: Share of the other columns that is given, (N,).
        xi: Normal quantiles of the truths, (N,).
    """

    column: Tensor
    share: Tensor
    xi: Tensor

    def of(self, column: int) -> tuple[Tensor, Tensor]:
        """Shares and quantiles of one column, float64 on the host."""
        rows = self.column == column
        return self.share[rows].double().cpu(), self.xi[rows].double().cpu().clamp(-REACH, REACH)


class Recalibration(nn.Module):
    r"""A network trained on few rows is too sure of itself, the more so the more it is given.

    With :math:`\xi` the normal quantile at which the network's density has its truths, and :math:`f` the share of the
    other columns that is given,

    .. math:: \xi = f a + e^{f b} \xi'

    makes :math:`\xi'` standard normal on the validation rows. With nothing given, nothing changes: the marginals are
    learned well. All zeros, a and b leave everything as it is.

    What is expected of b before any validation row is looked at is :math:`1 / \sqrt{n}` of n of them, as the fewer
    there are, the fewer the network has been trained on, and at most 0.25.

    Args:
        n_columns: Number of kinds of data V.
    """

    shift: Tensor
    log_width: Tensor

    def __init__(self, n_columns: int):
        super().__init__()
        for name in ("shift", "log_width"):
            self.register_buffer(name, torch.zeros(n_columns, dtype=torch.float64))

    def fit(self, halves: list[Answers], rows: int) -> Recalibration:
        """Fit each column by greatest probability, where that helps rows that were kept aside.

        The truths of one half of the rows are predicted by a map fitted to the other half; the map of a column is kept
        where both predictions together are better than without one.

        Args:
            halves: What the network says of two halves of the validation rows.
            rows: How many rows these are; as many truths count, however often each was asked for.
        """
        nothing = torch.zeros(2, dtype=torch.float64)
        for i in torch.cat([half.column for half in halves]).unique().tolist():
            parts = [half.of(i) for half in halves]
            if min(len(xi) for _, xi in parts) < 2:
                continue
            gain = sum(
                (_surprise(*there, nothing) - _surprise(*there, _fit(*here, rows / 2))).item()
                for here, there in (parts, parts[::-1])
            )
            if gain > 0:
                self.shift[i], self.log_width[i] = _fit(*map(torch.cat, zip(*parts)), rows)
        return self

    def expect(self, rows: int) -> Recalibration:
        """Without rows enough to fit anything, what is expected."""
        self.log_width[:] = _expected(rows)
        return self

    def curves(self, curve: MonotoneSpline, column: int, share: Tensor) -> MonotoneSpline:
        """Quantile functions of the network, (N, K), as they are answered; share (N,)."""
        if self._is_identity(column):
            return curve
        a, width = self._map(column, share, curve.x)
        return MonotoneSpline(((curve.x - a) / width).contiguous(), curve.y, curve.slope * width)

    def to_network(self, xi: Tensor, column: int, share: Tensor) -> Tensor:
        """Normal quantiles as answered -> the network's, (N, Q)."""
        if self._is_identity(column):
            return xi
        a, width = self._map(column, share, xi)
        return (a + width * xi).to(xi.dtype)

    def from_network(self, xi: Tensor, column: int, share: Tensor) -> Tensor:
        """The network's normal quantiles -> as answered, (N, Q)."""
        if self._is_identity(column):
            return xi
        a, width = self._map(column, share, xi)
        return ((xi - a) / width).to(xi.dtype)

    def _is_identity(self, column: int) -> bool:
        return not bool(self.shift[column] or self.log_width[column])

    def _map(self, column: int, share: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        f = share.double().unsqueeze(1)  # (N, 1)
        return (f * self.shift[column]).to(like.device), (f * self.log_width[column]).exp().to(like.device)


def _surprise(share: Tensor, xi: Tensor, ab: Tensor) -> Tensor:
    """Mean negative log-likelihood of truths."""
    a, b = ab
    return (share * b + 0.5 * ((xi - share * a) / (share * b).exp()).square()).mean()


def _fit(share: Tensor, xi: Tensor, rows: float) -> Tensor:
    """Most probable a and b, (2,)."""
    prior = torch.tensor([0.0, _expected(rows)], dtype=torch.float64)
    ab = prior.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([ab], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _surprise(share, xi, ab) + 0.5 * ((ab - prior) / DOUBT).square().sum() / rows
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return ab.detach()


def _expected(rows: float) -> float:
    """The log width that is expected of a network with so many validation rows."""
    return min(MOST, rows**-0.5) if rows else MOST
