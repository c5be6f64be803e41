"""What the improved recipe does differently while it trains."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model import train
from model.inference.calibration import ks_threshold, ks_uniform
from model.run_folder import checkpoint
from tests.run_folders import SMALL, make_training, read_metrics


def test_the_improved_recipe_keeps_a_target_out_of_its_own_context(table, tiny):
    training = make_training(table, tiny, recipe="improved", **SMALL)
    assert training.max_context == 3  # of four columns
    rows, observed = training.train_rows, ~training.values.isnan()
    batch = training.draw(rows, 3, training.generator)
    assert not (batch.token == batch.request[:, None]).any()
    assert torch.equal((batch.token > 0).sum(1), observed[rows].sum(1) - 1)  # all there is
    published = make_training(table, tiny)
    assert published.max_context == 4
    batch = published.draw(rows, 4, published.generator)
    assert (batch.token == batch.request[:, None]).any(1).all()


def context_lengths(table, tiny, **options) -> list[int]:
    training = make_training(table, tiny, recipe="improved", **SMALL | {"batch_size": 1}, **options)
    return [
        batch.token.shape[1] for _ in range(5) for batch in training._batches(training.train_rows, training.generator)
    ]


def test_half_of_the_contexts_are_complete(table, tiny):
    lengths = context_lengths(table, tiny, length_draw="uniform", complete_contexts=0.5)
    n, share = len(lengths), 0.5 + 0.5 / 4  # complete by choice, or as one of the lengths 0 .. 3
    assert abs(lengths.count(3) - n * share) < 4 * np.sqrt(n * share * (1 - share))
    assert min(lengths.count(length) for length in range(3)) > n / 8 - 4 * np.sqrt(n * 7 / 64)


def test_short_contexts_are_drawn_more_often(table, tiny):
    lengths = context_lengths(table, tiny, length_draw="log", complete_contexts=0.0)
    counts, n = np.bincount(lengths, minlength=4), len(lengths)
    assert (-np.diff(counts[:3]) > 2 * np.sqrt(n / 4)).all()
    assert counts[2] > n / 8


def test_targets_that_are_atoms_are_spread_over_their_intervals(table, tiny):
    values = table.values.copy()
    values[:, 0] = np.where(values[:, 0] < 0, np.float32(0), values[:, 0])  # a floor with half of the rows
    training = make_training(replace(table, values=values), tiny, recipe="improved", **SMALL)
    training.requestable = torch.tensor([True, False, False, False])
    rows = training.train_rows[training.values[training.train_rows, 0] == 0]
    low, high = training.model.standardizer.edges(torch.zeros(1).double(), 0)
    target = torch.cat([training.draw(rows, 0, training.generator).target for _ in range(20)]).double()
    assert ((target >= low) & (target <= high)).all()
    place = (torch.special.ndtr(target) / torch.special.ndtr(high)).numpy()  # uniform: the floor's interval begins at 0
    assert ks_uniform(place) < ks_threshold(len(place))


def test_the_average_is_what_is_validated_saved_and_asked(table, tiny, tmp_path):
    options = {"recipe": "improved", **SMALL, "checkpoint_every": 4}
    plain = train(table, tiny, run=tmp_path / "plain", device="cpu", progress=False, **options, averaging=0.0)
    mean = train(table, tiny, run=tmp_path / "mean", device="cpu", progress=False, **options, averaging=0.9)
    state, _ = checkpoint.load_state(tmp_path / "mean")
    for name, averaged in mean.model.network.state_dict().items():
        trained = plain.model.network.state_dict()[name]
        # Averaging changes nothing in what is trained, and the result is the average, not the last weights.
        assert torch.equal(state[f"network.trained.{name}"], trained), name
        assert torch.equal(state[f"network.average.{name}"], averaged), name
    assert not torch.equal(mean.model.network.head.denoiser.out.weight, plain.model.network.head.denoiser.out.weight)
    rows = [read_metrics(tmp_path / name) for name in ("plain", "mean")]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    assert rows[0][0]["val_loss"] == rows[1][0]["val_loss"]  # the first epoch's weights are not averaged
    assert rows[0][-1]["val_loss"] != rows[1][-1]["val_loss"]


def test_the_average_decays_as_it_should(table, tiny):
    training = make_training(table, tiny, recipe="improved", **SMALL, averaging=0.75)
    training._epoch()
    average, batch = training.model.network.head.guess, training.draw(training.train_rows[:50], 2, training.generator)
    training.history = [{}]
    expected = average.bias.detach().clone()
    for _ in range(3):
        training.step(batch)
        expected = 0.75 * expected + 0.25 * training.network.head.guess.bias.detach()
    torch.testing.assert_close(average.bias.detach(), expected)


def test_a_column_that_is_given_cannot_be_asked_for_unless_the_network_has_seen_that(table, tiny):
    given = {"a": [0.5, np.nan], "b": 0.1}
    improved = train(table, tiny, device="cpu", progress=False, recipe="improved", **SMALL)
    for ask in (improved.conditional, improved.summary):
        with pytest.raises(ValueError, match="'a' is asked for and given"):
            ask(*(("a", given) if ask == improved.conditional else (given, "a")))
    assert np.isfinite(improved.conditional("a", {"a": np.nan, "b": 0.1}).median()).all()
    published = train(table, tiny, device="cpu", progress=False)
    with_a, without = published.conditional("a", given).median()
    assert with_a != without
