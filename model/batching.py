"""Everything random about a training step, drawn on the device for a whole batch at once.

B batch, L context slots, V kinds of data, N rows, K noise draws per row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 65_536  # rows


class Batch(NamedTuple):
    """What the network is trained on.

    Attributes:
        token: Kinds of data in the context, 1 .. V, 0 = padding, (B, L).
        value: Their standardised values, 0 where padding, (B, L).
        request: Requested kinds, 1 .. V, (B,).
        target: Their standardised values, (B,).
        t: Diffusion steps, or times, (B, K).
        noise: Standard normal, (B, K, 1).
    """

    token: Tensor
    value: Tensor
    request: Tensor
    target: Tensor
    t: Tensor
    noise: Tensor


def draw_batch(
    values: Tensor,
    requestable: Tensor,
    length: int,
    draw_noise: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]],
    generator: torch.Generator,
    noise_draws: int = 1,
    observed_only: bool = False,
    own_target: bool = True,
) -> Batch:
    """Draw a context, a request, diffusion steps and noise for every row.

    Each row draws ``length`` columns among all V, without replacement; the missing ones become padding. The request is
    drawn among its observed requestable columns.

    Args:
        values: Standardised rows, NaN = not observed, (B, V). Every row has an observed requestable column.
        requestable: True for the columns that may be requested, (V,).
        length: Context slots L, the same for the whole batch, so that none is wasted.
        draw_noise: The head's: rows, draws per row and generator -> t (B, K), noise (B, K, 1).
        generator: On the device of ``values``.
        noise_draws: Noise draws K per row.
        observed_only: Draw contexts among the observed columns, so that a slot is empty only where a row has fewer
            of them than slots.
        own_target: The requested column may stand in the context too, as in the published procedure.

    Returns:
        A batch with L = ``length``.
    """
    observed = ~values.isnan()  # (B, V)
    filled = values.nan_to_num(0.0)
    keys = _uniform(values, generator).masked_fill(~(observed & requestable), -1.0)
    request = keys.argmax(dim=1)  # (B,)
    usable = observed if own_target else observed.scatter(1, request.unsqueeze(1), False)
    keys = _uniform(values, generator)
    if observed_only:
        keys = keys.masked_fill(~usable, -1.0)
    columns = keys.topk(length, dim=1).indices  # (B, L)
    kept = usable.gather(1, columns)
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


def _uniform(values: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(values.shape, generator=generator, device=values.device)
