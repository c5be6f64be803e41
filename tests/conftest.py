"""Fixtures shared by all tests."""

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from model import Table, datasets
from model.config import EXPERIMENTS
from model.datasets import mixture

START = time.monotonic()


def pytest_addoption(parser):
    text = "begin no test after so many minutes; those that are left are skipped, and say so"
    parser.addoption("--minutes", type=float, default=math.inf, help=text)


def pytest_runtest_setup(item):
    if time.monotonic() - START > 60 * item.config.getoption("--minutes"):
        pytest.skip("not run: the time that --minutes gives is over")


@pytest.fixture(autouse=True)
def _global_state_is_left_alone():
    """No call may reseed torch or numpy, or change torch's default type, under the feet of its user."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_default_dtype()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), before[0]), "torch's global random state was changed"
    assert np.array_equal(np.random.get_state()[1], before[1]), "numpy's global state was changed"  # noqa: NPY002
    assert torch.get_default_dtype() == before[2], "torch's default dtype was changed"


@pytest.fixture
def real_data():
    """Path of a file in DATA_FILES; the test is skipped where it is not there."""

    def path(relative_path: str) -> Path:
        file = datasets.data_folder() / relative_path
        if not file.exists():
            pytest.skip(f"real data not found: {file} (data_files/README.rst says how to get it)")
        return file

    return path


@pytest.fixture
def table() -> Table:
    """A small table with every nuisance: missing values, an id column, a column that is not requestable."""
    full = mixture.load(n=300, seed=1)
    values = full.values.copy()
    values[np.random.default_rng(2).random(values.shape) < 0.1] = np.nan
    return Table(full.names, values, units=("K", "mag", "dex", ""), requestable=full.names[:3], source="a test table")


@pytest.fixture
def tiny():
    """An experiment that trains in a second."""
    return EXPERIMENTS["mixture"].override(
        embedding_dim=8,
        heads=2,
        feedforward_dim=16,
        head_width=8,
        diffusion_steps=10,
        batch_size=64,
        epochs=4,
        cycles=1,
    )


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The same number of threads wherever the tests run, so that sums are rounded alike."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
