"""What a run tells people: ``training_metrics.csv``, ``metrics.json`` and ``training_system_info.txt``."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from pathlib import Path

import torch

from ..datasets import TEST, TRAIN, VALIDATION
from ..device import describe_hardware, describe_system
from ..run_folder import Model, write_atomically

METRICS = ("epoch", "learning_rate", "loss", "val_loss")


def write_system_info(run: Path, device: torch.device):
    """Describe the machine, for whoever has to find out why a run went wrong there."""
    (run / "training_system_info.txt").write_text(describe_system(device))


def write_metrics(run: Path, history: list[dict]):
    """The whole history anew: after a resume, lines of epochs past the restored state would otherwise stand twice."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, METRICS)
    writer.writeheader()
    writer.writerows(history)
    write_atomically(run / "training_metrics.csv", text.getvalue().encode())


def append_metrics(run: Path, entry: dict):
    """One more epoch."""
    with open(run / "training_metrics.csv", "a", newline="") as file:
        csv.DictWriter(file, METRICS).writerow(entry)


def write_summary(run: Path, model: Model, history: list[dict], seconds: float, device: torch.device, command: str):
    """``metrics.json``: what was trained, how, how long it took, and on what."""
    parameters, head = model.network.count_parameters()
    names = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    summary = {
        "command": command,
        "hardware": describe_hardware(device),
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "seconds": round(seconds, 1),
        "rows": {name: int((model.split == part).sum()) for name, part in names.items()},
        "parameters": parameters,
        "parameters_of_head": head,
        **{name: value if math.isfinite(value) else None for name, value in history[-1].items()},
    }
    write_atomically(run / "metrics.json", json.dumps(summary, indent=1).encode())
