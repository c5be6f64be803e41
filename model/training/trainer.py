"""The door to training: a table and an experiment in, a trained emulator out."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..config import BUDGET, Experiment, improved
from ..datasets import Table
from ..defaults import FOLLOWS
from ..device import pick_device
from ..inference import Emulator
from ..run_folder import checkpoint
from . import distributed, log
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
        **overrides: Fields of the experiment's configs by name, such as ``steps=2000``.

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
        if not experiment.network.embedding_dim:  # left to the table: here to the model that is gone on with
            experiment = replace(experiment, network=trained.experiment.network, head=trained.experiment.head)
    device = pick_device(device or distributed.local_device())
    cuda = [device] if device.type == "cuda" else []
    # Weights and dropout draw from torch's global generators: the caller gets them back as they were.
    with distributed.process_group(device), torch.random.fork_rng(devices=cuda):
        training = Training(table, experiment, run, device, None if resume else trained, resume)
        first = distributed.rank() == 0
        if progress and first:
            print(log.describe(training.model, len(training.procedure.train_rows), device), file=sys.stderr)
        training.extend(command) if resume else training.open_run(command)
        try:
            training.fit(progress and first)
        except KeyboardInterrupt:
            if run is None or not training.history:
                raise
            training.finish()
            again = f"{command} --resume" if command else f"train(..., run={str(run)!r}, resume=True)"
            print(f"interrupted: {run} holds the best so far; to go on: {again}", file=sys.stderr)
        if run is not None and first:
            log.write_summary(run, training.model, training.history, training.seconds, device, command)
    return Emulator(training.model, device)


def _check_plan(run: Path | None, table: Table, experiment: Experiment) -> checkpoint.Plan:
    """The plan of the run to resume, if it is this experiment on this table; its budget may have grown."""
    if run is None:
        raise ValueError("resume needs the run folder to continue")
    plan = checkpoint.load_plan(run)
    budget = {}
    for part in ("network", "head", "training"):
        was, now = asdict(getattr(plan.experiment, part)), asdict(getattr(experiment, part))
        for name in was:
            if was[name] == now[name] or (name in (*FOLLOWS, *BUDGET) and not now[name]):
                continue
            if name == "split_version":  # a run keeps its split, whatever is the default
                continue
            if name not in BUDGET:
                raise ValueError(f"{run} was started with {name} = {was[name]}, not {now[name]}: it cannot change")
            budget[name] = now[name]
    if set(plan.columns) != set(table.names) or table.select(plan.columns).fingerprint() != plan.fingerprint:
        raise ValueError(f"{run} was started with another table than this one: its split would not be the same")
    return plan._replace(experiment=plan.experiment.override(**budget))
