"""Distributions of one column, or of several jointly, one per row of what was given: the face of ``scipy.stats``.

N rows, S samples, Q quantiles, V kinds of data, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.checkpoint import Model

# Samples, or sequences, that are worked on at a time: bounds the memory however many are asked for, and fits the caches
# of the device. Constants, because the seed of a block's noise comes from its place: on one kind of device the same
# seed gives the same samples.
BLOCK = {"cpu": 4096, "cuda": 131_072, "mps": 131_072}

# Context slots that are encoded at a time: their hidden states are the largest things in memory.
TOKENS = {"cpu": 16_384, "cuda": 524_288, "mps": 524_288}


class Conditional:
    """The density of one column given, in each of N rows, the values of others.

    Statistics come from ``samples`` draws with the given seed, so they carry sampling noise that falls as
    1 / sqrt(samples); asking again with the same numbers gives the same answer.

    Args:
        model: The trained model.
        device: Where its network is.
        column: The requested column.
        values: Given values on the standard scale, NaN = not given, (N, V).
    """

    def __init__(self, model: Model, device: torch.device, column: str, values: Tensor):
        self.column = column
        self.unit = model.units[model.vocabulary.index(column)]
        self._model, self._device, self._values = model, device, values
        self._drawn: tuple[tuple[int, int], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._values)

    def rvs(self, size: int = 1, seed: int | None = None) -> np.ndarray:
        """Draw samples, in the column's unit, (N, size), float32; a fresh seed is taken if none is given."""
        return sample(self._model, self._device, self.column, self._values, size, _entropy(seed))

    def ppf(self, q, samples: int = 1000, seed: int = 0) -> np.ndarray:
        """Quantiles at q in [0, 1], a number or (Q,), in the column's unit, (N, Q)."""
        q = np.atleast_1d(np.asarray(q, dtype=float))
        if q.ndim != 1 or not ((q >= 0) & (q <= 1)).all():
            raise ValueError(f"q must be a number or a 1-D array in [0, 1], not {q}")
        return np.quantile(self._samples(samples, seed), q, axis=1).T  # (N, Q)

    def median(self, samples: int = 1000, seed: int = 0) -> np.ndarray:
        """The median, (N,)."""
        return self.ppf(0.5, samples, seed)[:, 0]

    def interval(self, confidence: float, samples: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the central interval that holds this probability, two arrays (N,)."""
        if not 0 <= confidence <= 1:
            raise ValueError(f"confidence must lie in [0, 1], not {confidence}")
        low, high = self.ppf([0.5 - confidence / 2, 0.5 + confidence / 2], samples, seed).T
        return low, high

    def mean(self, samples: int = 1000, seed: int = 0) -> np.ndarray:
        """The mean, (N,)."""
        return self._samples(samples, seed).mean(axis=1, dtype=np.float64)

    def std(self, samples: int = 1000, seed: int = 0) -> np.ndarray:
        """The standard deviation, (N,)."""
        return self._samples(samples, seed).std(axis=1, dtype=np.float64)

    def _samples(self, samples: int, seed: int) -> np.ndarray:
        if self._drawn is None or self._drawn[0] != (samples, seed):
            self._drawn = (samples, seed), self.rvs(samples, seed)
        return self._drawn[1]


class Joint:
    """The joint density of several columns by the chain rule, in the order in which they are named.

    .. math:: p(a, b, c | given) = p(a | given)\\, p(b | a, given)\\, p(c | a, b, given)

    Args:
        model: The trained model.
        device: Where its network is.
        columns: The requested columns.
        values: Given values on the standard scale, NaN = not given, (N, V).
    """

    def __init__(self, model: Model, device: torch.device, columns: Sequence[str], values: Tensor):
        self.columns = tuple(columns)
        self.units = tuple(model.units[model.vocabulary.index(column)] for column in columns)
        self._model, self._device, self._values = model, device, values

    def __len__(self) -> int:
        return len(self._values)

    def rvs(self, size: int = 1, seed: int | None = None) -> np.ndarray:
        """Draw samples, in the columns' units, (N, size, number of columns), float32."""
        model, n, seed = self._model, len(self._values), _entropy(seed)
        drawn = np.empty((n * size, len(self.columns)), dtype=np.float32)  # one row a sample
        for i, column in enumerate(self.columns):
            known = [model.vocabulary.index(name) for name in self.columns[:i]]

            def context(rows: slice, i: int = i, known: list[int] = known) -> Tensor:
                values = self._values[torch.arange(rows.start, rows.stop) // size].clone()  # (rows, V)
                before = np.full(values.shape, np.nan)
                before[:, known] = drawn[rows, :i]
                before = model.standardizer.standardize(torch.from_numpy(before))
                return torch.where(before.isnan(), values, before)

            drawn[:, i] = _sample_rows(model, self._device, column, context, n * size, 1, (*seed, i))[:, 0]
        return drawn.reshape(n, size, len(self.columns))


def sample(
    model: Model, device: torch.device, column: str, values: Tensor, size: int, seed: tuple[int, ...]
) -> np.ndarray:
    """Samples of a column given rows of standardised values (N, V), in the column's unit, (N, size)."""
    return _sample_rows(model, device, column, lambda rows: values[rows], len(values), size, seed)


def _sample_rows(
    model: Model,
    device: torch.device,
    column: str,
    context: Callable[[slice], Tensor],
    n: int,
    size: int,
    seed: tuple[int, ...],
) -> np.ndarray:
    """Encode and denoise in blocks of rows; ``context`` gives the standardised values of a block of rows."""
    if size < 1:
        raise ValueError(f"at least one sample is needed, not {size}")
    out = np.empty((n, size), dtype=np.float32)
    index = model.vocabulary.index(column)
    for rows, columns in _blocks(n, size, BLOCK[device.type]):
        if columns.start == 0:
            cond = encode(model, device, column, context(rows))  # (rows, D)
        generator = torch.Generator(device).manual_seed(_block_seed(*seed, rows.start, columns.start))
        z = model.network.head.sample(cond, columns.stop - columns.start, generator).squeeze(-1)
        out[rows, columns] = model.standardizer.restore(z.cpu(), index).numpy()
    return out


@torch.no_grad()
def encode(model: Model, device: torch.device, column: str, values: Tensor) -> Tensor:
    """The condition for a column given standardised values, NaN = not given, (N, V) -> (N, D)."""
    given = (~values.isnan()).any(dim=0).nonzero().squeeze(1)  # slots for columns that some row has
    values = values[:, given].to(device)  # (N, L)
    token = torch.where(values.isnan(), 0, (given + 1).to(device))
    request = torch.full((len(values),), model.vocabulary.token(column), device=device)
    rows = max(1, TOKENS[device.type] // (1 + len(given)))
    parts = zip(token.split(rows), values.nan_to_num(0.0).split(rows), request.split(rows))
    return torch.cat([model.network.encode(*part) for part in parts])


def _blocks(n: int, size: int, block: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of at most so many samples: many rows at a time if each has few samples, else one row in parts."""
    row_step = max(1, block // size)
    with tqdm(total=n * size, unit="sample", unit_scale=True, delay=5, leave=False) as bar:
        for row in range(0, n, row_step):
            rows = slice(row, min(row + row_step, n))
            for column in range(0, size, block):
                columns = slice(column, min(column + block, size))
                yield rows, columns
                bar.update((rows.stop - rows.start) * (columns.stop - columns.start))


def _entropy(seed: int | None) -> tuple[int, ...]:
    return (np.random.SeedSequence().entropy if seed is None else seed,)


def _block_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
