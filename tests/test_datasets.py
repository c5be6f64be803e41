"""The named data sets and the choice among them."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest

from model.datasets import apogee_xp, column_names, data_folder, describe, load, mixture, mock_apogee_xp, split_rows
from model.datasets.files import REPOSITORY
from tests.apogee_xp_file import write_apogee_xp


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder."""
    monkeypatch.setenv("DATA_FILES", str(tmp_path))
    return tmp_path


def test_data_folder_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_FILES", raising=False)
    monkeypatch.chdir(tmp_path)
    assert data_folder() == REPOSITORY / "data_files"
    assert (REPOSITORY / "model" / "datasets").is_dir()


def test_importing_needs_no_reader_of_files():
    code = "import sys; sys.modules.update(dict.fromkeys(['astropy', 'sklearn', 'h5py', 'pandas', 'scipy']))\n"
    # Files are loaded below empty packages: `model` and `model.inference` may import what they like.
    code += "import types\nfor name in ('model', 'model.inference'):\n"
    code += "    sys.modules[name] = types.ModuleType(name); sys.modules[name].__path__ = [name.replace('.', '/')]\n"
    code += "import model.datasets, model.inference.columns\n"
    code += "assert 'torch' not in sys.modules; model.datasets.load('mixture')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_apogee_xp_columns(folder):
    raw = write_apogee_xp(folder / "training_set.h5")
    table = load("apogee_xp", errors=True)
    assert len(table.names) == 118
    assert table.names[:2] == ("bp0", "bp1")
    assert table.names[54:56] == ("bp54", "rp0")
    assert table.names[109:] == ("rp54", "bprp", "jh", "jk", "teff", "logg", "m_h", "logebv", "g_fakemag")
    assert set(table.names) - set(table.requestable) == {"bprp", "jk"}
    assert dict(zip(table.names, table.units))["teff"] == "K"
    rows = np.setdiff1d(np.arange(20), [1, 2])
    np.testing.assert_allclose(table.column("logebv"), raw["logc19"][rows], rtol=1e-6)
    np.testing.assert_allclose(table.column("bp7")[0], 0.007, rtol=1e-6)
    np.testing.assert_allclose(table.column("rp7")[0], 0.062, rtol=1e-6)
    np.testing.assert_allclose(table.errors[:, table.names.index("jk")], raw["jk_err"][rows], rtol=1e-6)


def test_apogee_xp_rows_without_labels_train_nothing_but_are_tested(folder):
    write_apogee_xp(folder / "training_set.h5")
    write_apogee_xp(folder / "testing_set.h5")
    assert len(apogee_xp.load()) == 18
    assert not np.isnan(apogee_xp.load().column("teff")).any()
    test = apogee_xp.load("testing_set.h5")
    assert len(test) == 20
    assert np.isnan(test.column("teff")[1])
    assert np.isnan(test.column("logg")[2])


def test_apogee_xp_irrelevant_coefficients_are_missing(folder):
    write_apogee_xp(folder / "testing_set.h5")
    table = apogee_xp.load("testing_set.h5", errors=True)
    values, errors = table.values, table.errors
    assert np.isnan(values[3, :110]).all()
    assert np.isnan(errors[3, :110]).all()
    # Relevancy beyond 51 and 106 is copied from these, whatever the file says there.
    expected = np.r_[np.arange(20), np.arange(55, 106)]
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(values[4, :110])), expected)
    np.testing.assert_array_equal(np.isnan(errors[4]), np.isnan(values[4]))
    others = np.setdiff1d(np.arange(20), [3, 4])
    assert not np.isnan(values[others, :110]).any()


def test_apogee_xp_sentinels_are_missing(folder):
    write_apogee_xp(folder / "testing_set.h5")
    table = apogee_xp.load("testing_set.h5")
    assert np.isnan(table.column("jh")[9])
    np.testing.assert_array_equal(table.column("g_fakemag")[[9, 10]], [-12000.0, np.nan])


def test_apogee_xp_repeat_observations_stay_on_one_side(folder):
    raw = write_apogee_xp(folder / "testing_set.h5")
    table = apogee_xp.load("testing_set.h5")
    known = raw["gaia_source_id"] > 0
    np.testing.assert_array_equal(table.ids[known], raw["gaia_source_id"][known])
    assert len(set(table.ids)) == 19  # stars without a source id are not one object
    for seed in range(20):
        part = split_rows(table, seed, 0.3, 0.3)
        assert part[5] == part[6]


def test_apogee_xp_missing_file_says_where_to_get_it(folder):
    with pytest.raises(FileNotFoundError, match="12738256") as error:
        load("apogee_xp")
    assert "training_set.h5" in str(error.value)
    assert str(folder) in str(error.value)


def test_apogee_xp_truncated_file(folder):
    path = folder / "training_set.h5"
    write_apogee_xp(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"training_set.h5 is truncated"):
        load("apogee_xp")


@pytest.mark.parametrize("name", ["raw/logg", "raw/xp_relevancy", "raw/jk_err", "gaia_source_id"])
def test_apogee_xp_missing_column(folder, name):
    write_apogee_xp(folder / "training_set.h5")
    with h5py.File(folder / "training_set.h5", "a") as h5:
        del h5[name]
    with pytest.raises(ValueError, match=f"training_set.h5.*lacks.*{name}"):
        load("apogee_xp")


def test_apogee_xp_wrong_shape(folder):
    write_apogee_xp(folder / "training_set.h5")
    with h5py.File(folder / "training_set.h5", "a") as h5:
        del h5["raw/teff"]
        h5["raw/teff"] = np.ones(19)
    with pytest.raises(ValueError, match=r"raw/teff has shape \(19,\)"):
        load("apogee_xp")


