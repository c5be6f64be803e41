"""Two toy distributions, a loop that fits a bare head to them, and a number that says how well it did.

For the notebooks that show how denoising works, without a table and without the Transformer. N rows, B batch,
D condition.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..datasets.mixture import GaussianMixture
from ..nn import DDPM

# Of `two_gaussians`: weights, modes at c = 1, width.
WEIGHTS, MODES, SD = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), 0.3


def two_moons(n: int, seed: int, noise: float = 0.1) -> Tensor:
    r"""Independent points of two interleaved half circles, each dimension with mean 0 and variance 1.

    A moon is :math:`(\cos\phi, \sin\phi)` or :math:`(1 - \cos\phi, 1/2 - \sin\phi)`, plus normal noise. Its angle is
    drawn from :math:`[0, \pi]`, not evenly spaced, so that two data sets differ as two sets of perfect samples would,
    and the moments by which it is standardised are known exactly.

    Args:
        n: Number of points N.
        seed: Seed of the draw.
        noise: Standard deviation of the noise, where the half circles have radius 1.

    Returns:
        Points, on either moon with equal probability, (N, 2).
    """
    rng = np.random.default_rng(seed)
    angle, lower = np.pi * rng.random((n, 1)), rng.random((n, 1)) < 0.5
    upper_moon = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)  # (N, 2)
    points = np.where(lower, [1, 0.5] - upper_moon, upper_moon) + noise * rng.standard_normal((n, 2))
    variance = np.array([3 / 4, 9 / 16 - 1 / np.pi]) + noise**2
    return torch.from_numpy((points - [0.5, 0.25]) / np.sqrt(variance)).float()


def two_gaussians(c: float) -> GaussianMixture:
    r"""The exact density of a number under a condition c, whose one mode becomes two as c goes from 0 to 1.

    .. math:: p(x \mid c) = 0.3\, N(x; -2c, 0.3^2) + 0.7\, N(x; c, 0.3^2)
    """
    return GaussianMixture(WEIGHTS, c * MODES[:, None], np.full((2, 1, 1), SD**2))


def draw_two_gaussians(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw conditions, uniform in [0, 1], and a number from `two_gaussians` of each.

    Returns:
        Numbers and their conditions, (N, 1) each.
    """
    rng = np.random.default_rng(seed)
    c = rng.random((n, 1))
    x = c * rng.choice(MODES, p=WEIGHTS, size=(n, 1)) + SD * rng.standard_normal((n, 1))
    return torch.from_numpy(x).float(), torch.from_numpy(c).float()


def fit(
    head: DDPM,
    x_0: Tensor,
    cond: Tensor | None = None,
    steps: int = 3000,
    batch_size: int = 512,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> np.ndarray:
    """Train a head on its own, in place.

    Args:
        head: The head; it and the data are on the CPU.
        x_0: Clean values, of about unit variance, (N, dim).
        cond: Their conditions, (N, D), or None.
        steps: Steps of AdamW, whose learning rate falls to zero as a cosine.
        batch_size: Rows per step B, drawn with replacement.
        learning_rate: That of the first step.
        seed: Seed of rows, diffusion steps and noise.

    Returns:
        The loss of each step, (steps,).
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(x_0), (batch_size,), generator=generator)
        t, noise = head.draw(batch_size, 1, generator)
        loss = head.loss(x_0[rows], None if cond is None else cond[rows], t, noise).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    return torch.stack(losses).numpy()


def two_sample_accuracy(a: np.ndarray | Tensor, b: np.ndarray | Tensor, neighbours: int = 50) -> float:
    """How often a classifier says rightly to which of two equally large sets a point belongs; 0.5 is chance.

    The nearest neighbours vote. Half of all 2 N points vote and the other half is judged: if the sets come from one
    distribution, the share scatters about 0.5 by 0.5 / sqrt(N).
    Reference: Lopez-Paz & Oquab 2017, arXiv:1610.06545.

    Args:
        a, b: Points, of about the same variance in all dimensions, (N, dim) each.
        neighbours: How many of them vote.
    """
    from sklearn.neighbors import KNeighborsClassifier

    points, which = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    voters, judged = np.array_split(np.random.default_rng(0).permutation(len(points)), 2)
    classifier = KNeighborsClassifier(neighbours).fit(points[voters], which[voters])
    return float(classifier.score(points[judged], which[judged]))
