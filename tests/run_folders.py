"""What tests of training share."""

import csv
from pathlib import Path

import torch

from model.training import Training

# Sizes of any recipe's network with which a training takes a second.
SMALL = {"embedding_dim": 8, "heads": 2, "feedforward_dim": 16, "head_width": 8, "batch_size": 64, "epochs": 4}


def read_metrics(run: Path) -> list[dict]:
    with open(run / "training_metrics.csv") as file:
        return list(csv.DictReader(file))


def assert_same_run(one: Path, other: Path):
    for name in ("model.safetensors", "training_metrics.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def make_training(table, tiny, **overrides) -> Training:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Training(table, tiny.override(**overrides), None, torch.device("cpu"))
