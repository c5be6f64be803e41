"""From the archive's files and from catalogues to a file that the paper's loader reads."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable
from astropy.table import Table as AstropyTable

from model.datasets import apogee_xp, mock_apogee_xp
from model.datasets.mock_apogee_xp.spectrum import g_flux
from model.datasets.reduction import (
    LEAST_LOG_EBV,
    Spectra,
    log_reddening,
    luminosity_proxy,
    match,
    normalise,
    read_spectra,
    relevancy,
    write,
)
from tests.xp_archive_file import IDS, archive_table, draw_spectra, write_archive

SUFFIXES = (".csv", ".csv.gz", ".fits", ".xml")
RAW = "gaia_xp/XP_CONTINUOUS_RAW"
PARTS = ("source_id", "coefficients", "errors", "n_relevant")


def assert_same(found: Spectra, expected: Spectra):
    for part in PARTS:
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part), err_msg=part)


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A mock catalogue as a file, and what its surveys would have handed out: tables with gaps, each in its order."""
    path = tmp_path_factory.mktemp("mock") / "mock.h5"
    mock_apogee_xp.write(path, 300, seed=5)
    rng = np.random.default_rng(1)
    with h5py.File(path, "r+") as h5:
        h5["raw/logc19"][:] = np.maximum(h5["raw/logc19"][:], LEAST_LOG_EBV)
        raw = {name: column[:] for name, column in h5["raw"].items()}
        ids, designation = h5["gaia_source_id"][:], h5["2mass_designation"][:, 0]
    n_relevant = raw["xp_relevancy"].reshape(-1, 2, 55).sum(axis=2)
    has_xp = rng.permutation(np.flatnonzero(n_relevant.any(axis=1)))
    spectra = Spectra(ids[has_xp], raw["xp_coeffs"][has_xp], raw["xp_coeffs_err"][has_xp], n_relevant[has_xp])

    def table(names, has, **more) -> dict:
        rows = rng.permutation(np.flatnonzero(has))
        columns = {name: raw[name][rows] for stem in names for name in (stem, f"{stem}_err") if name in raw}
        return {"source_id": ids[rows]} | columns | {name: column[rows] for name, column in more.items()}

    ebv = np.exp(raw["logc19"].astype(float))
    return {
        "path": path,
        "gaia": table(("phot_g_mean_mag", "parallax", "bprp"), np.ones(300, dtype=bool)),
        "spectra": spectra,
        "apogee": table(("teff", "logg", "m_h"), np.isfinite(raw["teff"])),
        "two_mass": table(("jh", "jk"), np.isfinite(raw["jh"]), **{"2mass_designation": designation}),
        "dust": table((), np.isfinite(ebv), ebv=ebv, ebv_err=ebv * raw["logc19_err"]),
    }


def catalogues(sky) -> tuple:
    return tuple(sky[name] for name in ("gaia", "spectra", "apogee", "two_mass", "dust"))


