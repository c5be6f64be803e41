"""Training: split, step, validate, log, checkpoint, resume.

B batch, V kinds of data, N rows.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from model import checkpoint, run_log
from model.batching import draw_batch, trainable_rows
from model.checkpoint import Model
from model.config import Experiment
from model.datasets import TRAIN, VALIDATION, Table, split_rows
from model.device import pick_device
from model.emulator import Emulator
from model.network import DensityNetwork
from model.standardizer import Standardizer
from model.vocabulary import Vocabulary


def train(
    table: Table,
    experiment: Experiment | None = None,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device | None = None,
    command: str = "",
    progress: bool = True,
    **overrides,
) -> Emulator:
    """Train a density emulator of a table.

    Args:
        table: The rows; only those dealt to training are trained on.
        experiment: Sizes and procedure; the published recipe with California's sizes if left out.
        run: Folder for checkpoints, metrics and logs; nothing is written without one.
        resume: Continue the run in that folder.
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
    experiment = (experiment or Experiment("table", "")).override(**overrides)
    run = None if run is None else Path(run)
    if resume:
        _check_resumable(run, table, experiment)
    device = pick_device(device)
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):  # weights and dropout draw from torch's global generators
        torch.manual_seed(experiment.training.seed)
        training = Training(table, experiment, run, device)
        if resume:
            training.restore()
        elif run is not None:
            training.open_run()
        training.fit(progress)
    if run is not None:
        run_log.write_summary(run, training.model, training.history, training.seconds, device, command)
    return Emulator(training.model, device)


