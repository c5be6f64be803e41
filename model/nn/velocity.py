"""The improved head: continuous time, zero signal at its end, velocity prediction around a normal first guess.

B batch, K noise draws per row, S samples, D condition, W head width, F time features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import HeadConfig

FEATURES = 16
SMALLEST_SCALE = 0.005  # of the first guess, on the standard scale: narrower densities are left to the diffusion
TIME_POWER = 1.5  # > 1: little noise, where a density's edges are made, is trained on more often


def in_full(layer: nn.Linear, x: Tensor) -> Tensor:
    """A layer whose numbers are the answer itself, in the precision of its weights: bf16 has two digits."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(layer.weight.dtype))


class VelocityDenoiser(nn.Module):
    """Predicts the velocity of x_t from (x_t, t, c).

    As the published noise predictor, but time is continuous: each layer sees a cosine series of it.

    Args:
        config: Sizes.
        cond_dim: Dimension D of the condition.
        activation: Name of the activation in ``torch.nn.functional``.
    """

    def __init__(self, config: HeadConfig, cond_dim: int, activation: str):
        super().__init__()
        width, layers = config.head_width, range(config.head_layers)
        self.linear = nn.ModuleList(nn.Linear(width if i else 1, width) for i in layers)
        self.cond = nn.ModuleList(nn.Linear(cond_dim, width, bias=False) for _ in layers)
        self.time = nn.ModuleList(nn.Linear(FEATURES, width, bias=False) for _ in layers)
        self.out = nn.Linear(width, 1)
        self.activation = getattr(F, activation)

    def project(self, cond: Tensor) -> list[Tensor]:
        """The condition as each layer sees it: (B, D) -> (B, 1, W) per layer, once for all times and samples."""
        return [layer(cond).unsqueeze(1) for layer in self.cond]

    def project_time(self, t: Tensor) -> list[Tensor]:
        """The time as each layer sees it: (...) -> (..., W) per layer."""
        order = torch.arange(1, FEATURES + 1, device=t.device, dtype=t.dtype)
        features = torch.cos(math.pi * order * t.unsqueeze(-1))  # (..., F)
        return [layer(features) for layer in self.time]

    def forward(self, x_t: Tensor, time: list[Tensor], cond: list[Tensor]) -> Tensor:
        """Predict the velocity.

        Args:
            x_t: Noisy values, (B, K).
            time: What `project_time` gave, (B, K, W) or (W,) each.
            cond: What `project` gave, (B, 1, W) each.

        Returns:
            The velocity, (B, K).
        """
        x = x_t.unsqueeze(-1)  # (B, K, 1)
        for i, (linear, shift, view) in enumerate(zip(self.linear, time, cond)):
            x = linear(x) if i else in_full(linear, x)  # (B, K, W)
            x = self.activation(x + (shift + view))
        return in_full(self.out, x).squeeze(-1)


