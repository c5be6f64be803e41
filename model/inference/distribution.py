"""The density of one column in each of N rows: the face of ``scipy.stats``.

N rows, S samples, Q quantiles, K values per row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.special import ndtr, ndtri
from tqdm import tqdm

from ..run_folder import Model
from ..scaling import MonotoneSpline
from .columns import read_values
from .flow import COARSE, FULL, HALF_LOG_2PI, REACH, Resolution
from .question import BLOCK, METHODS, ROWS, block_seed, blocks, fresh

KEPT_ROWS = 1024  # as many rows' quantile functions are kept between calls
INTERPOLATED = 65_536  # samples that are looked up at a time, on any device


class Densities(Protocol):
    """Where quantile functions come from: a `Question`, or something made of questions."""

    model: Model
    device: torch.device
    column: str
    index: int

    def __len__(self) -> int: ...

    def curves(self, rows: slice, resolution: Resolution) -> MonotoneSpline: ...


class Conditional:
    """The density of one column given, in each of N rows, the values of others.

    Everything but `rvs` is deterministic: it comes from one smooth quantile function per row (`model.flow`), so that
    ``cdf(ppf(q))`` is q and the pdf is the derivative of the cdf. Values may be plain numbers, in the column's unit, or
    Quantities; results are plain arrays in that unit. A single value or K values hold for every row, (N, K) has each
    row's own; results are (N, K).

    A value that at least 1% of the training rows hold is an **atom** (improved recipe): `pmf` is its probability, the
    cdf jumps there, ppf returns it for all q within the jump, and pdf is the density of the rest.

    Args:
        source: The rows' quantile functions.

    Attributes:
        column: The requested column.
        unit: Its unit; "" for a pure number.
    """

    def __init__(self, source: Densities):
        self.column = source.column
        self.unit = source.model.units[source.index]
        self._source, self._standardizer = source, source.model.standardizer
        self._kept: MonotoneSpline | None = None

    def __len__(self) -> int:
        return len(self._source)

    def ppf(self, q) -> np.ndarray:
        """Quantiles at probabilities q in [0, 1], in the column's unit, (N, K); the generalised inverse of the cdf."""
        q = np.asarray(q, dtype=float)
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError(f"q must lie in [0, 1], not {q}")
        return self._map(lambda curve, xi: self._restore(curve(xi)), ndtri(self._points(q)))

    def cdf(self, x) -> np.ndarray:
        """The probability of a value of at most x, (N, K)."""
        return self._map(lambda curve, x: ndtr(curve.inverse(self._edges(x)[1])), self._values(x))

    def logpdf(self, x) -> np.ndarray:
        """Logarithm of the pdf, per column's unit, (N, K): the spline's. `Joint.logpdf` solves for each point."""

        def evaluate(curve: MonotoneSpline, x: Tensor) -> Tensor:
            xi = curve.inverse(self._edges(x)[1])
            _, slope = curve.value_and_slope(xi)
            normal = -0.5 * xi.square() - HALF_LOG_2PI
            return normal - slope.log() + self._standardizer.log_slope(x, self._source.index)

        return self._map(evaluate, self._values(x))

    def pdf(self, x) -> np.ndarray:
        """The density, per column's unit, (N, K); of atoms, see `pmf`."""
        return np.exp(self.logpdf(x))

    def pmf(self, x) -> np.ndarray:
        """The probability of exactly x, (N, K): of an atom; 0 for any other value."""

        def evaluate(curve: MonotoneSpline, x: Tensor) -> Tensor:
            low, high = (ndtr(curve.inverse(edge)) for edge in self._edges(x))
            return high - low

        return self._map(evaluate, self._values(x))

    def median(self) -> np.ndarray:
        """The median, (N,)."""
        return self.ppf(0.5)[:, 0]

    def interval(self, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the central interval that holds this probability, two arrays (N,)."""
        if not 0 <= confidence <= 1:
            raise ValueError(f"confidence must lie in [0, 1], not {confidence}")
        low, high = self.ppf([0.5 - confidence / 2, 0.5 + confidence / 2]).T
        return low, high

    def mean(self) -> np.ndarray:
        """The mean, (N,)."""
        return self._map(lambda curve, _: torch.stack(self._moments(curve)[:1], 1), None)[:, 0]

    def std(self) -> np.ndarray:
        """The standard deviation, (N,), of all but the outermost 0.003% on either side, where curves go on straight."""
        return self._map(lambda curve, _: torch.stack(self._moments(curve)[1:], 1), None)[:, 0]

    def summary(self) -> np.ndarray:
        """Median, standard deviation, 16% and 84% quantile, (N, 4), from fewer nodes than the other answers."""
        xi = ndtri(torch.tensor([0.5, 0.16, 0.84], dtype=torch.float64))

        def evaluate(curve: MonotoneSpline, _) -> Tensor:
            quantiles = self._restore(curve(xi.to(curve.x.device).expand(len(curve.x), -1)))
            return torch.cat([quantiles[:, :1], self._moments(curve)[1].unsqueeze(1), quantiles[:, 1:]], dim=1)

        return self._map(evaluate, None, COARSE)

    def rvs(self, size: int = 1, seed: int | None = None, method: str = "flow") -> np.ndarray:
        """Draw samples.

        Args:
            size: Samples S per row.
            seed: The same seed gives the same samples; a fresh one is taken if none is given.
            method: ``flow``: normal noise through the quantile functions, the fastest. ``sde``: the head's own
                stochastic sampler, of as many steps as ``diffusion_steps`` says; for the published recipe that is
                ``ancestral`` sampling, by all T steps.

        Returns:
            Samples in the column's unit, (N, S), float32.
        """
        if size < 1:
            raise ValueError(f"at least one sample is needed, not {size}")
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        if method != "flow" and not hasattr(self._source, "sample"):
            raise ValueError(f"{method} sampling is for given values without errors: use method='flow'")
        out, seed = np.empty((len(self), size), dtype=np.float32), fresh(seed)
        device = self._source.device
        block, curve = (INTERPOLATED if method == "flow" else BLOCK[device.type]), None
        for rows, columns in blocks(len(self), size, block):
            generator = torch.Generator(device).manual_seed(block_seed(*seed, rows.start, columns.start))
            n, s = rows.stop - rows.start, columns.stop - columns.start
            if method == "flow":
                curve = self._curves(rows) if columns.start == 0 else curve
                xi = torch.randn(n, s, generator=generator, device=device).to(curve.x.device)
                z = curve(xi.double())
            else:
                z = self._source.sample(rows, s, method, generator)
            out[rows, columns] = self._restore(z).cpu().numpy()
        return out

    def _map(self, function: Callable, points: Tensor | None, resolution: Resolution = FULL) -> np.ndarray:
        """A function of quantile functions and points (N or 1, K), over all rows."""
        results, step = [], ROWS[self._source.device.type]
        for start in tqdm(range(0, len(self), step), unit_scale=step, unit="row", delay=5, leave=False):
            rows = slice(start, min(start + step, len(self)))
            curve, part = self._curves(rows, resolution), points
            if points is not None:
                part = (points if len(points) == 1 else points[rows]).to(curve.x.device)
                part = part.expand(len(curve.x), -1).contiguous()
            results.append(function(curve, part).cpu().numpy())
        return np.concatenate(results)

    def _curves(self, rows: slice, resolution: Resolution = FULL) -> MonotoneSpline:
        if resolution is not FULL or len(self) > KEPT_ROWS:
            return self._solve(rows, resolution)
        if self._kept is None:
            self._kept = self._solve(slice(0, len(self)), FULL)
        return self._kept.rows(rows)

    def _solve(self, rows: slice, resolution: Resolution) -> MonotoneSpline:
        step = ROWS[self._source.device.type]
        parts = (slice(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step))
        return MonotoneSpline(*map(torch.cat, zip(*(self._source.curves(part, resolution) for part in parts))))

    def _moments(self, curve: MonotoneSpline) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, (N,) each, integrated over the normal quantiles that were solved for."""
        xi = torch.linspace(-REACH, REACH, 401, dtype=torch.float64, device=curve.x.device)
        weight = torch.exp(-0.5 * xi.square())
        x = self._restore(curve(xi.expand(len(curve.x), -1)))
        mean = x @ weight / weight.sum()
        return mean, ((x - mean.unsqueeze(1)).square() @ weight / weight.sum()).sqrt()

    def _values(self, x) -> Tensor:
        return self._points(read_values(self.column, x, self.unit))

    def _points(self, x: np.ndarray) -> Tensor:
        """(), (K,) or (N, K) -> (1, K) or (N, K)."""
        if x.ndim > 2 or (x.ndim == 2 and len(x) not in (1, len(self))):
            raise ValueError(f"values have shape {x.shape}: (), (K,) or ({len(self)}, K) is expected")
        return torch.from_numpy(np.atleast_2d(x))

    def _edges(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._standardizer.edges(x, self._source.index)

    def _restore(self, z: Tensor) -> Tensor:
        return self._standardizer.restore(z.to(self._standardizer.minimum.device), self._source.index)
