"""The parts composed: a context and a request become a condition, a condition and a target a loss.

B batch, L context slots, V kinds of data, D embedding.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ..config import Experiment
from .ddpm import DDPM
from .embedding import NonLinearEmbedding, PeriodicEmbedding
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
    """

    token: Tensor
    value: Tensor
    request: Tensor
    target: Tensor
    t: Tensor
    noise: Tensor


class DensityNetwork(nn.Module):
    """Embedding, Transformer and diffusion head (Leung, Bovy & Speagle 2024, figure 1).

    Args:
        n_columns: Number of kinds of data V.
        experiment: Its ``network`` and ``head`` say the sizes, its recipe which embedding and which head.

    Example:
        >>> from model.config import EXPERIMENTS
        >>> network = DensityNetwork(118, EXPERIMENTS["stars"])
        >>> network.count_parameters(), network.head.denoiser.out.in_features
        ((3774465, 1853441), 512)
    """

    def __init__(self, n_columns: int, experiment: Experiment):
        super().__init__()
        dim, activation = experiment.network.embedding_dim, experiment.network.activation
        if experiment.training.recipe == "improved":
            self.embedding = PeriodicEmbedding(n_columns, dim, activation)
            self.head = VelocityHead(experiment.head, dim, activation, experiment.training.guess_weight)
        else:
            self.embedding = NonLinearEmbedding(n_columns, dim, activation)
            self.head = DDPM(experiment.head, dim=1, cond_dim=dim, activation=activation)
        self.encoder = Encoder(experiment.network)

    def encode(self, token: Tensor, value: Tensor, request: Tensor) -> Tensor:
        """Summarise a context for a request.

        Args:
            token: Kinds of data in the context, 1 .. V, 0 = padding, (B, L).
            value: Their standardised values, 0 where padding, (B, L).
            request: Requested kinds, 1 .. V, (B,).

        Returns:
            The condition, (B, D).
        """
        return self.encoder(self.embedding.name(request), self.embedding(token, value), token == 0)

    def forward(self, batch: Batch) -> Tensor:
        """The diffusion loss of each row, (B,); errors are for the caller to look for, nothing is masked."""
        cond = self.encode(batch.token, batch.value, batch.request)  # (B, D)
        return self.head.loss(batch.target.unsqueeze(-1), cond, batch.t, batch.noise)

    def count_parameters(self) -> tuple[int, int]:
        """Number of trainable parameters: all, and those of the head."""
        all_parts, head = (sum(p.numel() for p in m.parameters()) for m in (self, self.head))
        return all_parts, head
