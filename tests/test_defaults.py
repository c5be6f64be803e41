"""What a newcomer gets: `train(table)` with nothing else said, on tables that nothing was tuned to."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from model import EXPERIMENTS, Table, train
from model.config import Experiment, improved
from model.defaults import FOLLOWS, follow
from model.training import fit_to_table


def line(n: int, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return Table(("x", "y"), np.column_stack([x, 2 * x + 0.1 * rng.normal(size=n)]))


@contextmanager
def one_thread():
    """Small networks train faster on one thread than on two that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("n", "median", "factor"), [(30, 0.2, 2.0), (200, 0.1, 1.5), (1500, 0.05, 1.2)])
def test_a_straight_line_is_found_whatever_the_number_of_rows(n, median, factor):
    with one_thread():
        p = train(line(n), device="cpu", progress=False).conditional("y", {"x": [-1.0, 0.0, 1.0]})
    assert np.abs(p.median() - [-2, 0, 2]).max() < median
    low, high = p.interval(0.68)
    sigma = (high - low) / (2 * 0.99446)
    assert np.abs(np.log(sigma / 0.1)).max() < np.log(factor), sigma


@pytest.mark.parametrize("rows", [30, 300, 8000, 10**6])
@pytest.mark.parametrize("columns", [2, 10, 118, 500])
def test_every_table_gets_sizes_that_fit_together(rows, columns):
    values = follow(rows, columns, patched=False)
    assert set(values) == set(FOLLOWS)
    experiment = improved(Experiment("table", "")).follow(rows, columns, patched=False)
    assert all(values[name] for name in FOLLOWS)
    assert experiment.network.embedding_dim // experiment.network.heads >= 16
    assert 1500 <= experiment.training.steps <= 24_000


def test_what_is_said_is_not_left_to_the_table():
    experiment = EXPERIMENTS["mixture"].override(recipe="improved", steps=70, head_width=24)
    followed = fit_to_table(line(400), experiment)
    assert (followed.training.steps, followed.head.head_width) == (70, 24)
    assert followed.network.embedding_dim == follow(320, 2, patched=False)["embedding_dim"]
    published = EXPERIMENTS["mixture"]
    assert fit_to_table(line(400), published) == published


def test_the_choice_is_printed_before_the_first_step(capsys):
    train(line(40), device="cpu", steps=4, evaluations=2)
    first = capsys.readouterr().err.splitlines()[0]
    for part in ("rows x 2 columns", "improved recipe", "at most 4 steps", "minutes"):
        assert part in first


@pytest.mark.parametrize("columns", [500])
def test_a_table_of_more_columns_than_rows_runs(columns):
    table = Table([f"c{i}" for i in range(columns)], np.random.default_rng(0).normal(size=(400, columns)))
    emulator = train(table, device="cpu", progress=False, steps=3, evaluations=1)
    given = dict(zip(table.names[1:], table.values[0, 1:].clip(-2, 2)))
    assert np.isfinite(emulator.conditional("c0", given).ppf([0.1, 0.9])).all()


# Known gaps of the defaults, measured on 2026-11-26; each mark goes with the number that it stands for.
@pytest.mark.xfail(reason="after 1,500 steps: 0.32 to 0.38 in place of 0.5 given the shared column")
@pytest.mark.slow
def test_rows_with_gaps_do_not_count_twice():
    """Half of the rows have 20 columns and y near +1, half two columns and y near -1."""
    rng, n = np.random.default_rng(0), 6000
    values = np.full((n, 20), np.nan)
    values[:, 0] = np.where(np.arange(n) < n // 2, 1.0, -1.0) + 0.05 * rng.normal(size=n)
    values[:, 1] = rng.normal(size=n)
    values[: n // 2, 2:] = rng.normal(size=(n // 2, 18))
    table = Table(["y", "shared", *(f"c{i}" for i in range(18))], values[rng.permutation(n)])
    with one_thread():
        emulator = train(table, device="cpu", progress=False, steps=1500)  # of the 6,000 that follow: a minute
    assert abs(emulator.conditional("y").cdf(0.0)[0, 0] - 0.5) < 0.03
    assert np.abs(emulator.conditional("y", {"shared": [-1.0, 0.0, 1.0]}).cdf(0.0) - 0.5).max() < 0.03


def heteroscedastic(x, z):
    """Two idle columns, a width that follows x."""
    scale = 0.1 + 0.3 / (1 + np.exp(-2 * x))
    return np.sin(x) + scale * z, lambda y: (y - np.sin(x)) / scale


def lognormal(x, z):
    return np.exp(0.5 * x + 0.4 * z), lambda y: (np.log(np.maximum(y, 1e-9)) - 0.5 * x) / 0.4


@pytest.mark.xfail(reason="300 rows: mean KS 0.20")
@pytest.mark.slow
@pytest.mark.parametrize("kind", [heteroscedastic, lognormal])
@pytest.mark.parametrize(("n", "limit"), [(300, 0.12)])
def test_known_conditionals_are_found(kind, n, limit):
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 3))
    y, _ = kind(x[:, 0], rng.normal(size=n))
    with one_thread():
        emulator = train(Table(("x", "u", "v", "y"), np.column_stack([x, y])), device="cpu", progress=False)
    asked = rng.normal(size=(200, 3)).clip(-2, 2)
    p = emulator.conditional("y", dict(zip("xuv", asked.T)))
    q = np.linspace(0.005, 0.995, 199)
    _, standardize = kind(asked[:, :1], 0.0)
    exact = torch.special.ndtr(torch.from_numpy(standardize(p.ppf(q)))).numpy()
    assert np.abs(exact - q).max(axis=1).mean() < limit


@pytest.mark.xfail(reason="1,000 rows: mean KS 0.15")
@pytest.mark.slow
@pytest.mark.parametrize(("n", "limit"), [(1000, 0.08)])
def test_two_branches_are_found(n, limit):
    rng = np.random.default_rng(n)
    x, side = rng.uniform(-1, 1, n), rng.random(n) < 0.3
    y = np.where(side, 1 + x, -1 - 0.5 * x) + 0.1 * rng.normal(size=n)
    with one_thread():
        emulator = train(Table(("x", "y"), np.column_stack([x, y])), device="cpu", progress=False)
    asked = np.linspace(-0.9, 0.9, 19)
    grid = np.linspace(-2, 2.5, 400)[None]
    ndtr = lambda z: torch.special.ndtr(torch.from_numpy(z)).numpy()  # noqa: E731
    exact = 0.3 * ndtr((grid - 1 - asked[:, None]) / 0.1) + 0.7 * ndtr((grid + 1 + 0.5 * asked[:, None]) / 0.1)
    found = emulator.conditional("y", {"x": asked}).cdf(grid[0])
    assert np.abs(found - exact).max(axis=1).mean() < limit
