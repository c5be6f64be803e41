"""One run in progress: step, average, evaluate, log, checkpoint.

B batch.
"""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..config import Experiment
from ..datasets import Table
from ..nn import Batch
from ..run_folder import Model, checkpoint
from . import distributed, log, state
from .initial import continue_from, make_model
from .procedures import Improved, Published


class Training:
    """One run in progress: what changes from step to step, and how.

    Three networks may differ: the one that is trained; the running average of its weights, which is evaluated; and the
    best of those, which is the model's, saved and asked. As published, all are one.

    Args:
        table: The rows.
        experiment: Sizes and procedure.
        run: Run folder, or None.
        device: Where to train.
        trained: A trained model to start from.
        resume: Go on from the newest good state of the run.
    """

    def __init__(
        self,
        table: Table,
        experiment: Experiment,
        run: Path | None,
        device: torch.device,
        trained: Model | None = None,
        resume: bool = False,
    ):
        self.run, self.device = run, device
        torch.manual_seed(experiment.training.seed)
        self.model = make_model(table, experiment)
        if trained is not None:
            continue_from(trained, self.model)
        saved = checkpoint.load_state(run) if resume else None
        if saved is not None:  # the rows are scaled below, as they were when the run began
            state.unpack_module(saved[0], "standardizer", self.model.standardizer)
        self.config = config = self.model.experiment.training
        self.network = self.average = self.model.network.to(device)
        if config.average_width:
            self.network, self.average = copy.deepcopy(self.network), copy.deepcopy(self.network)
        torch.manual_seed(config.seed + distributed.rank())  # the same weights, but dropout of one's own
        procedure = Improved if config.recipe == "improved" else Published
        self.procedure = procedure(self.model, table, self.network, device)
        self.loss = distributed.data_parallel(self.network)
        if config.compile:
            self.loss = torch.compile(self.loss, dynamic=True)
        self.history: list[dict] = []  # one entry a round, the columns of training_metrics.csv
        self.done, self.best, self.seconds = 0, math.inf, 0.0
        if saved is not None:
            self._restore(*saved)

    def fit(self, progress: bool):
        """Train from where the run stands to its end, then calibrate."""
        start, procedure = time.perf_counter() - self.seconds, self.procedure
        initial = self.done if procedure.unit == "step" else len(self.history)
        with (
            tqdm(total=procedure.total, initial=initial, unit=procedure.unit, disable=not progress) as bar,
            distributed.full_speed(self.device),
        ):
            while not procedure.is_over(self.history, self.done, self.seconds):
                self._round(start, bar)
                over = procedure.is_over(self.history, self.done, self.seconds)
                if over or len(self.history) % self.config.checkpoint_every == 0:
                    self.save()
        self.finish()

    def finish(self):
        """Make the model ready to be asked, and calibrate it."""
        self.model.network.eval()
        self.procedure.fit_calibration()
        if self._writes:
            checkpoint.save_model(self.run, self.model)

    def _round(self, start: float, bar: tqdm):
        self.network.train()
        losses, procedure, before = [], self.procedure, self.seconds
        # Losses stay on the device until the round is over, so that the host never waits for a step.
        for parts, rows in procedure.steps(self.done):
            losses.append(self.step(parts, rows))
            bar.update(procedure.unit == "step")
            self.seconds = time.perf_counter() - start
            if procedure.ends_round(self.seconds - before):
                break
        losses = distributed.sum_over_processes(torch.stack(losses))
        self._require_finite(losses)
        rate = procedure.optimizer.learning_rate
        procedure.optimizer.finish_round()
        value = self._evaluate()
        number = self.done if procedure.unit == "step" else len(self.history) + 1
        self.history.append(dict(zip(procedure.metrics, (number, rate, losses.mean().item(), value))))
        self.seconds = time.perf_counter() - start
        if self._writes:
            log.append_metrics(self.run, self.history[-1])
        bar.set_postfix(log.postfix(self.history[-1]), refresh=False)
        bar.update(procedure.unit == "epoch")

    def step(self, parts: list[Batch], rows: int) -> Tensor:
        """One step on this process's parts of a batch of so many rows; returns their share of its mean loss."""
        self.network.zero_grad()
        losses = []
        for i, part in enumerate(parts):
            with (
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"),
                distributed.keep_gradients(self.loss, until=i == len(parts) - 1),
            ):
                loss = self.loss(part).sum() / rows
                # Gradients are averaged over the processes, but this loss is a share of a sum.
                (loss * distributed.world_size()).backward()
            losses.append(loss.detach())
        self.procedure.optimizer.step(self.procedure.progress(self.done, self.seconds), self.done)
        self.done += 1
        if self.config.average_width:
            self._average()
        return torch.stack(losses).sum()

    @torch.no_grad()
    def _average(self):
        """Let the average's horizon grow with the steps: its width is always the same share of them.

        Reference: Karras et al. 2024, arXiv:2312.02696, section 3.1; the exponent is 1 / width - 3 to 2% there.
        """
        exponent = 1 / self.config.average_width - 3
        new = 1 - (1 - 1 / self.done) ** (exponent + 1)
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), new)

    def _evaluate(self) -> float:
        self.average.eval()
        value = self.procedure.evaluate(self.average)
        if math.isinf(value) or (math.isnan(value) and len(self.procedure.val_rows)):
            raise FloatingPointError(f"the validation loss is {value} {self._place()}")
        if self.procedure.is_better(value, self.best):
            self.best = value
            if self.average is not self.model.network:
                self.model.network.load_state_dict(self.average.state_dict())
        return value

    def _require_finite(self, losses: Tensor):
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            raise FloatingPointError(f"the training loss is {losses[bad[0, 0]].item()} {self._place(bad[0, 0].item())}")
        # The last update may not have been finite: its loss would show that only after a checkpoint.
        finite = torch.stack([p.detach().isfinite().all() for p in self.network.parameters()])
        if not finite.all():
            raise FloatingPointError(f"weights are not finite {self._place()}")

    def _place(self, step: int | None = None) -> str:
        where = f"in {'epoch' if isinstance(self.procedure, Published) else 'round'} {len(self.history) + 1}"
        kept = "" if self.run is None else f" The last good checkpoint is in {self.run}."
        return f"{where}{'' if step is None else f', step {step + 1}'}: try a smaller learning_rate.{kept}"

    @property
    def _writes(self) -> bool:
        return self.run is not None and distributed.rank() == 0

    def open_run(self, command: str = ""):
        """Make the run folder, if there is to be one, with all it takes to resume before the first step."""
        if self._writes:
            with checkpoint.new_run(self.run) as folder:
                checkpoint.save_config(folder, self.model, command)
                log.write_system_info(folder, self.device)
                log.write_metrics(folder, self.history, self.procedure.metrics)
                self._save_state(folder)

    def extend(self, command: str = ""):
        """Write the budget down again, which may have grown."""
        if self._writes:
            checkpoint.save_config(self.run, self.model, command)

    def save(self):
        """Write a checkpoint: the state to resume from, then the model to ask."""
        if self._writes:
            self._save_state(self.run)
            checkpoint.save_model(self.run, self.model)

    def _restore(self, tensors: dict[str, Tensor], facts: dict):
        """Go back to a state of the run."""
        state.unpack(tensors, facts, *self._changing)
        self.history, self.done, self.best = facts["history"], facts["done"], facts["best"]
        self.seconds = facts["seconds"]
        self.procedure.remember(facts["memory"])
        distributed.wait_for_all()  # before a process writes what another one still reads
        if distributed.rank() > 0:  # the state is that of process 0, and dropout is each one's own
            torch.manual_seed(hash((self.config.seed, distributed.rank(), len(self.history))))
        if self._writes:
            log.write_metrics(self.run, self.history, self.procedure.metrics)
            if self.history:  # the kill may have come between the state and the model
                checkpoint.save_model(self.run, self.model)

    def _save_state(self, folder: Path):
        tensors, facts = state.pack(*self._changing)
        facts |= {"history": self.history, "done": self.done, "best": self.best, "seconds": self.seconds}
        facts["memory"] = self.procedure.memory
        checkpoint.save_state(folder, len(self.history), tensors, facts)

    @property
    def _changing(self) -> tuple:
        """What changes while the run goes on, for `state`."""
        networks = {"trained": self.network}
        if self.config.average_width:
            networks |= {"average": self.average, "best": self.model.network}
        return nn.ModuleDict(networks), self.model.standardizer, self.procedure.optimizer, self.procedure.generator
