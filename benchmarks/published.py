"""The published procedures, written out literally: what the benchmarks measure us against.

The same network (`tests/test_benchmarks.py` checks that the losses and the samples agree), trained in the way the
paper's code does it: every layer over all slots, contexts padded to the longest, one Python loop over the stars before
each epoch, the loss fetched to the host in every step; and asked in the way the paper's code does it: the condition
copied for every sample and projected anew in every layer at every step.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import Experiment
from model.nn import SigmoidSchedule


class PublishedNetwork(nn.Module):
    """PyTorch's own encoder over all slots, and a head that projects the condition in each of its layers.

    Args:
        n_columns: Number of kinds of data V.
        experiment: Its ``network`` and ``head`` say the sizes.
    """

    def __init__(self, n_columns: int, experiment: Experiment):
        super().__init__()
        size, head = experiment.network, experiment.head
        dim, width = size.embedding_dim, head.head_width
        self.weight = nn.Parameter(torch.randn(n_columns + 1, dim) / dim**0.5)
        self.bias = nn.Parameter(torch.randn(n_columns + 1, dim) / dim**0.5)
        with torch.no_grad():
            self.weight[0], self.bias[0] = 0, 0
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, size.heads, size.feedforward_dim, size.dropout, "gelu", batch_first=True)
            for _ in range(size.layers)
        )
        self.schedule = SigmoidSchedule(head.diffusion_steps, head.beta_min, head.beta_max)
        sizes = [1] + [width] * head.head_layers
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:]))
        self.conditions = nn.ModuleList(nn.Linear(dim, width) for _ in range(head.head_layers))
        self.steps = nn.ModuleList(nn.Embedding(head.diffusion_steps, width) for _ in range(head.head_layers))
        self.out = nn.Linear(width, 1)

    def encode(self, token: Tensor, value: Tensor, request: Tensor) -> Tensor:
        """Condition of each row, (B, D), from contexts of one width, gaps and all: (B, 64) in training."""
        x = F.gelu(self.weight[token] * value.unsqueeze(-1) + self.bias[token])
        x = torch.cat([self.weight[request].unsqueeze(1), x], dim=1)
        is_pad = F.pad(token == 0, (1, 0), value=False)
        for block in self.blocks:
            x = block(x, src_key_padding_mask=is_pad)
        return x[:, 0]

    def denoise(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """The predicted noise: (n, 1), (n,) or (1,), (n, D) -> (n, 1)."""
        for linear, condition, step in zip(self.linears, self.conditions, self.steps):
            x = F.gelu(linear(x) + condition(cond) + step(t))
        return self.out(x)

    def loss(self, token: Tensor, value: Tensor, request: Tensor, target: Tensor) -> Tensor:
        """Mean squared error of the noise, with antithetic steps."""
        cond = self.encode(token, value, request)
        half = torch.randint(len(self.schedule), (len(target) // 2 + 1,), device=target.device)
        t = torch.cat([half, len(self.schedule) - 1 - half])[: len(target)]
        noise = torch.randn_like(target).unsqueeze(-1)
        x_t = self.schedule.q_sample(target.unsqueeze(-1), t, noise)
        return (self.denoise(x_t, t, cond) - noise).square().mean()

    @torch.inference_mode()
    def sample(self, cond: Tensor, size: int, generator: torch.Generator, timed_steps: int | None = None) -> Tensor:
        """Samples on the standard scale by the ancestral loop over all T steps, (B, D) -> (B, size).

        The paper's code adds noise in the last step too; left out, because ours does (`model.ddpm`).

        Args:
            cond: Conditions, from `encode`.
            size: Samples per row.
            generator: Draws the noise.
            timed_steps: Stop after so many of the T steps, which all cost the same; the result is then unfinished.
        """
        schedule = self.schedule
        rows, cond = len(cond), cond.repeat(size, 1)  # (size * B, D)
        x = torch.randn(len(cond), 1, generator=generator, device=cond.device, dtype=cond.dtype)
        for i in list(reversed(range(len(schedule))))[:timed_steps]:
            t = torch.tensor([i], device=cond.device)
            beta, alpha_bar = schedule.betas[t], schedule.alphas_cumprod[t]
            x = (x - beta / (1 - alpha_bar).sqrt() * self.denoise(x, t, cond)) / (1 - beta).sqrt()
            if i > 0:
                noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
                x = x + beta.sqrt() * noise
        return x.view(size, rows).T


def prepare_epoch(values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shuffle the stars, then the columns of each star, one after the other.

    Args:
        values: Standardised table, (N, V).
        rng: Where the randomness comes from.

    Returns:
        Values and tokens of each star in its own order, (N, V) each; tokens 1 .. V.
    """
    values = copy.deepcopy(values)
    tokens = np.tile(np.arange(1, values.shape[1] + 1), (len(values), 1))
    order = rng.permutation(len(values))
    values, tokens = values[order], tokens[order]
    for i in range(len(values)):
        shuffled = rng.permutation(values.shape[1])
        values[i], tokens[i] = values[i][shuffled], tokens[i][shuffled]
    return values, tokens


def train_step(
    network: PublishedNetwork,
    optimizer: torch.optim.Optimizer,
    values: np.ndarray,
    tokens: np.ndarray,
    max_context: int,
    rng: np.random.Generator,
) -> float:
    """One step on prepared stars, (B, V): a context length, the other of the 64 slots emptied, a target per star."""
    device = network.weight.device
    length = int(rng.integers(max_context + 1))
    token, value = tokens[:, :max_context].copy(), values[:, :max_context].copy()
    token[:, length:], value[:, length:] = 0, 0
    missing = np.isnan(value)
    token[missing], value[missing] = 0, 0
    place = np.where(np.isnan(values), -1, rng.random(values.shape)).argmax(axis=1)
    star = np.arange(len(values))
    arrays = token, value, tokens[star, place], values[star, place]
    loss = network.loss(*(torch.from_numpy(array).to(device) for array in arrays))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
