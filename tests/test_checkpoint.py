"""Nothing is lost, nothing damaged is believed, nothing is overwritten."""

import json
import os

import pytest
import torch

from model import train
from model.run_folder import checkpoint


@pytest.fixture
def run(table, tiny, tmp_path):
    train(table, tiny, run=tmp_path / "run", device="cpu", progress=False, checkpoint_every=1)
    return tmp_path / "run"


def test_all_that_shapes_a_run_is_in_the_config(run, table, tiny):
    config = json.loads((run / "config.json").read_text())
    assert config["experiment"] == tiny.override(checkpoint_every=1).to_dict()
    assert config["columns"] == list(table.names)
    assert config["units"] == list(table.units)
    assert config["requestable"] == list(table.requestable)
    assert config["source"] == table.source
    assert config["fingerprint"] == table.fingerprint()


def test_loading_gives_back_weights_standardizer_and_split(run, table, tiny):
    model = checkpoint.load_model(run)
    fresh = train(table, tiny, device="cpu", progress=False, checkpoint_every=1).model
    for name, tensor in fresh.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], tensor), name
    for name, tensor in fresh.standardizer.state_dict().items():
        assert torch.equal(model.standardizer.state_dict()[name], tensor), name
    assert (model.split == fresh.split).all()
    assert not model.network.training


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "not safetensors"])
def test_a_damaged_file_is_named(run, damage):
    path = run / "model.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    content = {"truncate": content[:-100], "flip": content, "empty": b"", "not safetensors": b"hello" * 50}[damage]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        checkpoint.load_model(run)


def test_a_half_written_config_is_named(run):
    path = run / "config.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        checkpoint.load_model(run)


def test_a_later_format_is_refused(run):
    path = run / "config.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ValueError, match="format 99"):
        checkpoint.load_model(run)


def test_a_config_of_another_version_is_refused(run):
    path = run / "config.json"
    path.write_text(path.read_text().replace('"head_width"', '"width_of_head"'))
    with pytest.raises(ValueError, match="another version"):
        checkpoint.load_model(run)
    path.write_text("[]")
    with pytest.raises(ValueError, match="format None"):
        checkpoint.load_model(run)


def test_folders_without_a_run_or_without_weights_are_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        checkpoint.load_model(tmp_path)
    (run / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no checkpoint yet"):
        checkpoint.load_model(run)


def test_two_states_are_kept_and_the_one_before_a_damaged_one_is_used(run):
    states = sorted((run / "checkpoints").iterdir())
    assert [path.name for path in states] == ["state_000003.safetensors", "state_000004.safetensors"]
    states[-1].write_bytes(states[-1].read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"state_000004\.safetensors is damaged"):
        _, facts = checkpoint.load_state(run)
    assert facts["rounds"] == 3


def test_a_write_that_fails_leaves_the_file_before_it(tmp_path, monkeypatch):
    path = tmp_path / "file"
    checkpoint.write_atomically(path, b"good")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*is intact"):
        checkpoint.write_atomically(path, b"new")
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_run_folder_is_refused_and_left_alone(run, table, tiny):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="already holds a run"):
        train(table, tiny, run=run, device="cpu", progress=False)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_no_pickle_is_written(run):
    for path in run.rglob("*"):
        assert path.suffix in {"", ".json", ".csv", ".txt", ".safetensors"}
        if path.suffix == ".safetensors":
            assert path.read_bytes()[8:9] == b"{"  # a JSON header, no opcodes
