"""What all ways of scaling share: how a table stores its values, and between which values it was fitted.

N rows, V kinds of data.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn


class Scaling(nn.Module):
    """Columns <-> the network's scale, for values in physical units and for those that a table stores.

    A `Table` stores float32 differences from a float64 offset of each column, so that a Julian date keeps its digits.
    All buffers are in physical units, float64, which hold offset plus difference exactly. Stored values are recognised
    in physical ones by rounding them likewise, see `as_stored`.

    Args:
        n_columns: Number of columns V.

    Attributes:
        marginals_are_normal: Whether each column is standard normal on the network's scale.
    """

    marginals_are_normal = False
    offset: Tensor
    minimum: Tensor
    maximum: Tensor

    def __init__(self, n_columns: int):
        super().__init__()
        self.register_buffer("offset", torch.zeros(n_columns, dtype=torch.float64))
        # The range of the training rows, in the columns' units: outside it the model extrapolates.
        self.register_buffer("minimum", torch.full((n_columns,), -torch.inf, dtype=torch.float64))
        self.register_buffer("maximum", torch.full((n_columns,), torch.inf, dtype=torch.float64))

    def as_stored(self, values: Tensor) -> Tensor:
        """Physical values, (N, V), as they would come back from a table that stores them: (N, V), float64."""
        return as_stored(values, self.offset)

    def shift(self, offset: Tensor):
        """Recognise from now on the values of another table, that stores differences from this offset, (V,)."""
        self.offset.copy_(offset)

    def standardize_stored(self, values: Tensor) -> Tensor:
        """Stored -> network's scale: float32 differences from the offset, (N, V) -> (N, V), float32."""
        return self.standardize(values.double() + self.offset)

    def _observed(
        self, values: np.ndarray, names: tuple[str, ...], offset: np.ndarray | None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Take over offset and range, and give number and sorted physical values of each column, float64."""
        if offset is not None:
            self.shift(torch.from_numpy(offset))
        for i, name in enumerate(names):
            observed = np.sort(values[:, i][~np.isnan(values[:, i])].astype(np.float64)) + self.offset[i].item()
            _require_variation(observed, name)
            self.minimum[i], self.maximum[i] = observed[0], observed[-1]
            yield i, observed

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        # Checkpoints from before there were offsets lack them: their tables stored the values themselves.
        state_dict.setdefault(f"{prefix}offset", torch.zeros_like(self.offset))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def as_stored(values: Tensor, offset: Tensor) -> Tensor:
    """Offset + float32 difference, shape of values, float64; the offset broadcasts."""
    return (values - offset).float().double() + offset


def _require_variation(observed: np.ndarray, name: str):
    """Refuse a column that has nothing to learn; its values are sorted."""
    if not len(observed):
        raise ValueError(f"column {name!r} has no observed value among the training rows: leave it out")
    if observed[0] == observed[-1]:
        raise ValueError(
            f"column {name!r} is constant ({observed[0]:.10g}) in the training rows: there is nothing to learn, "
            "leave it out"
        )
