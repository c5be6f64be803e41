"""The head as a deterministic map of one number: quantiles, probabilities and densities without sampling noise.

The probability-flow ODE of a head that denoises one number is an increasing map from the standard normal distribution
to the conditional one (Song et al. 2021, arXiv:2011.13456): quantiles go to quantiles.

N rows, Q points per row, D condition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..nn import DDPM, VelocityHead
from ..scaling import MonotoneSpline

GRID_POWER = 2.5  # of the solver's steps in the angle: small ones where a density's edges are made
REACH = 4.0  # outermost quantile that is solved for, in standard deviations; straight lines beyond
SPLIT, PARTS = 4, 4  # intervals that are refined in a round, and into how many
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Resolution(NamedTuple):
    """How finely the map is solved; ``make bench-inference`` prints the errors that follow.

    Attributes:
        steps: Evaluations of the network per point.
        nodes: Quantiles at even distances to begin with.
        rounds: How often the intervals that need it most get more.
    """

    steps: int
    nodes: int
    rounds: int

    @property
    def points(self) -> int:
        return self.nodes + self.rounds * SPLIT * (PARTS - 1)


FULL = Resolution(steps=16, nodes=33, rounds=2)
COARSE = Resolution(steps=12, nodes=17, rounds=1)  # for medians and standard deviations
MOMENTS = 15  # quantiles of the published head's first pass
PUBLISHED_STEPS = 2  # times as many for the published head, whose velocity is less smooth


class Field(NamedTuple):
    """The ODE of some rows, of e = (x - mean) / scale, over the angle between signal and noise.

    Attributes:
        mean: (N, 1).
        scale: (N, 1).
        angles: From noise to data, the last one 0; (steps + 1, N or 1, 1).
        velocity: (points (N, Q), step) -> de / d angle, (N, Q).
    """

    mean: Tensor
    scale: Tensor
    angles: Tensor
    velocity: Callable[[Tensor, int], Tensor]

    def push(self, xi: Tensor) -> Tensor:
        """Normal quantiles -> x, (N, Q)."""
        return self.mean + self.scale * self._solve(xi, range(len(self.angles) - 1), +1)

    def pull(self, x: Tensor) -> Tensor:
        """x -> normal quantiles, (N, Q): the same way back."""
        return self._solve((x - self.mean) / self.scale, range(len(self.angles) - 1, 0, -1), -1)

    @torch.no_grad()
    def _solve(self, e: Tensor, steps: range, direction: int) -> Tensor:
        """Adams-Bashforth of third order with uneven steps (Hairer, Norsett & Wanner 1993, III.5).

        Of a normal density nothing moves, whatever the steps; that makes it better here than solvers that are exact
        for a point (DPM-Solver).
        """
        past: list[tuple[Tensor, Tensor]] = []
        for i in steps:
            now, h = self.angles[i], self.angles[i + direction] - self.angles[i]
            # At the data's end the velocity is the noise expected where there is none: 0.
            v = self.velocity(e, i) if i < len(self.angles) - 1 else torch.zeros_like(e)
            move = h * v
            if past:
                d_1, v_1 = past[0][0] - now, past[0][1]
                slope = (v_1 - v) / d_1
                move = move + slope * h**2 / 2
            if len(past) > 1:
                d_2, v_2 = past[1][0] - now, past[1][1]
                bend = ((v_2 - v_1) / (d_2 - d_1) - slope) / d_2
                move = move + bend * (h**3 / 3 - d_1 * h**2 / 2)
            e, past = e + move, [(now, v), *past[:1]]
        return e


@torch.no_grad()
def field(head: VelocityHead | DDPM, cond: Tensor, steps: int, asked: Tensor | None = None) -> Field:
    """The ODE of some rows' densities on the standard scale.

    The published head ends where some signal is left. There the ODE starts from the normal distribution that has the
    density's own mean and variance, noised to that step; both come from a first, cheap pass.

    Args:
        head: Either head.
        cond: Conditions, (N, D).
        steps: Evaluations of the network.
        asked: False for rows whose density is the standard normal, whatever the network says, (N,); all are asked if
            left out, and by the published head.
    """
    if isinstance(head, VelocityHead):
        return _continuous(head, cond, steps, asked)
    zero = cond.new_zeros(len(cond), 1)
    xi = torch.linspace(-3.5, 3.5, MOMENTS, device=cond.device)
    weight = torch.exp(-0.5 * xi.square())
    weight = weight / weight.sum()
    x = _discrete(head, cond, zero, zero + 1, steps).push(xi.expand(len(cond), -1))
    mean = (weight * x).sum(1, keepdim=True)
    scale = (weight * (x - mean).square()).sum(1, keepdim=True).sqrt().clamp(min=1e-3)
    return _discrete(head, cond, mean, scale, steps)


@torch.no_grad()
def curves(
    head: VelocityHead | DDPM, cond: Tensor, resolution: Resolution, asked: Tensor | None = None
) -> MonotoneSpline:
    """The quantile functions of some rows, normal quantile -> standard scale, float64.

    Nodes are even at first; then the intervals across which the slope changes most, weighted by their probability, are
    split: where a density has a gap, or an edge.

    Args:
        head: Either head.
        cond: Conditions, (N, D).
        resolution: How finely.
        asked: As for `field`.
    """
    ode = field(head, cond, resolution.steps, asked)
    xi = torch.linspace(-REACH, REACH, resolution.nodes, device=cond.device).expand(len(cond), -1)
    x = ode.push(xi)
    for _ in range(resolution.rounds):
        more = _between(xi, x)
        xi, order = torch.cat([xi, more], dim=1).sort(dim=1)
        x = torch.cat([x, ode.push(more)], dim=1).gather(1, order)
    if xi.device.type == "mps":  # has no float64
        xi, x = xi.cpu(), x.cpu()
    # The map increases; what the solver leaves out of order is put right, by less than float32 resolves.
    least = 1e-6 * (1 + x[:, -1:] - x[:, :1]).double().clamp(min=1) / resolution.points
    rank = torch.arange(resolution.points, device=x.device)
    return MonotoneSpline.through(xi.double().contiguous(), x.double().cummax(1).values + least * rank)


def _between(xi: Tensor, x: Tensor) -> Tensor:
    """New nodes in the intervals that need them most, (N, Q) -> (N, SPLIT * (PARTS - 1))."""
    log_slope = (x.diff(dim=1) / xi.diff(dim=1)).clamp(min=1e-9).log()  # (N, Q - 1)
    change = log_slope.diff(dim=1).abs()
    ends = torch.zeros_like(change[:, :1])
    change = torch.cat([ends, change], dim=1).maximum(torch.cat([change, ends], dim=1))
    chosen = (torch.special.ndtr(xi).diff(dim=1) * change).topk(SPLIT, dim=1).indices
    left, right = xi.gather(1, chosen), xi.gather(1, chosen + 1)
    share = torch.arange(1, PARTS, device=xi.device) / PARTS
    return (left.unsqueeze(2) + (right - left).unsqueeze(2) * share).flatten(1)


def _continuous(head: VelocityHead, cond: Tensor, steps: int, asked: Tensor | None) -> Field:
    projected = head.denoiser.project(cond)
    angles = _grid(0.5 * math.pi, steps, cond)
    times = head.denoiser.project_time(head.time(angles))  # (steps + 1, W) per layer
    mean, scale = head.first_guess(cond)
    asked = torch.ones_like(mean, dtype=torch.bool) if asked is None else asked.to(mean.device).unsqueeze(1)  # (N, 1)

    def velocity(e_t: Tensor, i: int) -> Tensor:
        return head.denoiser(e_t, [time[i] for time in times], projected).where(asked, 0.0)

    return Field(mean.where(asked, 0.0), scale.where(asked, 1.0), angles.view(-1, 1, 1), velocity)


def _discrete(head: DDPM, cond: Tensor, mean: Tensor, scale: Tensor, steps: int) -> Field:
    """At those of the head's T steps that lie nearest to the grid; the last angle is that of no noise at all."""
    alpha_bar = head.schedule.alphas_cumprod
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    angle = torch.atan2(noise, signal)  # (T,), increasing
    grid = _grid(float(angle[-1]), PUBLISHED_STEPS * steps, cond)[:-1]
    index = (grid.unsqueeze(1) - angle).abs().argmin(1).unique(sorted=True).flip(0)  # from noise to data
    signal, noise = signal[index].view(-1, 1, 1), noise[index].view(-1, 1, 1)
    width = torch.hypot(scale * signal, noise)  # of x_t, if x is as the mean and the scale say: (steps, N, 1)
    cos, sin = scale * signal / width, noise / width
    projected = [p.unsqueeze(1) for p in head.denoiser.project(cond)]

    def velocity(e_t: Tensor, i: int) -> Tensor:
        x_t = mean * signal[i] + width[i] * e_t
        predicted = head.denoiser(x_t.unsqueeze(-1), index[i], projected).squeeze(-1)  # (N, Q)
        e = ((x_t - noise[i] * predicted) / signal[i] - mean) / scale
        return cos[i] * predicted - sin[i] * e

    angles = torch.cat([torch.atan2(sin, cos), torch.zeros_like(sin[:1])])
    return Field(mean, scale, angles, velocity)


def _grid(start: float, steps: int, like: Tensor) -> Tensor:
    """Angles from start to 0, (steps + 1,)."""
    return start * torch.linspace(1, 0, steps + 1, device=like.device, dtype=like.dtype) ** GRID_POWER
