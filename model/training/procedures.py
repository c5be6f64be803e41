"""The two ways to train: epochs over all rows, as published; a budget of steps with questions, as improved.

Both say, round by round, which batches are stepped on, how good the network is after them, and when to end.

B batch, N rows, V kinds of data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets import TRAIN, VALIDATION, Table
from ..nn import Batch
from ..run_folder import Model
from ..scaling import Recalibration
from . import distributed, optimizers, validation
from .batches import LOTS, Pools, Questions, draw_batch, together, trainable_rows

# Context slots that go through the network together: on a CPU what fits its caches, which is several times faster than
# going to memory for every operation. Gradients add up, so a step is the same.
TOKENS_AT_ONCE = {"cpu": 4096}
TIRED, SLOWER = 1.01, 0.25  # a column whose score is so much worse than it was is asked for so much less often
FEWEST = 8  # validation rows from which a calibration is fitted
READ_AT_ONCE = 65_536  # rows that are standardised together


class Procedure:
    """What both ways share: the rows, on the standard scale.

    Args:
        model: Its standardizer is fitted and its network drawn.
        table: The rows.
        network: What is trained.
        device: Where.
    """

    def __init__(self, model: Model, table: Table, network: nn.Module, device: torch.device):
        self.model, self.table, self.device = model, table, device
        self.config, self.network = model.experiment.training, network
        self.requestable = torch.tensor([name in table.requestable for name in table.names])
        usable = trainable_rows(torch.from_numpy(table.values), self.requestable).numpy()
        self.train_rows, self.val_rows = (
            np.flatnonzero((model.split == part) & usable) for part in (TRAIN, VALIDATION)
        )
        if not len(self.train_rows):
            raise ValueError(f"no training row has an observed value among {', '.join(table.requestable)}")
        # A memory map stays on disk; any other table is standardised once.
        mapped = isinstance(table.values.base, np.memmap)
        self.z = None if mapped else self._standardized(np.arange(len(table)))

    def read(self, rows: np.ndarray) -> Tensor:
        """Rows on the standard scale, on the host, (rows, V) float32."""
        return self._standardized(rows) if self.z is None else self.z[torch.from_numpy(rows)]

    def _standardized(self, rows: np.ndarray) -> Tensor:
        standardizer = self.model.standardizer
        parts = np.array_split(rows, max(1, math.ceil(len(rows) / READ_AT_ONCE)))
        return torch.cat([standardizer.standardize_stored(torch.from_numpy(self.table.values[part])) for part in parts])


class Published(Procedure):
    """Epochs: every row once, in batches that share one length of context; the last weights are the result."""

    unit, metrics = "epoch", ("epoch", "learning_rate", "loss", "val_loss")

    def __init__(self, model: Model, table: Table, network: nn.Module, device: torch.device):
        super().__init__(model, table, network, device)
        self.most = min(self.config.max_context or len(table.names), len(table.names))
        self.optimizer = optimizers.Published(network, self.config)
        self.generator = torch.Generator(device).manual_seed(self.config.seed)
        self.requestable = self.requestable.to(device)
        if self.z is not None:
            self.z = self.z.to(device)

    @property
    def total(self) -> int:
        """Epochs."""
        return self.config.epochs

    def ends_round(self, seconds: float) -> bool:
        """An epoch is never cut short."""
        return False

    def is_over(self, history: list[dict], done: int, seconds: float) -> bool:
        """Whether all epochs are over."""
        return len(history) >= self.config.epochs

    def progress(self, done: int, seconds: float) -> float:
        """The learning rate does not follow it."""
        return 0.0

    def steps(self, done: int) -> Iterator[tuple[list[Batch], int]]:
        """An epoch's batches: their parts for this process, and the rows of the whole."""
        for batch in self.batches(self.train_rows, self.generator):
            mine = Batch(*(distributed.share(x) for x in batch[:6]))
            yield list(in_parts(mine, TOKENS_AT_ONCE.get(self.device.type))), len(batch.target)

    def evaluate(self, network: nn.Module) -> float:
        """Mean loss over the validation rows, each epoch with the same contexts, requests and noise."""
        if not len(self.val_rows):
            return math.nan
        generator = torch.Generator(self.device).manual_seed(self.config.seed + 1)
        losses = torch.cat([network(batch) for batch in self.batches(self.val_rows, generator)])
        return losses.mean().item()

    def is_better(self, value: float, best: float) -> bool:
        """The last weights are the result."""
        return True

    @property
    def memory(self) -> list:
        """Nothing is remembered from one epoch to the next."""
        return []

    def remember(self, memory: list):
        """See `memory`."""

    def fit_calibration(self):
        """As published, there is none."""

    def batches(self, rows: np.ndarray, generator: torch.Generator) -> Iterator[Batch]:
        """All rows once, shuffled, in batches of nearly equal size (no remainder), each with its own context length."""
        order = torch.from_numpy(rows).to(self.device)
        order = order[torch.randperm(len(rows), generator=generator, device=self.device)]
        batches = order.tensor_split(math.ceil(len(rows) / self.config.batch_size))
        lengths = torch.randint(self.most + 1, (len(batches),), generator=generator, device=self.device)
        for batch, length in zip(batches, lengths.tolist()):
            yield self.draw(batch, length, generator)

    def draw(self, rows: Tensor, length: int, generator: torch.Generator) -> Batch:
        """A batch of these rows, (B,), with this many context slots."""
        z = self.read(rows.cpu().numpy()).to(self.device) if self.z is None else self.z[rows]
        head, draws = self.model.network.head, self.config.noise_draws
        return draw_batch(z, self.requestable, length, head.draw, generator, draws)


