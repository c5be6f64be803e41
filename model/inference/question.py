"""A question in the network's own terms: a column asked for, and rows of given values on the standard scale.

N rows, S samples, Q points per row, V kinds of data, D condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.special import ndtr
from tqdm import tqdm

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
METHODS = ("flow", "sde", "ancestral")
STEP = 0.01  # of a density's width: the distance over which the map is differentiated


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

    @torch.no_grad()
    def encode(self, rows: slice) -> Tensor:
        """The conditions of some rows, (N, D), on the device."""
        values = self.values[rows]
        given = (~values.isnan()).any(dim=0).nonzero().squeeze(1)  # slots for columns that some row has
        values = values[:, given].to(self.device)  # (N, L)
        token = torch.where(values.isnan(), 0, (given + 1).to(self.device))
        request = torch.full((len(values),), self.index + 1, device=self.device)
        step = max(1, TOKENS[self.device.type] // (1 + len(given)))
        parts = zip(token.split(step), values.nan_to_num(0.0).split(step), request.split(step))
        return torch.cat([self.model.network.encode(*part) for part in parts])

    def curves(self, rows: slice, resolution: Resolution) -> MonotoneSpline:
        """Quantile functions of some rows, from the normal to the standard scale."""
        return MonotoneSpline(*map(torch.cat, zip(*self._blocks(rows, resolution.points, self._curves, resolution))))

    def push(self, rows: slice, xi: Tensor) -> Tensor:
        """Normal quantiles -> standard scale, (N, Q), each solved for by itself."""
        return torch.cat(list(self._blocks(rows, xi.shape[1], self._push, xi)))

    def log_probability(self, rows: slice, x: Tensor) -> Tensor:
        """Log density at values of the column, in its unit, (N, Q) float64; where one is an atom, its log mass."""
        standardizer = self.model.standardizer
        x = x.to(standardizer.minimum.device)
        low, high = standardizer.edges(x, self.index)
        parts = self._blocks(rows, 2 * x.shape[1], self._log_probability, low, high)
        result = torch.cat(list(parts)) + torch.where(low < high, 0.0, standardizer.log_slope(x, self.index))
        return torch.where((low == high) & low.isinf(), -torch.inf, result)  # no value of this column

    def sample(self, rows: slice, size: int, method: str, generator: torch.Generator) -> Tensor:
        """Samples of the head's own stochastic sampler, standard scale, (N, S)."""
        head = self.model.network.head
        if method == "ancestral" and not isinstance(head, DDPM):
            raise ValueError("ancestral sampling belongs to the published recipe's steps: use method='flow' or 'sde'")
        return head.sample(self.encode(rows), size, generator).squeeze(-1)

    def _blocks(self, rows: slice, points: int, function: Callable, *arguments) -> Iterator:
        """A function of conditions, applied so that a block has so many points; arguments with rows are cut alike."""
        cond = self.encode(rows)
        if isinstance(self.model.network.head, DDPM):
            points = max(points, flow.MOMENTS)
        step = max(1, BLOCK[self.device.type] // points)
        for start in range(0, len(cond), step):
            part = slice(start, start + step)
            yield function(cond[part], *(a[part] if isinstance(a, Tensor) else a for a in arguments))

    def _curves(self, cond: Tensor, resolution: Resolution) -> MonotoneSpline:
        return flow.curves(self.model.network.head, cond, resolution)

    def _push(self, cond: Tensor, xi: Tensor) -> Tensor:
        z = flow.field(self.model.network.head, cond, flow.FULL.steps).push(xi.float().to(self.device))
        return z.to(self.model.standardizer.minimum.device).double()

    def _log_probability(self, cond: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Log density on the standard scale where low == high, else the log probability between them."""
        ode = flow.field(self.model.network.head, cond, flow.FULL.steps)
        is_point, half = low == high, STEP * ode.scale.to(low.device).double()
        ends = torch.cat([torch.where(is_point, low - half, low), torch.where(is_point, high + half, high)], dim=1)
        is_end = ends.isinf()  # of the scale itself, where the lowest or the highest atom lies
        xi = ode.pull(ends.masked_fill(is_end, 0.0).float().to(self.device)).to(low.device).double()
        a, b = torch.where(is_end, ends, xi).chunk(2, dim=1)  # (N, Q) each
        middle = 0.5 * (a + b)
        density = -0.5 * middle.square() - flow.HALF_LOG_2PI + ((b - a).clamp(min=1e-6) / (2 * half)).log()
        sign = torch.where(middle > 0, -1.0, 1.0).double()  # in the lower tail, where probabilities have their digits
        mass = (ndtr(sign * b) - ndtr(sign * a)).abs().clamp(min=1e-300).log()
        return torch.where(is_point, density, mass)


def blocks(n: int, size: int, block: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of at most so many samples: many rows at a time if each has few samples, else one row in parts."""
    row_step = max(1, block // size)
    with tqdm(total=n * size, unit="sample", unit_scale=True, delay=5, leave=False) as bar:
        for row in range(0, n, row_step):
            rows = slice(row, min(row + row_step, n))
            for column in range(0, size, block):
                columns = slice(column, min(column + block, size))
                yield rows, columns
                bar.update((rows.stop - rows.start) * (columns.stop - columns.start))


def fresh(seed: int | None) -> tuple[int, ...]:
    """Where random numbers start: the seed, or a new one."""
    return (np.random.SeedSequence().entropy if seed is None else seed,)


def block_seed(*parts: int) -> int:
    """A seed for a part of the work."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
