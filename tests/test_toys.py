"""The toy distributions against their closed forms, the fit against the loss and the densities that are the best."""

import math

import numpy as np
import pytest
import torch

from model.config import HeadConfig
from model.inference.calibration import ks_threshold, ks_uniform, pit_in_bins
from model.nn import DDPM
from model.pictures.toys import draw_two_gaussians, fit, two_gaussians, two_moons, two_sample_accuracy

N = 20_000


def make_head(cond_dim: int = 0, width: int = 16) -> DDPM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DDPM(HeadConfig(head_width=width, diffusion_steps=20, beta_max=0.5), cond_dim=cond_dim)


def test_without_noise_the_moons_are_half_circles():
    sd = np.sqrt([3 / 4, 9 / 16 - 1 / np.pi])
    x, y = (two_moons(N, seed=0, noise=0.0).double().numpy() * sd + [0.5, 0.25]).T
    upper = np.abs(np.hypot(x, y) - 1) < 1e-5
    lower = np.abs(np.hypot(1 - x, 0.5 - y) - 1) < 1e-5
    assert (upper | lower).all()
    assert (y[upper & ~lower] > -1e-5).all()
    assert (y[lower & ~upper] < 0.5 + 1e-5).all()
    assert abs(upper.sum() - N / 2) < 4 * math.sqrt(N) / 2
    angle = np.arctan2(y, x)[upper] / np.pi
    assert ks_uniform(angle.clip(0, 1)) < ks_threshold(len(angle))


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_the_moons_are_standardised(noise):
    x = two_moons(N, seed=1, noise=noise)
    assert x.shape == (N, 2)
    assert (x.mean(0).abs() < 4 / math.sqrt(N)).all()
    assert ((x.square().mean(0) - 1).abs() < 4 * x.square().std(0) / math.sqrt(N)).all()
    assert torch.equal(x, two_moons(N, seed=1, noise=noise))
    assert not torch.equal(x, two_moons(N, seed=2, noise=noise))


@pytest.mark.parametrize(("c", "modes"), [(0.0, [0.0]), (1.0, [-2.0, 1.0])])
def test_the_modes_of_the_two_gaussians_move_apart(c, modes):
    x = np.linspace(-4, 4, 8001)
    density = two_gaussians(c).logpdf(x[:, None])
    peaks = x[1:-1][(np.diff(density)[:-1] > 0) & (np.diff(density)[1:] < 0)]
    np.testing.assert_allclose(peaks, modes, atol=2e-3)
    assert two_gaussians(c).mean() == pytest.approx([0.1 * c])


def test_numbers_drawn_under_a_condition_have_its_density():
    x, c = draw_two_gaussians(N, seed=0)
    assert x.shape == c.shape == (N, 1)
    assert ks_uniform(c[:, 0].double().numpy()) < ks_threshold(N)
    pit = np.array([two_gaussians(given).cdf(value) for value, given in zip(x[:2000, 0].numpy(), c[:2000, 0].numpy())])
    _, ks, n = pit_in_bins(pit, c[:2000, 0].numpy())
    assert (ks < ks_threshold(n, tests=len(n))).all()


def test_fit_reaches_the_least_possible_loss():
    """Of standard normal values the best prediction of the noise is sqrt(1 - alpha_bar) x_t, with error alpha_bar."""
    head = make_head()
    losses = fit(head, torch.randn(N, 1, generator=torch.Generator().manual_seed(0)), steps=400)
    assert losses.shape == (400,)
    least = head.schedule.alphas_cumprod.mean().item()
    last = losses[-200:]
    scatter = last.std() / math.sqrt(len(last))
    assert least - 4 * scatter < last.mean() < 1.02 * least + 4 * scatter
    assert losses[:10].mean() > 1.5 * least


def test_the_same_seed_fits_the_same_head():
    heads, x_0 = (make_head(), make_head(), make_head()), two_moons(100, seed=0)[:, :1]
    for head, seed in zip(heads, (0, 0, 1)):
        fit(head, x_0, steps=3, batch_size=8, seed=seed)
    first, again, other = (head.denoiser.out.weight for head in heads)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("cond_dim", [1, 32])
def test_a_fitted_head_follows_its_condition(cond_dim):
    """Also where the condition is as wide as the layers; a small head, so the truth is approached, not reached."""
    head, (x_0, c) = make_head(cond_dim, width=32), draw_two_gaussians(N, seed=0)
    fit(head, x_0, c.expand(-1, cond_dim), steps=800)
    for value in (0.0, 1.0):
        cond, exact = torch.full((1, cond_dim), value), two_gaussians(value)
        samples = head.sample(cond, 4000, torch.Generator().manual_seed(1))[0, :, 0].numpy()
        ignored = ks_uniform(exact.cdf(x_0[:4000, 0].numpy()))  # of a head that drops its condition
        assert ks_uniform(exact.cdf(samples)) < ignored / 2


def test_a_classifier_tells_what_differs_and_nothing_else():
    sets = [np.random.default_rng(seed).normal(size=(2000, 2)) for seed in range(20)]
    scatter = 0.5 / math.sqrt(2000)
    same = [two_sample_accuracy(a, b) for a, b in zip(sets[::2], sets[1::2])]
    assert np.abs(np.array(same) - 0.5).max() < 4 * scatter
    assert abs(np.mean(same) - 0.5) < 4 * scatter / math.sqrt(len(same))
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))  # of two normal distributions whose means are two sd apart
    apart = two_sample_accuracy(sets[0], sets[1] + np.array([2, 0]))
    assert best - 0.02 - 4 * scatter < apart < best + 4 * scatter
