"""Everything random about a training step, drawn on the device for a whole batch at once.

B batch, L context slots, V kinds of data, G groups of them, N rows, K noise draws per row.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..nn import Batch

CHUNK = 65_536  # rows


def draw_batch(
    values: Tensor,
    requestable: Tensor,
    length: int,
    draw_noise: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]],
    generator: torch.Generator,
    noise_draws: int = 1,
    context_draw: str = "all",
    own_target: bool = True,
    group: Tensor | None = None,
) -> Batch:
    """Draw a context, a request, diffusion steps and noise for every row.

    Each row draws ``length`` columns, without replacement. The request is drawn among its observed requestable columns.

    Args:
        values: Standardised rows, NaN = not observed, (B, V). Every row has an observed requestable column.
        requestable: True for the columns that may be requested, (V,).
        length: Context slots L, the same for the whole batch, so that none is wasted.
        draw_noise: The head's: rows, draws per row and generator -> t (B, K), noise (B, K, 1).
        generator: On the device of ``values``.
        noise_draws: Noise draws K per row.
        context_draw: "all": contexts are drawn among all V columns, and the missing ones become padding. "observed":
            among the observed ones, so that a slot is empty only where a row has fewer of them than slots. "grouped":
            among those whose groups are known, a random share of the groups of each row; and a complete group
            is drawn as often as a single column, for context and request (of one with gaps, or with columns that cannot
            be requested, each component keeps its share), so that a long vector does not crowd out the others.
        own_target: The requested column may stand in the context too, as in the published procedure.
        group: The group of each column, 0 .. G - 1, (V,); needed for "grouped".

    Returns:
        A batch with L = ``length``; the empty slots of a row are its last ones.
    """
    observed = ~values.isnan()  # (B, V)
    filled = values.nan_to_num(0.0)
    grouped = context_draw == "grouped"
    sizes = group.bincount()[group] if grouped else 1  # (V,)
    keys = _race(values, sizes, generator).masked_fill(~(observed & requestable), -torch.inf)
    request = keys.argmax(dim=1)  # (B,)
    usable = observed if own_target else observed.scatter(1, request.unsqueeze(1), False)
    if grouped:
        usable = usable & _known_groups(len(values), group, generator)
    keys = _race(values, sizes, generator)
    if context_draw != "all":
        keys = keys.masked_fill(~usable, -torch.inf)
    columns = keys.topk(length, dim=1).indices  # (B, L)
    kept, order = usable.gather(1, columns).sort(dim=1, descending=True, stable=True)  # empty slots last
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


def _race(values: Tensor, sizes: Tensor | int, generator: torch.Generator) -> Tensor:
    """Finite random keys (B, V) whose largest are a draw without replacement, with probabilities 1 / sizes.

    Efraimidis & Spirakis 2006, Inf. Process. Lett. 97, 181.
    """
    place = torch.rand(values.shape, generator=generator, device=values.device)
    return place.clamp(min=torch.finfo(place.dtype).tiny).log() * sizes


def _known_groups(n: int, group: Tensor, generator: torch.Generator) -> Tensor:
    """For each of n rows, whether the group of each column is known, (B, V): any number of groups equally often."""
    share, place = (torch.rand(n, k, generator=generator, device=group.device) for k in (1, int(group.max()) + 1))
    return (place < share)[:, group]
