"""Several processes train like one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model.config import RECIPES
from model.device import pick_device
from model.run_folder import checkpoint
from model.training.distributed import local_device, rank, share, world_size

ROOT = Path(__file__).parent.parent
SIZES = "--embedding-dim=8 --heads=2 --feedforward-dim=16 --head-width=8 --diffusion-steps=10 --dropout=0"
FLAGS = f"{SIZES} --layers=2 --head-layers=2 --batch-size=50 --device=cpu".split()
BUDGET = {"published": ["--epochs=4", "--cycles=1"], "improved": ["--steps=20", "--evaluations=4"]}


def losses(run: Path) -> np.ndarray:
    return np.genfromtxt(run / "training_metrics.csv", delimiter=",", names=True)


def launch(launcher: list[str], table: Path, run: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [*launcher, "training.py", str(table), "--run", str(run), *FLAGS, *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.fixture
def csv_file(table, tmp_path) -> Path:
    table.to_frame().to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_follow_the_loss_curve_of_one_and_write_one_run(csv_file, tmp_path, recipe):
    one, two = tmp_path / "one", tmp_path / "two"
    flags = ["--recipe", recipe, *BUDGET[recipe]]
    result = launch([sys.executable], csv_file, one, *flags)
    assert result.returncode == 0, result.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--"]
    result = launch(torchrun, csv_file, two, *flags)
    assert result.returncode == 0, result.stderr
    for column in losses(one).dtype.names:
        np.testing.assert_allclose(losses(two)[column], losses(one)[column], rtol=1e-5)
    ours, theirs = (checkpoint.load_model(run).network.state_dict() for run in (one, two))
    for name, tensor in ours.items():
        if name.endswith("qkv.bias"):  # the key's bias has no gradient but rounding errors, which AdamW makes steps of
            continue
        np.testing.assert_allclose(theirs[name].numpy(), tensor.numpy(), rtol=1e-3, atol=1e-5, err_msg=name)
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())
    starts = [json.loads((run / "metrics.json").read_text())["command"].split("training.py")[0] for run in (one, two)]
    assert starts == ["python ", "torchrun --nproc_per_node=2 -- "]


def test_a_single_process_is_its_own_group():
    assert (rank(), world_size()) == (0, 1)
    assert local_device() is None
    assert pick_device(None).type in {"cpu", "cuda"}
    assert torch.equal(share(torch.arange(5)), torch.arange(5))
