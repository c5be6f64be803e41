"""A row's side depends on what it is; nothing that was learned from is ever a test row."""

import json
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from model import train
from model.datasets import TEST, TRAIN, VALIDATION, Table, load, split_rows
from model.run_folder import checkpoint
from tests.run_folders import assert_same_run

NAMES = ("x", "y", "z")
VERSIONS = pytest.mark.parametrize("version", [1, 2])


def make_table(n: int = 100, ids: np.ndarray | None = None, **other) -> Table:
    return Table(NAMES, np.random.default_rng(0).normal(size=(n, 3)), ids=ids, **other)


def test_version_1_is_the_documented_permutation():
    part = split_rows(make_table(), seed=3, test_fraction=0.1, val_fraction=0.2, version=1)
    assert [int((part == side).sum()) for side in (TRAIN, VALIDATION, TEST)] == [70, 20, 10]
    np.testing.assert_array_equal(np.sort(np.random.default_rng(3).permutation(100)[:10]), np.flatnonzero(part == TEST))


def test_version_1_splits_unique_ids_like_no_ids():
    ids = np.random.default_rng(1).permutation(100) + 4_611_686_018_427_387_000
    with_ids, without = (split_rows(make_table(ids=i), 0, 0.1, 0.1, version=1) for i in (ids, None))
    np.testing.assert_array_equal(with_ids, without)


def test_version_2_is_the_documented_hash():
    ids = np.r_[17, 4_611_686_018_427_387_001, -3, 1000:1060]  # enough for all sides
    values = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    values[0] = 1.5, -0.0, np.nan
    row = np.array([np.nan, 1.5, 0.0], np.float32)
    for table, texts in (
        (Table(("x",), np.arange(63.0)[:, None], ids=ids), [b"17", b"4611686018427387001", b"-3"]),
        (Table(("b", "c", "a"), values), [row.tobytes()]),
    ):
        for seed in range(50):
            for text, side in zip(texts, split_rows(table, seed, 0.3, 0.3)):
                place = int.from_bytes(blake2b(text, digest_size=8, key=str(seed).encode()).digest(), "little") / 2**64
                assert side == (TEST if place < 0.3 else VALIDATION if place < 0.6 else TRAIN)


@pytest.mark.parametrize("ids", [True, False])
def test_the_fractions_are_those_of_random_draws_and_seeds_are_independent(ids):
    table, n = make_table(40_000, np.arange(40_000) if ids else None), 40_000
    parts = [split_rows(table, seed, 0.1, 0.2) for seed in (0, 1)]
    for part in parts:
        for side, share in ((TEST, 0.1), (VALIDATION, 0.2), (TRAIN, 0.7)):
            assert abs((part == side).sum() - n * share) < 4 * np.sqrt(n * share * (1 - share))
    assert abs(((parts[0] == TEST) & (parts[1] == TEST)).sum() - 0.01 * n) < 4 * np.sqrt(0.01 * n)


@VERSIONS
def test_test_rows_do_not_depend_on_the_validation_fraction(version):
    few, many = (split_rows(make_table(), 0, 0.1, fraction, version) for fraction in (0.05, 0.5))
    np.testing.assert_array_equal(few == TEST, many == TEST)


@VERSIONS
@pytest.mark.parametrize("kind", [np.int64, str])
def test_repeat_observations_stay_on_one_side(kind, version):
    ids = np.random.default_rng(2).integers(0, 30, size=100).astype(kind)
    part = split_rows(make_table(ids=ids), 0, 0.3, 0.3, version)
    for unique in np.unique(ids):
        assert len(set(part[ids == unique])) == 1
    assert set(part) == {TRAIN, VALIDATION, TEST}


@pytest.mark.parametrize("ids", [True, False])
def test_rows_keep_their_side_whatever_is_appended_left_out_or_reordered(ids):
    whole = make_table(1000, np.arange(1000) * 7 if ids else None)
    part = split_rows(whole, 0, 0.2, 0.2)
    rows = np.random.default_rng(1).permutation(1000)[:600]
    np.testing.assert_array_equal(split_rows(whole.take(rows), 0, 0.2, 0.2), part[rows])
    np.testing.assert_array_equal(split_rows(whole.select(("z", "x", "y")), 0, 0.2, 0.2), part)


