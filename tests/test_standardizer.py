"""Fitted once on training rows, never on a question; guarded where the MAD is zero."""

import numpy as np
import pytest
import torch

from model.scaling import Standardizer


def test_median_and_mad_with_missing_values_and_back():
    x = np.random.default_rng(0).normal(5, 2, (2000, 1)).astype(np.float32)
    x[:100] = np.nan
    standardizer = Standardizer(1).fit(x, ("x",))
    z = standardizer.standardize(torch.from_numpy(x))
    assert torch.equal(z.isnan(), torch.from_numpy(np.isnan(x)))
    assert abs(np.nanmedian(z.numpy())) < 1e-6
    assert z[100:].std().item() == pytest.approx(1, abs=4 / np.sqrt(2 * 1900) + 0.05)
    back = standardizer.restore(z[100:, 0], 0)
    torch.testing.assert_close(back, torch.from_numpy(x[100:, 0]).double(), rtol=1e-6, atol=1e-6)


def test_zero_inflated_column_is_scaled_by_its_standard_deviation():
    x = np.zeros((100, 1), np.float32)
    x[:20] = 3.0
    z = Standardizer(1).fit(x, ("x",)).standardize(torch.from_numpy(x))
    assert z.isfinite().all()
    assert z.max().item() == pytest.approx(3 / x.std(), rel=1e-5)


@pytest.mark.parametrize(("column", "message"), [([7.0, 7.0, np.nan], "constant"), ([np.nan] * 3, "no observed value")])
def test_columns_that_cannot_be_scaled_are_named(column, message):
    with pytest.raises(ValueError, match=f"'bad'.*{message}"):
        Standardizer(2).fit(np.column_stack([[1.0, 2.0, 3.0], column]), ("good", "bad"))
