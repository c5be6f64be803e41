"""No digit is lost without a word: float32 differences from a float64 offset, and ids as they are."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from astropy.table import Table as AstropyTable

from model import Emulator, train
from model.datasets import TRAIN, Table, load
from tests.run_folders import SMALL

DATES = 2_459_000.5 + 0.001 * np.arange(500)


@pytest.mark.parametrize(
    ("column", "exact"),
    [
        (DATES, False),
        (np.append(DATES, 0.0), False),  # a sentinel
        (2**40 + 3 * np.arange(500), True),
        (-(10**15) + np.arange(500), True),
        (10_000_000 + np.arange(500), True),
        (np.full(5, 2_459_000.123), True),  # of a question; nothing to train on
    ],
)
def test_columns_that_are_narrow_beside_their_size_keep_their_digits(column, exact):
    other = np.random.default_rng(0).normal(size=len(column))
    table = Table(("wide", "narrow"), np.column_stack([other, column]))
    assert table.values.dtype == np.float32
    found = table.column("narrow")
    assert found.dtype == np.float64
    assert len(np.unique(found)) == len(np.unique(column))
    np.testing.assert_allclose(found, column, rtol=0, atol=0 if exact else 1e-7)
    np.testing.assert_array_equal(table.column("wide"), other.astype(np.float32))
    np.testing.assert_array_equal(table.physical(), np.column_stack([table.column("wide"), found]))
    np.testing.assert_array_equal(table.physical(np.array([3, 1])), table.physical()[[3, 1]])
    np.testing.assert_array_equal(table.to_frame()["narrow"], found)
    part = table.select(("narrow",)).take(np.arange(5)[::-1])
    np.testing.assert_array_equal(part.column("narrow"), found[4::-1])
    assert table.fingerprint() != Table(table.names, table.values).fingerprint()


def test_other_columns_are_stored_as_they_are():
    rng = np.random.default_rng(0)
    columns = {
        "wide": rng.normal(5000, 60, 400),
        "inflated": np.where(rng.random(400) < 0.97, 1.0, rng.random(400)),
        "longitude": rng.uniform(-124, -114, 400),
        "counts": rng.integers(0, 2**30, 400).astype(float),
        "gaps": np.where(rng.random(400) < 0.5, np.nan, rng.normal(size=400)),
    }
    table = Table(tuple(columns), np.column_stack(list(columns.values())))
    assert not table.offset.any()
    np.testing.assert_array_equal(table.values, np.column_stack(list(columns.values())).astype(np.float32))
    single = Table(("jd",), DATES.astype(np.float32)[:, None])  # what is lost is lost
    assert not single.offset.any()
    assert single.values.dtype == single.column("jd").dtype == np.float32


def test_a_table_keeps_its_offset_when_it_grows_a_little():
    offsets = {Table(("jd",), DATES[:n, None]).offset[0] for n in (400, 420, 450, 500)}
    assert len(offsets) == 1


def test_a_column_of_dates_is_trained_on_and_answered_in_full_precision(tiny, tmp_path):
    """500 dates, a thousandth of a day apart: in float32 they are 2 or 3 values."""
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(500), 4))
    x = rows + np.random.default_rng(1).normal(0, 20, len(rows))
    cadence = 2_459_000.5 + 7 * (rows % 10)
    table = Table(("jd", "night", "x"), np.column_stack([DATES[rows], cadence, x]), units=("d", "d", ""))
    for recipe in ("published", "improved"):
        experiment = tiny.override(recipe=recipe, **SMALL, **({"epochs": 1} if recipe == "published" else {"steps": 1}))
        train(table, experiment, run=tmp_path / recipe, device="cpu", progress=False)
        emulator = Emulator.load(tmp_path / recipe, "cpu")
        standardizer = emulator.model.standardizer
        z = standardizer.standardize(torch.from_numpy(np.column_stack([DATES, DATES, DATES])))[:, 0]
        assert (z.diff() > 0).all()
        np.testing.assert_allclose(standardizer.restore(z.double(), 0).numpy(), DATES, rtol=0, atol=1e-5)
        median = emulator.conditional("jd", {"x": [100.0, 400.0]}).ppf(0.5)
        assert ((DATES[0] - 0.025 <= median) & (median <= DATES[-1] + 0.025)).all() or recipe == "published"
        trained = emulator.model.split == TRAIN
        for given in (table.take(trained).select(("jd", "night")), {"jd": DATES[rows[trained]]}):
            assert (emulator.summary(given, request=["x"])["outside_training_range"] == "").all()
    drawn = emulator.conditional("night").rvs(200, seed=0)
    assert set(drawn.ravel()) <= set(np.unique(cadence))  # its ten values are atoms


def write_csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.fits", "t.ecsv", "t.vot", "t.h5", "records.h5"])
def test_dates_and_large_integers_keep_their_digits(tmp_path, name):
    frame, path = pd.DataFrame({"jd": DATES, "count": 10**12 + np.arange(500)}), tmp_path / name
    if name == "records.h5":
        with h5py.File(path, "w") as h5:
            h5["data"] = frame.to_records(index=False)
    elif name == "t.csv":
        frame.to_csv(path, index=False)
    elif name == "t.parquet":
        frame.to_parquet(path)
    else:
        AstropyTable.from_pandas(frame).write(
            path, **{"t.vot": {"format": "votable"}, "t.h5": {"path": "data"}}.get(name, {})
        )
    table = load(path)
    assert len(np.unique(table.column("jd"))) == 500
    np.testing.assert_allclose(table.column("jd"), DATES, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(table.column("count"), frame["count"])


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("9007199254740993 4611686018427387905", np.array([9007199254740993, 4611686018427387905])),
        ("18446744073709551615 5", np.array([18446744073709551615, 5], np.uint64)),
        ("007 7", np.array(["007", "7"])),
        ("99999999999999999999999 5", np.array(["99999999999999999999999", "5"])),
        ("00034567+1234567 5", np.array(["00034567+1234567", "5"])),
    ],
)
def test_ids_of_a_csv_file_are_exactly_what_it_says(tmp_path, text, ids):
    table = load(
        write_csv(tmp_path, "id,x\n" + "".join(f"{name},{i}\n" for i, name in enumerate(text.split()))), id_column="id"
    )
    np.testing.assert_array_equal(table.ids, ids)
    assert table.ids.dtype == ids.dtype


def test_integers_that_float64_has_not_are_named(tmp_path, caplog):
    table = load(write_csv(tmp_path, "source_id,x\n4611686018427387905,1\n4611686018427387907,2\n5,3\n"))
    assert "'source_id' holds integers beyond 2^53" in caplog.text
    assert table.names == ("source_id", "x")


def test_npy_records_of_other_numbers_are_read_and_may_have_ids(tmp_path):
    records = np.empty(500, dtype=[("id", "S8"), ("jd", ">f8"), ("n", "i4"), ("x", "f4")])
    for name, column in (("id", np.arange(500) // 2), ("jd", DATES), ("n", np.arange(500)), ("x", np.arange(500) / 7)):
        records[name] = column
    np.save(tmp_path / "t.npy", records)
    table = load(tmp_path / "t.npy", id_column="id")
    assert table.names == ("jd", "n", "x")
    assert table.ids.tolist() == [str(i // 2) for i in range(500)]
    np.testing.assert_allclose(table.column("jd"), DATES, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(table.column("x"), records["x"])