def test_a_grown_table_with_another_offset_keeps_the_sides_of_its_rows():
    dates = 2_459_000.5 + np.random.default_rng(0).random((2000, 1))
    values = np.hstack([dates, np.random.default_rng(1).normal(size=(2000, 1))])
    later = values + np.array([900.0, 0.0])
    old, grown = Table(("jd", "x"), values[:100]), Table(("jd", "x"), np.vstack([values, later]))
    assert old.offset[0] != grown.offset[0]
    np.testing.assert_array_equal(split_rows(grown, 0, 0.2, 0.2)[:100], split_rows(old, 0, 0.2, 0.2))


def test_ids_that_print_alike_are_the_same_object():
    ids = np.array([17, 4_611_686_018_427_387_001, -3, 5, 6, 7, 8, 9, 10, 11])
    for seed in range(20):
        part = split_rows(make_table(10, ids), seed, 0.3, 0.3)
        for other in (ids.astype(str), np.array([f" {i} " for i in ids]), ids.astype("S"), ids.astype(object)):
            np.testing.assert_array_equal(split_rows(make_table(10, other), seed, 0.3, 0.3), part)


def test_copies_of_a_row_stay_together_whatever_their_nans_and_zeros_look_like():
    values = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    values[:, 1], values[:250, 2] = 0.0, np.nan
    copies = values.copy()
    copies[:, 1] = -0.0
    copies.view(np.uint32)[:250, 2] |= 1  # another NaN
    part = split_rows(Table(NAMES, np.vstack([values, copies])), 0, 0.3, 0.3)
    np.testing.assert_array_equal(part[:500], part[500:])


def test_a_memory_map_is_split_like_the_table(tmp_path):
    table = make_table(70_000)  # more than a chunk
    np.save(tmp_path / "t.npy", np.rec.fromarrays(table.values.T, names=",".join(NAMES)).view(np.ndarray))
    np.testing.assert_array_equal(split_rows(load(tmp_path / "t.npy"), 0, 0.1, 0.1), split_rows(table, 0, 0.1, 0.1))


@pytest.mark.parametrize("ids", [True, False])
def test_small_tables_have_rows_to_train_on_and_from_ten_on_on_every_side(ids):
    moved = 0
    for n in range(1, 31):
        for seed in range(30):
            table = make_table(n, np.arange(n) if ids else None)
            part, wide = split_rows(table, seed, 0.1, 0.1), split_rows(make_table(60, np.arange(60)), seed, 0.1, 0.1)
            assert TRAIN in part
            assert n < 10 or set(part) == {TRAIN, VALIDATION, TEST}
            moved += ids and (part != wide[:n]).sum()  # no more than fill an empty side
            assert n < 10 or set(split_rows(table, seed, 0.0, 0.1)) == {TRAIN, VALIDATION}
    assert moved < 30 * 30 * 2 * 0.5
    assert TRAIN in split_rows(make_table(3), 0, 0.5, 0.49)
    many_observations = make_table(1000, np.arange(1000) % 9)  # of few objects
    assert len(set(split_rows(many_observations, 0, 0.01, 0.01))) == 1


@VERSIONS
@pytest.mark.parametrize("fractions", [(1.0, 0.0), (-0.1, 0.1), (0.6, 0.4)])
def test_splits_without_training_rows_are_refused(fractions, version):
    with pytest.raises(ValueError, match=r"fractions must lie|none to train on"):
        split_rows(make_table(), 0, *fractions, version)


def test_unknown_versions_are_refused():
    with pytest.raises(ValueError, match="no version 3"):
        split_rows(make_table(), 0, 0.1, 0.1, version=3)


def test_a_table_that_brings_its_split_keeps_it():
    split = np.arange(100) % 3
    table = make_table(split=split)
    np.testing.assert_array_equal(split_rows(table, 0, 0.1, 0.1), split)
    np.testing.assert_array_equal(split_rows(table.take(np.arange(9)), 0, 0.1, 0.1), split[:9])
    for wrong in (split[:50], split + 1):
        with pytest.raises(ValueError, match="split must hold 0, 1 or 2 for each of 100 rows"):
            make_table(split=wrong)


@pytest.fixture
def quick(tiny):
    return tiny.override(epochs=1)


OPTIONS = {"device": "cpu", "progress": False}


