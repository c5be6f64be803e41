"""Columns <-> a normal scale, each by a smooth monotone curve through its quantiles; repeated values become intervals.

N rows, V kinds of data, K knots, A atoms, Q points of a column.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.special import ndtr, ndtri

from .base import Scaling, as_stored
from .spline import MonotoneSpline

KNOTS, LEVELS = 64, 32  # room in the tables; quantiles that are looked at, at most
ATOM_SHARE, ATOM_ROWS = 0.01, 5  # a value that so many of the rows hold is an atom
ATOMS = int(1 / ATOM_SHARE)
# Between two knots lie n^(2/3) of n rows, at least: with fewer the curve follows the noise of the training rows, and
# what is a straight line in the table has as many bends as there are knots.
SPACING = 2 / 3
GAP_ROWS, GAP_SHARE, FLAT = 16, 0.5, 0.05  # rows between knots, most of whose distance is one step; its slope
MARGIN = 0.05  # of a column's range, by which samples may exceed it at most
LIMIT = 7.0  # standard deviations: further out, probabilities have no digits left


class QuantileStandardizer(Scaling):
    r"""Each column is mapped on a standard normal distribution, :math:`z = \Phi^{-1}(F(x))`.

    F has a smooth part, a monotone spline through at most 32 quantiles, and a step at each **atom**, a value that at
    least 1% of the training rows hold. On the normal scale an atom is an interval of its probability: `restore` gives
    the value back for any z inside, `spread` draws z within it. Beyond the training rows the curve goes on for two
    standard deviations or 5% of the column's range, whichever is less, and `restore` stops there.

    Fitted once, on training rows. NaN stays NaN.

    Args:
        n_columns: Number of columns V.

    Example:
        >>> x = np.random.default_rng(0).exponential(size=(1000, 1))
        >>> z = QuantileStandardizer(1).fit(x, ("x",)).standardize(torch.from_numpy(x))
        >>> abs(z.mean().item()) < 0.05, abs(z.std().item() - 1) < 0.05
        (True, True)
    """

    marginals_are_normal = True

    def __init__(self, n_columns: int):
        super().__init__(n_columns)

        def table(width: int, value: float) -> Tensor:
            return torch.full((n_columns, width), value, dtype=torch.float64)

        # The curves of the values that are no atoms, x -> z.
        for name in ("x", "z", "slope"):
            self.register_buffer(name, table(KNOTS, 0.0))
        self.register_buffer("atoms", table(ATOMS, torch.inf))
        self.register_buffer("below", table(ATOMS + 1, 0.0))  # probability of the atoms before each
        self.register_buffer("low", table(ATOMS, torch.inf))  # ends of their intervals, as probabilities
        self.register_buffer("high", table(ATOMS, torch.inf))

    def fit(self, values: np.ndarray, names: tuple[str, ...], offset: np.ndarray | None = None) -> QuantileStandardizer:
        """Take curves and atoms from these rows; arguments and errors as `Standardizer.fit`."""
        for i, observed in self._observed(values, names, offset):
            smooth = self._fit_atoms(i, observed)
            x, z = (
                _knots(smooth, observed[0], observed[-1]) if len(smooth) else (observed[[0, -1]], np.array([-1.0, 1.0]))
            )
            curve = _through(x, z)
            room = torch.arange(1, KNOTS - len(x) + 1, dtype=torch.float64)  # the last slope goes on
            last = curve.slope[0, -1]
            self.x[i] = torch.cat([curve.x[0], curve.x[0, -1] + room])
            self.z[i] = torch.cat([curve.y[0], curve.y[0, -1] + room * last])
            self.slope[i] = torch.cat([curve.slope[0], last.expand(len(room))])
        for i in range(len(names)):  # where the intervals lie needs the curves
            n = int(self.atoms[i].isfinite().sum())
            low, high = self.edges(self.atoms[i, :n], i)
            self.low[i, :n], self.high[i, :n] = ndtr(low), ndtr(high)
        return self

    def _fit_atoms(self, column: int, observed: np.ndarray) -> np.ndarray:
        """Find the atoms of a column; returns its other values."""
        found, counts = np.unique(observed, return_counts=True)
        is_atom = counts >= max(ATOM_SHARE * len(observed), ATOM_ROWS)
        if (~is_atom).sum() < 2:  # one value makes no curve
            is_atom[:] = True
        n = is_atom.sum()
        below = torch.from_numpy(np.cumsum(np.append(0, counts[is_atom])) / len(observed))  # exactly 1 if all are
        self.atoms[column, :n] = torch.from_numpy(found[is_atom])
        self.below[column] = below[-1]
        self.below[column, : n + 1] = below
        return observed[~np.isin(observed, found[is_atom])]

    def shift(self, offset: Tensor):
        """As `Scaling.shift`; the atoms become values that such a table can hold."""
        super().shift(offset)
        self.atoms.copy_(as_stored(self.atoms, self.offset[:, None]))

    def standardize(self, values: Tensor) -> Tensor:
        """Physical -> normal scale, (N, V) -> (N, V), float32; an atom becomes the middle of its interval."""
        return self._between(values.T, slice(None), 0.5).T.contiguous()

    def spread(self, z: Tensor, column: Tensor, place: Tensor) -> Tensor:
        """Give atoms a place in their intervals: a target is drawn anew each time it is trained on.

        Args:
            z: What `standardize` gave, one value per row, (N,).
            column: Their columns, 0 .. V-1, (N,).
            place: In 0 .. 1, (N,).

        Returns:
            (N,), float32.
        """
        low, high = self.low[column], self.high[column]  # (N, A)
        middle = _within(low, high, torch.full_like(place, 0.5).unsqueeze(1))
        is_atom = low.isfinite() & (middle == z.unsqueeze(1))
        which = is_atom.to(torch.uint8).argmax(dim=1, keepdim=True)
        drawn = _within(low.gather(1, which), high.gather(1, which), place.unsqueeze(1)).squeeze(1)
        return torch.where(is_atom.any(dim=1), drawn, z)

    def edges(self, x: Tensor, column: int) -> tuple[Tensor, Tensor]:
        """The interval of the normal scale that each value stands for: a point, or for an atom its two ends.

        Args:
            x: Values of one column, any shape.
            column: Which, 0 .. V-1.

        Returns:
            Lower and upper ends, shape of x, float64.
        """
        low, high = self._edges(x.reshape(1, -1), slice(column, column + 1))
        return low.reshape(x.shape), high.reshape(x.shape)

    def log_slope(self, x: Tensor, column: int) -> Tensor:
        """Logarithm of dz/dx of the smooth part, shape of x; where x is an atom, at the upper end of its interval."""
        row = slice(column, column + 1)
        points = as_stored(x, self.offset[row]).reshape(1, -1)
        z, slope = self._curves(row).value_and_slope(points)
        total = self.below[row, -1:]
        _, z_all = self._edges(points, row)
        mixed = (1 - total).log() + slope.log() - 0.5 * (z.square() - z_all.square())
        result = torch.where(z == z_all, slope.log(), mixed)
        return torch.where((total == 1) & ~points.isnan(), -torch.inf, result).reshape(x.shape)

    def restore(self, z: Tensor, column: int) -> Tensor:
        """Normal -> physical scale of one column, any shape, float64."""
        row = slice(column, column + 1)
        share, low, high = 1 - self.below[row, -1:], self.low[row], self.high[row]
        points = z.double().reshape(1, -1)
        smooth, atom = points, torch.full_like(points, torch.nan)
        if share < 1:
            u = ndtr(points)
            i = (torch.searchsorted(low, u, right=True) - 1).clamp(min=0)
            passed = u >= low.gather(1, i)
            is_atom = passed & (u < high.gather(1, i)) | (share == 0)
            atom = torch.where(is_atom, self.atoms[row].gather(1, i), atom)
            smooth = ndtri(((u - self.below[row].gather(1, i + passed)) / share).clamp(0, 1)).clamp(-LIMIT, LIMIT)
        margin = MARGIN * (self.maximum[column] - self.minimum[column])
        # An atom at the end of a column is its bound.
        lowest, highest = (
            bound + side * margin * (self.atoms[column] != bound).all()
            for side, bound in ((-1, self.minimum[column]), (1, self.maximum[column]))
        )
        x = self._curves(row).inverse(smooth).clamp(lowest, highest)
        return torch.where(points.isnan() | atom.isnan(), x, atom).reshape(z.shape)

    # Below, points are (R, Q): Q values of each of R columns, which `rows` picks from the tables.

    def _between(self, x: Tensor, rows, place: Tensor | float) -> Tensor:
        low, high = self._edges(x, rows)
        p_low, p_high = ndtr(low), ndtr(high)
        return torch.where(low == high, low.clamp(-LIMIT, LIMIT).float(), _within(p_low, p_high, place))

    def _edges(self, x: Tensor, rows) -> tuple[Tensor, Tensor]:
        x = as_stored(x, self.offset[rows].unsqueeze(1)).contiguous()  # as in tables: so atoms are recognised
        z, atoms, below = self._curves(rows)(x), self.atoms[rows], self.below[rows]
        total = below[:, -1:]
        # Atoms before x, then those up to x; NaN sorts last and stays NaN in the curve.
        passed = (below.gather(1, torch.searchsorted(atoms, x, right=right)) for right in (False, True))
        low, high = (_mix(z, total, part) for part in passed)
        return low, high

    def _curves(self, rows) -> MonotoneSpline:
        return MonotoneSpline(self.x[rows], self.z[rows], self.slope[rows])


def _within(low: Tensor, high: Tensor, place: Tensor | float) -> Tensor:
    """A place in 0 .. 1 between two probabilities, on the normal scale, float32."""
    return ndtri(low + place * (high - low)).clamp(-LIMIT, LIMIT).float()


def _mix(z: Tensor, total: Tensor, passed: Tensor) -> Tensor:
    """Where the curve's z stands on the scale of all values, atoms of some of their total probability lying below it.

    Each from its nearer end, where probabilities have their digits. Where they have none left and no atom is further
    out, the curve's own scale goes on, as it does in columns without atoms.
    """
    below, above = (1 - total) * ndtr(z) + passed, (1 - total) * ndtr(-z) + total - passed
    mixed = torch.where(below < 0.5, ndtri(below.clamp(min=0)), -ndtri(above.clamp(min=0)))
    far = (z < -LIMIT) & (passed == 0) | (z > LIMIT) & (passed == total)
    return torch.where((total == 0) | far & (total < 1), z, mixed)


def _gaps(values: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Ranks on both sides of the gaps of sorted values, between knots at these ranks: where densities are 0.

    A gap takes most of the distance between two knots that have rows enough between them for this not to be chance.
    Outliers make gaps too: none is looked for beyond the last but one knot.
    """
    found = []
    for low, high in zip(ranks[1:-2], ranks[2:-1]):
        steps = np.diff(values[low : high + 1])
        if len(steps) >= GAP_ROWS and steps.max() > GAP_SHARE * steps.sum():
            place = low + int(steps.argmax())
            found += [place, place + 1]
    return np.array(found[: KNOTS - LEVELS - 4], dtype=int)


