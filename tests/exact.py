"""Heads and emulators that know the truth, so that what is made of them can be held against closed forms.

N rows, K normal components, Q points per row, V kinds of data. Conditions are (weights, means, sds) side by side.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from model import Emulator
from model.config import EXPERIMENTS, HeadConfig
from model.datasets.mixture import MIXTURE, GaussianMixture
from model.datasets.vocabulary import Vocabulary
from model.nn import DDPM, Slots, VelocityHead
from model.run_folder import Model
from model.scaling import MonotoneSpline, QuantileStandardizer, Standardizer


def mean_given_noisy(x_t: Tensor, signal: Tensor, noise: Tensor, cond: Tensor) -> Tensor:
    """E[x_0 | x_t] of mixtures, x_t = signal x_0 + noise epsilon, (N, Q); cond is (N, 1, 3 K)."""
    weight, mean, sd = cond.double().chunk(3, dim=-1)  # (N, 1, K)
    x_t, signal, noise = x_t.double().unsqueeze(-1), signal.double(), noise.double()  # (N, Q, 1)
    variance = (signal * sd).square() + noise.square()
    offset = x_t - signal * mean
    share = (weight.log() - 0.5 * (offset.square() / variance + variance.log())).softmax(-1)
    return (share * (mean + signal * sd.square() / variance * offset)).sum(-1)


class ExactVelocity:
    """The velocity that a perfect network predicts, of e = (x - guess's mean) / scale."""

    def __init__(self, head: VelocityHead):
        self.head = head

    def project(self, cond: Tensor) -> list[Tensor]:
        weight, mean, sd = cond.chunk(3, dim=-1)
        middle, scale = self.head.first_guess(cond)
        return [torch.cat([weight, (mean - middle) / scale, sd / scale], dim=-1).unsqueeze(1)]

    def project_time(self, t: Tensor) -> list[Tensor]:
        return [VelocityHead.angle(t)]

    def __call__(self, x_t: Tensor, time: list[Tensor], projected: list[Tensor]) -> Tensor:
        (psi,) = time
        e = mean_given_noisy(x_t, psi.cos(), psi.sin(), projected[0])
        return ((psi.cos() * x_t - e) / psi.sin()).float()


class ExactNoise:
    """The noise that a perfect network of the published recipe predicts."""

    def __init__(self, head: DDPM):
        self.schedule = head.schedule

    def project(self, cond: Tensor) -> list[Tensor]:
        return [cond]

    def __call__(self, x_t: Tensor, t: Tensor, projected: list[Tensor]) -> Tensor:
        alpha_bar = self.schedule.alphas_cumprod[t]
        signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        x_0 = mean_given_noisy(x_t.squeeze(-1), signal, noise, projected[0])
        return ((x_t.squeeze(-1) - signal * x_0) / noise).float().unsqueeze(-1)


def velocity_head(steps: int = 100) -> VelocityHead:
    """An improved head that is exact, whatever the mixture; its first guess has the mixture's mean and scale."""

    def moments(cond: Tensor) -> tuple[Tensor, Tensor]:
        weight, mean, sd = cond.chunk(3, dim=-1)
        middle = (weight * mean).sum(-1, keepdim=True)
        return middle, (weight * (sd.square() + (mean - middle).square())).sum(-1, keepdim=True).sqrt()

    with torch.random.fork_rng():
        head = VelocityHead(HeadConfig(head_width=2, head_layers=1, diffusion_steps=steps), cond_dim=1)
    head.first_guess = moments
    del head.denoiser
    head.denoiser = ExactVelocity(head)
    return head


def noise_head(steps: int = 100) -> DDPM:
    """A published head that is exact, whatever the mixture."""
    with torch.random.fork_rng():
        head = DDPM(HeadConfig(head_width=2, head_layers=1, diffusion_steps=steps), cond_dim=1)
    del head.denoiser
    head.denoiser = ExactNoise(head)
    return head


def condition(*components: tuple[float, float, float]) -> Tensor:
    """The condition of one row: (weight, mean, sd) of each component, (1, 3 K)."""
    return torch.tensor(components).T.reshape(1, -1)


def mixture_cdf(cond: Tensor, x: np.ndarray) -> np.ndarray:
    """Distribution functions at (N, Q) points of the conditions' mixtures."""
    weight, mean, sd = (part[:, None].double().numpy() for part in cond.chunk(3, dim=-1))
    return (weight * ndtr((np.asarray(x)[..., None] - mean) / sd)).sum(-1)


class ExactNetwork(torch.nn.Module):
    """Answers every question about a table drawn from a Gaussian mixture, given on the standard scale."""

    def __init__(self, truth: GaussianMixture, head: torch.nn.Module):
        super().__init__()
        self.truth, self.head, self.slots = truth, head, Slots(range(len(truth.mean())))

    def encode(self, token: Tensor, value: Tensor, request: Tensor, patch: None = None) -> Tensor:
        rows = [self._row(*row) for row in zip(token.tolist(), value.double().tolist(), request.tolist())]
        return torch.tensor(np.array(rows), dtype=torch.float32)

    def _row(self, token: list[int], value: list[float], request: int) -> np.ndarray:
        known = {k - 1: x for k, x in zip(token, value) if k > 0}
        answer = self.truth.conditional([request - 1], known)
        return np.concatenate([answer.weights, answer.means[:, 0], np.sqrt(answer.covariances[:, 0, 0])])

    def count_parameters(self) -> tuple[int, int]:
        return 0, 0


def exact_emulator(
    recipe: str = "improved", truth: GaussianMixture = MIXTURE, units=("K", "mag", "dex", "")
) -> Emulator:
    """An emulator of a table of the columns a, b, c, d whose network is perfect."""
    center, scale = truth.mean(), truth.std()
    standardizer = Standardizer(len(center))
    standardizer.center, standardizer.scale = torch.from_numpy(center), torch.from_numpy(scale)
    standardizer.minimum, standardizer.maximum = (torch.from_numpy(center + side * 6 * scale) for side in (-1, 1))
    standard = GaussianMixture(
        truth.weights, (truth.means - center) / scale, truth.covariances / np.multiply.outer(scale, scale)
    )
    head = velocity_head() if recipe == "improved" else noise_head()
    names = tuple("abcdefgh"[: len(center)])
    experiment = EXPERIMENTS["mixture"].override(recipe=recipe)
    model = Model(
        experiment, Vocabulary(names), units, names, standardizer, ExactNetwork(standard, head), np.zeros(0, np.uint8)
    )
    return Emulator(model, "cpu")


class Standard:
    """Every row's density is the column's marginal one, as its standardizer sees it; `Conditional` takes it."""

    device = torch.device("cpu")

    class model:  # noqa: N801
        units = ("km",)

    column, index, given = "x", 0, ()

    def __init__(self, values: np.ndarray, rows: int = 1):
        self.model.standardizer = QuantileStandardizer(1).fit(values.astype(np.float32)[:, None], ("x",))
        self.rows = rows

    def __len__(self):
        return self.rows

    def curves(self, rows, resolution):
        xi = torch.linspace(-4, 4, 9, dtype=torch.float64).expand(rows.stop - rows.start, -1).contiguous()
        return MonotoneSpline.through(xi, xi)


def zero_inflated(n: int = 20_000) -> np.ndarray:
    """Values with three atoms: 30% at the bound 0, 10% at 2, the rest capped at 5."""
    rng = np.random.default_rng(1)
    x = np.where(rng.random(n) < 0.3, 0.0, rng.gamma(3.0, 1.0, n)).clip(max=5.0)
    x[rng.random(n) < 0.1] = 2.0
    return x