class Training:
    """One run in progress: what changes from step to step, and how.

    Args:
        table: The rows.
        experiment: Sizes and procedure.
        run: Run folder, or None.
        device: Where to train.
    """

    def __init__(self, table: Table, experiment: Experiment, run: Path | None, device: torch.device):
        self.config = config = experiment.training
        self.run, self.device = run, device
        split = split_rows(table, config.seed, config.test_fraction, config.val_fraction)
        standardizer = Standardizer(len(table.names)).fit(table.values[split == TRAIN], table.names)
        network = DensityNetwork(len(table.names), experiment).to(device)
        self.model = Model(
            experiment=experiment,
            vocabulary=Vocabulary(table.names),
            units=table.units,
            requestable=table.requestable,
            standardizer=standardizer,
            network=network,
            split=split,
            source=table.source,
            fingerprint=table.fingerprint(),
        )
        self.values = standardizer.standardize(torch.from_numpy(table.values)).to(device)  # (N, V)
        self.requestable = torch.tensor([name in table.requestable for name in table.names], device=device)
        usable = trainable_rows(self.values, self.requestable).cpu()
        self.train_rows, self.val_rows = (
            torch.from_numpy(split == part).logical_and(usable).nonzero().squeeze(1).to(device)
            for part in (TRAIN, VALIDATION)
        )
        if not len(self.train_rows):
            raise ValueError(f"no training row has an observed value among {', '.join(table.requestable)}")
        self.steps = experiment.head.diffusion_steps
        self.max_context = min(config.max_context or len(table.names), len(table.names))
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            self.optimizer, T_0=config.epochs // config.cycles, eta_min=config.min_learning_rate
        )
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.history: list[dict] = []  # one entry an epoch, the columns of training_metrics.csv
        self.seconds = 0.0

    def fit(self, progress: bool):
        """Train from the epoch reached so far to the last one."""
        config, start, before = self.config, time.perf_counter(), self.seconds
        bar = tqdm(total=config.epochs, initial=len(self.history), unit="epoch", disable=not progress)
        with bar:
            while len(self.history) < config.epochs:
                self._epoch()
                self.seconds = before + time.perf_counter() - start
                done = len(self.history)
                if self.run is not None and (done % config.checkpoint_every == 0 or done == config.epochs):
                    self.save()
                rate = len(self.train_rows) * done / self.seconds
                bar.set_postfix(loss=f"{self.history[-1]['loss']:.4f}", rows_per_s=f"{rate:.0f}", refresh=False)
                bar.update()
        self.model.network.eval()

    def _epoch(self):
        learning_rate = self.scheduler.get_last_lr()[0]
        self.model.network.train()
        losses = torch.stack(list(map(self._step, self._batches(self.train_rows, self.generator))))
        self._require_finite(losses, "training")
        self.scheduler.step()
        entry = (len(self.history) + 1, learning_rate, losses.mean().item(), self._validate())
        self.history.append(dict(zip(run_log.METRICS, entry)))
        if self.run is not None:
            run_log.append_metrics(self.run, self.history[-1])

    def _step(self, batch) -> Tensor:
        """One optimiser step; the loss stays on the device, so that the host never waits for it."""
        loss = self.model.network.loss(batch).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean loss over the validation rows, each epoch with the same contexts, requests and noise."""
        if not len(self.val_rows):
            return math.nan
        self.model.network.eval()
        generator = torch.Generator(self.device).manual_seed(self.config.seed + 1)
        batches = self._batches(self.val_rows, generator)
        losses = torch.cat([self.model.network.loss(batch) for batch in batches])
        self._require_finite(losses, "validation")
        return losses.mean().item()

    def _batches(self, rows: Tensor, generator: torch.Generator):
        """All rows once, shuffled, in batches of nearly equal size (no remainder), each with its own context length."""
        order = rows[torch.randperm(len(rows), generator=generator, device=self.device)]
        batches = order.tensor_split(math.ceil(len(rows) / self.config.batch_size))
        shape = (len(batches),)
        lengths = torch.randint(self.max_context + 1, shape, generator=generator, device=self.device).tolist()
        for batch, length in zip(batches, lengths):
            yield draw_batch(
                self.values[batch], self.requestable, length, self.steps, generator, self.config.noise_draws
            )

    def _require_finite(self, losses: Tensor, what: str):
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            kept = "" if self.run is None else f" The last good checkpoint is in {self.run}."
            raise FloatingPointError(
                f"the {what} loss is {losses[bad[0, 0]].item()} in epoch {len(self.history) + 1}, "
                f"step {bad[0, 0].item() + 1}: try a smaller learning_rate.{kept}"
            )

    def open_run(self):
        """Make the run folder."""
        checkpoint.create_run(self.run, self.model)
        run_log.write_system_info(self.run, self.device)
        run_log.write_metrics(self.run, self.history)

    def save(self):
        """Write a checkpoint: the state to resume from, then the model to ask."""
        tensors = {f"network.{name}": tensor for name, tensor in self.model.network.state_dict().items()}
        optimizer = self.optimizer.state_dict()
        for i, moments in optimizer["state"].items():
            tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in moments.items()}
        tensors |= {"rng.batches": self.generator.get_state(), "rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        facts = {
            "param_groups": optimizer["param_groups"],
            "scheduler": self.scheduler.state_dict(),
            "history": self.history,
            "seconds": self.seconds,
        }
        checkpoint.save_state(self.run, len(self.history), tensors, facts)
        checkpoint.save_model(self.run, self.model)

    def restore(self):
        """Go back to the newest good state of the run, or to its start where it has none."""
        try:
            tensors, facts = checkpoint.load_state(self.run)
        except FileNotFoundError:
            run_log.write_metrics(self.run, self.history)
            return
        moments: dict[int, dict] = {}
        weights = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            if part == "network":
                weights[rest] = tensor
            elif part == "optimizer":
                i, _, moment = rest.partition(".")
                moments.setdefault(int(i), {})[moment] = tensor
        self.model.network.load_state_dict(weights)
        self.optimizer.load_state_dict({"state": moments, "param_groups": facts["param_groups"]})
        self.scheduler.load_state_dict(facts["scheduler"])
        self.history, self.seconds = facts["history"], facts["seconds"]
        self.generator.set_state(tensors["rng.batches"])
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        run_log.write_metrics(self.run, self.history)


def _check_resumable(run: Path | None, table: Table, experiment: Experiment):
    if run is None:
        raise ValueError("resume needs the run folder to continue")
    saved, fingerprint = checkpoint.load_experiment(run)
    for part in ("network", "head", "training"):
        was, now = asdict(getattr(saved, part)), asdict(getattr(experiment, part))
        for name in was:
            if was[name] != now[name]:
                raise ValueError(f"{run} was started with {name} = {was[name]}, not {now[name]}: it cannot change")
    if fingerprint != table.fingerprint():
        raise ValueError(f"{run} was started with another table than this one: its split would not be the same")
