"""The density of one column in each of N rows: the face of ``scipy.stats``.

N rows, S samples, Q quantiles, K values per row.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.special import log_ndtr, ndtri

from ..scaling import MonotoneSpline
from .columns import read_values
from .flow import COARSE
from .quantiles import Densities, QuantileFunctions
from .question import described, ndtr
from .samples import draw, fresh


class Conditional:
    """The density of one column given, in each of N rows, the values of others.

    Everything but `rvs` and the random places of `pit` within atoms is deterministic: it comes from one smooth quantile
    function per row (`flow`), so that ``cdf(ppf(q))`` is q and the pdf is the derivative of the cdf. Results are plain
    arrays in the column's unit. Probabilities q may be of any shape below; values may be plain numbers, in that unit,
    or Quantities:

    * one value, K values (K,), or the same as (1, K), hold for every row;
    * (N, K) has each row's own K: ``p.cdf(truth[:, None])`` asks of each row for its own truth;
    * N values (N,) for N > 1 rows are refused, as they may mean either.

    Results are (N, K) in all cases. A value that at least 1% of the training rows hold is an **atom** (improved
    recipe): `pmf` is its probability, the cdf jumps there, ppf returns it for all q within the jump, and pdf is the
    density of the rest.

    Args:
        source: The rows' quantile functions.

    Attributes:
        column: The requested column.
        unit: Its unit; "" for a pure number.
    """

    def __init__(self, source: Densities):
        self.column = source.column
        self.unit = source.model.units[source.index]
        self._source, self._rows = source, QuantileFunctions(source)

    def __len__(self) -> int:
        return len(self._source)

    def __repr__(self) -> str:
        return f"Conditional({described([self.column], [self.unit], self._source.given, len(self))})"

    def ppf(self, q) -> np.ndarray:
        """Quantiles at probabilities q in [0, 1], in the column's unit, (N, K); the generalised inverse of the cdf."""
        return self._rows.map(lambda curve, xi: self._rows.restore(curve(xi)), ndtri(self._probabilities(q)))

    def isf(self, q) -> np.ndarray:
        """Values that are exceeded with probability q in [0, 1], in the column's unit, (N, K): the inverse of `sf`."""
        return self._rows.map(lambda curve, xi: self._rows.restore(curve(xi)), -ndtri(self._probabilities(q)))

    def cdf(self, x) -> np.ndarray:
        """The probability of a value of at most x, (N, K)."""
        return self._rows.map(lambda curve, x: ndtr(curve.inverse(self._rows.edges(x)[1])), self._values(x))

    def logcdf(self, x) -> np.ndarray:
        """Logarithm of the cdf, (N, K), exact also where the cdf is too small to be written."""
        return self._rows.map(lambda curve, x: log_ndtr(curve.inverse(self._rows.edges(x)[1])), self._values(x))

    def sf(self, x) -> np.ndarray:
        """The probability of a value above x, (N, K): 1 - cdf, with all its digits where that is small."""
        return self._rows.map(lambda curve, x: ndtr(-curve.inverse(self._rows.edges(x)[1])), self._values(x))

    def logpdf(self, x) -> np.ndarray:
        """Logarithm of the pdf, per column's unit, (N, K): the spline's. `Joint.logpdf` solves for each point."""

        def evaluate(curve: MonotoneSpline, x: Tensor) -> Tensor:
            return self._rows.log_density(curve, curve.inverse(self._rows.edges(x)[1]), x)

        return self._rows.map(evaluate, self._values(x))

    def pdf(self, x) -> np.ndarray:
        """The density, per column's unit, (N, K); of atoms, see `pmf`."""
        return np.exp(self.logpdf(x))

    def pmf(self, x) -> np.ndarray:
        """The probability of exactly x, (N, K): of an atom; 0 for any other value."""

        def evaluate(curve: MonotoneSpline, x: Tensor) -> Tensor:
            low, high = (ndtr(curve.inverse(edge)) for edge in self._rows.edges(x))
            return high - low

        return self._rows.map(evaluate, self._values(x))

    def pit(self, truth, seed: int | None = 0) -> np.ndarray:
        r"""The probability integral transform: where each row's truth lies within the row's own density.

        .. math:: u = F(x) - U\,P(x), \quad U \sim \mathcal{U}(0, 1)

        Uniform on (0, 1) if the densities are right, also where the truth is an atom, of mass P.

        Reference: Czado, Gneiting & Held 2009, Biometrics 65, 1254 (randomised PIT).

        Args:
            truth: One value per row, (N,), in the column's unit or a Quantity.
            seed: Of U; None takes a fresh one.

        Returns:
            Values in [0, 1], (N,); NaN where the truth is NaN.

        Raises:
            ValueError: If the shape is another.
        """
        truth = np.atleast_1d(read_values(self.column, truth, self.unit))
        if truth.shape != (len(self),):
            raise ValueError(f"the truth has shape {truth.shape}: one value per row is needed, ({len(self)},)")

        def ends(curve: MonotoneSpline, x: Tensor) -> Tensor:
            return torch.cat([ndtr(curve.inverse(edge)) for edge in self._rows.edges(x)], dim=1)

        low, high = self._rows.map(ends, self._points(truth[:, None])).T
        u = np.random.default_rng(fresh(seed)[0]).random(len(self))
        return np.clip(high - u * (high - low), 0, 1)

    def median(self) -> np.ndarray:
        """The median, (N,)."""
        return self.ppf(0.5)[:, 0]

    def interval(self, confidence) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the central interval that holds this probability, two arrays (N,); of L intervals, two of (N, L)."""
        levels = np.asarray(confidence, dtype=float)
        if not ((levels >= 0) & (levels <= 1)).all() or levels.ndim > 1:
            raise ValueError(f"confidence must be one number or several, (L,), that lie in [0, 1], not {confidence}")
        ends = self.ppf(np.concatenate([np.atleast_1d(0.5 + side * levels / 2) for side in (-1, 1)]))
        low, high = np.split(ends, 2, axis=1)
        return (low, high) if levels.ndim else (low[:, 0], high[:, 0])

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest value that can be drawn, two arrays (N,): the column's, alike in all rows."""
        low, high = self.ppf([0.0, 1.0]).T
        return low, high

    def mean(self) -> np.ndarray:
        """The mean, (N,)."""
        return self._rows.map(lambda curve, _: self._rows.mean_and_std(curve)[0])

    def std(self) -> np.ndarray:
        """The standard deviation, (N,), of all but the outermost 0.003% on either side, where curves go on straight."""
        return self._rows.map(lambda curve, _: self._rows.mean_and_std(curve)[1])

    def var(self) -> np.ndarray:
        """The variance, (N,), in the square of the column's unit: of what `std` says."""
        return self.std() ** 2

    def entropy(self) -> np.ndarray:
        """The entropy in nats, (N,): the differential entropy, per column's unit, of a column without atoms.

        With atoms it is the mean of minus the log of what a value counts, its pdf or, of an atom, its pmf: minus the
        integral of pdf ln pdf, minus the sum of pmf ln pmf.
        """
        return self._rows.map(lambda curve, _: self._rows.entropy(curve))

    def mode(self) -> np.ndarray:
        """Where the pdf is greatest, (N,); where atoms hold more than half of the probability, the likeliest atom."""
        return self._rows.map(lambda curve, _: self._rows.mode(curve))

    def summary(self) -> np.ndarray:
        """Median, standard deviation, 16% and 84% quantile, (N, 4), from fewer nodes than the other answers."""
        xi = ndtri(torch.tensor([0.5, 0.16, 0.84], dtype=torch.float64))

        def evaluate(curve: MonotoneSpline, _) -> Tensor:
            quantiles = self._rows.restore(curve(xi.to(curve.x.device).expand(len(curve.x), -1)))
            std = self._rows.mean_and_std(curve)[1]
            return torch.cat([quantiles[:, :1], std.unsqueeze(1), quantiles[:, 1:]], dim=1)

        return self._rows.map(evaluate, None, COARSE)

    def rvs(self, size: int = 1, seed: int | None = None, method: str = "flow") -> np.ndarray:
        """Draw samples.

        Args:
            size: Samples S per row.
            seed: The same seed gives the same samples; a fresh one is taken if none is given.
            method: ``flow``: normal noise through the quantile functions, the fastest. ``sde``: the head's own
                stochastic sampler, of as many steps as ``diffusion_steps`` says; for the published recipe that is
                ``ancestral`` sampling, by all T steps.

        Returns:
            Samples in the column's unit, (N, S), float64.

        Raises:
            TypeError: If the size is a shape, or the seed a generator.
            ValueError: If the size is below one, the seed negative, or the method not one of these.
        """
        return draw(self._source, self._rows.of, size, seed, method)

    def _probabilities(self, q) -> Tensor:
        q = np.asarray(q, dtype=float)
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError(f"q must lie in [0, 1], not {q}")
        return self._points(q)

    def _values(self, x) -> Tensor:
        values = read_values(self.column, x, self.unit)
        if values.shape == (len(self),) and len(self) > 1:
            # Taken for all rows it would be an answer of N x N numbers, nearly always asked for by mistake.
            raise ValueError(
                f"{len(self)} values for {len(self)} rows: truth[:, None], ({len(self)}, 1), asks each row for its own "
                f"value, x[None, :], (1, {len(self)}), every row for all of them"
            )
        return self._points(values)

    def _points(self, x: np.ndarray) -> Tensor:
        """(), (K,) or (N, K) -> (1, K) or (N, K)."""
        if x.ndim > 2 or (x.ndim == 2 and len(x) not in (1, len(self))):
            raise ValueError(f"values have shape {x.shape}: (), (K,) or ({len(self)}, K) is expected")
        return torch.from_numpy(np.atleast_2d(x))
