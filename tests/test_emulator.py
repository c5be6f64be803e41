"""Questions: shapes, units, seeds, chunks, errors. Whether the answers are right is in test_accuracy."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from model import Emulator, Table, train
from model.datasets.mixture import GaussianMixture
from model.device import describe_system, pick_device
from model.inference import OutsideTrainingRange, Question, joint, question
from tests.exact import exact_emulator

N = 20_000


@pytest.fixture
def emulator(table, tiny):
    return train(table, tiny, device=torch.device("cpu"), progress=False)


def test_shapes_and_units(emulator):
    p = emulator.conditional("a", {"b": [0.0, 1.0, np.nan], "c": 0.5})
    assert len(p) == 3
    assert p.unit == "K"
    assert p.rvs(7, seed=0).shape == (3, 7)
    assert p.ppf([0.16, 0.5, 0.84]).shape == (3, 3)
    assert p.ppf(0.5).shape == (3, 1)
    assert p.mean().shape == p.std().shape == p.median().shape == (3,)
    low, high = p.interval(0.68)
    assert low.shape == high.shape == (3,)
    assert (low < high).all()
    assert emulator.conditional("a").rvs(5, seed=0).shape == (1, 5)
    assert emulator.conditional("a", {}).rvs(5, seed=0).shape == (1, 5)
    assert "4 columns" in repr(emulator)


def test_statistics_are_those_of_the_samples(emulator):
    p = emulator.conditional("a", {"b": [0.0, 1.0]})
    drawn, n = p.rvs(N, seed=3).astype(np.float64), N
    assert (np.abs(p.mean() - drawn.mean(1)) < 4 * drawn.std(1) / np.sqrt(n)).all()
    fourth = ((drawn - drawn.mean(1, keepdims=True)) ** 4).mean(1)
    error = np.sqrt((fourth - drawn.var(1) ** 2) / n) / (2 * drawn.std(1))
    assert (np.abs(p.std() - drawn.std(1)) < 4 * error).all()
    for q in (0.1, 0.5, 0.9):  # the share of samples below a quantile is binomial
        share = (drawn <= p.ppf(q)).mean(1)
        assert (np.abs(share - q) < 4 * np.sqrt(q * (1 - q) / n)).all()
    assert np.array_equal(p.median(), p.ppf(0.5)[:, 0])
    assert np.array_equal(np.stack(p.interval(0.8), 1), p.ppf([0.5 - 0.8 / 2, 0.5 + 0.8 / 2]))


def test_seeds(emulator):
    p = emulator.conditional("a", {"b": [0.0, 0.0]})
    first = p.rvs(50, seed=1)
    assert np.array_equal(first, p.rvs(50, seed=1))
    assert not np.array_equal(first, p.rvs(50, seed=2))
    assert not np.array_equal(first[0], first[1])  # two rows with the same question are still drawn independently
    assert not np.array_equal(p.rvs(50), p.rvs(50))


def test_questions_in_any_form_and_column_order_get_the_same_answer(emulator):
    from astropy import units as u
    from astropy.table import QTable

    values = {"a": [1.0, 2.0], "b": [0.5, np.nan], "c": [0.0, -1.0]}
    answer = emulator.conditional("a", values).rvs(20, seed=0)
    shuffled = {name: values[name] for name in ("c", "a", "b")}
    for given in (
        shuffled,
        pd.DataFrame(shuffled, index=[7, 3]),
        QTable({"b": values["b"] * u.mag, "c": values["c"], "a": values["a"] * u.K}),
    ):
        assert np.array_equal(emulator.conditional("a", given).rvs(20, seed=0), answer)
    # The name decides, not the place: swapping two columns' values is another question.
    swapped = {**values, "b": values["c"], "c": values["b"]}
    assert not np.allclose(emulator.conditional("a", swapped).rvs(20, seed=0), answer)


def test_a_missing_value_is_the_same_as_no_value(emulator):
    alone = emulator.conditional("a", {"b": 1.0}).rvs(20, seed=0)
    with_nan = emulator.conditional("a", {"b": [1.0, 1.0], "c": [np.nan, 0.3]}).rvs(20, seed=0)
    np.testing.assert_allclose(with_nan[0], emulator.conditional("a", {"b": [1.0, 1.0]}).rvs(20, seed=0)[0], rtol=1e-4)
    assert alone.shape == (1, 20)


def test_a_question_is_standardised_with_the_training_rows_numbers(emulator):
    """Trap 6: alone or among others, near or far, a row means the same."""

    def conditions(given):
        values = question.standardize(emulator.model, emulator._read(given))
        return Question(emulator.model, emulator.device, "a", values).encode(slice(0, len(values)))

    torch.testing.assert_close(conditions({"b": [1.0, 500.0, -3.0]})[:1], conditions({"b": [1.0]}))


def test_memory_is_bounded_by_blocks(emulator, monkeypatch):
    sizes = []
    denoiser = type(emulator.model.network.head.denoiser)
    original = denoiser.forward

    def record(self, x_t, t, projected):
        sizes.append(x_t.numel())
        return original(self, x_t, t, projected)

    monkeypatch.setattr(denoiser, "forward", record)
    monkeypatch.setitem(question.BLOCK, "cpu", 64)
    monkeypatch.setattr(joint, "CHUNK", 64)
    p = emulator.conditional("a", {"b": np.linspace(-1, 1, 9)})
    several = emulator.joint(["a", "b"], {"c": np.zeros(8)})
    for method in ("flow", "sde"):
        assert p.rvs(10, seed=0, method=method).shape == (9, 10)
        assert p.rvs(150, seed=0, method=method).shape == (9, 150)
        assert several.rvs(10, seed=0, method=method).shape == (8, 10, 2)
    assert p.summary().shape == (9, 4)
    assert several.logpdf(np.zeros((3, 2))).shape == (8, 3)
    assert max(sizes) <= 64


def test_joint_follows_the_chain_rule_in_the_order_asked_for(emulator, monkeypatch):
    asked = []
    original = Question.encode

    def record(self, rows):
        asked.append((self.column, tuple((~self.values.isnan()).any(0).tolist())))
        return original(self, rows)

    monkeypatch.setattr(Question, "encode", record)
    joint = emulator.joint(["c", "a"], {"d": [0.0, 1.0]})
    samples = joint.rvs(3, seed=0)
    assert samples.shape == (2, 3, 2)
    assert joint.units == ("dex", "K")
    assert asked == [("c", (False, False, False, True)), ("a", (False, False, True, True))]
    assert np.array_equal(samples, joint.rvs(3, seed=0))


def test_each_sample_of_a_joint_is_conditioned_on_its_own_row_and_past(emulator, monkeypatch):
    seen = {}
    original = Question.encode

    def record(self, rows):
        seen[self.column] = self.values
        return original(self, rows)

    monkeypatch.setattr(Question, "encode", record)
    samples = emulator.joint(["c", "a"], {"d": [0.0, 1.0]}).rvs(3, seed=0)
    standardizer = emulator.model.standardizer
    np.testing.assert_allclose(standardizer.restore(seen["a"][:, 2], 2).numpy(), samples[:, :, 0].ravel(), rtol=1e-4)
    np.testing.assert_allclose(standardizer.restore(seen["a"][:, 3], 3).numpy(), [0, 0, 0, 1, 1, 1], atol=1e-5)


def test_summary(emulator):
    frame = pd.DataFrame({"b": [0.0, 1e6], "c": [0.0, np.nan]}, index=["first", "second"])
    summary = emulator.summary(frame, request=["a", "b"])
    assert list(summary.index) == ["first", "second"]
    assert list(summary.columns) == [
        *(f"{name}_{what}" for name in "ab" for what in ("median", "sigma", "q16", "q84")),
        "outside_training_range",
    ]
    assert list(summary["outside_training_range"]) == ["", "b"]
    assert (summary["a_q16"] <= summary["a_median"]).all()
    with pytest.warns(OutsideTrainingRange):
        median = emulator.conditional("a", frame).median()[0]
    assert summary["a_median"].iloc[0] == pytest.approx(
        median,
        abs=0.05 * summary["a_sigma"].iloc[0],  # coarser than the median
    )
    assert len(emulator.summary({}, request="a")) == 1


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda e: e.conditional("aa"), KeyError, "nearest are: a"),
        (lambda e: e.conditional("d"), KeyError, "not trained to answer for 'd'"),
        (lambda e: e.conditional("a", {"bb": 1.0}), KeyError, "nearest are: b"),
        (lambda e: e.conditional("a", {"b": np.inf}), ValueError, "b"),
        (lambda e: e.joint(["a", "a"]), ValueError, "once"),
        (lambda e: e.conditional("a").ppf(1.5), ValueError, r"\[0, 1\]"),
        (lambda e: e.conditional("a").rvs(0), ValueError, "at least one sample"),
        (lambda e: e.conditional("a").interval(-0.5), ValueError, "confidence"),
        (lambda e: e.conditional(["a"]), TypeError, "joint"),
        (lambda e: e.conditional("a").rvs(1, method="magic"), ValueError, "flow, sde, ancestral"),
        (lambda e: e.conditional("a", {"b": 1.0}, errors={"b": -0.1}), ValueError, "error of 'b' is negative in row 0"),
        (lambda e: e.conditional("a", {"b": 1.0}, errors={"c": 0.1}), ValueError, "an error is given for 'c', but no"),
        (
            lambda e: e.conditional("a", {"b": [1.0, 2, 3]}, errors={"b": [0.1, 0.2]}),
            ValueError,
            "3 rows are given and 2",
        ),
        (lambda e: Emulator(e.model, "cuda:77"), ValueError, "cuda:77"),
    ],
)
def test_bad_questions_get_clear_errors(emulator, ask, error, message):
    with pytest.raises(error, match=message):
        ask(emulator)


def test_mps_is_only_used_when_asked_for_with_a_warning(monkeypatch):
    assert pick_device().type in {"cuda", "cpu"}
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: None)
    with pytest.warns(UserWarning, match="wrong results"):
        assert pick_device("mps").type == "mps"


def test_system_info_names_what_matters():
    text = describe_system(torch.device("cpu"))
    assert all(f"{fact}: " in text for fact in ("python", "torch", "device", "hardware"))


def test_sentinels_are_refused_rather_than_answered_with_nan(emulator):
    with pytest.raises(ValueError, match=r"'b', row 1: 1e\+20.*NaN"):
        emulator.conditional("a", {"b": [0.0, 1e20]})


def test_encoding_in_parts_changes_nothing(emulator, monkeypatch):
    given = {"b": np.linspace(-1, 1, 50), "c": 0.2}
    whole = emulator.conditional("a", given).rvs(5, seed=0)
    rows = []
    original = type(emulator.model.network).encode

    def record(self, token, *others):
        rows.append(len(token))
        return original(self, token, *others)

    monkeypatch.setattr(type(emulator.model.network), "encode", record)
    monkeypatch.setitem(question.TOKENS, "cpu", 30)
    np.testing.assert_allclose(emulator.conditional("a", given).rvs(5, seed=0), whole, rtol=1e-4, atol=1e-4)
    assert rows == [10] * 5


def test_training_rows_are_inside_the_training_range(table, tiny):
    emulator = train(table, tiny, device="cpu", progress=False, test_fraction=0.0, val_fraction=0.0)
    frame = table.to_frame().astype(np.float64)
    assert (emulator.summary(frame, request="a")["outside_training_range"] == "").all()


@pytest.mark.parametrize(
    "ask",
    [
        lambda e, given: e.conditional("a", given),
        lambda e, given: e.conditional("a", given, errors={"b": 0.1}),
        lambda e, given: e.joint(["a", "c"], given),
        lambda e, given: e.denoise("a", 0.0, 0.1, given),
        lambda e, given: e.logpdf(given),
    ],
)
def test_values_beyond_the_training_rows_are_warned_of_once(emulator, ask):
    """A star of 90,000 K was answered for as one of 20,000 K, without a word."""
    low, high = (x[1].item() for x in (emulator.model.standardizer.minimum, emulator.model.standardizer.maximum))
    with pytest.warns(OutsideTrainingRange) as caught:
        ask(emulator, {"b": [0.0, 90.0, -70.0], "d": [0.0, 0.1, np.nan]})
    assert len(caught) == 1
    assert f"b in 2 of 3 rows (trained on {low:.8g} to {high:.8g} mag)" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert "d in" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(emulator, {"b": [low, high, np.nan], "d": 0.0})
        emulator.summary({"b": [0.0, 90.0]}, "a")  # has a column for it


def test_of_a_measurement_only_the_true_value_has_to_lie_inside(emulator):
    high = emulator.model.standardizer.maximum[1].item()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        emulator.conditional("a", {"b": high + 0.2}, errors={"b": 0.1})
        emulator.denoise("b", high + 0.2, 0.1)
    with pytest.warns(OutsideTrainingRange, match="b in 1 of 1 rows"):
        emulator.conditional("a", {"b": high + 0.4}, errors={"b": 0.1})
    with pytest.warns(OutsideTrainingRange, match="b in 1 of 2 rows"):
        emulator.denoise("b", [0.0, high + 0.4], 0.1)


def test_many_columns_beyond_the_training_rows_are_one_warning():
    emulator = exact_emulator(truth=GaussianMixture([1.0], np.zeros((1, 8)), [np.eye(8)]), units=("",) * 8)
    with pytest.warns(OutsideTrainingRange, match=r"b in 1 of 1 rows .*; f in 1 .*; and 2 more columns$"):
        emulator.conditional("a", dict.fromkeys("bcdefgh", 50.0))


def test_rows_without_columns_are_answered_for(emulator):
    """A table of five rows of which no column is known is five rows, not one."""
    assert len(emulator.conditional("a", pd.DataFrame(index=range(5)))) == 5
    assert emulator.joint(["a", "b"], pd.DataFrame(index=range(5))).rvs(2, seed=0).shape == (5, 2, 2)
    assert list(emulator.summary(pd.DataFrame(index=list("xyz")), "a").index) == ["x", "y", "z"]


def test_rows_with_a_flag_have_a_density():
    """A column of two values, the lowest and the highest atom: what lies beyond them has no probability."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=600)
    flag = (x + rng.normal(size=600) > 0).astype(float)
    emulator = train(Table(("x", "flag"), np.column_stack([x, flag])), steps=20, device="cpu", progress=False)
    scores = emulator.logpdf({"x": 0.1, "flag": [0.0, 1.0, 0.5, np.nan]})
    assert np.isfinite(scores[[0, 1, 3]]).all()
    assert scores[2] == -np.inf
    given_flag = np.logaddexp(*scores[:2])  # the two values are all there is
    np.testing.assert_allclose(given_flag, scores[3], atol=0.01)
    assert (emulator.conditional("flag", {"x": 0.1}).logpdf([-1, 0, 0.5, 1, 2]) == -np.inf).all()
    p = emulator.conditional("x", {"flag": 1.0})
    assert (p.logpdf([-np.inf, np.inf]) == -np.inf).all()
    assert np.isfinite(p.logpdf([-100.0, 100.0])).all()
