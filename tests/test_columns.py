"""What a user may give and request."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable
from astropy.table import Table as AstropyTable

from model.datasets import Table
from model.datasets.vocabulary import Vocabulary
from model.inference.columns import read_given, read_request, read_values

VOCABULARY = Vocabulary(["teff", "logg", "jh", "ratio", "parallax"])
UNITS = ["K", "dex", "mag", "", "mas"]
NAN = np.nan


def read(given) -> np.ndarray:
    return read_given(given, VOCABULARY, UNITS)


@pytest.mark.parametrize("nothing", [{}, None])
def test_nothing_given_is_one_row(nothing):
    np.testing.assert_array_equal(read(nothing), np.full((1, 5), NAN))


@pytest.mark.parametrize(
    "container",
    [
        dict,
        pd.DataFrame,
        AstropyTable,
        QTable,
        lambda columns: {name: pd.Series(column, index=[7, 9]) for name, column in columns.items()},
        lambda columns: Table(tuple(columns), np.column_stack(list(columns.values()))),
        lambda columns: {name: tuple(column) for name, column in columns.items()},
    ],
)
def test_columns_are_sorted_by_name_in_every_container(container):
    given = container({"logg": np.array([2.0, 4.0]), "teff": np.array([4700.0, NAN])})
    expected = [[4700, 2, NAN, NAN, NAN], [NAN, 4, NAN, NAN, NAN]]
    np.testing.assert_array_equal(read(given), expected)
    assert read(given).dtype == np.float64


def test_a_row_of_a_frame_is_one_row():
    frame = pd.DataFrame({"logg": [2.0, 4.0], "teff": [4700.0, 5000.0]})
    np.testing.assert_array_equal(read(frame.iloc[1]), [[5000, 4, NAN, NAN, NAN]])


def test_scalars_are_used_for_every_row():
    np.testing.assert_array_equal(read({"teff": 4700, "logg": [1, 2]})[:, :2], [[4700, 1], [4700, 2]])
    np.testing.assert_array_equal(read({"teff": np.float32(4700), "logg": None})[:, :2], [[4700, NAN]])
    assert read({"teff": [4700.0]}).shape == (1, 5)


def test_missing_entries_of_every_kind():
    masked = [
        np.ma.masked_array([1.0, 9.0], mask=[0, 1]),
        np.ma.masked_array([1, 9], mask=[0, 1]),
        MaskedColumn([1, 9], mask=[0, 1]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1, None]),
        [1, None],
        [1, NAN],
    ]
    for column in masked:
        np.testing.assert_array_equal(read({"ratio": column})[:, 3], [1, NAN])
    table = QTable({"teff": [1.0, 9.0] * u.K}, masked=True)
    table["teff"].mask = [False, True]
    np.testing.assert_array_equal(read(table)[:, 0], [1, NAN])
    np.testing.assert_array_equal(read({"teff": np.ma.masked}), np.full((1, 5), NAN))


def test_units_are_converted():
    given = {"teff": [4.7, 5.0] * u.kK, "parallax": 0.001 * u.arcsec, "ratio": 50 * u.percent}
    np.testing.assert_allclose(read(given)[:, [0, 3, 4]], [[4700, 0.5, 1], [5000, 0.5, 1]])
    np.testing.assert_allclose(read({"teff": 4426.85 * u.deg_C})[0, 0], 4700)
    table = AstropyTable({"teff": MaskedColumn([4.7, 5.0], mask=[0, 1], unit="kK"), "logg": [2.0, 3.0]})
    np.testing.assert_allclose(read(table)[:, :2], [[4700, 2], [NAN, 3]])
    own = Table(("parallax", "teff"), np.array([[0.001, 4700.0]]), units=("arcsec", ""))
    np.testing.assert_allclose(read(own)[0, [0, 4]], [4700, 1])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("jh", 0.7 * u.mag, 0.7),
        ("jh", u.Magnitude(0.7), 0.7),
        ("jh", 9.7 * u.ABmag - 9 * u.ABmag, 0.7),
        ("jh", [0.7, 0.7] * u.mag, 0.7),
        ("logg", 2.5 * u.dex, 2.5),
        ("logg", u.Dex(2.5), 2.5),
        ("logg", u.Dex(2.5, u.dex(u.cm / u.s**2)), 2.5),
        ("logg", u.Dex(0.5, u.dex(u.m / u.s**2)), 2.5),
    ],
)
def test_logarithmic_units(name, value, expected):
    np.testing.assert_allclose(read({name: value})[:, VOCABULARY.index(name)], expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("teff", 2 * u.mag),
        ("teff", 3 * u.m),
        ("teff", 3 * u.dimensionless_unscaled),
        ("jh", 10 * u.ABmag),
        ("jh", 1 * u.K),
        ("jh", 1 * u.dex),
        ("logg", 1 * u.mag),
        ("logg", 300 * u.cm / u.s**2),
        ("ratio", 1 * u.K),
        ("ratio", 1 * u.mag),
        ("ratio", u.Magnitude(1)),
        ("parallax", 1 * u.kpc),
        ("ratio", 1 * u.deg),
    ],
)
def test_wrong_physical_types_name_column_and_units(name, value):
    unit = UNITS[VOCABULARY.index(name)] or "a pure number"
    with pytest.raises(u.UnitConversionError) as error:
        read({name: value})
    assert all(part in str(error.value) for part in (name, unit, repr(str(value.unit))))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"tef": 1.0}, KeyError, "nearest are: teff"),
        ({3: 1.0}, KeyError, "by name, not by 3"),
        ({"teff": [1, 2], "logg": [1, 2, 3]}, ValueError, "'teff' has 2 values, column 'logg' 3"),
        ({"teff": [1], "logg": [1, 2, 3]}, ValueError, "'teff' has 1 values, column 'logg' 3"),
        ({"teff": []}, ValueError, "'teff' has no rows"),
        ({"teff": [1, np.inf]}, ValueError, "'teff' is infinite in row 1"),
        ({"teff": 1e300}, ValueError, "'teff' is infinite"),
        ({"teff": [[1, 2]]}, ValueError, r"'teff' has shape \(1, 2\)"),
        ({"teff": "4700"}, TypeError, "'teff' is not made of plain numbers"),
        ({"teff": ["hot", 1]}, TypeError, "'teff'"),
        ({"teff": pd.Series(["hot"])}, TypeError, "'teff'"),
        ({"teff": pd.Series([], dtype=str)}, ValueError, "'teff' has no rows"),
        ({"teff": [[1], [1, 2]]}, TypeError, "'teff'"),
        ({"teff": 1 + 2j}, TypeError, "'teff'"),
        ({"teff": np.datetime64("2020-01-01")}, TypeError, "'teff'"),
        (np.ones((2, 5)), TypeError, "given is a ndarray"),
        ([("teff", 1)], TypeError, "given is a list"),
        (pd.DataFrame([[1.0, 2.0]], columns=["teff", "teff"]), ValueError, "'teff' is given twice"),
        (pd.DataFrame([[1.0, 2.0]]), KeyError, "by name, not by 0"),
    ],
)
def test_impossible_inputs_are_named(given, kind, message):
    with pytest.raises(kind, match=message):
        read(given)


@pytest.mark.parametrize(
    "request_", [["teff", "logg"], ("teff", "logg"), np.array(["teff", "logg"]), pd.Index(["teff", "logg"])]
)
def test_requests(request_):
    names = read_request(request_)
    assert names == ["teff", "logg"]
    assert all(type(name) is str for name in names)


def test_one_name_is_a_request():
    assert read_request("logg") == ["logg"]
    assert read_request(np.str_("logg")) == ["logg"]


@pytest.mark.parametrize(
    "request_", [3, [3], np.array([1, 2]), np.array([["teff", "logg"]]), [["teff"]], None, {"teff": 1}]
)
def test_impossible_requests(request_):
    with pytest.raises(TypeError, match="flat list of names"):
        read_request(request_)


def test_empty_request():
    with pytest.raises(ValueError, match="no column"):
        read_request([])


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("K", 5 * u.deg_C, 5),  # a scale's zero does not count
        ("K", 9 * u.imperial.deg_F, 5),
        ("K", 20 * u.mK, 0.02),
        ("dex", u.Dex(0.1, u.dex(u.m / u.s**2)), 0.1),  # nor does a logarithm's unit
        ("mag", u.Magnitude(0.1), 0.1),
        ("", 3 * u.percent, 0.03),
        ("km", 0.2, 0.2),
    ],
)
def test_differences_are_scaled_but_not_shifted(unit, value, expected):
    assert read_values("x", value, unit, differences=True) == pytest.approx(expected)
    given = read_given({"x": value}, Vocabulary(["x"]), [unit], differences=True)
    assert given[0, 0] == pytest.approx(expected)


def test_differences_of_another_physical_type_are_refused():
    with pytest.raises(u.UnitConversionError, match="'x' is in 'K'"):
        read_values("x", 1 * u.s, "K", differences=True)
