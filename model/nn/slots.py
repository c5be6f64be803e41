"""Where a column stands in the sequence that the Transformer reads: in a slot of its own, or in a patch of its group.

B rows, L scalar slots, P patches of W columns each, V kinds of data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

PATCH = 10  # columns of a patch: a spectrum of 55 coefficients becomes six slots


class Slots(nn.Module):
    """The columns that have a slot of their own, and those that share one with their neighbours.

    A long vector, such as a spectrum, would fill the sequence with slots that each say little. Its columns are cut into
    patches of ten neighbours. Any subset of a patch can still be given, and each of its columns can be requested.

    Args:
        groups: The group of each column (`Table.groups`), (V,); only groups of more than ten columns are cut.

    Attributes:
        single: The columns that have slots of their own, (S,).
        patches: The columns of each patch, -1 where it has fewer than W, (P, W).

    Example:
        >>> slots = Slots(["spectrum"] * 25 + ["teff"])
        >>> slots.single.tolist(), slots.patches.shape
        ([25], torch.Size([3, 10]))
    """

    single: Tensor
    patches: Tensor

    def __init__(self, groups: Sequence[str]):
        super().__init__()
        members: dict[str, list[int]] = {}
        for column, group in enumerate(groups):
            members.setdefault(group, []).append(column)
        long = [columns for columns in members.values() if len(columns) > PATCH]
        cut = [columns[i : i + PATCH] for columns in long for i in range(0, len(columns), PATCH)]
        filled = [columns + [-1] * (PATCH - len(columns)) for columns in cut]
        inside = {column for columns in long for column in columns}
        single = [column for column in range(len(groups)) if column not in inside]
        # They follow from the groups: a checkpoint need not hold them.
        self.register_buffer("single", torch.tensor(single, dtype=torch.long), persistent=False)
        self.register_buffer("patches", torch.tensor(filled, dtype=torch.long).reshape(-1, PATCH), persistent=False)

    def pack(self, z: Tensor, given: Tensor, length: int | None = None, patched: bool = True) -> tuple:
        """Rows as a sequence.

        Args:
            z: Values on the standard scale, (B, V); what is not given may be anything.
            given: True where a value is given, (B, V).
            length: No row gives more than so many of the single columns; without it, there is room for all of them.
            patched: Whether any column of a patch may be given.

        Returns:
            Tokens (B, L), 0 where a slot is empty, and their values, 0 where empty; and the values of the patches,
            (B, P, W), NaN where not given, or None. What is given comes first.
        """
        known = given[:, self.single]  # (B, S)
        length = len(self.single) if length is None else min(length, len(self.single))
        kept, place = known.to(torch.uint8).sort(dim=1, descending=True, stable=True)
        kept, columns = kept[:, :length].bool(), self.single[place[:, :length]]  # (B, L)
        token, value = (columns + 1) * kept, torch.where(kept, z.gather(1, columns), 0.0)
        if not patched or not len(self.patches):
            return token, value, None
        index = self.patches.clamp(min=0)
        patch = torch.where(given[:, index] & (self.patches >= 0), z[:, index], torch.nan)  # (B, P, W)
        return token, value, patch
