"""What tests of training share."""

import csv
from pathlib import Path

import torch

from model.training import Training

# Sizes of any recipe's network with which a training takes a second.
SMALL = {"embedding_dim": 8, "heads": 2, "feedforward_dim": 16, "layers": 2, "head_width": 8, "head_layers": 2}
SMALL |= {"batch_size": 64}
# And a short run of each.
SHORT = {"published": {"epochs": 4, "cycles": 1}, "improved": {"steps": 12, "evaluations": 4, "patience": 1.0}}


def read_metrics(run: Path) -> list[dict]:
    with open(run / "training_metrics.csv") as file:
        return list(csv.DictReader(file))


def assert_same_run(one: Path, other: Path):
    for name in ("model.safetensors", "training_metrics.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def make_training(table, tiny, run: Path | None = None, **overrides) -> Training:
    with torch.random.fork_rng():
        return Training(table, tiny.override(**overrides), run, torch.device("cpu"))
