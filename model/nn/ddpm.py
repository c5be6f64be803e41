"""The denoising-diffusion head: the noise predictor, its loss, and the ancestral sampler.

B batch, K noise draws per row, S samples, D condition, T diffusion steps, W head width. ``dim`` is 1 for a column; the
two-moons notebooks use 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import HeadConfig
from .schedule import SigmoidSchedule


class DenoiserLayer(nn.Module):
    """A linear layer that adds its own view of the condition and of the step."""

    def __init__(self, n_in: int, width: int, cond_dim: int, steps: int, activation: str):
        super().__init__()
        self.linear = nn.Linear(n_in, width)
        # Always a projection, also where D == W: a condition that could pass unprojected could be dropped unnoticed.
        self.cond = nn.Linear(cond_dim, width) if cond_dim else None
        self.step = nn.Embedding(steps, width)
        self.activation = getattr(F, activation)

    def forward(self, x: Tensor, t: Tensor, projected: Tensor | None) -> Tensor:
        shift = self.step(t)  # small: added to the condition before it meets the samples
        if projected is not None:
            shift = shift + projected
        return self.activation(self.linear(x) + shift)


class Denoiser(nn.Module):
    """Predicts the noise in x_t from (x_t, t, c).

    The condition is constant over all steps and samples of a row, so its projections are computed by `project`,
    once, and broadcast.

    Args:
        config: Sizes and number of steps.
        dim: Dimension of x.
        cond_dim: Dimension D of the condition; 0 = unconditional.
        activation: Name of the activation in ``torch.nn.functional``.
    """

    def __init__(self, config: HeadConfig, dim: int, cond_dim: int, activation: str):
        super().__init__()
        widths = [dim] + [config.head_width] * config.head_layers
        self.layers = nn.ModuleList(
            DenoiserLayer(n_in, n_out, cond_dim, config.diffusion_steps, activation)
            for n_in, n_out in zip(widths[:-1], widths[1:])
        )
        self.out = nn.Linear(config.head_width, dim)

    def project(self, cond: Tensor | None) -> list[Tensor | None]:
        """The condition as each layer sees it: (B, D) -> (B, W) per layer; None per layer if there is none."""
        return [None if layer.cond is None else layer.cond(cond) for layer in self.layers]

    def forward(self, x_t: Tensor, t: Tensor, projected: list[Tensor | None]) -> Tensor:
        """Predict the noise.

        Args:
            x_t: Noisy values, (..., dim).
            t: Steps in 0 .. T-1, shape (...) or ().
            projected: What `project` gave, each broadcastable with (..., W).

        Returns:
            The noise, (..., dim).
        """
        x = x_t
        for layer, cond in zip(self.layers, projected):
            x = layer(x, t, cond)  # (..., W)
        return self.out(x)


class DDPM(nn.Module):
    """Denoising diffusion of a vector given a condition (Ho et al. 2020).

    Args:
        config: Sizes and noise schedule.
        dim: Dimension of x.
        cond_dim: Dimension D of the condition; 0 = unconditional.
        activation: Name of the activation in ``torch.nn.functional``.

    Example:
        >>> head = DDPM(HeadConfig(head_width=8, diffusion_steps=10), dim=1, cond_dim=4)
        >>> head.sample(torch.zeros(3, 4), 5, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 5, 1])
    """

    def __init__(self, config: HeadConfig, dim: int = 1, cond_dim: int = 0, activation: str = "gelu"):
        super().__init__()
        self.dim = dim
        self.schedule = SigmoidSchedule(config.diffusion_steps, config.beta_min, config.beta_max)
        self.denoiser = Denoiser(config, dim, cond_dim, activation)

    def draw(self, n: int, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw what `loss` needs: steps, antithetic (t, then T - 1 - t), and noise.

        Args:
            n: Rows B.
            draws: Noise draws per row K.
            generator: Its device is where the result is.

        Returns:
            t in 0 .. T-1, (B, K), and standard normal noise, (B, K, dim).
        """
        steps, device = len(self.schedule), generator.device
        half = torch.randint(steps, ((n * draws + 1) // 2,), generator=generator, device=device)
        t = torch.cat([half, steps - 1 - half])[: n * draws].reshape(n, draws)
        return t, torch.randn(n, draws, self.dim, generator=generator, device=device)

    def loss(self, x_0: Tensor, cond: Tensor | None, t: Tensor, noise: Tensor) -> Tensor:
        r"""Squared error of the predicted noise, per row.

        .. math:: \|\epsilon - \epsilon_\theta(\sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon, t, c)\|^2

        Reference: Ho et al. 2020, eq. 14. Each row, encoded once, may be noised K times.

        Args:
            x_0: Clean values, standardised, (B, dim).
            cond: Conditions, (B, D), or None.
            t: Steps, (B, K), from `draw`.
            noise: Standard normal, (B, K, dim), from `draw`.

        Returns:
            Mean over the K draws and over dim, (B,).
        """
        x_t = self.schedule.q_sample(x_0.unsqueeze(1), t, noise)  # (B, K, dim)
        predicted = self.denoiser(x_t, t, self._project(cond))
        return (predicted - noise).square().mean((1, 2))

    def _project(self, cond: Tensor | None) -> list[Tensor | None]:
        """The layers' projections, once per row, to be broadcast over its draws: (B, 1, W) each."""
        return [p if p is None else p.unsqueeze(1) for p in self.denoiser.project(cond)]

    @torch.no_grad()
    def sample(self, cond: Tensor | None, size: int, generator: torch.Generator, trace: list | None = None) -> Tensor:
        """Ancestral sampling, sigma_t^2 = beta_t, no noise added at the last step (Ho et al. 2020, algorithm 2).

        Args:
            cond: Conditions, (B, D), or None for one row without a condition.
            size: Samples S per row.
            generator: Draws the noise, on the head's device.
            trace: If a list, every x_t is appended to it, from pure noise to the samples.

        Returns:
            Samples on the standard scale, (B, S, dim).
        """
        rows, betas = 1 if cond is None else len(cond), self.schedule.betas

        def normal() -> Tensor:
            return torch.randn(rows, size, self.dim, generator=generator, device=betas.device, dtype=betas.dtype)

        projected = self._project(cond)
        x = normal()  # (B, S, dim)
        steps = torch.arange(len(betas), device=betas.device)
        for t in reversed(range(len(betas))):
            if trace is not None:
                trace.append(x)
            x = self.schedule.p_mean(x, t, self.denoiser(x, steps[t], projected))
            if t > 0:
                x = x + betas[t].sqrt() * normal()
        if trace is not None:
            trace.append(x)
        return x
