"""A user's own files, whole and broken."""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn
from astropy.table import Table as AstropyTable

from model.datasets import load, split_rows

GAIA_ID = 4_611_686_018_427_387_001  # odd and above 2^53: no float holds it
FRAME = pd.DataFrame(
    {
        "source_id": np.array([GAIA_ID, GAIA_ID + 2, GAIA_ID, GAIA_ID + 4]),
        "teff": [4700.0, 5000.0, np.nan, 6000.0],
        "name": ["a", "b", "c", "d"],
        "n_obs": [1, 2, 3, 4],
        "giant": [True, False, True, False],
    }
)


def astropy_table() -> AstropyTable:
    table = AstropyTable.from_pandas(FRAME)
    table["teff"] = MaskedColumn([4700.0, 5000.0, 5500.0, 6000.0], mask=[0, 0, 1, 0], unit="K")
    table["spectrum"] = np.ones((4, 3))
    return table


def write(path: Path) -> Path:
    if path.name.startswith("group"):
        with h5py.File(path, "w") as h5:
            for name in FRAME.columns:
                column = FRAME[name].to_numpy()
                h5[f"stars/{name}"] = column.astype("S") if name == "name" else column
    elif path.suffix == ".h5":
        table = astropy_table()
        table["teff"] = table["teff"].filled(np.nan)
        table["name"] = table["name"].astype("S")
        table.write(path, path="data", serialize_meta=True)
    elif path.suffix == ".parquet":
        FRAME.to_parquet(path)
    elif path.suffix == ".vot":
        astropy_table().write(path, format="votable")
    elif path.name in ("t.fits", "t.fits.gz", "t.ecsv"):
        astropy_table().write(path)
    else:
        FRAME.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    "name", ["t.csv", "t.csv.gz", "t.parquet", "t.fits", "t.fits.gz", "t.ecsv", "t.vot", "t.h5", "group.h5"]
)
def test_every_kind_of_file_gives_the_same_table(tmp_path, name, caplog):
    with caplog.at_level(logging.INFO):
        table = load(write(tmp_path / name), id_column="source_id", columns=["n_obs", "teff", "giant"])
    assert table.names == table.requestable == ("n_obs", "teff", "giant")
    np.testing.assert_array_equal(table.column("teff"), np.float32([4700, 5000, np.nan, 6000]))
    np.testing.assert_array_equal(table.column("giant"), [1, 0, 1, 0])
    np.testing.assert_array_equal(table.ids, FRAME["source_id"])
    assert table.units[1] == ("K" if name.split(".")[1] in ("fits", "ecsv", "vot") else "")


@pytest.mark.parametrize("name", ["t.csv", "t.fits", "t.h5", "group.h5"])
def test_other_columns_are_left_out_and_named(tmp_path, name, caplog):
    with caplog.at_level(logging.INFO):
        table = load(write(tmp_path / name), id_column="source_id")
    assert set(table.names) == {"teff", "n_obs", "giant"}
    assert "not numeric: name" in caplog.text


def test_column_order_is_the_one_asked_for(tmp_path):
    path = write(tmp_path / "t.csv")
    table = load(path, columns=["n_obs", "teff"], request=["teff"])
    assert table.names == ("n_obs", "teff")
    assert table.requestable == ("teff",)
    assert table.ids is None
    np.testing.assert_array_equal(table.column("n_obs"), [1, 2, 3, 4])


@pytest.mark.parametrize("id_column", ["source_id", "name"])
def test_repeat_observations_stay_on_one_side(tmp_path, id_column):
    path = tmp_path / "t.csv"
    FRAME.assign(name=["a", "b", "a", "d"]).to_csv(path, index=False)
    table = load(path, id_column=id_column, columns=["teff"])
    for seed in range(10):
        part = split_rows(table, seed, 0.34, 0.34)
        assert part[0] == part[2]


def test_mixin_columns_are_left_out(tmp_path):
    table = astropy_table()
    table["position"] = SkyCoord(ra=np.arange(4), dec=np.arange(4), unit="deg")
    table.write(tmp_path / "t.ecsv")
    assert "position" not in load(tmp_path / "t.ecsv", id_column="source_id").names


def test_units_astropy_cannot_read_are_dropped(tmp_path):
    hdu = fits.BinTableHDU.from_columns([fits.Column("x", "D", unit="furlongs", array=np.arange(3.0))])
    hdu.writeto(tmp_path / "t.fits")
    with pytest.warns(u.UnitsWarning):
        assert load(tmp_path / "t.fits").units == ("",)


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("x,y,x\n1,2,3\n4,5,6\n", None, "more than one column is called x"),
        ("x,y\n1,2\nbad,3\n-,4\n", ["x", "y"], "'x' holds 'bad' in row 1"),
        ("x,y\n1,2\n1,3\n", None, r"'x' is constant \(1.0\)"),
        ("x,y\n,2\n,3\n", None, "'x' has no observed value"),
        ("x,y\n1,2\ninf,3\n", None, "'x' holds inf in row 1"),
        ("x,y\n1,2\n1e300,3\n", None, r"'x' holds 1e\+300 in row 1"),
        ("x,y\n", None, "no rows"),
        ("", None, "is empty"),
        ("x\na\nb\n", None, "no numeric column; its columns are x"),
        ("x,y\n1,2\n3,4,5\n", None, "cannot be read as csv"),
    ],
)
def test_unusable_csv(tmp_path, text, columns, message):
    with pytest.raises(ValueError, match=message):
        load(csv(tmp_path, text), columns=columns)


