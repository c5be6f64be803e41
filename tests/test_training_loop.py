"""The training loop and the door to it: batches, losses, checkpoints, resumes, starts from a trained model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from model import Emulator, Table, datasets, train
from model.config import RECIPES
from model.nn import Batch
from model.run_folder import checkpoint
from model.training import Training, procedures
from tests.run_folders import SHORT, SMALL, assert_same_run, make_training, read_metrics


def test_a_run_killed_before_its_first_checkpoint_starts_again(table, tiny, tmp_path):
    whole = train(table, tiny, run=tmp_path / "whole", device="cpu", progress=False)
    killed = tmp_path / "killed"
    with torch.random.fork_rng():
        Training(table, tiny, killed, torch.device("cpu")).open_run()
    resumed = train(table, tiny, run=killed, resume=True, device="cpu", progress=False)
    assert_same_run(tmp_path / "whole", killed)
    assert np.array_equal(whole.conditional("a").rvs(9, seed=1), resumed.conditional("a").rvs(9, seed=1))


def test_a_run_folder_is_complete_or_absent(table, tiny, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_state", fail)
    with pytest.raises(OSError, match="No space left"):
        train(table, tiny, run=tmp_path / "run", device="cpu", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_starting_from_a_trained_model_with_new_columns(table, tiny, tmp_path, recipe):
    tiny = tiny.override(recipe=recipe, **SMALL, **SHORT[recipe])
    old = table.select(("c", "a"))
    trained = train(old, tiny, run=tmp_path / "old", device="cpu", progress=False)
    trained = Emulator(trained.model, calibrated=False)  # that is fitted anew
    answer = trained.conditional("a", {"c": [0.3]}).rvs(20, seed=0)
    frozen = {"learning_rate": 1e-30, "weight_decay": 0.0}
    if recipe == "published":
        frozen |= {"min_learning_rate": 0.0}
    new = train(table, tiny, init_from=tmp_path / "old", device="cpu", progress=False, **frozen)
    new = Emulator(new.model, calibrated=False)
    assert new.columns == ("c", "a", "b", "d")
    assert new.units["b"] == "mag"
    # Nothing was learnt since, so the questions that the old model knew get the old answers.
    np.testing.assert_allclose(new.conditional("a", {"c": [0.3]}).rvs(20, seed=0), answer, rtol=1e-4)
    assert np.isfinite(new.conditional("b", {"c": [0.3]}).rvs(20, seed=0)).all()
    with pytest.raises(ValueError, match="knows c, which the table lacks"):
        train(table.select(("a", "b")), tiny, init_from=tmp_path / "old", progress=False)
    with pytest.raises(ValueError, match="other sizes"):
        train(table, tiny.override(head_width=16), init_from=tmp_path / "old", progress=False)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_that_started_from_a_trained_model_resumes(table, tiny, tmp_path, recipe):
    tiny = tiny.override(recipe=recipe, **SMALL, **SHORT[recipe])
    train(table.select(("c", "a")), tiny, run=tmp_path / "old", device="cpu", progress=False)
    options = {"init_from": tmp_path / "old", "device": "cpu", "progress": False}
    train(table, tiny, run=tmp_path / "whole", **options)
    killed = tmp_path / "killed"
    train(table, tiny, run=killed, **options)
    (killed / "checkpoints" / "state_000004.safetensors").unlink()
    train(table, tiny, run=killed, resume=True, device="cpu", progress=False)
    assert_same_run(tmp_path / "whole", killed)


def test_resume_refuses_another_table_or_other_sizes(table, tiny, tmp_path):
    train(table, tiny, run=tmp_path / "run", device="cpu", progress=False)
    other = Table(table.names, table.values + 1, units=table.units, requestable=table.requestable)
    with pytest.raises(ValueError, match="another table"):
        train(other, tiny, run=tmp_path / "run", resume=True, progress=False)
    with pytest.raises(ValueError, match="head_width = 8, not 16"):
        train(table, tiny, run=tmp_path / "run", resume=True, progress=False, head_width=16)
    with pytest.raises(ValueError, match="run folder"):
        train(table, tiny, resume=True, progress=False)


def test_every_row_is_seen_once_an_epoch_and_batches_are_nearly_equal(table, tiny):
    training = make_training(table, tiny, batch_size=64)
    # Each row's values name it: give every row a distinct complete set.
    procedure = training.procedure
    procedure.z = torch.arange(len(table), dtype=torch.float32)[:, None].expand(-1, 4).clone()
    seen = [batch.target for batch in procedure.batches(procedure.train_rows, procedure.generator)]
    assert torch.equal(torch.cat(seen).sort().values, torch.from_numpy(procedure.train_rows).float())
    assert max(map(len, seen)) - min(map(len, seen)) <= 1
    assert max(map(len, seen)) <= 64


def test_context_lengths_are_uniform_up_to_the_limit(table, tiny):
    procedure = make_training(table, tiny, batch_size=1, max_context=3).procedure
    lengths = [
        batch.token.shape[1] for _ in range(5) for batch in procedure.batches(procedure.train_rows, procedure.generator)
    ]
    counts = np.bincount(lengths, minlength=4)
    assert len(counts) == 4
    n = len(lengths)
    assert np.abs(counts - n / 4).max() < 4 * np.sqrt(n * 3 / 16)


def test_validation_smaller_than_a_batch_has_a_loss(table, tiny):
    training = make_training(table, tiny, batch_size=256)
    assert 0 < len(training.procedure.val_rows) < 256
    assert 0.3 < training._evaluate() < 3  # an untrained network predicts no noise: about 1
    assert training._evaluate() == training._evaluate()


def test_no_validation_rows_is_no_loss_rather_than_zero(table, tiny):
    assert np.isnan(make_training(table, tiny, val_fraction=0.0)._evaluate())


def test_standardizer_sees_training_rows_only(table, tiny):
    training = make_training(table, tiny)
    train_rows = table.values[training.model.split == 0]
    np.testing.assert_allclose(training.model.standardizer.center.numpy(), np.nanmedian(train_rows, axis=0), rtol=1e-6)


def test_learning_rate_restarts(table, tiny, tmp_path):
    train(table, tiny, run=tmp_path / "run", epochs=6, cycles=2, device="cpu", progress=False)
    rates = [float(row["learning_rate"]) for row in read_metrics(tmp_path / "run")]
    peak, low = tiny.training.learning_rate, tiny.training.min_learning_rate
    cycle = [low + (peak - low) * (1 + np.cos(np.pi * i / 3)) / 2 for i in range(3)]
    np.testing.assert_allclose(rates, cycle * 2)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(table, tiny, tmp_path):
    run = tmp_path / "run"
    training = make_training(table, tiny, run, epochs=1)
    training.open_run()
    training.fit(progress=False)
    training = make_training(table, tiny, run, checkpoint_every=1)
    training._restore(*checkpoint.load_state(run))
    good = (run / "model.safetensors").read_bytes()
    with torch.no_grad():
        training.model.network.head.denoiser.out.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="loss is nan in epoch 2, step 1"):
        training.fit(progress=False)
    assert (run / "model.safetensors").read_bytes() == good
    assert checkpoint.load_state(run)[1]["rounds"] == 1


def test_rows_that_cannot_be_asked_anything_are_left_out(table, tiny):
    values = table.values.copy()
    values[:50, :3] = np.nan  # only the column that may not be requested is left
    training = make_training(Table(table.names, values, requestable=table.names[:3]), tiny)
    assert not set(training.procedure.train_rows.tolist()) & set(range(50))


def test_a_memory_map_trains_like_the_table_and_is_not_changed(table, tiny, tmp_path):
    records = np.empty(len(table), dtype=[(name, np.float32) for name in table.names])
    for name in table.names:
        records[name] = table.column(name)
    np.save(tmp_path / "big.npy", records)
    before = (tmp_path / "big.npy").read_bytes()
    mapped = datasets.load(tmp_path / "big.npy", request=list(table.requestable))
    assert isinstance(mapped.values.base, np.memmap)
    for name, source in (("mapped", mapped), ("read", table)):
        train(source, tiny, run=tmp_path / name, device="cpu", progress=False)
    assert_same_run(tmp_path / "mapped", tmp_path / "read")
    assert (tmp_path / "big.npy").read_bytes() == before


def test_a_step_in_parts_is_the_step_of_the_whole_batch(table, tiny, monkeypatch):
    weights = []
    for tokens in (10**9, 20):
        monkeypatch.setitem(procedures.TOKENS_AT_ONCE, "cpu", tokens)
        training = make_training(table, tiny, dropout=0.0)
        procedure = training.procedure
        batch = procedure.draw(torch.from_numpy(procedure.train_rows[:50]), 3, procedure.generator)
        parts = list(procedures.in_parts(batch, tokens))
        assert len(parts) == (1 if tokens == 10**9 else 10)
        loss = training.step(parts, 50)
        gradients = {name: p.grad.clone() for name, p in training.model.network.named_parameters()}
        weights.append((loss, gradients))
    (loss, whole), (other, pieces) = weights
    torch.testing.assert_close(loss, other)
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_parts_have_every_row_once_and_no_slot_that_is_empty_in_all_of_their_rows():
    lengths = torch.tensor([4, 0, 2, 6, 0, 6, 1, 3])
    token = torch.where(torch.arange(6) < lengths[:, None], torch.arange(1, 7), 0)
    row = torch.arange(8)
    batch = Batch(token, token * 0.5, row, row * 1.0, row[:, None], row[:, None, None] * 1.0)
    parts = list(procedures.in_parts(batch, 14))
    assert sorted(torch.cat([part.request for part in parts]).tolist()) == list(range(8))
    for part in parts:
        longest = int(lengths[part.request].max())
        assert part.token.shape == part.value.shape == (len(part.request), longest)
        assert part.token.numel() + len(part.request) <= 14
        assert torch.equal(part.token, token[part.request, :longest])
        assert torch.equal(part.target, part.request.float())
    assert len(parts) == 3  # 0 0 1 2 | 3 4 | 6 6
    assert len(list(procedures.in_parts(Batch(*(x[:0] for x in batch[:6])), 14))) == 1  # a process without a share


def test_bf16_trains_and_answers_are_fp32(table, tiny):
    emulator = train(table, tiny, device="cpu", progress=False, precision="bf16")
    assert {p.dtype for p in emulator.model.network.parameters()} == {torch.float32}
    assert np.isfinite(emulator.conditional("a").rvs(10, seed=0)).all()


def test_a_kill_between_state_and_model_is_repaired_and_the_command_kept(table, tiny, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    train(table, tiny, run=whole, device="cpu", progress=False, command="the first command")
    killed = tmp_path / "killed"

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_model", die)
        with pytest.raises(KeyboardInterrupt):
            train(table, tiny, run=killed, device="cpu", progress=False, command="the first command")
    train(table, tiny, run=killed, resume=True, device="cpu", progress=False, command="resume")
    assert_same_run(whole, killed)
    assert json.loads((killed / "metrics.json").read_text())["command"] == "the first command"


def test_weights_that_are_not_finite_are_never_saved(table, tiny, tmp_path):
    """One step an epoch and no validation rows: only the weights themselves show that the last update exploded."""
    one_step = {"val_fraction": 0.0, "batch_size": 1000, "checkpoint_every": 1}
    with pytest.raises(FloatingPointError, match="epoch 1"):
        train(table, tiny, run=tmp_path / "run", device="cpu", progress=False, learning_rate=1e38, **one_step)
    tensors, facts = checkpoint.load_state(tmp_path / "run")
    assert facts["rounds"] == 0
    assert all(tensor.isfinite().all() for name, tensor in tensors.items() if name.startswith("network."))


def test_resume_keeps_the_requests_of_the_run(table, tiny, tmp_path):
    train(replace(table, requestable=("a",)), tiny, run=tmp_path / "run", device="cpu", progress=False)
    resumed = train(table, tiny, run=tmp_path / "run", resume=True, device="cpu", progress=False)
    assert resumed.requestable == ("a",)


def test_a_new_run_leaves_its_neighbours_alone(table, tiny, tmp_path):
    for name in ("run.tmp", ".run.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").write_text("1")
    train(table, tiny, run=tmp_path / "run", device="cpu", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.tmp", "run", "run.tmp"]
    assert (tmp_path / "run.tmp" / "precious").read_text() == "1"
    (tmp_path / "file").write_text("1")
    with pytest.raises(FileExistsError, match="is a file"):
        train(table, tiny, run=tmp_path / "file", device="cpu", progress=False)


def test_no_validation_loss_is_null_in_the_metrics(table, tiny, tmp_path):
    train(table, tiny, run=tmp_path / "run", val_fraction=0.0, device="cpu", progress=False)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["val_loss"] is None
    assert "NaN" not in (tmp_path / "run" / "metrics.json").read_text()


def test_starting_from_a_model_refuses_other_units_and_widens_the_range(table, tiny, tmp_path):
    train(table, tiny, run=tmp_path / "old", device="cpu", progress=False)
    with pytest.raises(ValueError, match="units"):
        train(replace(table, units=("kK", "mag", "dex", "")), tiny, init_from=tmp_path / "old", progress=False)
    wider = replace(table, values=table.values * 2)
    model = train(wider, tiny, init_from=tmp_path / "old", device="cpu", progress=False, dropout=0.05).model
    training = wider.values[model.split == 0]
    assert (model.standardizer.maximum.numpy() >= np.nanmax(training, axis=0)).all()