def test_columns_and_request_choose_by_name():
    table = load("mixture", columns=["d", "a", "b"], request=["b"])
    assert table.names == ("d", "a", "b")
    assert table.requestable == ("b",)
    np.testing.assert_array_equal(table.column("a"), load("mixture").column("a"))


def test_columns_bring_their_errors_and_units(folder):
    write_apogee_xp(folder / "training_set.h5")
    all_columns, table = (load("apogee_xp", columns=columns, errors=True) for columns in (None, ["bprp", "teff"]))
    assert table.units == ("mag", "K")
    assert table.requestable == ("teff",)
    np.testing.assert_array_equal(table.errors[:, 1], all_columns.errors[:, all_columns.names.index("teff")])


def test_errors_are_loaded_when_they_are_asked_for(folder):
    write_apogee_xp(folder / "training_set.h5")
    assert load("apogee_xp").errors is None
    few, every = (mock_apogee_xp.load_labels(10, errors=errors) for errors in (False, True))
    assert few.errors is None
    assert (every.errors > 0).all()
    assert few.fingerprint() == every.fingerprint()
    for name in ("mixture", "california_housing", "own.csv"):
        with pytest.raises(ValueError, match=f"'{name}' has no errors; apogee_xp, green2021, .* have"):
            load(name, errors=True)


def test_unknown_choices():
    with pytest.raises(KeyError, match="nearest"):
        load("mixture", columns=["a", "e"])
    with pytest.raises(KeyError, match="nearest"):
        load("mixture", columns=["a", "b"], request=["c"])
    with pytest.raises(ValueError, match="own files"):
        load("mixture", id_column="a")
    with pytest.raises(FileNotFoundError, match="apogee_xp, california_housing"):
        load("apogee")


def test_describe(folder):
    assert describe("apogee_xp").endswith("training_set.h5 (missing)")
    write_apogee_xp(folder / "training_set.h5")
    assert str(folder / "training_set.h5") in describe("apogee_xp")
    assert "missing" not in describe("apogee_xp")
    assert "no file" in describe("mixture")
    assert "my.csv (missing)" in describe("my.csv")
    (folder / "california_housing").mkdir()
    (folder / "california_housing" / "california_housing.csv").write_text("x")
    assert "california_housing.csv (1 bytes)" in describe("california_housing")


def test_column_names_are_those_of_the_table(folder):
    write_apogee_xp(folder / "training_set.h5")
    for dataset in ("apogee_xp", "mixture"):
        assert column_names(dataset) == load(dataset).names
    assert column_names("my.csv") is None


def test_california_housing_from_csv(folder):
    path = folder / "california_housing" / "california_housing.csv"
    path.parent.mkdir()
    header = "MedInc,HouseAge,AveRooms,AveBedrms,Population,AveOccup,Latitude,Longitude,MedHouseVal"
    path.write_text(f"{header}\n8.3,41.0,6.9,1.02,322.0,2.5,37.88,-122.23,4.526\n")
    table = load("california_housing")
    assert table.names[-1] == "HouseValue"
    np.testing.assert_allclose(table.column("HouseValue"), [4.526])
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="header"):
        load("california_housing")


def test_california_housing_without_network_says_how_to_get_it(folder, monkeypatch):
    def no_network(**_):
        raise OSError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_california_housing", no_network)
    with pytest.raises(FileNotFoundError, match=r"no network.*fetch_california_housing"):
        load("california_housing")


def test_green2021_missing_file_says_where_to_get_it(folder):
    with pytest.raises(FileNotFoundError, match="gregreen/green2020-stellar-model"):
        load("green2021")


def test_mixture_has_the_promised_rows():
    table = load("mixture")
    assert table.values.shape == (200_000, 4)
    assert table.names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(table.values, mixture.load(seed=0).values)
    assert not np.array_equal(mixture.load(n=10, seed=0).values, mixture.load(n=10, seed=1).values)


@pytest.mark.real_data
@pytest.mark.parametrize("file", ["cal_housing_py3.pkz", "california_housing.csv"])
def test_california_housing_real(real_data, file, tmp_path, monkeypatch):
    path = real_data(f"california_housing/{file}")
    # A folder with only one of the two files.
    (tmp_path / "california_housing").mkdir()
    (tmp_path / "california_housing" / file).symlink_to(path.resolve())
    monkeypatch.setenv("DATA_FILES", str(tmp_path))
    table = load("california_housing")
    assert table.values.shape == (20640, 9)
    assert not np.isnan(table.values).any()
    np.testing.assert_allclose(table.values[0, [0, 2, 8]], [8.3252, 6.984127, 4.526], rtol=1e-6)
    assert (table.column("HouseValue") == np.float32(5.00001)).sum() == 965


@pytest.mark.real_data
def test_green2021_real(real_data):
    path = real_data("green2021/green2020_test_data_small.h5")
    table = load("green2021", errors=True)
    assert table.values.shape == (10_000, 18)
    assert len(table.units) == 18
    assert table.names[3:6] == ("g", "g_bp", "g_rp")
    assert table.names[-2:] == ("g_fakemag", "ebv")
    with h5py.File(path) as h5:
        star = h5["data"][17]
    g, j = star["mag"][[0, 8]]
    np.testing.assert_allclose(table.column("g_j")[17], g - j, atol=1e-5)
    np.testing.assert_allclose(table.column("g_fakemag")[17], star["parallax"] * 10 ** (0.2 * g), rtol=1e-5)
    np.testing.assert_allclose(table.errors[17, 0], np.sqrt(star["atm_param_cov"][0, 0]), rtol=1e-5)
    assert np.isnan(table.column("ebv")).sum() == 949
    np.testing.assert_array_equal(np.isnan(table.values).any(1), np.isnan(table.errors).any(1))
    assert len(np.unique(table.ids)) == 9998
