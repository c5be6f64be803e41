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
from model.inference.columns import read_given, read_points, read_request, read_values

VOCABULARY = Vocabulary(["teff", "logg", "jh", "ratio", "parallax"])
UNITS = ["K", "dex", "mag", "", "mas"]
NAN = np.nan


def read(given) -> np.ndarray:
    return read_given(given, VOCABULARY, UNITS)


@pytest.mark.parametrize("nothing", [{}, None])
def test_nothing_given_is_one_row(nothing):
    np.testing.assert_array_equal(read(nothing), np.full((1, 5), NAN))


@pytest.mark.parametrize(
    "rows_only", [pd.DataFrame(index=range(3)), Table((), np.empty((3, 0))), np.zeros(3, dtype=[])], ids=type
)
def test_a_table_without_columns_has_its_rows(rows_only):
    np.testing.assert_array_equal(read(rows_only), np.full((3, 5), NAN))


def test_a_row_without_columns_is_one_row():
    assert read(pd.DataFrame({"logg": [1.0, 2.0]})[[]].iloc[0]).shape == (1, 5)


@pytest.mark.parametrize("nothing", [pd.DataFrame(), AstropyTable(), pd.DataFrame({"logg": [1.0]})[[]][:0]])
def test_a_table_without_rows_is_refused(nothing):
    with pytest.raises(ValueError, match="no rows"):
        read(nothing)


def records(columns: dict) -> np.ndarray:
    """A structured array."""
    return np.rec.fromarrays(list(columns.values()), names=list(columns))


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
        records,
        lambda columns: np.asarray(records(columns)),
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


def points(given, n: int = 2) -> np.ndarray:
    return read_points(given, ("teff", "logg"), ("K", "dex"), n)


@pytest.mark.parametrize(
    "container",
    [
        dict,
        pd.DataFrame,
        AstropyTable,
        records,
        lambda columns: Table(tuple(columns), np.column_stack(list(columns.values()))),
        lambda columns: QTable({"logg": u.Dex(columns["logg"]), "teff": columns["teff"] * 1e-3 * u.kK}),
        lambda columns: Table(
            ("logg", "teff"), np.stack([columns["logg"], columns["teff"] / 1e3], 1), units=("", "kK")
        ),
    ],
)
def test_points_are_sorted_by_name_and_converted(container):
    given = container({"logg": np.array([2.0, 4.0, 4.5]), "teff": np.array([4700.0, 5000.0, 6000.0])})
    np.testing.assert_allclose(points(given), [[4700, 2], [5000, 4], [6000, 4.5]])


def test_points_of_each_row_and_numbers_for_all():
    own = points({"logg": 2.5, "teff": [[4700.0], [5000.0]]})
    np.testing.assert_array_equal(own, [[[4700, 2.5]], [[5000, 2.5]]])
    np.testing.assert_array_equal(points({"logg": 2.5, "teff": 4.7 * u.kK}), [[4700, 2.5]])
    missing = points(pd.DataFrame({"logg": pd.Series([1, None], dtype="Int64"), "teff": [1.0, 2.0]}))
    np.testing.assert_array_equal(missing, [[1, 1], [2, NAN]])


def test_points_in_an_array_are_in_order():
    plain = [[4700.0, 2.0], [5000.0, 4.0], [6000.0, 4.5]]
    np.testing.assert_array_equal(points(plain), plain)
    np.testing.assert_array_equal(points(np.array([plain, plain], dtype=np.float32)), [plain, plain])
    masked = np.ma.masked_array(plain, mask=np.array(plain) > 5500)
    assert np.isnan(points(masked)).sum() == 1
    lengths = read_points([[1000.0, 2000.0]] * u.m, ("x", "y"), ("km", "m"), 1)
    np.testing.assert_allclose(lengths, [[1, 2000]])


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"teff": 1.0, "log_g": 2.0}, KeyError, "no column 'log_g'; the nearest are: logg"),
        ({"teff": 1.0}, KeyError, "lack column 'logg'; the nearest they have are: teff"),
        ({"teff": 1.0, "logg": 2.0, "m_h": 0.0}, KeyError, "'m_h'"),
        (pd.DataFrame([[1.0, 2.0]]), KeyError, "no column 0"),
        (pd.DataFrame([[1.0, 2.0, 3.0]], columns=["teff", "logg", "teff"]), ValueError, "'teff' is given twice"),
        ({"teff": [1.0, 2.0], "logg": [1.0, 2.0, 3.0]}, ValueError, r"teff \(2,\), logg \(3,\)"),
        ({"teff": np.ones((3, 1)), "logg": 1.0}, ValueError, r"\(2, K, 2\) is expected"),
        ({"teff": 1 * u.s, "logg": 1.0}, u.UnitConversionError, "'teff' is in 'K'"),
        ([[4700.0, 2.0]] * u.K, u.UnitConversionError, "'logg' is in 'dex'"),
        ({"teff": "hot", "logg": 1.0}, TypeError, "'teff'"),
        (np.empty((0, 2)), ValueError, "at least one"),
        ({"teff": [], "logg": []}, ValueError, "at least one"),
    ],
)
def test_impossible_points_are_named(given, kind, message):
    with pytest.raises(kind, match=message):
        points(given)