def test_commas_at_the_end_of_rows_do_not_shift_columns(tmp_path):
    table = load(csv(tmp_path, "x,y\n1,2,\n3,4,\n"))
    np.testing.assert_array_equal(table.column("x"), [1, 3])
    np.testing.assert_array_equal(table.column("y"), [2, 4])


def test_dates_are_no_numbers(tmp_path):
    pd.DataFrame({"t": pd.to_datetime(["2020-01-01", "2021-01-01"]), "x": [1, 2]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="'t' holds datetime"):
        load(tmp_path / "t.parquet", columns=["t", "x"])


@pytest.mark.parametrize(
    "arguments", [{"columns": ["tef"]}, {"id_column": "sourceid"}, {"columns": ["teff"], "request": ["n_obs"]}]
)
def test_unknown_columns_list_the_nearest(tmp_path, arguments):
    with pytest.raises(KeyError, match="nearest are"):
        load(write(tmp_path / "t.csv"), **arguments)


def test_id_column_is_no_data(tmp_path):
    with pytest.raises(ValueError, match="'source_id' names the objects"):
        load(write(tmp_path / "t.csv"), id_column="source_id", columns=["source_id", "teff"])


@pytest.mark.parametrize(
    ("text", "message"), [("id,x\n1,2\n,3\n", "'id' is empty in row 1"), ("id,x\n1.5,2\n2,3\n", "'id' holds float64")]
)
def test_unusable_ids(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load(csv(tmp_path, text), id_column="id")


def test_missing_file_and_unknown_suffix(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"own\.csv"):
        load(tmp_path / "own.csv")
    (tmp_path / "t.xlsx").write_text("x")
    with pytest.raises(ValueError, match=r"unknown kind of file '.xlsx'"):
        load(tmp_path / "t.xlsx")


@pytest.mark.parametrize("name", ["t.h5", "t.fits", "t.vot", "t.parquet", "group.h5"])
def test_truncated_files_are_named(tmp_path, name):
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(ValueError, match=path.name):
        load(path)


def test_several_tables_need_a_key(tmp_path):
    path = write(tmp_path / "group.h5")
    with h5py.File(path, "a") as h5:
        h5["galaxies"] = np.array([(1.0, 2), (3.0, 4)], dtype=[("z", "f4"), ("n", ">i4")])
        h5["broken/x"], h5["broken/y"] = np.arange(3), np.arange(4)
    with pytest.raises(ValueError, match=r"choose one of its tables with key=.*'galaxies', 'stars'"):
        load(path)
    with pytest.raises(ValueError, match="choose one of its tables"):
        load(path, key="planets")
    with pytest.raises(ValueError, match="'broken' differ in length"):
        load(path, key="broken")
    np.testing.assert_array_equal(load(path, key="/galaxies").column("n"), [2, 4])
    with pytest.raises(ValueError, match="key chooses"):
        load(write(tmp_path / "t.csv"), key="stars")


def test_fits_extension(tmp_path):
    tables = [fits.table_to_hdu(AstropyTable({"x": [1.0, 2.0, i]})) for i in (3, 4)]
    tables[1].name = "second"
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(tmp_path / "t.fits")
    with pytest.raises(ValueError, match="key=; there are: 1, 2 SECOND"):
        load(tmp_path / "t.fits")
    for key in ("2", "second"):
        np.testing.assert_array_equal(load(tmp_path / "t.fits", key=key).column("x"), [1, 2, 4])


def write_records(path, values, names):
    records = np.empty(len(values), dtype=[(name, np.float32) for name in names])
    for name, column in zip(names, values.T):
        records[name] = column
    np.save(path, records)


def test_npy_records_are_mapped_not_read(tmp_path):
    values = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    values[3, 1] = np.nan
    write_records(tmp_path / "big.npy", values, ["x", "y", "z"])
    table = load(tmp_path / "big.npy", request=["z"])
    assert table.names == ("x", "y", "z")
    assert table.requestable == ("z",)
    np.testing.assert_array_equal(table.values, values)
    assert isinstance(table.values.base, np.memmap)


@pytest.mark.parametrize(
    ("content", "message"),
    [(np.zeros((5, 2), np.float32), "records of numbers"), (np.zeros(5, "f4,(2,)f4"), "records of numbers")],
)
def test_npy_of_another_kind_is_named(tmp_path, content, message):
    np.save(tmp_path / "big.npy", content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "big.npy")


def test_truncated_npy_is_named(tmp_path):
    write_records(tmp_path / "big.npy", np.ones((100, 2), np.float32), ["x", "y"])
    (tmp_path / "big.npy").write_bytes((tmp_path / "big.npy").read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"big\.npy"):
        load(tmp_path / "big.npy")
