"""The rows' quantile functions: solved in blocks, kept, and what they amount to beyond their values.

N rows, Q points per row, G points of a grid over normal quantiles, A atoms of the column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..run_folder import Model
from ..scaling import MonotoneSpline
from .flow import FULL, HALF_LOG_2PI, REACH, Resolution
from .question import ROWS, ndtr

KEPT_ROWS = 1024  # as many rows' quantile functions are kept between calls
FAR, POINTS = 8.0, 1025  # grid of `entropy` and `mode`; quantile functions are straight beyond `REACH`
CLOSER = 65  # points of the second look around the highest of them
NODES = 161  # of quantile functions that are made of probabilities


class Densities(Protocol):
    """Where quantile functions come from: a `Question`, or something made of questions.

    Attributes:
        given: What is given, column by column, in words.
    """

    model: Model
    device: torch.device
    column: str
    index: int
    given: tuple[str, ...]

    def __len__(self) -> int: ...

    def curves(self, rows: slice, resolution: Resolution) -> MonotoneSpline: ...


class QuantileFunctions:
    """A column's quantile functions in each row, from the normal to the standard scale, and that scale's own curve.

    Args:
        source: Where they come from.
    """

    def __init__(self, source: Densities):
        self.source, self.standardizer = source, source.model.standardizer
        self._kept: MonotoneSpline | None = None

    def __len__(self) -> int:
        return len(self.source)

    def map(self, function: Callable, points: Tensor | None = None, resolution: Resolution = FULL) -> np.ndarray:
        """A function of the curves and points (N or 1, Q), or None, over all rows in parts."""
        results, step = [], ROWS[self.source.device.type]
        for start in tqdm(range(0, len(self), step), unit_scale=step, unit="row", delay=5, leave=False):
            rows = slice(start, min(start + step, len(self)))
            curve, part = self.of(rows, resolution), points
            if points is not None:
                part = (points if len(points) == 1 else points[rows]).to(curve.x.device)
                part = part.expand(len(curve.x), -1).contiguous()
            results.append(function(curve, part).cpu().numpy())
        return np.concatenate(results)

    def of(self, rows: slice, resolution: Resolution = FULL) -> MonotoneSpline:
        """The curves of some rows."""
        if resolution is not FULL or len(self) > KEPT_ROWS:
            return self._solve(rows, resolution)
        if self._kept is None:
            self._kept = self._solve(slice(0, len(self)), FULL)
        return self._kept.rows(rows)

    def restore(self, z: Tensor) -> Tensor:
        """Standard scale -> the column's unit, any shape."""
        return self.standardizer.restore(z.to(self.standardizer.minimum.device), self.source.index)

    def edges(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The interval of the standard scale that each value in the column's unit stands for, any shape."""
        return self.standardizer.edges(x, self.source.index)

    def log_density(self, curve: MonotoneSpline, xi: Tensor, x: Tensor) -> Tensor:
        """The log of the pdf, per column's unit, at values x whose normal quantiles are xi, (N, Q)."""
        slope = curve.value_and_slope(xi)[1]
        normal = -0.5 * xi.square() - HALF_LOG_2PI
        return normal - slope.log() + self.standardizer.log_slope(x, self.source.index)

    def mean_and_std(self, curve: MonotoneSpline) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, (N,) each, integrated over the normal quantiles that were solved for."""
        xi = torch.linspace(-REACH, REACH, 401, dtype=torch.float64, device=curve.x.device)
        weight = torch.exp(-0.5 * xi.square())
        x = self.restore(curve(xi.expand(len(curve.x), -1)))
        mean = x @ weight / weight.sum()
        return mean, ((x - mean.unsqueeze(1)).square() @ weight / weight.sum()).sqrt()

    def entropy(self, curve: MonotoneSpline) -> Tensor:
        r"""The entropy in nats, (N,), an atom of mass P counting as one value.

        .. math:: -\int f \ln f\,dx - \sum_a P_a \ln P_a
        """
        low, high = self._atoms(curve)
        # Cells end where atoms do: beside an atom the density may be anything.
        xi = torch.cat([self._grid(curve), low, high], dim=1).clamp(-FAR, FAR).sort(dim=1).values
        middle = (0.5 * (xi[:, 1:] + xi[:, :-1])).contiguous()  # (N, G)
        log_density = self.log_density(curve, middle, self.restore(curve(middle)))
        smooth = probability_between(xi).masked_fill(_inside(middle, low, high), 0.0)
        mass = ndtr(high) - ndtr(low)
        smooth = torch.where(smooth > 0, smooth * log_density, 0.0).sum(1)
        return -smooth - torch.xlogy(mass, mass).sum(1)

    def mode(self, curve: MonotoneSpline) -> Tensor:
        """Where the pdf is greatest, (N,); the likeliest atom where atoms hold more than half of the probability."""
        xi, (low, high) = self._grid(curve), self._atoms(curve)
        closer = torch.linspace(-1, 1, CLOSER, dtype=torch.float64, device=xi.device) * 2 * FAR / (POINTS - 1)
        for _ in range(2):
            x = self.restore(curve(xi))
            height = self.log_density(curve, xi, x).masked_fill(_inside(xi, low, high), -torch.inf)
            best = height.argmax(1, keepdim=True)
            value, xi = x.gather(1, best), xi.gather(1, best) + closer
        mass = ndtr(high) - ndtr(low)
        if mass.shape[1]:
            likeliest = self._values_of_atoms()[mass.argmax(1)].unsqueeze(1)
            value = torch.where(mass.sum(1, keepdim=True) > 0.5, likeliest, value)
        return value.squeeze(1)

    def _solve(self, rows: slice, resolution: Resolution) -> MonotoneSpline:
        step = ROWS[self.source.device.type]
        parts = (slice(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step))
        return MonotoneSpline(*map(torch.cat, zip(*(self.source.curves(part, resolution) for part in parts))))

    def _grid(self, curve: MonotoneSpline) -> Tensor:
        xi = torch.linspace(-FAR, FAR, POINTS, dtype=torch.float64, device=curve.x.device)
        return xi.expand(len(curve.x), -1).contiguous()

    def _atoms(self, curve: MonotoneSpline) -> tuple[Tensor, Tensor]:
        """Both ends of the column's atoms as normal quantiles of each row, (N, A) each."""
        low, high = (ends.expand(len(curve.x), -1).contiguous() for ends in self.edges(self._values_of_atoms()))
        return curve.inverse(low), curve.inverse(high)

    def _values_of_atoms(self) -> Tensor:
        """The column's atoms, (A,); the published recipe's scaling knows none."""
        if not hasattr(self.standardizer, "atoms"):
            return self.standardizer.minimum.new_empty(0)
        atoms = self.standardizer.atoms[self.source.index]
        return atoms[atoms.isfinite()]


def _inside(xi: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Whether normal quantiles (N, Q) lie within one of their row's atoms, whose ends are (N, A) each."""
    inside = torch.zeros_like(xi, dtype=torch.bool)
    for i in range(low.shape[1]):  # one after the other, as there may be many
        inside |= (xi >= low[:, i : i + 1]) & (xi <= high[:, i : i + 1])
    return inside


def curves_of(z: Tensor, mass: Tensor) -> MonotoneSpline:
    """The quantile functions of probabilities (N, G - 1) between grid points (N, G) in increasing order."""
    xi = torch.linspace(-4, 4, NODES, dtype=torch.float64, device=z.device).expand(len(z), -1).contiguous()
    x = quantile(z, mass, ndtr(xi))
    least = 1e-6 * (1e-3 + x[:, -1:] - x[:, :1]) / NODES
    return MonotoneSpline.through(xi, x.cummax(1).values + least * torch.arange(NODES, device=z.device))


def with_knots(curve: MonotoneSpline, n: int) -> MonotoneSpline:
    """The same curves with n knots or more: those that they lack stand on the straight lines beyond the last."""
    more = torch.arange(1, max(0, n - curve.x.shape[1]) + 1, dtype=curve.x.dtype, device=curve.x.device)
    x, y, slope = (table[:, -1:] for table in curve)
    added = (x + more, y + slope * more, slope.expand(-1, len(more)))
    return MonotoneSpline(*(torch.cat(pair, dim=1) for pair in zip(curve, added)))


def quantile(z: Tensor, mass: Tensor, q: Tensor) -> Tensor:
    """Quantiles at q, (N, Q), of probabilities spread evenly between grid points."""
    cdf = torch.cat([torch.zeros_like(z[:, :1]), mass.cumsum(1)], dim=1)
    cdf = cdf / cdf[:, -1:]
    i = torch.searchsorted(cdf, q.contiguous(), right=True).clamp(1, z.shape[1] - 1)
    low, high = cdf.gather(1, i - 1), cdf.gather(1, i)
    share = ((q - low) / (high - low).clamp(min=1e-300)).clamp(0, 1)
    return z.gather(1, i - 1) * (1 - share) + z.gather(1, i) * share


def probability_between(xi: Tensor) -> Tensor:
    """Normal probabilities of the intervals between quantiles, (N, G) -> (N, G - 1), exact in both tails."""
    low, high = xi[:, :-1], xi[:, 1:]
    sign = torch.where(low + high > 0, -1.0, 1.0)
    return (ndtr(sign * high) - ndtr(sign * low)).abs()
