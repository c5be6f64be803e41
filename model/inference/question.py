"""A question in the network's own terms: a column asked for, and rows of given values on the standard scale.

What is unlike the training rows is told on the way to that scale: refused if absurd, else warned of.

N rows, S samples, Q points per row, V kinds of data, D condition.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..nn import DDPM
from ..run_folder import Model
from ..scaling import MonotoneSpline
from . import flow
from .flow import Resolution

# Points of x that are worked on at a time: bounds the memory however many are asked for, and fits the caches of the
# device. Constants, because the seed of a block's noise comes from its place: on one kind of device the same seed gives
# the same samples.
BLOCK = {"cpu": 4096, "cuda": 131_072, "mps": 131_072}

# Context slots that are encoded at a time: their hidden states are the largest things in memory.
TOKENS = {"cpu": 16_384, "cuda": 524_288, "mps": 524_288}

ROWS = {"cpu": 512, "cuda": 16_384, "mps": 16_384}  # rows whose quantile functions are held at a time
STEP = 0.01  # of a density's width: the distance over which the map is differentiated

STANDARDISED = 16_384  # rows that are standardised together
NAMED = 5  # columns that a line of text lists at most
ABSURD = 1e6  # scales from the median, or ranges from the training rows: a sentinel such as 1e20
WITHIN = 3  # of its errors, by which a measurement may miss the range of the training rows


class OutsideTrainingRange(UserWarning):
    """A question is asked with values beyond those of all training rows: the answer is an extrapolation."""


class Question:
    """One column's density, given values of others in each of N rows.

    Args:
        model: The trained model.
        device: Where its network is.
        column: The requested column.
        values: Given values on the standard scale, NaN = not given, (N, V).
    """

    def __init__(self, model: Model, device: torch.device, column: str, values: Tensor):
        self.model, self.device, self.column, self.values = model, device, column, values
        self.index = model.vocabulary.index(column)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the columns that any of the rows has."""
        return tuple(np.array(self.model.vocabulary.names)[(~self.values.isnan()).any(dim=0).cpu().numpy()].tolist())

    @torch.no_grad()
    def encode(self, rows: slice) -> Tensor:
        """The conditions of some rows, (N, D), on the device."""
        values, slots = self.values[rows], self.model.network.slots
        length = int((~values[:, slots.single.to(values.device)].isnan()).sum(dim=1).max()) if len(values) else 0
        patched = not bool(values[:, slots.patches[slots.patches >= 0].to(values.device)].isnan().all())
        step = max(1, TOKENS[self.device.type] // (1 + length + patched * len(slots.patches)))
        conditions = []
        for part in values.split(step):
            part = part.to(self.device)
            token, value, patch = slots.pack(part, ~part.isnan(), length, patched)
            request = torch.full((len(part),), self.index + 1, device=self.device)
            conditions.append(self.model.network.encode(token, value, request, patch))
        return torch.cat(conditions)

    def curves(self, rows: slice, resolution: Resolution) -> MonotoneSpline:
        """Quantile functions of some rows, from the normal to the standard scale."""
        curve = MonotoneSpline(*map(torch.cat, zip(*self._blocks(rows, resolution.points, self._curves, resolution))))
        return self.model.calibration.curves(curve, self.index, self._share(rows))

    def push(self, rows: slice, xi: Tensor) -> Tensor:
        """Normal quantiles -> standard scale, (N, Q), each solved for by itself."""
        xi = self.model.calibration.to_network(xi, self.index, self._share(rows))
        return torch.cat(list(self._blocks(rows, xi.shape[1], self._push, xi)))

    def log_probability(self, rows: slice, x: Tensor) -> Tensor:
        """Log density at values of the column, in its unit, (N, Q) float64; where one is an atom, its log mass."""
        standardizer = self.model.standardizer
        x = x.to(standardizer.minimum.device)
        low, high = standardizer.edges(x, self.index)
        parts = self._blocks(rows, 2 * x.shape[1], self._log_probability, low, high, self._share(rows))
        result = torch.cat(list(parts)) + torch.where(low < high, 0.0, standardizer.log_slope(x, self.index))
        return torch.where((low == high) & low.isinf(), -torch.inf, result)  # no value of this column

    def sample(self, rows: slice, size: int, method: str, generator: torch.Generator) -> Tensor:
        """Samples of the head's own stochastic sampler, standard scale, (N, S)."""
        head = self.model.network.head
        if method == "ancestral" and not isinstance(head, DDPM):
            raise ValueError("ancestral sampling belongs to the published recipe's steps: use method='flow' or 'sde'")
        drawn = head.sample(self.encode(rows), size, generator).squeeze(-1)
        marginal = torch.randn(drawn.shape, generator=generator, device=drawn.device)
        return torch.where(self._asked(rows).to(drawn.device).unsqueeze(1), drawn, marginal)

    def _asked(self, rows: slice) -> Tensor:
        """Which of some rows the network is asked about, (N,).

        Where nothing is given, the answer is the column's own density. A scale on which that is the standard normal
        has it already, and no network is as exact.
        """
        given = (~self.values[rows].isnan()).any(dim=1)
        return given if self.model.standardizer.marginals_are_normal else torch.ones_like(given)

    def _share(self, rows: slice) -> Tensor:
        """The share of the other columns that is given in some rows, (N,)."""
        return (~self.values[rows].isnan()).sum(dim=1) / max(1, self.values.shape[1] - 1)

    def _blocks(self, rows: slice, points: int, function: Callable, *arguments) -> Iterator:
        """A function of conditions and of `_asked`, in blocks of so many points; arguments with rows are cut alike."""
        cond, asked = self.encode(rows), self._asked(rows)
        if isinstance(self.model.network.head, DDPM):
            points = max(points, flow.MOMENTS)
        step = max(1, BLOCK[self.device.type] // points)
        for start in range(0, len(cond), step):
            part = slice(start, start + step)
            yield function(cond[part], asked[part], *(a[part] if isinstance(a, Tensor) else a for a in arguments))

    def _curves(self, cond: Tensor, asked: Tensor, resolution: Resolution) -> MonotoneSpline:
        return flow.curves(self.model.network.head, cond, resolution, asked)

    def _push(self, cond: Tensor, asked: Tensor, xi: Tensor) -> Tensor:
        z = flow.field(self.model.network.head, cond, flow.FULL.steps, asked).push(xi.float().to(self.device))
        return z.to(self.model.standardizer.minimum.device).double()

    def _log_probability(self, cond: Tensor, asked: Tensor, low: Tensor, high: Tensor, share: Tensor) -> Tensor:
        """Log density on the standard scale where low == high, else the log probability between them."""
        ode = flow.field(self.model.network.head, cond, flow.FULL.steps, asked)
        is_point, half = low == high, STEP * ode.scale.to(low.device).double()
        ends = torch.cat([torch.where(is_point, low - half, low), torch.where(is_point, high + half, high)], dim=1)
        is_end = ends.isinf()  # of the scale itself, where the lowest or the highest atom lies
        xi = ode.pull(ends.masked_fill(is_end, 0.0).float().to(self.device)).to(low.device).double()
        xi = self.model.calibration.from_network(xi, self.index, share)
        a, b = torch.where(is_end, ends, xi).chunk(2, dim=1)  # (N, Q) each
        middle = 0.5 * (a + b)
        density = -0.5 * middle.square() - flow.HALF_LOG_2PI + ((b - a).clamp(min=1e-6) / (2 * half)).log()
        sign = torch.where(middle > 0, -1.0, 1.0).double()  # in the lower tail, where probabilities have their digits
        mass = (ndtr(sign * b) - ndtr(sign * a)).abs().clamp(min=1e-300).log()
        return torch.where(is_point, density, mass)


def described(columns: Sequence[str], units: Sequence[str], given: Sequence[str], n: int) -> str:
    """A question in a line: what is asked for, what is given, how many rows."""
    asked = ", ".join(f"{name} [{unit}]" if unit else name for name, unit in zip(columns, units))
    known = ", ".join(given[:NAMED]) + (f" and {len(given) - NAMED} more" if len(given) > NAMED else "")
    return f"{asked} given {known or 'nothing'}; {n} {'row' if n == 1 else 'rows'}"


def ndtr(x: Tensor) -> Tensor:
    """The normal distribution function with all its digits in the lower tail, where torch's own, 1 + erf, has none."""
    return 0.5 * torch.erfc(-math.sqrt(0.5) * x)


def standardize(model: Model, values: np.ndarray) -> Tensor:
    """Given values on the standard scale, (N, V) float32; in parts, as what lies between takes many times as much.

    Raises:
        ValueError: If one is so far out that it must be a sentinel.
    """
    z = torch.empty(values.shape)
    for start in range(0, len(values), STANDARDISED):
        z[start : start + STANDARDISED] = _standardize_rows(model, values[start : start + STANDARDISED], start)
    return z


def outside(model: Model, values: np.ndarray, errors: np.ndarray | float = np.nan) -> np.ndarray:
    """Which values, (N, V), lie outside the range of the training rows; a missing one does not.

    Args:
        model: Knows the range.
        values: In the columns' units, NaN = not given.
        errors: Their standard deviations, NaN = none: of a measurement only the true value has to lie inside.
    """
    low, high = training_range(model)
    result, errors = np.empty(values.shape, dtype=bool), np.broadcast_to(errors, values.shape)
    for start in range(0, len(values), STANDARDISED):
        rows = slice(start, start + STANDARDISED)
        stored = torch.from_numpy(values[rows]).to(model.standardizer.minimum.device)
        stored = model.standardizer.as_stored(stored).cpu().numpy()  # as the training rows were
        with np.errstate(invalid="ignore"):
            result[rows] = np.maximum(low - stored, stored - high) > WITHIN * np.nan_to_num(errors[rows])
    return result


def warn_outside(model: Model, values: np.ndarray, errors: np.ndarray | float = np.nan, stacklevel: int = 2):
    """Warn of values `outside`, once, naming columns, rows and ranges; arguments as there and of `warnings.warn`."""
    rows = outside(model, values, errors)
    columns, (low, high) = np.flatnonzero(rows.any(axis=0)), training_range(model)
    if not len(columns):
        return
    names = [
        f"{model.vocabulary.names[i]} in {rows[:, i].sum()} of {len(rows)} rows "
        f"(trained on {low[i]:.8g} to {high[i]:.8g} {model.units[i]}".rstrip()
        + ")"
        for i in columns[:NAMED]
    ]
    more = f"; and {len(columns) - NAMED} more columns" if len(columns) > NAMED else ""
    message = f"answers are extrapolations where values lie outside the training range: {'; '.join(names)}{more}"
    warnings.warn(message, OutsideTrainingRange, stacklevel=stacklevel + 1)


def training_range(model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value of each column among the training rows, (V,)."""
    return model.standardizer.minimum.cpu().numpy(), model.standardizer.maximum.cpu().numpy()


def _standardize_rows(model: Model, values: np.ndarray, first: int) -> Tensor:
    standardizer, (low, high) = model.standardizer, training_range(model)
    z = standardizer.standardize(torch.from_numpy(values.copy()).to(standardizer.minimum.device)).cpu()
    with np.errstate(invalid="ignore"):
        beyond = np.maximum(low - values, values - high) / (high - low)  # NaN where the range is unknown
    absurd = ((z.abs() > ABSURD) | (torch.from_numpy(beyond) > ABSURD)).nonzero()
    if len(absurd):
        row, column = absurd[0].tolist()
        raise ValueError(
            f"column {model.vocabulary.names[column]!r}, row {first + row}: {values[row, column]:g} is a million times "
            "as far out as the training rows; use NaN for a value that was not observed"
        )
    return z
