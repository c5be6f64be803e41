"""The rows that questions are drawn from: all of a table, or of a large one a part after the other, read ahead.

N rows, V kinds of data.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from .questions import Questions

LOTS = 8  # of a step, each with its own length of context; processes share them
POOL = 131_072  # rows of a pool; more would take memory and time for nothing


class Pools:
    """The questions of each lot of each step.

    Up to `POOL` rows are one pool, on the device for good. Of more rows, each pass over the table cuts a new shuffle
    into pools, each of which is cut once more into one part a lot: a process reads only the parts of its own lots, and
    a thread reads the next pool while the present one is in use.

    Args:
        rows: The rows to train on, (N,).
        read: Rows -> their values on the standard scale, on the host, (rows, V).
        ask: Standardised rows on the device -> `Questions`.
        batch_size: Rows of a step.
        lots: The lots of this process.
        seed: Seed of the shuffles.
        device: Where the network is.
    """

    def __init__(
        self,
        rows: np.ndarray,
        read: Callable[[np.ndarray], Tensor],
        ask: Callable[[Tensor], Questions],
        batch_size: int,
        lots: range,
        seed: int,
        device: torch.device,
    ):
        self.rows, self.read, self.ask, self.lots, self.seed, self.device = rows, read, ask, lots, seed, device
        self.number = -(-len(rows) // POOL)
        self.steps = max(1, POOL // batch_size)  # that a pool is used for
        self.reader = ThreadPoolExecutor(1) if self.number > 1 else None
        self.ahead: dict[int, Future] = {}
        self.here: tuple[int, dict[int, Questions]] = (-1, {})

    def questions(self, step: int, lot: int) -> Questions:
        """Where the questions of a lot of a step are drawn from."""
        pool = step // self.steps if self.number > 1 else 0
        if pool != self.here[0]:
            self.here = (pool, self._load(pool))
        return self.here[1][lot]

    def _load(self, pool: int) -> dict[int, Questions]:
        if self.reader is None:
            everything = self.ask(self.read(self.rows).to(self.device))
            return dict.fromkeys(self.lots, everything)
        parts = (self.ahead.pop(pool, None) or self.reader.submit(self._read, pool)).result()
        self.ahead = {pool + 1: self.reader.submit(self._read, pool + 1)}
        return {lot: self.ask(part.to(self.device, non_blocking=True)) for lot, part in zip(self.lots, parts)}

    def _read(self, pool: int) -> list[Tensor]:
        turn, place = divmod(pool, self.number)
        shuffled = np.random.default_rng([self.seed, turn]).permutation(self.rows)
        chunk = np.array_split(shuffled, self.number)[place]
        parts = [self.read(np.sort(chunk[lot::LOTS])) for lot in self.lots]  # sorted, as they lie on the disk
        return [part.pin_memory() for part in parts] if self.device.type == "cuda" else parts