class VelocityHead(nn.Module):
    r"""Diffusion of one number in continuous time, of what a normal first guess leaves unexplained.

    The condition gives a mean m and a scale s; what is diffused is :math:`e = (x - m) / s`, so that wide and narrow
    densities look alike to the network. At the angle :math:`\psi` from 0 (data) to :math:`\pi / 2` (noise, no signal),

    .. math:: x_\psi = \cos\psi\, e + \sin\psi\, \epsilon, \quad v = \cos\psi\, \epsilon - \sin\psi\, e

    and the probability-flow ODE is :math:`dx / d\psi = E[v | x_\psi]`: of a normal density with the right m and s,
    nothing moves.

    Reference: Salimans & Ho 2022, arXiv:2202.00512 (velocity); Lin et al. 2023, arXiv:2305.08891 (zero signal).

    Args:
        config: Sizes; ``diffusion_steps`` are those of `sample`.
        cond_dim: Dimension D of the condition.
        activation: Name of the activation in ``torch.nn.functional``.
        guess_weight: Of the first guess's log-likelihood in the loss.

    Example:
        >>> head = VelocityHead(HeadConfig(head_width=8, diffusion_steps=10), cond_dim=4)
        >>> head.sample(torch.zeros(3, 4), 5, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 5, 1])
    """

    def __init__(self, config: HeadConfig, cond_dim: int, activation: str = "gelu", guess_weight: float = 0.1):
        super().__init__()
        self.steps, self.guess_weight = config.diffusion_steps, guess_weight
        self.guess = nn.Linear(cond_dim, 2)
        self.denoiser = VelocityDenoiser(config, cond_dim, activation)

    @staticmethod
    def angle(t: Tensor) -> Tensor:
        r"""Time 0 .. 1 -> the angle :math:`\psi` between signal and noise, 0 .. pi / 2."""
        return 0.5 * math.pi * t**TIME_POWER

    @staticmethod
    def time(angle: Tensor) -> Tensor:
        """The inverse of `angle`."""
        return (angle / (0.5 * math.pi)) ** (1 / TIME_POWER)

    def first_guess(self, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale of the normal first guess, (B, D) -> (B, 1) each."""
        mean, width = in_full(self.guess, cond).unsqueeze(-1).unbind(1)  # (B, 1)
        return mean, SMALLEST_SCALE + F.softplus(width + 0.54)  # 1 where width is 0

    def draw(self, n: int, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw what `loss` needs: times in (0, 1), (B, K), and noise, (B, K, 1); see `DDPM.draw`.

        The times are stratified: each row has one in each K-th of the interval, the batch one in each of n K parts.
        """
        place = torch.rand(n, draws, generator=generator, device=generator.device)
        row, draw = torch.arange(n, device=place.device), torch.arange(draws, device=place.device)
        t = (draw * n + row.unsqueeze(1) + place) / (n * draws)
        return t, torch.randn(n, draws, 1, generator=generator, device=generator.device)

    def loss(self, x_0: Tensor, cond: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        r"""Squared error of the velocity, and the negative log-likelihood of the first guess, per row.

        Args:
            x_0: Clean values, standardised, (B, 1).
            cond: Conditions, (B, D).
            t: Times, (B, K), from `draw`.
            noise: Standard normal, (B, K, 1), from `draw`.

        Returns:
            Mean over the K draws, (B,).
        """
        mean, scale = self.first_guess(cond)
        likelihood = scale.log() + 0.5 * ((x_0 - mean) / scale).square()  # (B, 1)
        e, noise, psi = ((x_0 - mean) / scale).detach(), noise.squeeze(-1), self.angle(t)  # (B, 1), (B, K), (B, K)
        x_t = psi.cos() * e + psi.sin() * noise
        v = psi.cos() * noise - psi.sin() * e
        predicted = self.denoiser(x_t, self.denoiser.project_time(t), self.denoiser.project(cond))
        return (predicted - v).square().mean(1) + self.guess_weight * likelihood.squeeze(1)

    @torch.no_grad()
    def sample(self, cond: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Stochastic sampling in ``diffusion_steps`` steps: the reverse diffusion's own posterior at each of them.

        Args:
            cond: Conditions, (B, D).
            size: Samples S per row.
            generator: Draws the noise, on the head's device.

        Returns:
            Samples on the standard scale, (B, S, 1).
        """

        def normal() -> Tensor:
            return torch.randn(len(cond), size, generator=generator, device=cond.device)

        mean, scale = self.first_guess(cond)
        projected, x = self.denoiser.project(cond), normal()  # (B, S)
        times = torch.linspace(1, 0, self.steps + 1, device=cond.device)
        for t, s in zip(times[:-1], times[1:]):
            psi, chi = self.angle(t), self.angle(s)
            v = self.denoiser(x, self.denoiser.project_time(t), projected)
            e, noise = psi.cos() * x - psi.sin() * v, psi.sin() * x + psi.cos() * v
            # The variance of x at s given x and e (Ho et al. 2020, eq. 7); none at the last step, where sin(chi) = 0.
            variance = (chi.sin() / psi.sin()).square() * (1 - (psi.cos() / chi.cos()).square())
            x = chi.cos() * e + (chi.sin().square() - variance).clamp(min=0).sqrt() * noise + variance.sqrt() * normal()
        return (mean + scale * x).unsqueeze(-1)