class Improved(Procedure):
    """A budget of steps, in rounds between evaluations; the best average of the weights is the result."""

    unit, metrics = "step", ("step", "learning_rate", "loss", "val_score")

    def __init__(self, model: Model, table: Table, network: nn.Module, device: torch.device):
        super().__init__(model, table, network, device)
        config = self.config
        if distributed.world_size() > LOTS:
            raise ValueError(f"a step is drawn in {LOTS} lots: use at most as many processes")
        self.optimizer = optimizers.Improved(network, config)
        self.generator = torch.Generator(device)  # each lot has a seed of its own: nothing is left to remember
        self.lots = range(distributed.rank(), LOTS, distributed.world_size())
        self.lot_size = math.ceil(config.batch_size / LOTS)
        self.every = max(1, config.steps // config.evaluations)
        self.pools = Pools(
            self.train_rows,
            self.read,
            lambda z: self.ask(z, self.focus),
            self.lot_size * LOTS,
            self.lots,
            config.seed,
            device,
        )
        n_columns = len(table.names)
        self.focus, self.best_scores = (
            torch.ones(n_columns, device=device),
            torch.full((n_columns,), torch.inf).double(),
        )
        self.questions = []
        if len(self.val_rows):
            self.questions = validation.draw_questions(self._validation(self.val_rows), validation.SCORED, config.seed)

    def ask(self, z: Tensor, focus: Tensor | None = None) -> Questions:
        """Questions to standardised rows on the device."""
        config, spread = self.config, self.model.standardizer.spread
        share, draws = config.complete_contexts, config.noise_draws
        return Questions(z, self.model.network, spread, self.requestable, self.table.groups, share, draws, focus)

    def _validation(self, rows: np.ndarray) -> Questions:
        rows = rows[:: max(1, len(rows) // validation.CALIBRATED[0])]
        return self.ask(self.read(rows).to(self.device))

    @property
    def total(self) -> int:
        """Steps at most."""
        return self.config.steps

    def progress(self, done: int, seconds: float) -> float:
        """Share of the budget that is used up after so many steps and seconds."""
        limit = 60 * self.config.max_minutes
        return max(done / self.config.steps, seconds / limit if limit else 0.0)

    def ends_round(self, seconds: float) -> bool:
        """Whether a round that has lasted so long is to end before its last step."""
        return bool(self.config.max_minutes) and seconds > 60 * self.config.max_minutes / self.config.evaluations

    def is_over(self, history: list[dict], done: int, seconds: float) -> bool:
        """Whether the budget is used up, or nothing has become better for a long time."""
        if self.progress(done, seconds) >= 1:
            return True
        scores = [entry["val_score"] for entry in history]
        if not scores or math.isnan(scores[-1]):
            return False
        return done - history[int(np.argmin(scores))]["step"] > self.config.patience * self.config.steps

    def steps(self, done: int) -> Iterator[tuple[list[Batch], int]]:
        """The batches of a round after so many steps: their parts for this process, and the rows of the whole."""
        tokens = TOKENS_AT_ONCE.get(self.device.type, 2**40)
        for step in range(done, min(done + self.every, self.config.steps)):
            drawn = [self._lot(step, lot) for lot in self.lots]
            yield together(drawn, tokens), self.lot_size * LOTS

    def _lot(self, step: int, lot: int) -> Batch:
        seed = np.random.SeedSequence([self.config.seed, step, lot]).generate_state(1)[0]
        return self.pools.questions(step, lot).lot(self.lot_size, int(seed))

    def evaluate(self, network: nn.Module) -> float:
        """The score of the fixed validation questions; NaN without validation rows.

        Columns that were better before are asked for less often from here on: they are being learned by heart, while
        others can still be learned.
        """
        if not self.questions:
            return math.nan
        scores, marginal = validation.column_scores(network, self.questions, len(self.focus))
        past = scores > TIRED * self.best_scores
        self.best_scores = self.best_scores.fmin(scores)
        self.focus.copy_(torch.where(past, SLOWER, 1.0))
        return validation.overall(scores, marginal)

    def is_better(self, value: float, best: float) -> bool:
        """Whether the weights are the best so far."""
        return math.isnan(value) or value < best

    @property
    def memory(self) -> list:
        """What the next round depends on, beside weights: best scores of columns, how often each is asked for."""
        return [self.best_scores.tolist(), self.focus.tolist()]

    def remember(self, memory: list):
        """Put back what `memory` gave."""
        self.best_scores.copy_(torch.tensor(memory[0]))
        self.focus.copy_(torch.tensor(memory[1]))

    def fit_calibration(self):
        """Fit the model's calibration to the validation rows, with other questions than chose the weights."""
        halves, n_columns = [], len(self.table.names)
        if len(self.val_rows) < FEWEST:
            self.model.calibration = Recalibration(n_columns).expect(len(self.val_rows))
            return
        for half in range(2):
            questions = self._validation(self.val_rows[half::2])
            most = tuple(number // 2 for number in validation.CALIBRATED)
            batches = validation.draw_questions(questions, most, self.config.seed + 2**20 + half)
            halves.append(validation.answers(self.model.network, batches, n_columns))
        self.model.calibration = Recalibration(n_columns).fit(halves, len(self.val_rows))


def in_parts(batch: Batch, tokens: int | None) -> Iterator[Batch]:
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
            part = Batch(*(x[order[start:stop]] for x in batch[:6]))
            longest = lengths[stop - 1]
            yield part._replace(token=part.token[:, :longest], value=part.value[:, :longest])
            start = stop
