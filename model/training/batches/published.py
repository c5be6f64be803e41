"""The published draw: a row, one of its observed columns as the target, and a context among all columns.

Rows with few values are asked more often for each of them, so what is learned of a table with gaps is not quite its
density; `questions` draws without that bias.

B batch, L context slots, V kinds of data, N rows, K noise draws per row.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...nn import Batch

CHUNK = 65_536  # rows


def draw_batch(
    values: Tensor,
    requestable: Tensor,
    length: int,
    draw_noise: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]],
    generator: torch.Generator,
    noise_draws: int = 1,
) -> Batch:
    """Draw a context, a request, diffusion steps and noise for every row.

    Each row draws ``length`` columns among all, without replacement; the missing ones become padding. The request is
    drawn among its observed requestable columns, and may stand in the context too.

    Args:
        values: Standardised rows, NaN = not observed, (B, V). Every row has an observed requestable column.
        requestable: True for the columns that may be requested, (V,).
        length: Context slots L, the same for the whole batch, so that none is wasted.
        draw_noise: The head's: rows, draws per row and generator -> t (B, K), noise (B, K, 1).
        generator: On the device of ``values``.
        noise_draws: Noise draws K per row.

    Returns:
        A batch with L = ``length``; the empty slots of a row are its last ones.
    """
    observed = ~values.isnan()  # (B, V)
    filled = values.nan_to_num(0.0)
    keys = _keys(values, generator).masked_fill(~(observed & requestable), -torch.inf)
    request = keys.argmax(dim=1)  # (B,)
    columns = _keys(values, generator).topk(length, dim=1).indices  # (B, L)
    kept, order = observed.gather(1, columns).sort(dim=1, descending=True, stable=True)  # empty slots last
    columns = columns.gather(1, order)
    t, noise = draw_noise(len(values), noise_draws, generator)
    return Batch(
        token=(columns + 1) * kept,
        value=filled.gather(1, columns),
        request=request + 1,
        target=filled.gather(1, request.unsqueeze(1)).squeeze(1),
        t=t,
        noise=noise,
    )


def trainable_rows(values: Tensor, requestable: Tensor) -> Tensor:
    """Rows with at least one observed requestable column: the others have nothing to be asked, (N, V) -> (N,) bool."""
    chunks = values.split(CHUNK)  # the table may be a memory map
    return torch.cat([(~chunk.isnan() & requestable).any(dim=1) for chunk in chunks])


def _keys(values: Tensor, generator: torch.Generator) -> Tensor:
    """Random keys (B, V) whose largest are a draw without replacement."""
    return torch.rand(values.shape, generator=generator, device=values.device)
