"""One object filters the data, conditions the model and writes the caption: they cannot disagree."""

import numpy as np
import pytest

from model.pictures import Selection

TWO = Selection({"teff": 3800, "ebv": 0.3}, half_width={"teff": 50, "ebv": 0.1}, units={"teff": "K", "ebv": "mag"})


def test_mask_given_and_caption_of_one_column():
    selection = Selection({"MedInc": 7.0}, half_width={"MedInc": 0.25})
    column = np.array([6.74, 6.75, 7.0, 7.25, 7.26, np.nan], dtype=np.float32)
    assert selection.mask({"MedInc": column, "other": np.zeros(6)}).tolist() == [False, True, True, True, False, False]
    assert selection.given() == {"MedInc": 7.0}
    assert selection.bounds("MedInc") == (6.75, 7.25)
    assert selection.caption(with_data=True) == "MedInc = 7.0 (data: 6.75 to 7.25)"


def test_data_are_cut_on_every_column_that_the_model_is_conditioned_on():
    columns = {
        "teff": np.array([3800.0, 3800.0, 5000.0, np.nan]),
        "ebv": np.array([0.3, 0.9, 0.3, 0.3]),
    }
    assert TWO.mask(columns).tolist() == [True, False, False, False]
    assert TWO.given() == {"teff": 3800.0, "ebv": 0.3}
    held = "teff = 3800 K, ebv = 0.3 mag"
    assert TWO.caption(with_data=True) == f"{held} (data: teff 3750 to 3850 K, ebv 0.2 to 0.4 mag)"
    assert TWO.caption() == held


def test_mask_takes_a_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"teff": [3790.0, 3900.0], "ebv": [0.25, 0.3]}, index=[7, 3])
    assert TWO.mask(frame).tolist() == [True, False]


def test_without_half_widths_no_data_are_cut_or_claimed():
    selection = Selection({"MedInc": 1.0})
    assert selection.caption() == "MedInc = 1.0"
    with pytest.raises(ValueError, match="half-width"):
        selection.mask({"MedInc": np.ones(3)})
    with pytest.raises(ValueError, match="half-width"):
        selection.caption(with_data=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": {}}, "at least one column"),
        ({"values": {"a": 1.0, "b": 2.0}, "half_width": {"a": 0.1}}, "cut on other columns"),
        ({"values": {"a": 1.0}, "half_width": {"b": 0.1}}, "cut on other columns"),
        ({"values": {"a": 1.0}, "units": {"b": "K"}}, "units of b"),
        ({"values": {"a": np.nan}}, "finite"),
        ({"values": {"a": 1.0}, "half_width": {"a": 0.0}}, "positive"),
    ],
)
def test_contradictions_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Selection(**arguments)


def test_unknown_column_is_an_error():
    with pytest.raises(KeyError, match="ebv"):
        TWO.mask({"teff": np.ones(2)})


def test_the_caller_cannot_change_it_afterwards():
    values = {"a": 1.0}
    selection = Selection(values)
    values["a"] = 2.0
    assert selection.given() == {"a": 1.0}
    selection.given()["a"] = 3.0
    assert selection.caption() == "a = 1.0"