def assert_nothing_learned_is_tested(old: np.ndarray, new: np.ndarray):
    """The sides of the same rows: some were test rows, all of which still are, and no others."""
    assert (old == TEST).sum() > 10
    np.testing.assert_array_equal(new == TEST, old == TEST)


@pytest.mark.parametrize("ids", [True, False])
def test_a_run_that_starts_from_a_trained_model_never_tests_on_what_that_has_learned(table, quick, tmp_path, ids):
    """New rows, in another order, a new column and another seed; then once more from the result."""
    whole = replace(table, ids=np.arange(300) // 2) if ids else table
    first = whole.take(slice(200)).select(("a", "b", "c"))
    old = train(first, quick, run=tmp_path / "old", **OPTIONS).model
    backwards = whole.take(np.arange(300)[::-1])
    new = train(backwards, quick, init_from=tmp_path / "old", run=tmp_path / "new", seed=5, **OPTIONS).model
    assert_nothing_learned_is_tested(old.split, new.split[::-1][:200])
    assert TEST in new.split[:100]
    last = train(whole, quick, init_from=tmp_path / "new", seed=7, **OPTIONS).model
    assert_nothing_learned_is_tested(new.split[::-1], last.split)


def test_no_more_test_objects_are_taken_than_a_trained_model_left(table, quick, tmp_path):
    old = train(table, quick, run=tmp_path / "old", test_fraction=0.15, **OPTIONS).model
    with pytest.warns(UserWarning, match="a fraction of 0.15"):
        new = train(table, quick, init_from=tmp_path / "old", test_fraction=0.4, **OPTIONS).model
    assert_nothing_learned_is_tested(old.split, new.split)


def test_the_split_of_a_model_that_was_split_by_place_is_kept_or_missed(table, quick, tmp_path):
    whole = replace(table, ids=np.r_[np.arange(250), np.arange(50)])  # the last rows: old objects, observed again
    first = whole.take(slice(200)).select(("a", "b", "c"))
    old = train(first, quick, run=tmp_path / "old", split_version=1, test_fraction=0.2, **OPTIONS).model
    new = train(whole, quick, init_from=tmp_path / "old", run=tmp_path / "new", **OPTIONS).model
    np.testing.assert_array_equal(new.split[:200], old.split)
    np.testing.assert_array_equal(new.split[250:], old.split[:50])
    assert TEST in new.split[200:250]
    for run in ("old", "new"):
        with pytest.warns(UserWarning, match="cannot be found"):
            train(whole.take(np.arange(1, 300)), quick, init_from=tmp_path / run, **OPTIONS)


def test_an_old_run_resumes_with_its_permutation(table, tiny, tmp_path):
    """Its config knows no versions, and its split was in no file of its own."""
    for name in ("whole", "killed"):
        train(table, tiny, run=tmp_path / name, split_version=1, checkpoint_every=2, **OPTIONS)
    run = tmp_path / "killed"
    config = json.loads((run / "config.json").read_text())
    del config["experiment"]["training"]["split_version"], config["split_key"]
    (run / "config.json").write_text(json.dumps(config))
    for name in ("split", "model", "checkpoints/state_000004"):
        (run / f"{name}.safetensors").unlink()
    train(table, tiny, run=run, resume=True, checkpoint_every=2, **OPTIONS)
    assert_same_run(tmp_path / "whole", run)
    np.testing.assert_array_equal(checkpoint.load_model(run).split, split_rows(table, 0, 0.1, 0.1, version=1))


def test_a_run_with_a_split_of_its_own_resumes_with_it(table, quick, tmp_path):
    split = np.random.default_rng(0).permutation(300) % 3
    train(replace(table, split=split), quick, run=tmp_path / "run", **OPTIONS)
    (tmp_path / "run" / "checkpoints" / "state_000001.safetensors").unlink()
    assert (train(table, quick, run=tmp_path / "run", resume=True, **OPTIONS).model.split == split).all()


def test_committed_checkpoints_have_the_permutation():
    model = checkpoint.load_model(Path(__file__).parent.parent / "trained_models" / "mixture")
    assert model.experiment.training.split_version == model.split_key.version == 1
    table = load("mixture")
    assert table.fingerprint() == model.fingerprint
    np.testing.assert_array_equal(split_rows(table, 0, 0.1, 0.1, version=1), model.split)
