"""A run folder: what is in it, written so that a kill at any instant loses nothing.

::

    config.json                          the experiment, the columns, where the rows came from
    split.safetensors                    which rows are trained on, validated on and kept for tests
    model.safetensors                    weights, standardizer and split: all that inference and evaluation need
    checkpoints/state_000064.safetensors all that a resume needs; the last two are kept

Every file is written beside its place and moved there when it is complete. Tensors carry a checksum. Nothing is
pickled, so loading a run executes no code of whoever made it.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import Experiment
from ..datasets.split import SplitKey
from ..datasets.vocabulary import Vocabulary
from ..nn import DensityNetwork
from ..scaling import QuantileStandardizer, Recalibration, Standardizer
from .files import load_tensors, save_tensors, write_atomically

FORMAT = 1
KEPT_STATES = 2


@dataclass
class Model:
    """A network and everything it takes to ask it something.

    Args:
        experiment: The sizes and the training procedure.
        vocabulary: The columns, in the order of their tokens.
        units: One unit string per column.
        requestable: The columns the network was trained to answer for.
        standardizer: Fitted on the training rows.
        network: In evaluation mode unless it is being trained.
        split: TRAIN, VALIDATION or TEST for each row of the table, (N,), uint8; empty if unknown.
        split_key: What will decide it for rows that are new; None if unknown.
        source: Where the rows came from, in words.
        fingerprint: Checksum of the table that was split.
        groups: The group of each column; columns that stand alone if left out.
        calibration: What was too narrow on validation rows is widened; nothing is, if left out.
    """

    experiment: Experiment
    vocabulary: Vocabulary
    units: tuple[str, ...]
    requestable: tuple[str, ...]
    standardizer: Standardizer | QuantileStandardizer
    network: DensityNetwork
    split: np.ndarray
    source: str = ""
    fingerprint: str = ""
    split_key: SplitKey | None = None
    groups: tuple[str, ...] = ()
    calibration: Recalibration | None = None

    def __post_init__(self):
        self.groups = tuple(self.groups) or self.vocabulary.names
        self.calibration = self.calibration or Recalibration(len(self.vocabulary))


def make_standardizer(n_columns: int, experiment: Experiment) -> Standardizer | QuantileStandardizer:
    """The recipe's way of scaling columns, not fitted yet."""
    return (QuantileStandardizer if experiment.training.recipe == "improved" else Standardizer)(n_columns)


@contextmanager
def new_run(run: Path) -> Iterator[Path]:
    """A folder to fill, which takes its place as the run folder when all is in it: a run is complete or absent.

    Raises:
        FileExistsError: If the run folder exists and is not empty; nothing is written then.
    """
    if run.exists() and not run.is_dir():
        raise FileExistsError(f"{run} is a file: the run needs a folder of its own")
    if run.exists() and any(run.iterdir()):
        raise FileExistsError(f"{run} already holds a run: continue it with --resume, or choose another folder")
    run.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{run.name}.", dir=run.parent) as folder:
        part = Path(folder) / run.name
        part.mkdir()
        yield part
        os.replace(part, run)


def save_config(run: Path, model: Model, command: str = ""):
    """Write all that is known before the first step, the split too, and the command line that started the run."""
    config = {
        "format": FORMAT,
        "command": command,
        "experiment": model.experiment.to_dict(),
        "columns": model.vocabulary.names,
        "units": model.units,
        "requestable": model.requestable,
        "source": model.source,
        "fingerprint": model.fingerprint,
        "split_key": model.split_key and model.split_key._asdict(),
        "groups": model.groups,
    }
    write_atomically(run / "config.json", json.dumps(config, indent=1).encode())
    # A run that started from a trained model could not find the split again by itself.
    save_tensors(run / "split.safetensors", {"split": torch.from_numpy(model.split)})


