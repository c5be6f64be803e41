"""Fitted once on training rows, never on a question; guarded where the MAD is zero."""

import numpy as np
import pytest
import torch

from model.scaling import QuantileStandardizer, Standardizer

SCALINGS = pytest.mark.parametrize("scaling", [Standardizer, QuantileStandardizer])


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


@SCALINGS
def test_stored_values_are_scaled_like_the_physical_ones_that_they_stand_for(scaling):
    offset = np.array([2_459_000.0, 0.0])
    stored = np.random.default_rng(0).normal(0, 0.1, (2000, 2)).astype(np.float32)
    stored[:50, 0] = np.nan
    standardizer, physical = scaling(2).fit(stored, ("jd", "x"), offset), torch.from_numpy(stored + offset)
    z = standardizer.standardize_stored(torch.from_numpy(stored))
    assert z.dtype == torch.float32
    assert torch.equal(z.nan_to_num(9), standardizer.standardize(physical).nan_to_num(9))
    plain = scaling(2).fit(stored, ("jd", "x"))  # the same curve, shifted
    torch.testing.assert_close(z, plain.standardize(torch.from_numpy(stored)), rtol=1e-4, atol=1e-6, equal_nan=True)
    np.testing.assert_array_equal(standardizer.minimum.numpy(), np.nanmin(stored + offset, axis=0))
    np.testing.assert_array_equal(standardizer.maximum.numpy(), np.nanmax(stored + offset, axis=0))
    back = standardizer.restore(standardizer.edges(physical[50:, 0], 0)[0], 0)
    torch.testing.assert_close(back, physical[50:, 0], rtol=0, atol=1e-6)
    assert torch.equal(standardizer.as_stored(physical[50:]), physical[50:])


@SCALINGS
def test_scales_from_before_there_were_offsets_load_as_scales_without(scaling):
    x = np.random.default_rng(0).normal(5, 2, (200, 1)).astype(np.float32)
    fitted, loaded = scaling(1).fit(x, ("x",)), scaling(1)
    loaded.shift(torch.tensor([7.0]))
    loaded.load_state_dict({name: tensor for name, tensor in fitted.state_dict().items() if name != "offset"})
    for name, tensor in fitted.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
