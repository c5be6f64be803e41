"""Muon against torch's own, and what moves how fast."""

import numpy as np
import pytest
import torch

from model.config import EXPERIMENTS
from model.nn import DensityNetwork
from model.training.optimizers import WARMUP, Improved, Muon, orthogonal, split_parameters


def test_muon_takes_the_steps_of_torchs_own():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((24, 16), (16, 24), (16, 24), (16, 16))]
    ours, theirs = ([torch.nn.Parameter(x.clone()) for x in start] for _ in range(2))
    one = Muon(ours, lr=0.02, weight_decay=0.1)
    other = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for p, q in zip(ours, theirs):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        one.step()
        other.step()
    for p, q, x in zip(ours, theirs, start):
        moved = (q - x).norm()
        assert (p - q).norm() < 0.02 * moved  # torch's iteration runs in bf16


def test_orthogonal_matrices_have_singular_values_near_one():
    x = torch.randn(3, 10, 30, generator=torch.Generator().manual_seed(0))
    for matrices in (x, x.mT):
        values = torch.linalg.svdvals(orthogonal(matrices))
        assert values.min() > 0.5
        assert values.max() < 1.3


def make(**options):
    sizes = {"embedding_dim": 16, "heads": 2, "feedforward_dim": 32, "layers": 2, "head_width": 16, "head_layers": 3}
    experiment = EXPERIMENTS["mixture"].override(recipe="improved", steps=200, learning_rate=0.002, **sizes, **options)
    with torch.random.fork_rng():
        return DensityNetwork(4, experiment), experiment.training


def test_matrices_of_transformer_and_head_are_muons_and_all_else_adamws():
    network, _ = make()
    matrices, rest = split_parameters(network)
    names = {id(p): name for name, p in network.named_parameters()}
    assert {names[id(p)].split(".")[0] for p in matrices} == {"encoder", "head"}
    assert all(p.ndim == 2 and min(p.shape) > 2 for p in matrices)
    assert len(matrices) + len(rest) == len(names)
    left = {names[id(p)] for p in rest}
    assert {"embedding.weight", "embedding.bias", "embedding.frequency", "head.guess.weight"} <= left
    assert all("norm" in name or "bias" in name or name.startswith(("embedding", "head")) for name in left)


def test_weight_decay_is_for_matrices_only():
    network, config = make(weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = Improved(network, config)
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    for step in range(200):
        optimizer.step(0.0, step)
    matrices, rest = split_parameters(network)
    names = {id(p): name for name, p in network.named_parameters()}
    for p in rest:
        assert torch.equal(p, before[names[id(p)]])
    assert all(p.norm() < 0.9 * before[names[id(p)]].norm() for p in matrices)


def test_the_learning_rate_rises_then_falls_step_by_step_to_nothing():
    network, config = make()
    optimizer, rates = Improved(network, config), []
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    for step in range(config.steps):
        optimizer.step(step / config.steps, step)
        rates.append(optimizer.learning_rate)
    peak = int(np.argmax(rates))
    warmup = min(WARMUP, config.steps // 10)
    assert abs(peak - warmup) <= 3
    assert rates[0] == pytest.approx(config.learning_rate / warmup, rel=0.01)
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] < 1e-3 * config.learning_rate
