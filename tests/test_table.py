"""Table and the split of its rows."""

from __future__ import annotations

import numpy as np
import pytest

from model.datasets import TEST, TRAIN, VALIDATION, Table, split_rows


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
        ({"names": ("x",), "values": [[1.0]], "requestable": ("y",)}, "cannot request y"),
    ],
)
def test_unusable_tables_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Table(**arguments)


def test_split_has_the_fractions_and_is_the_documented_permutation():
    part = split_rows(make_table(), seed=3, test_fraction=0.1, val_fraction=0.2)
    assert [int((part == side).sum()) for side in (TRAIN, VALIDATION, TEST)] == [70, 20, 10]
    np.testing.assert_array_equal(np.sort(np.random.default_rng(3).permutation(100)[:10]), np.flatnonzero(part == TEST))


def test_test_rows_do_not_depend_on_the_validation_fraction():
    few, many = (split_rows(make_table(), 0, 0.1, fraction) for fraction in (0.05, 0.5))
    np.testing.assert_array_equal(few == TEST, many == TEST)


def test_unique_ids_split_like_no_ids():
    ids = np.random.default_rng(1).permutation(100) + 4_611_686_018_427_387_000
    np.testing.assert_array_equal(split_rows(make_table(ids=ids), 0, 0.1, 0.1), split_rows(make_table(), 0, 0.1, 0.1))


@pytest.mark.parametrize("kind", [np.int64, str])
def test_repeat_observations_stay_on_one_side(kind):
    ids = np.random.default_rng(2).integers(0, 30, size=100).astype(kind)
    part = split_rows(make_table(ids=ids), seed=0, test_fraction=0.3, val_fraction=0.3)
    for unique in np.unique(ids):
        assert len(set(part[ids == unique])) == 1
    assert set(part) == {TRAIN, VALIDATION, TEST}


@pytest.mark.parametrize("fractions", [(1.0, 0.0), (-0.1, 0.1), (0.6, 0.4)])
def test_splits_without_training_rows_are_refused(fractions):
    with pytest.raises(ValueError, match=r"fractions must lie|none to train on"):
        split_rows(make_table(), 0, *fractions)


def test_selecting_columns_keeps_order_units_and_requests():
    table = Table(("a", "b", "c"), np.ones((2, 3)), units=("K", "mag", ""), requestable=("a", "b"))
    assert table.select(table.names) is table
    chosen = table.select(("c", "b"))
    assert (chosen.names, chosen.units, chosen.requestable) == (("c", "b"), ("", "mag"), ("b",))
    with pytest.raises(ValueError, match="can be requested"):
        table.select(("c",))