class TestReadSpectra:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_all_formats_of_the_archive(self, tmp_path, suffix):
        expected = draw_spectra()
        found = read_spectra(write_archive(tmp_path / f"xp{suffix}", archive_table(expected)))
        assert_same(found, expected)
        assert found.source_id.dtype == np.int64

    def test_one_column_a_coefficient(self, tmp_path):
        expected = draw_spectra(without_bp=None)
        columns = {"source_id": IDS}
        for i, band in enumerate(("bp", "rp")):
            columns[f"{band}_n_relevant_bases"] = expected.n_relevant[:, i].astype(np.int16)
            for e, part in (("", expected.coefficients), ("e_", expected.errors)):
                columns |= {f"{e}{band}_coeff_{k}": part[:, 55 * i + k] for k in range(55)}
        AstropyTable(columns).write(tmp_path / "flat.fits")
        assert_same(read_spectra(tmp_path / "flat.fits"), expected)

    def test_several_files_make_one(self, tmp_path):
        expected = draw_spectra()
        table = archive_table(expected)
        first, second = write_archive(tmp_path / "a.csv", table[:1]), write_archive(tmp_path / "b.fits", table[1:])
        assert_same(read_spectra(first, second), expected)
        with pytest.raises(ValueError, match=f"{IDS[0]} is there 2 times"):
            read_spectra(first, second, first)

    @pytest.mark.real_data
    @pytest.mark.parametrize("suffix", [".csv", ".fits", ".xml"])
    def test_the_real_formats_agree(self, real_data, suffix):
        found = read_spectra(real_data(f"{RAW}_with_missing_BP{suffix}"))
        assert found.source_id.tolist() == [5853498713190525696, 5405570973190252288, 5762406957886626816]
        assert found.n_relevant.tolist() == [[53, 40], [0, 47], [53, 50]]
        assert np.isnan(found.coefficients).sum() == np.isnan(found.errors).sum() == 55
        assert np.isnan(found.coefficients[1, :55]).all()
        # A bright star's: below -9998, and still no sentinel.
        assert found.coefficients[0, [0, 55, 57]] == pytest.approx([56947.037, 735186.216, -24394.785], rel=1e-6)
        assert_same(found, read_spectra(real_data(f"{RAW}_with_missing_BP.csv")))
        whole = read_spectra(real_data(f"{RAW}{suffix}"))
        np.testing.assert_array_equal(whole.coefficients, found.coefficients[[0, 2]])

    @pytest.mark.real_data
    def test_the_real_table_of_two_thousand(self, real_data):
        found = read_spectra(real_data("gaia_xp/xp_continuous_combined_chunk0.fits"))
        assert found.coefficients.shape == (2000, 110)
        assert np.isfinite(found.coefficients).all()
        assert (found.errors > 0).all()
        assert found.n_relevant.min() == 1

    def test_a_missing_file_says_where_to_get_it(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="DataLink"):
            read_spectra(tmp_path / "xp.csv")

    @pytest.mark.parametrize("name", ["xp.txt", "xp.csv", "xp.fits", "xp.xml"])
    def test_a_damaged_file_is_named(self, tmp_path, name):
        (tmp_path / name).write_text("not, what\nit, says, to be")
        with pytest.raises(ValueError, match=name):
            read_spectra(tmp_path / name)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_wrong_number_of_coefficients_names_the_source(self, tmp_path, suffix):
        table = archive_table(draw_spectra())
        table["rp_coefficient_errors"][2] = table["rp_coefficient_errors"][2][:54]
        with pytest.raises(ValueError, match=rf"xp{suffix}.*{IDS[2]} has 54 rp_coefficient_errors, 55"):
            read_spectra(write_archive(tmp_path / f"xp{suffix}", table))

    def test_a_lacking_column_is_named(self, tmp_path):
        table = archive_table(draw_spectra())
        table.remove_column("bp_n_relevant_bases")
        with pytest.raises(ValueError, match=r"xp.fits: no column 'bp_n_relevant_bases'"):
            read_spectra(write_archive(tmp_path / "xp.fits", table))


class TestFormulas:
    def test_relevancy_counts_from_the_first_of_each_band(self):
        relevant = relevancy(np.array([[3, 55], [0, 1]]))
        assert relevant.shape == (2, 110)
        assert relevant.dtype == bool
        assert relevant[0].nonzero()[0].tolist() == [0, 1, 2, *range(55, 110)]
        assert relevant[1].nonzero()[0].tolist() == [55]

    def test_values_and_errors_are_divided_by_the_flux(self):
        spectra = draw_spectra()
        flux = np.array([1e5, 200.0, 3e3])
        values, errors = normalise(spectra, flux)
        np.testing.assert_allclose(values * flux[:, None], spectra.coefficients)
        np.testing.assert_allclose(values / errors, spectra.coefficients / spectra.errors)
        assert g_flux(25.6874) == pytest.approx(1)  # the zero point of G in Gaia DR3

    @pytest.mark.parametrize("flux", [0.0, -3.0, np.nan, np.inf])
    def test_a_flux_that_cannot_be_is_an_error_if_there_is_a_spectrum(self, flux):
        spectra = draw_spectra()
        with pytest.raises(ValueError, match=f"source {IDS[1]} has a spectrum, but a G flux of {flux}"):
            normalise(spectra, np.array([1.0, flux, 1.0]))
        nothing = np.full((3, 110), np.nan)
        assert np.isnan(normalise(Spectra(IDS, nothing, nothing, np.zeros((3, 2), int)), np.full(3, flux))).all()

    def test_a_flux_for_each_spectrum(self):
        with pytest.raises(ValueError, match=r"\(2,\), not \(3,\)"):
            normalise(draw_spectra(), np.ones(2))

    def test_luminosity_proxy(self):
        # At 10 pc, with a parallax of 100 mas, it is that of the absolute magnitude; at 1 kpc as well.
        near, far = luminosity_proxy(np.array([100.0, 1.0]), np.array([1.0, 0.1]), np.array([4.8, 14.8]))[0]
        assert near == pytest.approx(far)
        value, error = luminosity_proxy(np.array([-0.1]), np.array([0.2]), np.array([15.0]))
        assert value == pytest.approx(-100)
        assert error == pytest.approx(200)

    def test_log_reddening(self):
        ebv = np.array([0.1, 1.0, 1e-6, 0.0, -0.01, np.nan])
        value, error = log_reddening(ebv, np.array([0.02, np.nan, 0.02, 0.02, 0.02, 0.02]))
        np.testing.assert_allclose(value, [np.log(0.1), 0, -7, -7, -7, np.nan])  # never dustier for less dust
        np.testing.assert_allclose(error, [0.2, np.nan, *[0.02 * np.exp(7)] * 3, np.nan])

    def test_match_is_by_id(self):
        assert match(np.array([7, 3, 9, 3]), np.array([9, 1, 3])).tolist() == [-1, 2, 0, 2]
        with pytest.raises(ValueError, match="none of the 2 stars is in the survey"):
            match(np.array([1, 2]), np.array([3, 4, 5]), "the survey")
        with pytest.raises(ValueError, match="no rows in the survey"):
            match(np.array([1, 2]), np.array([], dtype=int), "the survey")

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"coefficients": np.ones((3, 109))}, r"coefficients have shape \(3, 109\)"),
            ({"errors": np.ones((2, 110))}, r"errors have shape \(2, 110\)"),
            ({"n_relevant": np.full((3, 2), 56)}, "n_relevant is not within"),
            ({"n_relevant": np.full((3, 2), -32768)}, "n_relevant is not within"),
            ({"source_id": np.array([1, 2, 1])}, "1 is there 2 times"),
            ({"source_id": IDS.astype(float)}, "floats are inexact"),
        ],
    )
    def test_spectra_are_checked(self, wrong, message):
        right = {part: getattr(draw_spectra(), part) for part in PARTS}
        with pytest.raises(ValueError, match=message):
            Spectra(**(right | wrong))


