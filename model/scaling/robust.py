"""Columns <-> the standard scale the network works on.

N rows, V kinds of data.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .base import Scaling


class Standardizer(Scaling):
    r"""Median and median absolute deviation of each column: :math:`z = (x - median) / (1.4826\,MAD)`.

    A column whose MAD is zero (more than half of the rows share one value) falls back to its standard deviation.
    Fitted once, on training rows; its numbers are float64 buffers that are saved with the weights, so inference
    never fits anything. NaN stays NaN.

    Args:
        n_columns: Number of columns V.

    Example:
        >>> standardizer = Standardizer(1).fit(np.array([[1.0], [2.0], [4.0]]), ("x",))
        >>> standardizer.standardize(torch.tensor([[2.0]])).item()
        0.0
    """

    center: Tensor
    scale: Tensor

    def __init__(self, n_columns: int):
        super().__init__(n_columns)
        self.register_buffer("center", torch.zeros(n_columns, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_columns, dtype=torch.float64))

    def fit(self, values: np.ndarray, names: tuple[str, ...], offset: np.ndarray | None = None) -> Standardizer:
        """Take median and scale from these rows.

        Args:
            values: Training rows in the columns' units, less the offset, (N, V); NaN = not observed.
            names: Column names, for the error messages.
            offset: What the table has subtracted from its columns, (V,); nothing if left out.

        Raises:
            ValueError: If a column has no observed value or is constant in these rows.
        """
        for i, observed in self._observed(values, names, offset):
            center = np.median(observed)
            self.center[i] = center
            self.scale[i] = 1.4826 * np.median(np.abs(observed - center)) or observed.std()
        return self

    def standardize(self, values: Tensor) -> Tensor:
        """Physical -> standard scale, (N, V) -> (N, V), float32."""
        return ((values - self.center) / self.scale).float()

    def edges(self, x: Tensor, column: int) -> tuple[Tensor, Tensor]:
        """The interval of the standard scale that each value of a column stands for: here a point, (z, z), float64."""
        z = (x.double() - self.center[column]) / self.scale[column]
        return z, z

    def log_slope(self, x: Tensor, column: int) -> Tensor:
        """Logarithm of dz/dx, shape of x."""
        return torch.full_like(x, 1 / self.scale[column], dtype=torch.float64).log()

    def restore(self, z: Tensor, column: int) -> Tensor:
        """Standard -> physical scale of one column, any shape, float64."""
        return z.double() * self.scale[column] + self.center[column]
