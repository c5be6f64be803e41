"""The schedule and the sampler against closed forms."""

import math

import numpy as np
import pytest
import torch

from model.config import HeadConfig
from model.inference.calibration import ks_threshold
from model.nn import DDPM, SigmoidSchedule

N = 20_000


def normal_cdf(x):
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])


@pytest.mark.parametrize("steps", [100, 120])
def test_schedule_is_the_beta_sigmoid_of_the_paper(steps):
    schedule = SigmoidSchedule(steps, 1e-5, 0.1)
    product = 1.0
    for t in range(steps):
        beta = 1 / (1 + math.exp(-(-6 + 12 * t / (steps - 1)))) * (0.1 - 1e-5) + 1e-5
        product *= 1 - beta
        assert schedule.betas[t].item() == pytest.approx(beta, rel=1e-6)
        assert schedule.alphas_cumprod[t].item() == pytest.approx(product, rel=1e-6)
    assert math.sqrt(product) == pytest.approx({100: 0.073, 120: 0.044}[steps], abs=1e-3)


def test_tables_follow_the_module_and_are_not_saved():
    schedule = SigmoidSchedule(10, 1e-5, 0.1)
    assert not schedule.state_dict()
    schedule.to("meta")
    assert schedule.betas.is_meta
    assert schedule.alphas_cumprod.is_meta


def test_q_sample_has_the_mean_and_variance_of_the_forward_process():
    schedule, t = SigmoidSchedule(100, 1e-5, 0.1), torch.full((N,), 60)
    noise = torch.randn(N, 1, generator=torch.Generator().manual_seed(0))
    x_t = schedule.q_sample(torch.full((N, 1), 2.0), t, noise)
    alpha_bar = schedule.alphas_cumprod[60].item()
    sd = math.sqrt(1 - alpha_bar)
    assert abs(x_t.mean().item() - 2 * math.sqrt(alpha_bar)) < 4 * sd / math.sqrt(N)
    assert abs(x_t.std().item() / sd - 1) < 4 / math.sqrt(2 * N)


class ExactDenoiser:
    """The noise that a perfect network predicts where x_0 is normal with mean m and standard deviation s."""

    def __init__(self, schedule, m, s):
        self.schedule, self.m, self.s = schedule, m, s

    def project(self, cond):
        return []

    def __call__(self, x_t, t, projected):
        alpha_bar = self.schedule.alphas_cumprod[t]
        variance = alpha_bar * self.s**2 + 1 - alpha_bar
        return (1 - alpha_bar).sqrt() * (x_t - alpha_bar.sqrt() * self.m) / variance


def exact_head(m, s):
    with torch.random.fork_rng():
        head = DDPM(HeadConfig())
    del head.denoiser
    head.denoiser = ExactDenoiser(head.schedule, m, s)
    return head


def test_ancestral_sampler_with_an_exact_denoiser_draws_the_true_distribution():
    samples = exact_head(0.5, 0.7).sample(None, N, torch.Generator().manual_seed(0)).squeeze()
    expected = normal_cdf((np.sort(samples.numpy()) - 0.5) / 0.7)
    ks = np.abs(expected - (np.arange(N) + 0.5) / N).max()
    assert ks < ks_threshold(N) + 0.01  # the second term: 100 steps are not infinitely many


def test_no_noise_is_added_at_the_last_step():
    """The last step's noise would have sd sqrt(beta_0) = 0.016, ten times the spread of this target."""
    samples = exact_head(1.0, 0.0015).sample(None, N, torch.Generator().manual_seed(0))
    assert samples.std().item() < 0.003


@pytest.mark.parametrize(("rows", "draws"), [(8, 1), (7, 1), (7, 3)])
def test_steps_are_antithetic_and_uniform(rows, draws):
    with torch.random.fork_rng():
        head = DDPM(HeadConfig(diffusion_steps=10), dim=2)
    t, noise = head.draw(rows, draws, torch.Generator().manual_seed(0))
    assert t.shape == (rows, draws)
    assert noise.shape == (rows, draws, 2)
    first, second = t.flatten().tensor_split([(rows * draws + 1) // 2])
    assert torch.equal(second, 9 - first[: len(second)])
    many, _ = head.draw(N, 1, torch.Generator().manual_seed(1))
    # Antithetic pairs are not independent: the variance of a count is at most twice that of N / 2 fair pairs.
    assert (torch.bincount(many.flatten()) - N / 10).abs().max() < 4 * math.sqrt(2 * N / 10)


def test_the_loss_is_the_squared_error_of_the_predicted_noise():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = DDPM(HeadConfig(head_width=8, diffusion_steps=10), cond_dim=4)
    x_0, cond = torch.randn(7, 1, generator=torch.Generator().manual_seed(0)), torch.ones(7, 4)
    t, noise = head.draw(7, 3, torch.Generator().manual_seed(0))
    loss = head.loss(x_0, cond, t, noise)
    for row in range(7):
        for draw in range(3):
            step, epsilon = t[row, draw], noise[row, draw]
            alpha_bar = head.schedule.alphas_cumprod[step]
            x_t = alpha_bar.sqrt() * x_0[row] + (1 - alpha_bar).sqrt() * epsilon
            loss[row] = loss[row] - (head.denoiser(x_t, step, head.denoiser.project(cond[row])) - epsilon).square() / 3
    torch.testing.assert_close(loss, torch.zeros(7), rtol=0, atol=1e-6)


@pytest.mark.parametrize("cond_dim", [0, 3])
def test_two_dimensional_heads_sample_with_and_without_a_condition(cond_dim):
    with torch.random.fork_rng():
        head = DDPM(HeadConfig(head_width=8, diffusion_steps=10), dim=2, cond_dim=cond_dim)
    trace = []
    cond = torch.zeros(5, cond_dim) if cond_dim else None
    samples = head.sample(cond, 4, torch.Generator().manual_seed(0), trace=trace)
    assert samples.shape == (5 if cond_dim else 1, 4, 2)
    assert len(trace) == 11
    assert torch.equal(trace[-1], samples)