class TestWrite:
    def test_the_loader_reads_what_the_surveys_were_made_of(self, sky, tmp_path):
        write(tmp_path / "own.h5", *catalogues(sky))
        original, found = (apogee_xp.load(path, errors=True) for path in (sky["path"], tmp_path / "own.h5"))
        assert found.ids.tolist() == sky["gaia"]["source_id"].tolist()
        rows = match(found.ids, original.ids)
        for part in ("values", "errors"):
            expected, got = getattr(original, part)[rows], getattr(found, part)
            np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6 if part == "values" else 0)

    def test_the_file_has_all_that_the_mocks_has(self, sky, tmp_path):
        write(tmp_path / "own.h5", *catalogues(sky))
        with h5py.File(sky["path"]) as mock, h5py.File(tmp_path / "own.h5") as own:
            rows = match(own["gaia_source_id"][:], mock["gaia_source_id"][:])
            assert set(own["raw"]) == set(mock["raw"])
            for name, column in mock["raw"].items():
                assert own["raw"][name].dtype == column.dtype, name
                np.testing.assert_allclose(own["raw"][name][:], column[:][rows], rtol=1e-5, atol=1e-6, err_msg=name)
            has_2mass = np.isfinite(own["raw/jh"][:])
            expected = np.where(has_2mass, mock["2mass_designation"][:][rows, 0], b"")
            assert own["2mass_designation"].shape == (300, 1)
            np.testing.assert_array_equal(own["2mass_designation"][:, 0], expected)

    def test_the_training_file_drops_stars_without_labels(self, sky, tmp_path):
        write(tmp_path / apogee_xp.TRAINING_FILE, *catalogues(sky))
        assert set(apogee_xp.load(tmp_path / apogee_xp.TRAINING_FILE).ids) == set(sky["apogee"]["source_id"])

    @pytest.mark.parametrize("make", [pd.DataFrame, AstropyTable, QTable])
    def test_any_kind_of_table(self, sky, tmp_path, make):
        gaia, spectra, *others = catalogues(sky)
        write(tmp_path / "dict.h5", gaia, spectra, *others)
        write(tmp_path / "other.h5", make(gaia), spectra, *map(make, others))
        assert apogee_xp.load(tmp_path / "other.h5").fingerprint() == apogee_xp.load(tmp_path / "dict.h5").fingerprint()

    def test_masked_infinite_and_sentinel_values_are_missing(self, sky, tmp_path):
        gaia, spectra, apogee, *others = catalogues(sky)
        apogee = {name: column.copy() for name, column in apogee.items()}
        ids = apogee["source_id"]
        apogee["teff"][0], apogee["logg"][1], apogee["m_h_err"][2] = -9999, np.inf, -9999
        apogee["m_h"] = MaskedColumn(apogee["m_h"], mask=np.arange(len(ids)) == 3)
        apogee["logg_err"] = u.Quantity(apogee["logg_err"])
        write(tmp_path / "own.h5", gaia, spectra, apogee, *others)
        table = apogee_xp.load(tmp_path / "own.h5", errors=True)
        rows = match(ids, table.ids)
        wrong = ((0, "teff", "values"), (1, "logg", "values"), (2, "m_h", "errors"), (3, "m_h", "values"))
        for row, name, part in wrong:
            assert np.isnan(getattr(table, part)[rows[row], table.names.index(name)]), name
        assert np.isfinite(table.column("teff")[rows[1:]]).all()

    def test_units_are_converted(self, sky, tmp_path):
        gaia, spectra, apogee, *others = catalogues(sky)
        write(tmp_path / "plain.h5", gaia, spectra, apogee, *others)
        carried = {name: (gaia[name].astype(float) / 1000) * u.arcsec for name in ("parallax", "parallax_err")}
        hot = {name: (apogee[name].astype(float) / 1000) * u.kK for name in ("teff", "teff_err")}
        write(tmp_path / "units.h5", QTable(gaia | carried), spectra, QTable(apogee | hot), *others)
        plain, found = (apogee_xp.load(tmp_path / f"{name}.h5", errors=True) for name in ("plain", "units"))
        np.testing.assert_allclose(found.values, plain.values, rtol=1e-6)
        np.testing.assert_allclose(found.errors, plain.errors, rtol=1e-6)
        with pytest.raises(ValueError, match="parallax is in 'pc': mas is needed"):
            write(tmp_path / "own.h5", QTable(gaia | {"parallax": gaia["parallax"] * u.pc}), spectra, apogee, *others)

    @pytest.mark.parametrize("nothing", [None, np.nan, pd.NA])
    def test_a_missing_designation_is_empty(self, sky, tmp_path, nothing):
        gaia, spectra, apogee, two_mass, dust = catalogues(sky)
        names = ["00000000+0000000", nothing] + [b"x"] * (len(two_mass["jh"]) - 2)
        two_mass = pd.DataFrame(two_mass | {"2mass_designation": names})
        write(tmp_path / "own.h5", gaia, spectra, apogee, two_mass, dust)
        with h5py.File(tmp_path / "own.h5") as own:
            rows = match(two_mass["source_id"].to_numpy()[:3], own["gaia_source_id"][:])
            assert own["2mass_designation"][:][rows, 0].tolist() == [b"00000000+0000000", b"", b"x"]

    def test_rows_of_other_stars_are_left_out(self, sky, tmp_path):
        gaia, *others = catalogues(sky)
        few = {name: column[:40] for name, column in gaia.items()}
        write(tmp_path / "all.h5", gaia, *others)
        write(tmp_path / "few.h5", few, *others)
        every, table = apogee_xp.load(tmp_path / "all.h5"), apogee_xp.load(tmp_path / "few.h5")
        np.testing.assert_array_equal(table.values, every.values[:40])

    def test_what_is_lacking_is_named(self, sky, tmp_path):
        gaia, spectra, apogee, two_mass, dust = catalogues(sky)
        with pytest.raises(ValueError, match="no table has ebv, ebv_err: give NaN"):
            write(tmp_path / "own.h5", gaia, spectra, apogee, two_mass)
        less = {name: column for name, column in apogee.items() if name != "teff_err"}
        with pytest.raises(ValueError, match="no table has teff_err"):
            write(tmp_path / "own.h5", gaia, spectra, less, two_mass, dust)
        assert not (tmp_path / "own.h5").exists()

    @pytest.mark.parametrize(
        ("table", "name", "change", "message"),
        [
            (2, "teff", lambda column: column[:3], "teff of catalogue 1: .* numbers are needed"),
            (2, "teff", lambda column: column[:, None], "teff of catalogue 1"),
            (4, "jh", lambda _: np.ones(len(IDS)), "jh of catalogue 3: .* from one table only"),
            (0, "source_id", lambda ids: ids.astype(float), "source_id of gaia: float64"),
            (3, "source_id", lambda ids: np.full(len(ids), 7), "source_id of catalogue 2: 7 is there"),
            (3, "source_id", lambda ids: ids + 10**6, "none of the 300 stars is in catalogue 2"),
            (0, "phot_g_mean_mag", lambda g: np.full(len(g), -9999.0), "has a spectrum, but a G flux of nan"),
        ],
    )
    def test_bad_tables_are_refused_before_anything_is_written(self, sky, tmp_path, table, name, change, message):
        tables = list(catalogues(sky))
        tables[table] = tables[table] | {name: change(tables[table].get(name))}
        with pytest.raises(ValueError, match=message):
            write(tmp_path / "own.h5", *tables)
        assert not (tmp_path / "own.h5").exists()
