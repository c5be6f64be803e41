"""What the benchmarks compare is the same: the literal procedure computes our loss."""

import numpy as np
import torch

from benchmarks.published import PublishedNetwork, prepare_epoch, train_step
from benchmarks.training import flops_per_star
from model.config import EXPERIMENTS
from model.network import DensityNetwork


def test_the_literal_network_is_ours():
    experiment = EXPERIMENTS["california_housing"].override(dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours, literal = DensityNetwork(9, experiment).double(), PublishedNetwork(9, experiment).double()
        token = torch.randint(0, 10, (8, 9))
        value = torch.randn(8, 9, dtype=torch.float64) * (token > 0)
        request, t, x = torch.randint(1, 10, (8,)), torch.randint(100, (8,)), torch.randn(8, 1, dtype=torch.float64)
    assert sum(p.numel() for p in literal.parameters()) == ours.count_parameters()[0]
    # The two hold the same parameters in the same order, but for the encoder's, which go by their names.
    literal.weight.data, literal.bias.data = ours.embedding.weight.data, ours.embedding.bias.data
    for layer, block in zip(ours.encoder.layers, literal.blocks):
        block.self_attn.in_proj_weight.data, block.self_attn.in_proj_bias.data = layer.qkv.weight, layer.qkv.bias
        block.self_attn.out_proj.load_state_dict(layer.out.state_dict())
        for name in ("linear1", "linear2", "norm1", "norm2"):
            getattr(block, name).load_state_dict(getattr(layer, name).state_dict())
    denoiser = ours.head.denoiser
    for i, layer in enumerate(denoiser.layers):
        literal.linears[i].load_state_dict(layer.linear.state_dict())
        literal.conditions[i].load_state_dict(layer.cond.state_dict())
        literal.steps[i].load_state_dict(layer.step.state_dict())
    literal.out.load_state_dict(denoiser.out.state_dict())
    with torch.no_grad():
        cond = ours.encode(token, value, request)
        torch.testing.assert_close(literal.encode(token, value, request), cond)
        torch.testing.assert_close(literal.denoise(x, t, cond), denoiser(x, t, denoiser.project(cond)))


def test_the_literal_procedure_trains():
    experiment = EXPERIMENTS["california_housing"]
    rng = np.random.default_rng(0)
    values = rng.normal(size=(64, 9)).astype(np.float32)
    values[0, 0] = np.nan
    shuffled, tokens = prepare_epoch(values, rng)
    for row, token in zip(shuffled, tokens):  # every star keeps its values, under their names
        star = np.empty(9)
        star[token - 1] = row
        assert any(np.array_equal(star, other, equal_nan=True) for other in values.astype(float))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PublishedNetwork(9, experiment)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        losses = [train_step(network, optimizer, shuffled, tokens, 9, rng) for _ in range(100)]
    assert np.mean(losses[-20:]) < np.mean(losses[:20])


def test_flops_are_those_of_the_matrix_products():
    """6 x parameters x slots is the rule of thumb; the last layer is spared for all slots but one."""
    encoder = 2 * (4 * 192**2 + 2 * 192 * 2048)
    assert 0.4 < flops_per_star() / (6 * (encoder * 33 + 1_853_441)) < 0.7
