"""The non-linear embedding: a name and a value become a vector.

B batch, L context slots, V kinds of data, D embedding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = 16


class NonLinearEmbedding(nn.Module):
    r"""Each kind of data x has a weight vector and a bias vector.

    .. math:: y_x = f(w_x M_x + b_x)

    Row 0 of both tables is padding: zero, and kept at zero by its zero gradient.

    Reference: Leung & Bovy 2024, section 3.1; Leung, Bovy & Speagle 2024, section 3.

    Args:
        n_columns: Number of kinds of data V.
        dim: Embedding width D.
        activation: Name of f in ``torch.nn.functional``.

    Example:
        >>> embedding = NonLinearEmbedding(3, 8, "gelu")
        >>> embedding(torch.tensor([[1, 3]]), torch.tensor([[0.5, -1.0]])).shape
        torch.Size([1, 2, 8])
    """

    def __init__(self, n_columns: int, dim: int, activation: str):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_columns + 1, dim))
        self.bias = nn.Parameter(torch.empty(n_columns + 1, dim))
        self.activation = getattr(F, activation)
        for table in (self.weight, self.bias):
            nn.init.xavier_uniform_(table)
            with torch.no_grad():
                table[0] = 0

    def forward(self, token: Tensor, value: Tensor) -> Tensor:
        """Embed values by their kinds.

        Args:
            token: Kinds of data, 1 .. V, 0 = padding, (B, L).
            value: Standardised values, finite, 0 where padding, (B, L).

        Returns:
            (B, L, D); zero where padding.
        """
        weight = F.embedding(token, self.weight, padding_idx=0)  # (B, L, D)
        bias = F.embedding(token, self.bias, padding_idx=0)  # (B, L, D)
        return self.activation(weight * value.unsqueeze(-1) + bias)

    def name(self, request: Tensor) -> Tensor:
        """The bare name of a kind of data, without a value: its row of the weight table, (B,) -> (B, D)."""
        return F.embedding(request, self.weight, padding_idx=0)


class PeriodicEmbedding(NonLinearEmbedding):
    r"""The non-linear embedding with sines and cosines of the value, which resolve what one curve smooths over.

    .. math:: y_x = f(w_x M_x + b_x + P [\sin 2\pi\nu_x M_x, \cos 2\pi\nu_x M_x])

    Each kind of data has its own frequencies :math:`\nu_x`; P is shared.

    Reference: Gorishniy, Rubachev & Babenko 2022, arXiv:2203.05556.

    Args:
        n_columns: Number of kinds of data V.
        dim: Embedding width D.
        activation: Name of f in ``torch.nn.functional``.
    """

    def __init__(self, n_columns: int, dim: int, activation: str):
        super().__init__(n_columns, dim, activation)
        self.frequency = nn.Parameter(0.5 * torch.randn(n_columns + 1, FREQUENCIES))
        self.periodic = nn.Linear(2 * FREQUENCIES, dim, bias=False)

    def forward(self, token: Tensor, value: Tensor) -> Tensor:
        """As `NonLinearEmbedding`; padding is for the attention to mask."""
        weight, bias = F.embedding(token, self.weight), F.embedding(token, self.bias)  # (B, L, D)
        phase = 2 * math.pi * F.embedding(token, self.frequency) * value.unsqueeze(-1)  # (B, L, FREQUENCIES)
        waves = self.periodic(torch.cat([phase.sin(), phase.cos()], dim=-1))  # (B, L, D)
        return self.activation(weight * value.unsqueeze(-1) + bias + waves)


class PatchEmbedding(nn.Module):
    r"""Neighbouring columns of a group become one vector.

    .. math:: y_p = B f(A_p [M_p, m_p] + a_p) + b_p

    M are the values of the patch, 0 where not given, and m says which are. A, a and b belong to the patch, B is shared.

    Args:
        patches: Number of patches P.
        width: Columns of a patch W.
        dim: Embedding width D.
        activation: Name of f in ``torch.nn.functional``.
    """

    def __init__(self, patches: int, width: int, dim: int, activation: str):
        super().__init__()
        self.first = nn.Parameter(torch.randn(patches, 2 * width, dim) / math.sqrt(2 * width))
        self.bias = nn.Parameter(torch.zeros(patches, dim))
        self.second = nn.Linear(dim, dim, bias=False)
        self.name = nn.Parameter(0.1 * torch.randn(patches, dim))
        self.activation = getattr(F, activation)

    def forward(self, patch: Tensor) -> tuple[Tensor, Tensor]:
        """Embed patches.

        Args:
            patch: Standardised values, NaN where not given, (B, P, W).

        Returns:
            (B, P, D), and True where nothing of a patch is given, (B, P).
        """
        given = ~patch.isnan()
        known = torch.cat([patch.nan_to_num(0.0), given.to(patch.dtype)], dim=-1)  # (B, P, 2 W)
        hidden = self.activation(torch.einsum("bpw,pwd->bpd", known, self.first) + self.bias)  # (B, P, D)
        return self.second(hidden) + self.name, ~given.any(dim=-1)
