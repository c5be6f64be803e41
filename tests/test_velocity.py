"""The improved head: its parts against closed forms, its sampler with an exact velocity."""

import math

import numpy as np
import pytest
import torch

from model.config import HeadConfig
from model.inference.calibration import ks_threshold, ks_uniform
from model.nn import VelocityHead
from model.nn.velocity import SMALLEST_SCALE
from tests.exact import condition, mixture_cdf, velocity_head

N = 20_000


@pytest.fixture
def head() -> VelocityHead:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VelocityHead(HeadConfig(head_width=8, head_layers=2, diffusion_steps=10), cond_dim=4)


def test_times_and_angles_are_inverses_and_end_without_signal():
    t = torch.linspace(0, 1, 101)
    psi = VelocityHead.angle(t)
    torch.testing.assert_close(VelocityHead.time(psi), t)
    assert (psi.diff() > 0).all()
    assert psi[0] == 0
    assert psi[-1].item() == pytest.approx(math.pi / 2)  # cos = 0: no signal, so nothing to be biased by


@pytest.mark.parametrize(("rows", "draws"), [(8, 1), (7, 3), (1, 1)])
def test_times_and_noise_that_are_drawn(head, rows, draws):
    t, noise = head.draw(rows, draws, torch.Generator().manual_seed(0))
    assert t.shape == (rows, draws)
    assert noise.shape == (rows, draws, 1)
    # Stratified: one in each part of the interval, and each row has one in each of its larger parts.
    assert torch.equal((t * rows * draws).long().flatten().sort().values, torch.arange(rows * draws))
    assert torch.equal((t * draws).long(), torch.arange(draws).expand(rows, -1))
    many, _ = head.draw(N, 1, torch.Generator().manual_seed(1))
    assert ks_uniform(many.flatten().double().clamp(0, 1).numpy()) < ks_threshold(N)
    first, again = (head.draw(5, 2, torch.Generator().manual_seed(3))[0] for _ in range(2))
    assert torch.equal(first, again)


def test_the_first_guess_is_a_standard_normal_where_nothing_is_known(head):
    with torch.no_grad():
        head.guess.weight.zero_()
        head.guess.bias.zero_()
    mean, scale = head.first_guess(torch.ones(3, 4))
    assert mean.shape == scale.shape == (3, 1)
    assert (mean == 0).all()
    torch.testing.assert_close(scale, torch.ones(3, 1), rtol=0, atol=0.01)
    with torch.no_grad():
        head.guess.bias.fill_(-1000.0)
    assert head.first_guess(torch.ones(1, 4))[1].item() == pytest.approx(SMALLEST_SCALE)


def test_the_loss_is_the_squared_error_of_the_velocity_and_the_guess(head):
    x_0, cond = torch.randn(7, 1, generator=torch.Generator().manual_seed(0)), torch.ones(7, 4)
    t, noise = head.draw(7, 3, torch.Generator().manual_seed(0))
    loss = head.loss(x_0, cond, t, noise)
    mean, scale = head.first_guess(cond)
    normal = torch.distributions.Normal(mean, scale)
    for row in range(7):
        expected = -head.guess_weight * (normal.log_prob(x_0)[row, 0] + 0.5 * math.log(2 * math.pi))
        e = (x_0[row] - mean[row]) / scale[row]
        for draw in range(3):
            psi, epsilon = head.angle(t[row, draw]), noise[row, draw]
            x_t = (psi.cos() * e + psi.sin() * epsilon).unsqueeze(0)
            time = head.denoiser.project_time(t[row, draw])
            v = head.denoiser(x_t, time, head.denoiser.project(cond[row : row + 1]))
            expected = expected + (v - (psi.cos() * epsilon - psi.sin() * e)).square().sum() / 3
        torch.testing.assert_close(loss[row], expected, rtol=1e-4, atol=1e-5)


def test_every_parameter_gets_a_gradient_and_the_loss_is_finite_far_out(head):
    x_0 = torch.tensor([[-7.0], [0.0], [7.0]])
    cond = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    loss = head.loss(x_0, cond, *head.draw(3, 64, torch.Generator().manual_seed(0)))
    assert loss.isfinite().all()
    loss.sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad.reshape(len(parameter), -1).abs().sum(1) > 0).all(), name


def test_the_guess_learns_from_its_own_likelihood_only(head):
    """Were x to depend on it in the velocity's loss, the scale could grow to make that loss small."""
    x_0, cond = torch.ones(5, 1), torch.ones(5, 4)
    t, noise = head.draw(5, 2, torch.Generator().manual_seed(0))
    mean, scale = head.first_guess(cond)
    likelihood = head.guess_weight * (scale.log() + 0.5 * ((x_0 - mean) / scale).square())
    expected = torch.autograd.grad(likelihood.sum(), head.guess.bias)[0]
    gradient = torch.autograd.grad(head.loss(x_0, cond, t, noise).sum(), head.guess.bias)[0]
    torch.testing.assert_close(gradient, expected)


def test_nothing_moves_where_the_first_guess_is_the_density():
    """A perfect network then predicts 0 everywhere; the mean of its targets is 0 at each x."""
    head, cond = velocity_head(), condition((1.0, 3.0, 0.2))
    x = torch.linspace(-4, 4, 101)[None]
    for t in (0.1, 0.5, 0.99):
        v = head.denoiser(x, head.denoiser.project_time(torch.tensor(t)), head.denoiser.project(cond))
        torch.testing.assert_close(v, torch.zeros_like(x), rtol=0, atol=1e-5)
    rng = torch.Generator().manual_seed(0)
    e, noise = torch.randn(2, N, generator=rng)
    psi = VelocityHead.angle(torch.tensor(0.5))
    x_t, v = psi.cos() * e + psi.sin() * noise, psi.cos() * noise - psi.sin() * e
    assert abs(np.corrcoef(x_t, v)[0, 1]) < 4 / math.sqrt(N)


@pytest.mark.parametrize(
    "cond",
    [
        condition((1.0, 0.5, 0.7)),
        condition((0.4, -1.5, 0.3), (0.6, 1.0, 0.5)),
        condition((0.9, 0.0, 0.1), (0.1, 0.0, 1.0)),
    ],
    ids=["normal", "two peaks", "heavy tails"],
)
def test_samples_with_an_exact_velocity_follow_the_density(cond):
    samples = velocity_head(steps=100).sample(cond, N, torch.Generator().manual_seed(0))
    assert samples.shape == (1, N, 1)
    u = mixture_cdf(cond, samples.squeeze(-1).double().numpy())[0]
    assert ks_uniform(u) < ks_threshold(N) + 0.005  # the second term: 100 steps are not infinitely many


def test_no_noise_is_added_at_the_last_step():
    """Were it, the spread of a narrow density would be that of the noise."""
    cond = condition((0.5, -1.0, 0.001), (0.5, 1.0, 0.001))
    samples = velocity_head(steps=100).sample(cond, 2000, torch.Generator().manual_seed(0)).flatten()
    assert (samples.abs() - 1).abs().median().item() < 0.002
