"""One run in progress: step, validate, log, checkpoint.

B batch, V kinds of data, N rows.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from ..config import Experiment
from ..datasets import TRAIN, VALIDATION, Table
from ..run_folder import Model, checkpoint
from . import distributed
from . import log as run_log
from . import state as training_state
from .batching import Batch, draw_batch, trainable_rows
from .initial import continue_from, make_model

# Context slots that go through the network together: on a CPU what fits its caches, which is several times faster than
# going to memory for every operation. Gradients add up, so a step is the same.
TOKENS_AT_ONCE = {"cpu": 2048}


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
        torch.manual_seed(config.seed)
        self.model = make_model(table, experiment)
        # What is trained. What is validated, saved and asked is the model's: the same, or its running average.
        self.network = network = self.model.network.to(device)
        if config.averaging:
            self.network = network = copy.deepcopy(network)
            self.average = get_ema_multi_avg_fn(config.averaging)
        torch.manual_seed(config.seed + distributed.rank())  # the same weights, but dropout of one's own

        self.requestable = torch.tensor([name in table.requestable for name in table.names])
        self.group = torch.from_numpy(np.unique(table.groups, return_inverse=True)[1]).to(device)
        values = torch.from_numpy(table.values)  # (N, V), in the columns' units, no copy
        usable = trainable_rows(values, self.requestable)
        self.train_rows, self.val_rows = (
            torch.from_numpy(self.model.split == part).logical_and(usable).nonzero().squeeze(1).to(device)
            for part in (TRAIN, VALIDATION)
        )
        # A memory map stays on disk and sends the rows of a batch; any other table moves to the device. (mps has no
        # float64, so there the host standardises.)
        stays = isinstance(table.values.base, np.memmap) or device.type == "mps"
        self.values = values if stays else values.to(device)
        self.model.standardizer.to(self.values.device)
        self.requestable = self.requestable.to(device)
        if not len(self.train_rows):
            raise ValueError(f"no training row has an observed value among {', '.join(table.requestable)}")

        self.improved = config.recipe == "improved"
        most = len(table.names) - self.improved  # its targets never stand in their own contexts
        self.max_context = min(config.max_context or most, most)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            self.optimizer, T_0=config.epochs // config.cycles, eta_min=config.min_learning_rate
        )
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.loss = distributed.data_parallel(network)
        if config.compile:
            self.loss = torch.compile(self.loss, dynamic=True)
        self.history: list[dict] = []  # one entry an epoch, the columns of training_metrics.csv
        self.seconds = 0.0

    def fit(self, progress: bool):
        """Train from the epoch reached so far to the last one."""
        config, start, before = self.config, time.perf_counter(), self.seconds
        with tqdm(total=config.epochs, initial=len(self.history), unit="epoch", disable=not progress) as bar:
            while len(self.history) < config.epochs:
                self._epoch()
                self.seconds = before + time.perf_counter() - start
                done = len(self.history)
                if done % config.checkpoint_every == 0 or done == config.epochs:
                    self.save()
                rate = len(self.train_rows) * done / self.seconds
                bar.set_postfix(loss=f"{self.history[-1]['loss']:.4f}", rows_per_s=f"{rate:.0f}", refresh=False)
                bar.update()
        self.model.network.eval()

    def _epoch(self):
        learning_rate = self.scheduler.get_last_lr()[0]
        self.network.train()
        # Losses stay on the device until the epoch is over, so that the host never waits for a step.
        losses = torch.stack([self.step(batch) for batch in self._batches(self.train_rows, self.generator)])
        losses = distributed.sum_over_processes(losses)
        self._require_finite(losses, "training loss", "step")
        self._require_finite_weights()
        self.scheduler.step()
        entry = (len(self.history) + 1, learning_rate, losses.mean().item(), self._validate())
        self.history.append(dict(zip(run_log.METRICS, entry)))
        if self._writes:
            run_log.append_metrics(self.run, self.history[-1])

    def step(self, batch: Batch) -> Tensor:
        """One optimiser step on this process's share of a batch; returns its share of the batch's mean loss."""
        self.optimizer.zero_grad()
        parts = list(_in_parts(Batch(*map(distributed.share, batch)), TOKENS_AT_ONCE.get(self.device.type)))
        losses = []
        for i, part in enumerate(parts):
            with (
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"),
                distributed.keep_gradients(self.loss, until=i == len(parts) - 1),
            ):
                loss = self.loss(part).sum() / len(batch.target)
                # Gradients are averaged over the processes, but this loss is a share of a sum.
                (loss * distributed.world_size()).backward()
            losses.append(loss.detach())
        self.optimizer.step()
        if self.config.averaging:
            if self.history:
                self.average(list(self.model.network.parameters()), list(self.network.parameters()), None)
            else:  # the first epoch's weights are not worth remembering
                self.model.network.load_state_dict(self.network.state_dict())
        return torch.stack(losses).sum()

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean loss over the validation rows, each epoch with the same contexts, requests and noise."""
        if not len(self.val_rows):
            return math.nan
        self.model.network.eval()
        generator = torch.Generator(self.device).manual_seed(self.config.seed + 1)
        losses = torch.cat([self.model.network(batch) for batch in self._batches(self.val_rows, generator)])
        self._require_finite(losses, "validation loss", "row")
        return losses.mean().item()

    def _batches(self, rows: Tensor, generator: torch.Generator):
        """All rows once, shuffled, in batches of nearly equal size (no remainder), each with its own context length."""
        order = rows[torch.randperm(len(rows), generator=generator, device=self.device)]
        batches = order.tensor_split(math.ceil(len(rows) / self.config.batch_size))
        shape = (len(batches),)
        lengths = self._draw_lengths(shape, generator)
        if self.config.complete_contexts:
            complete = torch.rand(shape, generator=generator, device=self.device) < self.config.complete_contexts
            lengths[complete] = self.max_context
        for batch, length in zip(batches, lengths.tolist()):
            yield self.draw(batch, length, generator)

    def _draw_lengths(self, shape: tuple[int], generator: torch.Generator) -> Tensor:
        """Context lengths 0 .. max_context, one a batch."""
        most = self.max_context
        if self.config.length_draw == "uniform":
            return torch.randint(most + 1, shape, generator=generator, device=self.device)
        # The logarithm of length + 1 is uniform: few values are what is given most often.
        place = torch.rand(shape, generator=generator, device=self.device)
        return ((most + 2) ** place).long().clamp(1, most + 1) - 1

    def draw(self, rows: Tensor, length: int, generator: torch.Generator) -> Batch:
        """A batch of these rows, (B,), with this many context slots."""
        values, standardizer = self.values[rows.to(self.values.device)], self.model.standardizer  # (B, V)
        batch = draw_batch(
            standardizer.standardize_stored(values).to(self.device),
            self.requestable,
            length,
            self.model.network.head.draw,
            generator,
            noise_draws=self.config.noise_draws,
            context_draw=self.config.context_draw,
            own_target=not self.improved,
            group=self.group,
        )
        if not self.improved:
            return batch
        column = (batch.request - 1).to(values.device)
        place = torch.rand(len(rows), generator=generator, device=self.device).to(values.device)
        target = standardizer.dequantize_stored(values.gather(1, column.unsqueeze(1)).squeeze(1), column, place)
        return batch._replace(target=target.to(self.device))

    def _require_finite_weights(self):
        """Refuse an epoch whose last update was not finite: its loss would show that only after a checkpoint."""
        finite = torch.stack([p.detach().isfinite().all() for p in self.network.parameters()])
        if not finite.all():
            raise FloatingPointError(
                f"weights are not finite after the last step of epoch {len(self.history) + 1}: "
                f"try a smaller learning_rate.{self._kept}"
            )

    def _require_finite(self, losses: Tensor, what: str, place: str):
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            raise FloatingPointError(
                f"the {what} is {losses[bad[0, 0]].item()} in epoch {len(self.history) + 1}, "
                f"{place} {bad[0, 0].item() + 1}: try a smaller learning_rate.{self._kept}"
            )

    @property
    def _kept(self) -> str:
        return "" if self.run is None else f" The last good checkpoint is in {self.run}."

    @property
    def _writes(self) -> bool:
        return self.run is not None and distributed.rank() == 0

    def continue_from(self, trained: Model):
        """Start from a trained model's weights and scales; see `initial.continue_from`."""
        continue_from(trained, self.model)
        self.network.load_state_dict(self.model.network.state_dict())

    def open_run(self, command: str = ""):
        """Make the run folder, if there is to be one, with all it takes to resume before the first step."""
        if self._writes:
            with checkpoint.new_run(self.run) as folder:
                checkpoint.save_config(folder, self.model, command)
                run_log.write_system_info(folder, self.device)
                run_log.write_metrics(folder, self.history)
                self._save_state(folder)

    def save(self):
        """Write a checkpoint: the state to resume from, then the model to ask."""
        if self._writes:
            self._save_state(self.run)
            checkpoint.save_model(self.run, self.model)

    def restore(self):
        """Go back to the newest good state of the run."""
        tensors, facts = checkpoint.load_state(self.run)
        training_state.unpack(tensors, facts, *self._changing)
        self.history, self.seconds = facts["history"], facts["seconds"]
        distributed.wait_for_all()  # before a process writes what another one still reads
        if distributed.rank() > 0:  # the state is that of process 0, and dropout is each one's own
            torch.manual_seed(hash((self.config.seed, distributed.rank(), len(self.history))))
        if self._writes:
            run_log.write_metrics(self.run, self.history)
            if self.history:  # the kill may have come between the state and the model
                checkpoint.save_model(self.run, self.model)

    def _save_state(self, folder: Path):
        tensors, facts = training_state.pack(*self._changing)
        facts |= {"history": self.history, "seconds": self.seconds}
        checkpoint.save_state(folder, len(self.history), tensors, facts)

    @property
    def _changing(self) -> tuple:
        """What changes while the run goes on, for `training_state`."""
        model, network = self.model, self.network
        if self.config.averaging:
            network = nn.ModuleDict({"trained": network, "average": model.network})
        return network, model.standardizer, self.optimizer, self.scheduler, self.generator


def _in_parts(batch: Batch, tokens: int | None) -> Iterator[Batch]:
    """The batch in parts of at most so many tokens, rows with short contexts first; whole if that is None.

    Slots that are empty in all rows of a part are cut off, which changes nothing but the time it takes.
    """
    if tokens is None or not len(batch.token):  # of a small batch, a process may have no share
        yield batch
        return
    place = torch.arange(batch.token.shape[1], device=batch.token.device)
    filled = torch.where(batch.token > 0, place + 1, 0)
    lengths, order = nn.functional.pad(filled, (1, 0)).amax(1).sort(stable=True)  # (B,): up to the last filled slot
    start, lengths = 0, lengths.tolist()
    for stop in range(1, len(lengths) + 1):
        if stop == len(lengths) or (stop + 1 - start) * (lengths[stop] + 1) > tokens:
            part = Batch(*(x[order[start:stop]] for x in batch))
            longest = lengths[stop - 1]
            yield part._replace(token=part.token[:, :longest], value=part.value[:, :longest])
            start = stop
