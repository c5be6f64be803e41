"""The door to training: a table and an experiment in, a trained emulator out."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..config import Experiment, improved
from ..datasets import Table
from ..device import pick_device
from ..inference import Emulator
from ..run_folder import checkpoint
from . import distributed
from . import log as run_log
from .initial import column_order, inherit_split
from .loop import Training


def train(
    table: Table,
    experiment: Experiment | None = None,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    init_from: str | Path | None = None,
    device: str | torch.device | None = None,
    command: str = "",
    progress: bool = True,
    **overrides,
) -> Emulator:
    """Train a density emulator of a table.

    Under ``torchrun`` every process calls this alike; each works on its share of every batch.

    Args:
        table: The rows; only those dealt to training are trained on.
        experiment: Sizes and procedure; the improved recipe if left out.
        run: Folder for checkpoints, metrics and logs; nothing is written without one.
        resume: Continue the run in that folder.
        init_from: Run folder of a trained model to start from; columns it does not know are added to its vocabulary.
        device: Where to train; a GPU if there is one, else the CPU.
        command: The command line, kept in ``metrics.json``.
        progress: Show a tqdm bar.
        **overrides: Fields of the experiment's configs by name, such as ``epochs=64``.

    Returns:
        The trained emulator, on the device.

    Raises:
        ValueError: If the table cannot be trained on, or is not the one that the resumed run was started with.
        FileExistsError: If ``run`` holds a run and ``resume`` is not set.
        FloatingPointError: If the loss stops being finite; the last good checkpoint is kept.
    """
    experiment = (experiment or improved(Experiment("table", ""))).override(**overrides)
    run = None if run is None else Path(run)
    trained = None if init_from is None else checkpoint.load_model(init_from)
    if resume:
        plan = _check_plan(run, table, experiment)
        experiment, command = plan.experiment, plan.command
        table = replace(table.select(plan.columns), requestable=plan.requestable, split=plan.split)
    elif trained is not None:
        table = inherit_split(trained, table.select(column_order(trained, table)), experiment)
    device = pick_device(device or distributed.local_device())
    cuda = [device] if device.type == "cuda" else []
    # Weights and dropout draw from torch's global generators: the caller gets them back as they were.
    with distributed.process_group(device), torch.random.fork_rng(devices=cuda):
        training = Training(table, experiment, run, device)
        if trained is not None and not resume:
            training.continue_from(trained)
        training.restore() if resume else training.open_run(command)
        training.fit(progress and distributed.rank() == 0)
        if run is not None and distributed.rank() == 0:
            run_log.write_summary(run, training.model, training.history, training.seconds, device, command)
    return Emulator(training.model, device)


def _check_plan(run: Path | None, table: Table, experiment: Experiment) -> checkpoint.Plan:
    """The plan of the run to resume, if it is this experiment on this table."""
    if run is None:
        raise ValueError("resume needs the run folder to continue")
    plan = checkpoint.load_plan(run)
    for part in ("network", "head", "training"):
        was, now = asdict(getattr(plan.experiment, part)), asdict(getattr(experiment, part))
        for name in was:
            if was[name] != now[name] and name != "split_version":  # a run keeps its split, whatever is the default
                raise ValueError(f"{run} was started with {name} = {was[name]}, not {now[name]}: it cannot change")
    if set(plan.columns) != set(table.names) or table.select(plan.columns).fingerprint() != plan.fingerprint:
        raise ValueError(f"{run} was started with another table than this one: its split would not be the same")
    return plan