def _through(x: np.ndarray, z: np.ndarray) -> MonotoneSpline:
    """The curve through knots, (K,): smooth, but that it is as steep at the edge of a gap as the values beside it."""
    curve = MonotoneSpline.through(torch.from_numpy(x)[None], torch.from_numpy(z)[None])
    steep = (curve.y.diff() / curve.x.diff())[0]
    slope = curve.slope[0].clone()
    for i in (steep[1:-1] < FLAT * torch.minimum(steep[:-2], steep[2:])).nonzero().flatten().tolist():
        slope[i + 1], slope[i + 2] = steep[i], steep[i + 2]
    return curve._replace(slope=slope[None])


def _knots(values: np.ndarray, minimum: float, maximum: float) -> tuple[np.ndarray, np.ndarray]:
    """Knots of the curve of sorted values, at least two of which differ: x (K,) and z (K,).

    Even in z, at least n^(2/3) of n rows apart, the outermost values being knots themselves, and two more beyond them.
    """
    n = len(values)
    ranks = ndtr(torch.linspace(-1, 1, LEVELS, dtype=torch.float64) * ndtri(torch.tensor(1 - 0.5 / n).double())).numpy()
    ranks = np.unique(np.round(ranks * n - 0.5).astype(int).clip(0, n - 1))
    kept, apart = [n // 2], max(1, round(n**SPACING))
    for side in (ranks[ranks > n // 2], ranks[ranks < n // 2][::-1]):  # outwards from the median
        last = n // 2
        for rank in side[:-1]:
            if abs(rank - last) >= apart:
                kept.append(last := rank)
    ranks = np.sort([0, *kept, n - 1])
    x = np.unique(values[np.append(ranks, _gaps(values, ranks))])
    # A repeated value stands where the middle of its rows does.
    middle = 0.5 * (np.searchsorted(values, x, "left") + np.searchsorted(values, x, "right"))
    z = ndtri(torch.from_numpy(middle / n)).numpy()
    margin = np.minimum(2 * (np.diff(x) / np.diff(z))[[0, -1]], MARGIN * (maximum - minimum))
    # An atom at the end of a column is its bound: the curve must not pass it.
    first = x[0] - margin[0] if x[0] == minimum else max(minimum, x[0] - margin[0])
    last = x[-1] + margin[1] if x[-1] == maximum else min(maximum, x[-1] + margin[1])
    return np.concatenate([[first], x, [last]]), np.concatenate([[z[0] - 2], z, [z[-1] + 2]])
