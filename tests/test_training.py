"""What users do on the command line, as subprocesses: train, misuse, kill and resume."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model import Emulator
from model.config import RECIPES
from tests.run_folders import assert_same_run, read_metrics

ROOT = Path(__file__).parent.parent
TINY = [
    "--embedding-dim",
    "8",
    "--heads",
    "2",
    "--feedforward-dim",
    "16",
    "--head-width",
    "8",
    "--diffusion-steps",
    "10",
]


# One thread: with several, networks as small as these wait for each other more than they compute.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def command(*arguments, **variables):
    call = [sys.executable, "training.py", *map(str, arguments)]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT | variables)


@pytest.fixture
def csv_file(table, tmp_path) -> Path:
    frame = table.to_frame()
    frame.insert(0, "star", np.arange(len(frame)) // 2)  # every star is observed twice
    frame.to_csv(tmp_path / "my_stars.csv", index=False)
    return tmp_path / "my_stars.csv"


@pytest.mark.parametrize(
    ("experiment", "counts"),
    [("stars", "3,774,465, of which 1,853,441"), ("california_housing", "47,425, of which 21,377")],
)
def test_dry_run_prints_layers_counts_and_the_table_and_writes_nothing(experiment, counts, tmp_path):
    result = command(experiment, "--dry-run", "--run", tmp_path / "run", DATA_FILES=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert counts in result.stdout
    assert "(qkv): Linear(" in result.stdout
    assert "missing" in result.stdout
    assert not (tmp_path / "run").exists()


def test_a_table_of_ones_own_trained_by_one_process_and_asked_by_another(csv_file, tmp_path):
    run = tmp_path / "run"
    result = command(
        csv_file, "--id-column", "star", "--request", "a", "b", "--run", run, "--steps", 4, "--evaluations", 2, *TINY
    )
    assert result.returncode == 0, result.stderr
    assert "loss=" in result.stderr  # the bar
    rows = read_metrics(run)
    assert [row["step"] for row in rows] == ["2", "4"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["command"].startswith("python training.py")
    assert sum(metrics["rows"].values()) == 300
    assert min(metrics["rows"].values()) > 10
    assert "python: " in (run / "training_system_info.txt").read_text()
    emulator = Emulator.load(run, "cpu")
    assert emulator.requestable == ("a", "b")
    assert (emulator.model.split[::2] == emulator.model.split[1::2]).all()  # a star is on one side only
    script = f"from model import Emulator; print(Emulator.load({str(run)!r}, 'cpu').conditional('a').rvs(3, seed=0))"
    other = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert other.stdout.strip() == str(emulator.conditional("a").rvs(3, seed=0))


def test_list_and_help_and_missing_arguments():
    result = command("--list")
    assert all(name in result.stdout for name in ("stars", "california_housing", "green2021", "mixture"))
    assert "2 layers x 192, head 5 x 512, T = 120, 10240 epochs" in result.stdout
    assert "--weight-decay" in command("--help").stdout
    assert "name an experiment" in command().stderr


def write(tmp_path, **columns) -> Path:
    pd.DataFrame(columns).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def bad_table(kind: str, tmp_path: Path) -> tuple[list, str]:
    """Arguments of a command that must fail, and what its message must say."""
    x = np.linspace(0, 1, 50)
    good = {"x": x, "y": x**2}
    if kind == "unknown column":
        return [write(tmp_path, **good), "--columns", "x", "yy"], "yy"
    if kind == "duplicate column":
        (tmp_path / "table.csv").write_text("x,y,x\n1,2,3\n4,5,6\n")
        return [tmp_path / "table.csv"], "'?x'?"
    if kind == "all-NaN column":
        return [write(tmp_path, **good, z=np.full(50, np.nan))], "z"
    if kind == "infinite value":
        return [write(tmp_path, x=x, y=np.where(x > 0.9, np.inf, x))], "infinite"
    if kind == "constant column":
        return [write(tmp_path, **good, z=np.ones(50))], "constant"
    if kind == "empty table":
        (tmp_path / "table.csv").write_text("x,y\n")
        return [tmp_path / "table.csv"], "empty|no rows|row"
    if kind == "text in a numeric column":
        return [
            write(tmp_path, x=x, y=["oops" if i == 3 else str(i) for i in range(50)]),
            "--columns",
            "x",
            "y",
        ], "oops"
    if kind == "truncated HDF5":
        pd.DataFrame(good).to_numpy().tofile(tmp_path / "table.h5")
        return [tmp_path / "table.h5"], r"table\.h5"
    if kind == "missing file":
        return [tmp_path / "nowhere.csv"], "nowhere"
    if kind == "bad value":
        return [write(tmp_path, **good), "--heads", "5"], "heads"
    raise ValueError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "unknown column",
        "duplicate column",
        "all-NaN column",
        "infinite value",
        "constant column",
        "empty table",
        "text in a numeric column",
        "truncated HDF5",
        "missing file",
        "bad value",
    ],
)
def test_bad_input_gets_a_clear_error_and_nothing_is_written(kind, tmp_path):
    arguments, message = bad_table(kind, tmp_path)
    before = sorted(tmp_path.iterdir())
    result = command(*arguments, "--run", tmp_path / "run")
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert re.search(message, result.stderr.splitlines()[-1]), result.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["stars", "green2021"])
def test_missing_data_files_say_where_to_get_them(name, tmp_path):
    result = command(name, "--run", tmp_path / "run", DATA_FILES=str(tmp_path))
    assert result.returncode != 0
    assert {"stars": "zenodo", "green2021": "green2020-stellar-model"}[name] in result.stderr
    assert str(tmp_path) in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_killed_run_resumes_to_the_same_weights_and_metrics(csv_file, tmp_path, recipe):
    budget = ["--epochs", 60, "--cycles", 3] if recipe == "published" else ["--steps", 300, "--evaluations", 60]
    arguments = [
        csv_file,
        "--recipe",
        recipe,
        *budget,
        "--checkpoint-every",
        4,
        *TINY,
        "--layers",
        2,
        "--head-layers",
        2,
    ]
    arguments += [] if recipe == "published" else ["--patience", 1]
    assert command(*arguments, "--run", tmp_path / "whole").returncode == 0
    run = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "training.py", *map(str, arguments), "--run", str(run)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.time() + 60
    while not (run / "checkpoints" / "state_000008.safetensors").exists() and time.time() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "metrics.json").exists(), "the run was over before it was killed"
    result = command(csv_file, "--run", run, "--resume")
    assert result.returncode == 0, result.stderr
    assert_same_run(tmp_path / "whole", run)


def test_the_command_line_starts_from_a_trained_model(csv_file, tmp_path):
    flags = ["--steps", 4, *TINY]
    assert command(csv_file, "--columns", "a", "b", "--run", tmp_path / "old", *flags).returncode == 0
    frozen = ["--learning-rate", 1e-30, "--weight-decay", 0, "--steps", 2]
    result = command(csv_file, "--init-from", tmp_path / "old", "--run", tmp_path / "new", *frozen)
    assert result.returncode == 0, result.stderr
    old, new = (Emulator.load(tmp_path / name, "cpu", calibrated=False) for name in ("old", "new"))
    assert set(new.columns) > set(old.columns)
    given = {"b": [0.2]}
    assert np.array_equal(old.conditional("a", given).rvs(9, seed=0), new.conditional("a", given).rvs(9, seed=0))


def test_a_data_set_is_not_an_experiment():
    result = command("apogee_xp", "--dry-run")
    assert "the experiment on it is stars" in result.stderr
