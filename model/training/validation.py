"""Fixed questions to the validation rows: they say which weights are best, and how to calibrate them.

Q questions, B of them in a batch, K quantile nodes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..inference import flow
from ..nn import Batch, DensityNetwork
from ..scaling import Answers
from .batches import Questions

LOT = 64  # questions of a lot
SCORED, CALIBRATED = (1024, 100_000), (40_000, 600_000)  # at most so many questions, and so many slots in them
PER_VALUE = 2  # questions to an observed value, at most: more say nothing new
NODES, STEPS = 11, 6  # of the quantile functions that are scored: coarse, as only differences matter


def draw_questions(questions: Questions, most: tuple[int, int], seed: int) -> list[Batch]:
    """The same questions for the same rows and seed.

    Args:
        questions: Where they are drawn from.
        most: How many at most, and how many slots they may fill.
        seed: Seed.
    """
    values = int((questions.observed & (questions.chance > 0)).sum())
    slots = 1 + len(questions.slots.single) + len(questions.slots.patches)
    lots = max(4, math.ceil(min(most[0], most[1] / slots, PER_VALUE * values) / LOT))
    return [questions.lot(LOT, seed + i) for i in range(lots)]


@torch.no_grad()
def column_scores(network: DensityNetwork, batches: list[Batch], n_columns: int) -> tuple[Tensor, Tensor]:
    """Mean CRPS of each requested column on the normal scale, and that of its marginal, standard normal there.

    CRPS is twice the mean pinball loss over 11 quantiles.

    Returns:
        (V,) each, float64 on the host; NaN where a column was not asked for.
    """
    requests = torch.cat([batch.request for batch in batches]) - 1
    results = []
    for values in (
        torch.cat([_crps(network, batch) for batch in batches]),
        torch.cat([_pinball(_levels(batch.target), batch.target) for batch in batches]),
    ):
        total = values.new_zeros(n_columns, dtype=torch.float64).index_add(0, requests, values.double())
        results.append((total / requests.bincount(minlength=n_columns)).cpu())
    return tuple(results)


def overall(scores: Tensor, marginal: Tensor) -> float:
    """One number for all columns: the mean logarithm of scores, none of them above that of its marginal.

    Of the logarithm, because a column that is known to a hundredth and one that can hardly be known count alike then.
    Not above the marginal, because a column that cannot be known is no reason to stop learning the others.
    """
    scores = torch.minimum(scores, marginal)
    return scores[~scores.isnan()].log().mean().item()


def _crps(network: DensityNetwork, batch: Batch) -> Tensor:
    cond = network.encode(batch.token, batch.value, batch.request, batch.patch)
    xi = _levels(batch.target).expand(len(cond), -1)
    return _pinball(flow.field(network.head, cond, STEPS).push(xi), batch.target)


def _levels(like: Tensor) -> Tensor:
    """The normal quantiles that are scored, (1, K)."""
    levels = (torch.arange(NODES, device=like.device, dtype=torch.float32) + 0.5) / NODES
    return torch.special.ndtri(levels).unsqueeze(0)


def _pinball(quantiles: Tensor, target: Tensor) -> Tensor:
    """Twice the mean pinball loss, (B,)."""
    error = target.unsqueeze(1) - quantiles
    return 2 * (error * (torch.special.ndtr(_levels(target)) - (error < 0).float())).mean(dim=1)


@torch.no_grad()
def answers(network: DensityNetwork, batches: list[Batch], n_columns: int) -> Answers:
    """Where the network's densities have their truths."""
    parts = []
    for batch in batches:
        cond = network.encode(batch.token, batch.value, batch.request, batch.patch)
        xi = flow.field(network.head, cond, flow.FULL.steps).pull(batch.target.unsqueeze(1)).squeeze(1)
        given = (batch.token > 0).sum(1)
        if batch.patch is not None:
            given = given + (~batch.patch.isnan()).sum((1, 2))
        parts.append((batch.request - 1, given / max(1, n_columns - 1), xi))
    return Answers(*map(torch.cat, zip(*parts)))
