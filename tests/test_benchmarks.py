"""What the benchmarks compare is the same: the literal procedures compute our loss and our samples."""

import json
import sys

import numpy as np
import pytest
import torch

from benchmarks import inference, memory, report, solver
from benchmarks.published import PublishedNetwork, prepare_epoch, train_step
from benchmarks.solver import Reference, describe, ks, random_questions, solver_errors
from benchmarks.training import flops_per_star
from model import Emulator, config, datasets
from model.config import EXPERIMENTS, Experiment
from model.datasets import TEST
from model.inference import flow
from model.inference.flow import REACH
from model.nn import DensityNetwork
from model.scaling import MonotoneSpline
from model.training import make_model


def same_network(experiment: Experiment, n_columns: int) -> tuple[DensityNetwork, PublishedNetwork]:
    """Ours and the literal one, in float64, with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours = DensityNetwork(n_columns, experiment).double().eval()
        literal = PublishedNetwork(n_columns, experiment).double().eval()
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
    return ours, literal


@torch.no_grad()
def test_the_literal_network_is_ours():
    ours, literal = same_network(EXPERIMENTS["california_housing"], 9)
    rng = torch.Generator().manual_seed(0)
    token = torch.randint(0, 10, (8, 9), generator=rng)
    value = torch.randn(8, 9, dtype=torch.float64, generator=rng) * (token > 0)
    request, t = torch.randint(1, 10, (8,), generator=rng), torch.randint(100, (8,), generator=rng)
    x = torch.randn(8, 1, dtype=torch.float64, generator=rng)
    cond, denoiser = ours.encode(token, value, request), ours.head.denoiser
    torch.testing.assert_close(literal.encode(token, value, request), cond)
    torch.testing.assert_close(literal.denoise(x, t, cond), denoiser(x, t, denoiser.project(cond)))


def test_the_literal_samples_are_ours():
    """The same noise becomes the same samples: what is timed against us is the published procedure, no more."""
    ours, literal = same_network(EXPERIMENTS["california_housing"].override(diffusion_steps=20), 9)
    ours, literal = ours.float(), literal.float()
    cond = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    for row in cond.split(1):  # one at a time: the literal one draws the rows' noise in another order
        samples = literal.sample(row, 200, torch.Generator().manual_seed(1))
        expected = ours.head.sample(row, 200, torch.Generator().manual_seed(1))
        torch.testing.assert_close(samples, expected.squeeze(-1), rtol=1e-5, atol=1e-5)
    before = literal.sample(cond, 50, torch.Generator().manual_seed(2))
    cond[1] += 1
    changed = before != literal.sample(cond, 50, torch.Generator().manual_seed(2))
    assert changed.any(dim=1).tolist() == [False, True, False]  # every row has its own condition


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


@pytest.fixture(scope="module")
def untrained() -> tuple[Emulator, datasets.Table]:
    table = datasets.load("mixture").take(slice(0, 2000))
    experiment = EXPERIMENTS["mixture"].override(recipe="improved", embedding_dim=8, head_width=8, layers=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Emulator(make_model(table, experiment), "cpu"), table


def test_questions_are_to_test_rows_and_do_not_give_the_answer(untrained):
    emulator, table = untrained
    questions = list(random_questions(emulator, table, 60, np.random.default_rng(0)))
    assert sum(map(len, questions)) == 60
    assert {question.column for question in questions} == set(emulator.requestable)
    values = emulator.model.standardizer.standardize(torch.from_numpy(table.values)).numpy()
    test_rows, counts = values[emulator.model.split == TEST], set()
    for question in questions:
        assert question.values[:, question.index].isnan().all()
        for row in question.values.numpy():
            given = ~np.isnan(row)
            counts.add(int(given.sum()))
            assert (test_rows[:, given] == row[given]).all(axis=1).any()
    assert counts == {0, 1, 2, 3}


def test_errors_are_those_of_the_solver(untrained, monkeypatch):
    emulator, table = untrained
    question = next(random_questions(emulator, table, 8, np.random.default_rng(0)))
    monkeypatch.setitem(solver.STEPS, "improved", 100)
    reference = Reference(question)
    assert float(ks(reference.curve, reference.x, reference.xi).max()) < 1e-6
    errors = solver_errors(question)
    assert errors.shape == (len(question), 3)
    assert errors[:, 0].max() < 0.05
    monkeypatch.setattr(solver, "FULL", solver.FULL._replace(steps=2))
    assert solver_errors(question)[:, 0].mean() > 2 * errors[:, 0].mean()


def test_ks_of_a_shifted_normal():
    xi = torch.linspace(-REACH, REACH, 257, dtype=torch.float64)[None]
    shifted = MonotoneSpline.through(xi, xi + 0.1)
    assert float(ks(shifted, xi, xi)) == pytest.approx(2 * 0.519939 - 1, abs=1e-4)  # 2 Phi(0.05) - 1


def test_the_published_reference_takes_all_steps():
    experiment = EXPERIMENTS["stars"]
    with torch.random.fork_rng():
        head = DensityNetwork(3, experiment.override(embedding_dim=8, heads=1, head_width=8)).head
    ode = flow.field(head, torch.zeros(1, 8), solver.STEPS["published"])
    assert len(ode.angles) == experiment.head.diffusion_steps + 1  # and the end, where there is no noise


def test_a_benchmark_in_small(monkeypatch, tmp_path):
    """Every number of the result, from a network of a handful of weights and a few rows, and what the README says."""
    sizes = {"embedding_dim": 8, "heads": 1, "feedforward_dim": 8, "layers": 1, "head_width": 8, "head_layers": 1}
    monkeypatch.setitem(EXPERIMENTS, "stars", EXPERIMENTS["stars"].override(**sizes))
    rest = {"batch_size": 8, "steps": 1, "learning_rate": 0.001, "complete_contexts": 0.5}
    monkeypatch.setattr(config, "follow", lambda *_: sizes | rest)
    monkeypatch.setattr(
        inference, "measure_memory", lambda rows: {name: {"rows": rows, "peak_gb": 0.1} for name in memory.QUESTIONS}
    )
    monkeypatch.setattr(report, "ROOT", tmp_path)
    errors = describe(np.full((210, 3), 0.002))
    found = {**errors, "checkpoints": {"mixture": {"recipe": "published", **errors}}}
    monkeypatch.setattr(inference, "measure_errors", lambda runs, questions: found)
    assert report.answers() == []
    path = tmp_path / "benchmarks" / "results" / "inference.json"
    path.parent.parent.mkdir()
    monkeypatch.setattr(sys, "argv", ["inference", "--rounds=1", "--stars=20", f"--results={path}"])
    monkeypatch.setattr(inference, "BATCH", 20)
    inference.main()
    results = json.loads(path.read_text())
    wanted = "one_source", "one_source_published_head", "summary", "joint"
    assert all(np.isfinite(results[f"ratio_{name}"]) for name in wanted)  # of so few weights they may round to 0
    assert results["hours_gaia_xp"] > 0
    assert results["peak_memory_gb"] == 0.1
    text = "\n".join(report.answers())
    assert "210 random questions" in text
    assert "0.0020 at worst (16 steps, 57 nodes)" in text
    assert "0.0020 and 0.0020 (``mixture``)" in text


def test_memory_is_beyond_what_was_there():
    with torch.random.fork_rng():
        small = memory.measure("three_quantiles_tiny_network", 500)
    assert small["values"] == 1500
    assert 0 <= small["peak_gb"] < 1
