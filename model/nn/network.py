"""The parts composed: a context and a request become a condition, a condition and a target a loss.

B batch, L context slots, P patches of W columns each, V kinds of data, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import Experiment
from .ddpm import DDPM
from .embedding import NonLinearEmbedding, PatchEmbedding, PeriodicEmbedding
from .slots import PATCH, Slots
from .transformer import Encoder
from .velocity import VelocityHead


class Batch(NamedTuple):
    """What the network is trained on.

    Attributes:
        token: Kinds of data in the context, 1 .. V, 0 = padding, (B, L).
        value: Their standardised values, 0 where padding, (B, L).
        request: Requested kinds, 1 .. V, (B,).
        target: Their standardised values, (B,).
        t: Diffusion steps, or times, (B, K).
        noise: Standard normal, (B, K, 1).
        patch: Standardised values of the patches (`slots.Slots`), NaN where not given, (B, P, W); None if there are
            none, or none is given.
    """

    token: Tensor
    value: Tensor
    request: Tensor
    target: Tensor
    t: Tensor
    noise: Tensor
    patch: Tensor | None = None


class DensityNetwork(nn.Module):
    """Embedding, Transformer and diffusion head (Leung, Bovy & Speagle 2024, figure 1).

    Args:
        n_columns: Number of kinds of data V.
        experiment: Its ``network`` and ``head`` say the sizes, its recipe which embedding and which head.
        groups: The group of each column, (V,), of which long ones are cut into patches (improved recipe); none if
            left out.

    Example:
        >>> network = DensityNetwork(9, Experiment("houses", ""))  # the published sizes for California
        >>> network.count_parameters(), network.head.denoiser.out.in_features
        ((47425, 21377), 64)
    """

    def __init__(self, n_columns: int, experiment: Experiment, groups: Sequence[str] = ()):
        super().__init__()
        dim, activation = experiment.network.embedding_dim, experiment.network.activation
        improved = experiment.training.recipe == "improved"
        self.slots = Slots(groups if improved and groups else range(n_columns))
        if len(self.slots.patches):
            self.patch_embedding = PatchEmbedding(len(self.slots.patches), PATCH, dim, activation)
        if improved:
            self.embedding = PeriodicEmbedding(n_columns, dim, activation)
            self.head = VelocityHead(experiment.head, dim, activation, experiment.training.guess_weight)
        else:
            self.embedding = NonLinearEmbedding(n_columns, dim, activation)
            self.head = DDPM(experiment.head, dim=1, cond_dim=dim, activation=activation)
        self.encoder = Encoder(experiment.network)

    def encode(self, token: Tensor, value: Tensor, request: Tensor, patch: Tensor | None = None) -> Tensor:
        """Summarise a context for a request.

        Args:
            token: Kinds of data in the context, 1 .. V, 0 = padding, (B, L).
            value: Their standardised values, 0 where padding, (B, L).
            request: Requested kinds, 1 .. V, (B,).
            patch: Values of the patches, NaN where not given, (B, P, W), or None.

        Returns:
            The condition, (B, D).
        """
        context, is_pad = self.embedding(token, value), token == 0
        if patch is not None:
            patches, empty = self.patch_embedding(patch)
            context, is_pad = torch.cat([context, patches.to(context.dtype)], 1), torch.cat([is_pad, empty], 1)
        return self.encoder(self.embedding.name(request), context, is_pad)

    def forward(self, batch: Batch) -> Tensor:
        """The diffusion loss of each row, (B,); errors are for the caller to look for, nothing is masked."""
        cond = self.encode(batch.token, batch.value, batch.request, batch.patch)  # (B, D)
        return self.head.loss(batch.target.unsqueeze(-1), cond, batch.t, batch.noise)

    def count_parameters(self) -> tuple[int, int]:
        """Number of trainable parameters: all, and those of the head."""
        all_parts, head = (sum(p.numel() for p in m.parameters()) for m in (self, self.head))
        return all_parts, head
