"""What the improved recipe does differently while it trains: rounds, the average, the best weights, the budget."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from model import Emulator, train
from model.datasets import TRAIN
from model.inference.calibration import ks_threshold, ks_uniform
from model.run_folder import checkpoint
from model.training import validation
from tests.run_folders import SHORT, SMALL, assert_same_run, make_training, read_metrics

IMPROVED = {"recipe": "improved", **SMALL, **SHORT["improved"]}


def test_targets_that_are_atoms_are_spread_over_their_intervals(table, tiny):
    values = table.values.copy()
    values[:, 0] = np.where(values[:, 0] < 0, np.float32(0), values[:, 0])  # a floor with half of the rows
    procedure = make_training(replace(table, values=values, requestable=("a",)), tiny, **IMPROVED).procedure
    floor = procedure.model.standardizer.standardize(torch.zeros(1, 4).double())[0, 0]
    _, high = procedure.model.standardizer.edges(torch.zeros(1).double(), 0)
    questions = procedure.pools.questions(0, 0)
    assert (questions.z[:, 0] == floor).float().mean() > 0.3
    target = torch.cat([questions.lot(64, seed).target for seed in range(40)]).double()
    target = target[target < high]
    assert len(target) > 500
    place = (torch.special.ndtr(target) / torch.special.ndtr(high)).numpy()  # uniform: the floor's interval begins at 0
    assert ks_uniform(place) < ks_threshold(len(place))


def test_the_best_average_is_what_is_saved_and_asked(table, tiny, tmp_path):
    emulator = train(table, tiny, run=tmp_path / "run", device="cpu", progress=False, **IMPROVED)
    rows = read_metrics(tmp_path / "run")
    assert [row["step"] for row in rows] == ["3", "6", "9", "12"]
    best = min(rows, key=lambda row: float(row["val_score"]))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["step"] == int(best["step"])
    tensors, facts = checkpoint.load_state(tmp_path / "run")
    assert facts["best"] == float(best["val_score"])
    for name, tensor in emulator.model.network.state_dict().items():
        assert torch.equal(tensors[f"network.best.{name}"], tensor)
    assert any(
        not torch.equal(tensors[f"network.trained.{name}"], p) for name, p in emulator.model.network.named_parameters()
    )


def test_weights_after_the_best_ones_are_not_taken(table, tiny, monkeypatch):
    training, scores = make_training(table, tiny, **IMPROVED), iter([2.0, 1.0, 3.0, 4.0])
    monkeypatch.setattr(validation, "overall", lambda *_: next(scores))
    kept = []
    for _ in range(4):
        training._round(0.0, BAR)
        kept.append(training.model.network.head.guess.weight.clone())
    assert not torch.equal(kept[0], kept[1])
    assert torch.equal(kept[1], kept[2])
    assert torch.equal(kept[1], kept[3])


class BAR:
    """No bar."""

    update = set_postfix = staticmethod(lambda *_, **__: None)


def test_a_run_that_becomes_no_better_ends(table, tiny, monkeypatch):
    scores = iter([1.0] + [2.0] * 40)
    monkeypatch.setattr(validation, "overall", lambda *_: next(scores))
    training = make_training(table, tiny, **IMPROVED | {"steps": 40, "evaluations": 40, "patience": 0.25})
    training.fit(progress=False)
    assert training.done == 1 + 10 + 1  # a quarter of the steps after the best ones


def test_a_column_that_was_better_before_is_asked_for_less_often(table, tiny, monkeypatch):
    training = make_training(table, tiny, **IMPROVED)
    marginal = torch.full((4,), 0.5).double()
    scores = iter([torch.tensor(x).double() for x in ([0.3] * 4, [0.2, 0.4, 0.3, 0.3], [0.2, 0.2, 0.3, 0.3])])
    monkeypatch.setattr(validation, "column_scores", lambda *_: (next(scores), marginal))
    seen = []
    for _ in range(3):
        training.procedure.evaluate(training.average)
        seen.append(training.procedure.focus.tolist())
    assert seen == [[1, 1, 1, 1], [1, 0.25, 1, 1], [1, 1, 1, 1]]
    questions = training.procedure.pools.questions(0, 0)
    training.procedure.focus.copy_(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert not any((questions.lot(64, seed).request == 2).any() for seed in range(20))


def test_the_score_counts_columns_alike_and_none_worse_than_its_marginal():
    scores, marginal = torch.tensor([0.01, 0.7, torch.nan]).double(), torch.tensor([0.5, 0.5, torch.nan]).double()
    assert validation.overall(scores, marginal) == pytest.approx((np.log(0.01) + np.log(0.5)) / 2)


def test_the_averages_horizon_grows_with_the_steps(table, tiny):
    training = make_training(table, tiny, **IMPROVED, average_width=0.1)
    weights = training.network.head.guess.bias
    for step in range(1, 201):
        training.done = step
        with torch.no_grad():
            weights.fill_(float(step))
        training._average()
    power = 1 / 0.1 - 3
    share = np.arange(1, 201) ** power
    expected = (share * np.arange(1, 201)).sum() / share.sum()
    assert training.average.head.guess.bias[0].item() == pytest.approx(expected, rel=0.01)


def test_a_finished_run_can_be_extended_and_a_kill_then_changes_nothing(table, tiny, tmp_path):
    options = {"device": "cpu", "progress": False, "resume": True}
    runs = [tmp_path / name for name in ("whole", "killed")]
    for run in runs:
        train(table, tiny, run=run, device="cpu", progress=False, **IMPROVED)
        train(table, tiny, run=run, **options, **IMPROVED | {"steps": 24})
    assert [row["step"] for row in read_metrics(runs[0])] == ["3", "6", "9", "12", "18", "24"]
    (runs[1] / "checkpoints" / "state_000006.safetensors").unlink()
    train(table, tiny, run=runs[1], **options, **IMPROVED | {"steps": 24})
    assert_same_run(*runs)
    assert checkpoint.load_plan(runs[0]).experiment.training.steps == 24


def test_time_ends_a_run_too(table, tiny, tmp_path):
    long = IMPROVED | {"steps": 100_000, "evaluations": 5, "max_minutes": 1 / 60}
    training = make_training(table, tiny, **long)
    training.fit(progress=False)
    assert 1 <= training.seconds < 10
    assert 0 < training.done < 100_000


def test_an_interruption_keeps_the_best_so_far_and_says_how_to_go_on(table, tiny, tmp_path, monkeypatch, capsys):
    seen = []

    def interrupt(*arguments):
        seen.append(None)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return 1.0 / len(seen)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "overall", interrupt)
        train(
            table, tiny, run=tmp_path / "run", device="cpu", progress=False, command="python training.py x", **IMPROVED
        )
    assert "to go on: python training.py x --resume" in capsys.readouterr().err
    assert np.isfinite(Emulator.load(tmp_path / "run", "cpu").conditional("a").median()).all()
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == ["3", "6"]
    train(table, tiny, run=tmp_path / "run", resume=True, device="cpu", progress=False, **IMPROVED)
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == ["3", "6", "9", "12"]


def test_a_calibration_is_saved_and_can_be_left_out(table, tiny, tmp_path):
    emulator = train(table, tiny, run=tmp_path / "run", device="cpu", progress=False, **IMPROVED)
    emulator.model.calibration.shift[0], emulator.model.calibration.log_width[0] = 0.0, 0.5
    checkpoint.save_model(tmp_path / "run", emulator.model)
    calibrated, plain = (Emulator.load(tmp_path / "run", "cpu", calibrated=c) for c in (True, False))
    given = {"b": 0.1, "c": 0.2, "d": 0.3}
    xi = torch.special.ndtri(torch.tensor([0.2, 0.5, 0.9]).double())
    widened = torch.special.ndtr(xi * np.exp(0.5)).numpy()
    np.testing.assert_allclose(
        calibrated.conditional("a", given).ppf([0.2, 0.5, 0.9]), plain.conditional("a", given).ppf(widened), rtol=1e-6
    )
    x = plain.conditional("a", given).median()
    assert calibrated.joint(["a"], given).logpdf(x[:, None, None]) < plain.joint(["a"], given).logpdf(x[:, None, None])
    nothing = [emulator.conditional("a").ppf([0.1, 0.9]) for emulator in (calibrated, plain)]
    assert np.array_equal(*nothing)


def test_with_nothing_given_the_answer_is_the_column_itself(table, tiny):
    """Of four steps' training: the network knows nothing, the scale of the column all."""
    emulator = train(table, tiny, device="cpu", progress=False, **IMPROVED)
    q, standardizer = np.array([0.05, 0.3, 0.5, 0.9]), emulator.model.standardizer
    exact = standardizer.restore(torch.special.ndtri(torch.from_numpy(q)), 0).numpy()
    p = emulator.conditional("a", {"b": [np.nan, 0.1]})
    np.testing.assert_allclose(p.ppf(q)[0], exact, rtol=1e-5, atol=1e-5)
    assert np.abs(p.ppf(q)[1] - exact).max() > 1e-3  # where something is given, the network answers
    training = table.column("a")[(emulator.model.split == TRAIN) & ~np.isnan(table.column("a"))]
    n, limit = len(training), 1.63 / np.sqrt(len(training))
    for method in ("flow", "sde"):
        drawn = np.sort(emulator.conditional("a").rvs(4000, seed=1, method=method)[0])
        ecdf = np.searchsorted(drawn, np.sort(training), "right") / 4000
        assert np.abs(ecdf - (np.arange(n) + 0.5) / n).max() < limit
    x = np.median(training)
    np.testing.assert_allclose(
        emulator.joint(["a"]).logpdf([[x]])[0, 0], emulator.conditional("a").logpdf(x)[0, 0], atol=1e-3
    )


def test_a_column_that_is_given_cannot_be_asked_for_unless_the_network_has_seen_that(table, tiny):
    given = {"a": [0.5, np.nan], "b": 0.1}
    improved = train(table, tiny, device="cpu", progress=False, **IMPROVED)
    for ask in (improved.conditional, improved.summary):
        with pytest.raises(ValueError, match="'a' is asked for and given"):
            ask(*(("a", given) if ask == improved.conditional else (given, "a")))
    assert np.isfinite(improved.conditional("a", {"a": np.nan, "b": 0.1}).median()).all()
    published = train(table, tiny, device="cpu", progress=False)
    with_a, without = published.conditional("a", given).median()
    assert with_a != without
