"""The published draw: the right columns, the right distribution, nothing invented."""

import numpy as np
import pytest
import torch

from model.training.batches import draw_batch, trainable_rows

V = 6


def draw(n: int, draws: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """What heads draw: ten steps, and noise."""
    return torch.randint(10, (n, draws), generator=generator), torch.randn(n, draws, 1, generator=generator)


def rows(n: int) -> torch.Tensor:
    """Row i holds 100 i + column, so that every number says where it came from; a third is missing."""
    values = 100.0 * torch.arange(n)[:, None] + torch.arange(V)
    missing = torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < 1 / 3
    missing[:, 2] = False
    return values.masked_fill(missing, torch.nan)


@pytest.mark.parametrize("length", [0, 1, 4, V])
def test_values_and_targets_come_from_the_columns_that_are_named(length):
    values = rows(500)
    batch = draw_batch(
        values, torch.ones(V, dtype=torch.bool), length, draw, torch.Generator().manual_seed(1), noise_draws=3
    )
    assert batch.t.shape == (500, 3)
    assert batch.noise.shape == (500, 3, 1)
    assert batch.token.shape == batch.value.shape == (500, length)
    row = torch.arange(500)
    assert torch.equal(batch.target, values[row, batch.request - 1])  # NaN would differ: the target is observed
    for slot in range(length):
        token, value = batch.token[:, slot], batch.value[:, slot]
        real = token > 0
        assert torch.equal(value[real], values[row[real], token[real] - 1])
        assert (value[~real] == 0).all()
    if length == V:  # all columns drawn: exactly the observed ones are there, each once
        observed = torch.where(values.isnan(), 0, torch.arange(1, V + 1))
        assert torch.equal(batch.token.sort().values, observed.sort().values)


def test_draws_are_uniform_and_only_requestable_columns_are_requested():
    n = 60_000
    values, requestable = torch.zeros(n, V), torch.tensor([True, False, True, True, False, True])
    batch = draw_batch(values, requestable, 3, draw, torch.Generator().manual_seed(2))
    counts = torch.bincount(batch.request, minlength=V + 1)[1:]
    assert (counts[~requestable] == 0).all()
    expected, sd = n / 4, np.sqrt(n / 4 * 3 / 4)
    assert (counts[requestable] - expected).abs().max() < 4 * sd
    in_context = torch.stack([(batch.token == kind).any(1) for kind in range(1, V + 1)]).sum(1)
    assert (in_context - n / 2).abs().max() < 4 * np.sqrt(n / 4)
    # The target may stand in its own context, as often as any other column.
    own = (batch.token == batch.request[:, None]).any(1).sum()
    assert abs(own - n / 2) < 4 * np.sqrt(n / 4)
    assert all(len(set(row)) == 3 for row in batch.token[:1000].tolist())  # without replacement


def test_rows_without_an_observed_requestable_column_are_not_trained_on():
    values = torch.tensor([[1.0, torch.nan], [torch.nan, 2.0], [torch.nan, torch.nan]])
    assert trainable_rows(values, torch.tensor([True, False])).tolist() == [True, False, False]