def save_model(run: Path, model: Model):
    """Write what inference needs beside the config."""
    tensors = {f"network.{k}": v for k, v in model.network.state_dict().items()}
    tensors |= {f"standardizer.{k}": v for k, v in model.standardizer.state_dict().items()}
    tensors |= {f"calibration.{k}": v for k, v in model.calibration.state_dict().items()}
    tensors["split"] = torch.from_numpy(model.split)
    save_tensors(run / "model.safetensors", tensors)


def load_model(run: str | Path) -> Model:
    """Read a run folder, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: If it holds no config or no weights yet.
        ValueError: If a file is damaged or of another format.
    """
    run = Path(run)
    config = _load_config(run)
    if not (run / "model.safetensors").exists():
        raise FileNotFoundError(f"{run} holds no model.safetensors: its training wrote no checkpoint yet")
    tensors, _ = load_tensors(run / "model.safetensors")
    experiment = _experiment(run, config)
    n_columns = len(config["columns"])
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn only to be overwritten
        network = DensityNetwork(n_columns, experiment, config.get("groups", ()))
    standardizer, calibration = make_standardizer(n_columns, experiment), Recalibration(n_columns)
    for part, module in (("network.", network), ("standardizer.", standardizer)):
        module.load_state_dict({k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)})
    if "calibration.shift" in tensors:  # earlier versions had none
        calibration.load_state_dict({k: tensors[f"calibration.{k}"] for k in calibration.state_dict()})
    return Model(
        experiment=experiment,
        vocabulary=Vocabulary(config["columns"]),
        units=tuple(config["units"]),
        requestable=tuple(config["requestable"]),
        standardizer=standardizer,
        network=network.eval(),
        split=tensors["split"].numpy(),
        source=config["source"],
        fingerprint=config["fingerprint"],
        split_key=SplitKey.from_config(config, experiment.training),
        groups=config.get("groups", ()),
        calibration=calibration,
    )


class Plan(NamedTuple):
    """What a run set out to do, as its config says."""

    experiment: Experiment
    columns: tuple[str, ...]
    requestable: tuple[str, ...]
    fingerprint: str
    command: str
    split: np.ndarray | None  # of runs from before it was stored at the start: the config says how to find it again


def load_plan(run: Path) -> Plan:
    """The plan of a run; errors as `load_model`."""
    config, path = _load_config(run), Path(run) / "split.safetensors"
    return Plan(
        experiment=_experiment(run, config),
        columns=tuple(config["columns"]),
        requestable=tuple(config["requestable"]),
        fingerprint=config["fingerprint"],
        command=config.get("command", ""),
        split=load_tensors(path)[0]["split"].numpy() if path.exists() else None,
    )


def save_state(run: Path, rounds: int, tensors: dict[str, Tensor], facts: dict):
    """Write what a resume after so many rounds (epochs, or evaluations) needs, then drop all but the last states."""
    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    save_tensors(folder / f"state_{rounds:06d}.safetensors", tensors, facts | {"rounds": rounds})
    for old in sorted(folder.glob("state_*.safetensors"))[:-KEPT_STATES]:
        old.unlink()


def load_state(run: Path) -> tuple[dict[str, Tensor], dict]:
    """The newest undamaged state of a run; a damaged one is named in a warning.

    Raises:
        FileNotFoundError: If there is none.
    """
    for path in sorted((run / "checkpoints").glob("state_*.safetensors"), reverse=True):
        try:
            return load_tensors(path)
        except ValueError as error:
            warnings.warn(f"{error}; going back to the state before it", stacklevel=2)
    raise FileNotFoundError(f"{run} holds no state to resume from")


def _load_config(run: Path) -> dict:
    path = run / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{run} is not a run folder: it holds no config.json")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged or incomplete ({error})") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path} has format {found!r}; this version reads format {FORMAT}")
    return config


def _experiment(run: Path, config: dict) -> Experiment:
    try:
        return Experiment.from_dict(config["experiment"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run / 'config.json'} was written by another version: {error}") from error
