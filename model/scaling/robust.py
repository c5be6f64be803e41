"""Columns <-> the standard scale the network works on.

N rows, V kinds of data.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Standardizer(nn.Module):
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
    minimum: Tensor
    maximum: Tensor

    def __init__(self, n_columns: int):
        super().__init__()
        self.register_buffer("center", torch.zeros(n_columns, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_columns, dtype=torch.float64))
        # The range of the training rows, in the columns' units: outside it the model extrapolates.
        self.register_buffer("minimum", torch.full((n_columns,), -torch.inf, dtype=torch.float64))
        self.register_buffer("maximum", torch.full((n_columns,), torch.inf, dtype=torch.float64))

    def fit(self, values: np.ndarray, names: tuple[str, ...]) -> Standardizer:
        """Take median and scale from these rows.

        Args:
            values: Training rows in the columns' units, (N, V); NaN = not observed.
            names: Column names, for the error messages.

        Raises:
            ValueError: If a column has no observed value or is constant in these rows.
        """
        for i, name in enumerate(names):
            observed = values[:, i][~np.isnan(values[:, i])].astype(np.float64)
            require_variation(observed, name)
            center = np.median(observed)
            self.center[i] = center
            self.scale[i] = 1.4826 * np.median(np.abs(observed - center)) or observed.std()
            self.minimum[i], self.maximum[i] = observed.min(), observed.max()
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


def require_variation(observed: np.ndarray, name: str):
    """Refuse a column that has nothing to learn."""
    if not len(observed):
        raise ValueError(f"column {name!r} has no observed value among the training rows: leave it out")
    if observed.min() == observed.max():
        raise ValueError(
            f"column {name!r} is constant ({observed[0]:g}) in the training rows: there is nothing to learn, "
            "leave it out"
        )
