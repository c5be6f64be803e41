"""What tests of training look at in run folders."""

import csv
from pathlib import Path


def read_metrics(run: Path) -> list[dict]:
    with open(run / "training_metrics.csv") as file:
        return list(csv.DictReader(file))


def assert_same_run(one: Path, other: Path):
    for name in ("model.safetensors", "training_metrics.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
