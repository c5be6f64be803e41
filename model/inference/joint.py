"""The joint density of several columns, by the chain rule.

N rows, S samples, K points per row, C columns, V kinds of data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..run_folder import Model
from .columns import read_points
from .distribution import Conditional
from .question import ROWS, Question, described
from .samples import block_seed, blocks, fresh, whole

CHUNK = 4096  # samples whose contexts are made at a time


class Joint:
    """The joint density of several columns by the chain rule, in the order in which they are named.

    .. math:: p(a, b, c | given) = p(a | given)\\, p(b | a, given)\\, p(c | a, b, given)

    Args:
        model: The trained model.
        device: Where its network is.
        columns: The requested columns.
        values: Given values on the standard scale, NaN = not given, (N, V).

    Attributes:
        columns: The requested columns.
        units: Their units.
    """

    def __init__(self, model: Model, device: torch.device, columns: Sequence[str], values: Tensor):
        self.columns = tuple(columns)
        self._index = [model.vocabulary.index(column) for column in columns]
        self.units = tuple(model.units[i] for i in self._index)
        self._model, self._device, self._given = model, device, values

    def __len__(self) -> int:
        return len(self._given)

    def __repr__(self) -> str:
        given = self._question(0, self._given).given
        return f"Joint({described(self.columns, self.units, given, len(self))})"

    def rvs(self, size: int = 1, seed: int | None = None, method: str = "flow") -> np.ndarray:
        """Draw samples, in the columns' units, (N, S, C), float64; arguments and exceptions as of `Conditional.rvs`."""
        size, seed = whole(size), fresh(seed)
        first = Conditional(self._question(0, self._given)).rvs(size, block_seed(*seed, 0), method)
        drawn = np.empty((len(self), size, len(self.columns)))
        drawn[:, :, 0] = first
        flat = drawn.reshape(len(self) * size, -1)  # one row a sample
        for i in range(1, len(self.columns)):
            for rows, _ in blocks(len(flat), 1, CHUNK):
                question = self._question(i, self._context(np.arange(rows.start, rows.stop) // size, flat[rows, :i]))
                generator = torch.Generator(self._device).manual_seed(block_seed(*seed, i, rows.start))
                everything = slice(0, len(question))
                if method == "flow":
                    xi = torch.randn(len(question), 1, generator=generator, device=self._device)
                    z = question.push(everything, xi)
                else:
                    z = question.sample(everything, 1, method, generator)
                x = self._model.standardizer.restore(z.to(self._home), self._index[i])
                flat[rows, i] = x.squeeze(1).cpu().numpy()
        return drawn

    def logpdf(self, points) -> np.ndarray:
        """Log density at points, per product of the columns' units, (N, K); an atom counts with its log mass.

        Args:
            points: K points for every row, with the columns' names, in any order: a DataFrame, a dict of arrays, an
                astropy Table or QTable, a structured array or a `Table`; where they carry a unit, they are converted.
                Arrays of shape (N, K) in a dict have each row's own. Or an array, (K, C) for every row or (N, K, C), in
                the order of the columns and in their units, or a Quantity.

        Raises:
            KeyError: If a column is missing or not one of these; lists the nearest names.
            ValueError: If the shape is another.
            astropy.units.UnitConversionError: If a unit is of the wrong physical type.
        """
        n, c = len(self), len(self.columns)
        points = read_points(points, self.columns, self.units, n)
        points = np.broadcast_to(points, (n, *points.shape[-2:]))
        x = torch.from_numpy(points[:, :, 0].copy()).to(self._home)
        total, step = np.empty(points.shape[:2]), ROWS[self._device.type]
        question = self._question(0, self._given)
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            total[rows] = question.log_probability(rows, x[rows]).cpu().numpy()
        flat, sums = points.reshape(-1, c), total.reshape(-1)
        for i in range(1, c):
            for rows, _ in blocks(len(flat), 1, CHUNK):
                owner = np.arange(rows.start, rows.stop) // points.shape[1]
                question = self._question(i, self._context(owner, flat[rows, :i]))
                x = torch.from_numpy(flat[rows, i : i + 1].copy()).to(self._home)
                sums[rows] += question.log_probability(slice(0, len(owner)), x).squeeze(1).cpu().numpy()
        return total

    @property
    def _home(self) -> torch.device:
        return self._model.standardizer.minimum.device

    def _question(self, i: int, values: Tensor) -> Question:
        return Question(self._model, self._device, self.columns[i], values)

    def _context(self, owner: np.ndarray, known: np.ndarray) -> Tensor:
        """What is given to samples: the values of the row that each belongs to, and those of the columns before."""
        before = torch.full((len(owner), self._given.shape[1]), torch.nan, dtype=torch.float64)
        before[:, self._index[: known.shape[1]]] = torch.from_numpy(known.copy())
        before = self._model.standardizer.standardize(before.to(self._home))
        return torch.where(before.isnan(), self._given[torch.from_numpy(owner)].to(self._home), before)
