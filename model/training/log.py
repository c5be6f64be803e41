"""What a run tells people: ``training_metrics.csv``, ``metrics.json`` and ``training_system_info.txt``."""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..datasets import TEST, TRAIN, VALIDATION
from ..defaults import minutes
from ..device import describe_hardware, describe_system
from ..run_folder import Model, write_atomically


def write_system_info(run: Path, device: torch.device):
    """Describe the machine, for whoever has to find out why a run went wrong there."""
    (run / "training_system_info.txt").write_text(describe_system(device))


def write_metrics(run: Path, history: list[dict], columns: Sequence[str]):
    """The whole history anew: after a resume, lines of rounds past the restored state would otherwise stand twice."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(history)
    write_atomically(run / "training_metrics.csv", text.getvalue().encode())


def append_metrics(run: Path, entry: dict):
    """One more round."""
    with open(run / "training_metrics.csv", "a", newline="") as file:
        csv.DictWriter(file, list(entry)).writerow(entry)


def describe(model: Model, rows: int, device: torch.device) -> str:
    """What is about to be trained, and how long it may take: a line before the first step.

    Args:
        model: Before its first step.
        rows: Rows to train on.
        device: Where.
    """
    network, head, training = model.experiment.network, model.experiment.head, model.experiment.training
    text = (
        f"{rows:,} rows x {len(model.units)} columns: {training.recipe} recipe, {network.layers} layers x "
        f"{network.embedding_dim}, head {head.head_layers} x {head.head_width}, "
        f"{model.network.count_parameters()[0]:,} parameters, batches of {training.batch_size}, "
    )
    if training.recipe == "published":
        return text + f"{training.epochs} epochs"
    text += f"at most {training.steps:,} steps"
    if training.max_minutes:
        return text + f" or {training.max_minutes:g} minutes"
    slots = len(model.network.slots.single) + len(model.network.slots.patches)
    return text + (f", about {minutes(model.experiment, slots):.1f} minutes" if device.type == "cpu" else "")


def postfix(entry: dict) -> dict[str, str]:
    """What stands behind the progress bar: the round's numbers."""
    return {name: f"{value:.4g}" for name, value in entry.items() if name not in ("epoch", "step")}


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
        "rows_seen": _rows_seen(model, history[-1]),
        "parameters": parameters,
        "parameters_of_head": head,
        **{name: value if math.isfinite(value) else None for name, value in _best(history).items()},
    }
    write_atomically(run / "metrics.json", json.dumps(summary, indent=1).encode())


def _rows_seen(model: Model, last: dict) -> int:
    """Rows that were trained on, each time they were."""
    if "step" in last:
        return last["step"] * model.experiment.training.batch_size
    return last["epoch"] * int((model.split == TRAIN).sum())


def _best(history: list[dict]) -> dict:
    """The round whose weights are the model's: the best one where scores are kept, else the last."""
    scored = [entry for entry in history if math.isfinite(entry.get("val_score", math.nan))]
    return min(scored, key=lambda entry: entry["val_score"]) if scored else history[-1]
