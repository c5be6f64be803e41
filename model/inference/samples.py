"""Random draws: what `rvs` has in common for one column and for several.

N rows, S samples.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator

import numpy as np
import torch
from tqdm import tqdm

from ..scaling import MonotoneSpline
from .question import BLOCK

METHODS = ("flow", "sde", "ancestral")
INTERPOLATED = 65_536  # samples that are looked up at a time, on any device


def draw(source, curves: Callable[[slice], MonotoneSpline], size: int, seed: int | None, method: str) -> np.ndarray:
    """Samples of one column; arguments, result and errors as of `Conditional.rvs`.

    Args:
        source: The rows, as `distribution.Densities` describes them.
        curves: Rows -> their quantile functions.
    """
    size, seed = whole(size), fresh(seed)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if method != "flow" and not hasattr(source, "sample"):
        raise ValueError(f"{method} sampling is for given values without errors: use method='flow'")
    out, device, standardizer = np.empty((len(source), size)), source.device, source.model.standardizer
    block, curve = (INTERPOLATED if method == "flow" else BLOCK[device.type]), None
    for rows, columns in blocks(len(source), size, block):
        generator = torch.Generator(device).manual_seed(block_seed(*seed, rows.start, columns.start))
        n, s = rows.stop - rows.start, columns.stop - columns.start
        if method == "flow":
            curve = curves(rows) if columns.start == 0 else curve
            xi = torch.randn(n, s, generator=generator, device=device).to(curve.x.device)
            z = curve(xi.double())
        else:
            z = source.sample(rows, s, method, generator)
        out[rows, columns] = standardizer.restore(z.to(standardizer.minimum.device), source.index).cpu().numpy()
    return out


def blocks(n: int, size: int, block: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of at most so many samples: many rows at a time if each has few samples, else one row in parts."""
    row_step = max(1, block // size)
    with tqdm(total=n * size, unit="sample", unit_scale=True, delay=5, leave=False) as bar:
        for row in range(0, n, row_step):
            rows = slice(row, min(row + row_step, n))
            for column in range(0, size, block):
                columns = slice(column, min(column + block, size))
                yield rows, columns
                bar.update((rows.stop - rows.start) * (columns.stop - columns.start))


def whole(size: int) -> int:
    """The number of samples of each row.

    Raises:
        TypeError: If it is no whole number, a shape for instance.
        ValueError: If it is less than one.
    """
    try:
        size = operator.index(size)
    except TypeError:
        raise TypeError(f"size is the number of samples of each row, one whole number, not {size!r}") from None
    if size < 1:
        raise ValueError(f"at least one sample is needed, not {size}")
    return size


def fresh(seed: int | None) -> tuple[int, ...]:
    """Where random numbers start: the seed, or a new one.

    Raises:
        TypeError: If it is no whole number, a generator for instance.
        ValueError: If it is negative.
    """
    if seed is None:
        return (np.random.SeedSequence().entropy,)
    try:
        seed = operator.index(seed)
    except TypeError:
        # The numbers of a block come from its place and the seed; a generator's would depend on how much was drawn.
        raise TypeError(
            f"seed is a whole number or None, not a {type(seed).__name__}; take one from it, g.integers(2**32)"
        ) from None
    if seed < 0:
        raise ValueError(f"seed must not be negative, it is {seed}")
    return (seed,)


def block_seed(*parts: int) -> int:
    """A seed for a part of the work."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
