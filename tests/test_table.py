"""Columns by name, and rows that stay together."""

from __future__ import annotations

import numpy as np
import pytest

from model.datasets import Table


def make_table(n_rows: int = 100, ids: np.ndarray | None = None) -> Table:
    values = np.random.default_rng(0).normal(size=(n_rows, 3))
    return Table(("x", "y", "z"), values, units=("K", "", "mag"), ids=ids)


def test_columns_are_found_by_name_whatever_their_order():
    table = make_table()
    shuffled = Table(("z", "x", "y"), table.values[:, [2, 0, 1]])
    for name in table.names:
        np.testing.assert_array_equal(shuffled.column(name), table.column(name))


def test_take_keeps_rows_together():
    table = make_table(ids=np.arange(100) * 7)
    part = table.take(np.array([5, 3]))
    np.testing.assert_array_equal(part.values, table.values[[5, 3]])
    np.testing.assert_array_equal(part.ids, [35, 21])
    assert part.units == table.units


def test_to_frame_has_the_names():
    frame = make_table().to_frame()
    assert list(frame.columns) == ["x", "y", "z"]
    np.testing.assert_array_equal(frame["y"], make_table().column("y"))


def test_fingerprint_tells_tables_apart():
    table = make_table()
    assert table.fingerprint() == make_table().fingerprint()
    assert table.fingerprint() != table.take(np.arange(99)).fingerprint()
    assert table.fingerprint() != make_table(ids=np.arange(100)).fingerprint()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ("x",), "values": np.ones((3, 2))}, r"1 columns are named"),
        ({"names": ("x", "x"), "values": np.ones((3, 2))}, "unique"),
        ({"names": ("x",), "values": np.ones((0, 1))}, "empty"),
        ({"names": ("x",), "values": [[1.0], [np.inf]]}, "'x' holds an infinite value in row 1"),
        ({"names": ("x",), "values": [[np.nan]]}, "'x' has no observed value"),
        ({"names": ("x",), "values": [[1.0]], "units": ("K", "mag")}, "2 units for 1 columns"),
        ({"names": ("x",), "values": [[1.0]], "errors": [[1.0, 1.0]]}, "errors have shape"),
        ({"names": ("x",), "values": [[1.0]], "ids": [1, 2]}, "ids have shape"),
        ({"names": ("x",), "values": [[1.0]], "offset": [1.0, 2.0]}, "offset has shape"),
        ({"names": ("x",), "values": [[1.0]], "requestable": ("y",)}, "cannot request y"),
    ],
)
def test_unusable_tables_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Table(**arguments)


def test_selecting_columns_keeps_order_units_and_requests():
    table = Table(("a", "b", "c"), np.ones((2, 3)), units=("K", "mag", ""), requestable=("a", "b"))
    assert table.select(table.names) is table
    chosen = table.select(("c", "b"))
    assert (chosen.names, chosen.units, chosen.requestable) == (("c", "b"), ("", "mag"), ("b",))
    with pytest.raises(ValueError, match="can be requested"):
        table.select(("c",))
