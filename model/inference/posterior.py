"""Noisy measurements: the posterior of a true value, and densities given columns that carry errors.

The trained density of a column is the prior; a measurement multiplies it by its likelihood. All integrals are sums
over quantiles of the prior, so that atoms and edges are treated as what they are.

N rows, J particles per row, G grid points, V kinds of data.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.special import ndtr
from tqdm import tqdm

from ..scaling import MonotoneSpline
from .flow import COARSE, FULL, HALF_LOG_2PI, Resolution
from .question import ROWS, Question

PARTICLES = 128  # per row: values that the noisy columns may have had
GRID = 257  # points of the prior's quantiles, and as many around the measurement
NODES = 161  # of the resulting quantile functions


class Posterior:
    """The true value of a column in each row, given a measurement of it and the values of others.

    .. math:: p(x | obs, given) \\propto p(x | given)\\, N(obs; x, error^2)

    Args:
        prior: The column's densities without the measurement.
        observed: Measurements, in the column's unit, (N,); NaN = none.
        error: Their standard deviations, (N,).
    """

    def __init__(self, prior: Question, observed: Tensor, error: Tensor):
        self.model, self.device, self.column, self.index = prior.model, prior.device, prior.column, prior.index
        self._prior, self._observed, self._error = prior, observed, error

    def __len__(self) -> int:
        return len(self._prior)

    def curves(self, rows: slice, resolution: Resolution) -> MonotoneSpline:
        """Quantile functions, from the normal to the standard scale."""
        z, mass, _ = self.masses(rows, resolution)
        return curves_of(z, mass)

    def masses(self, rows: slice, resolution: Resolution = FULL) -> tuple[Tensor, Tensor, Tensor]:
        """The posterior on an adaptive grid.

        Returns:
            Grid on the standard scale, (N, G), posterior probability of each of its intervals, (N, G - 1), and the log
            of the measurement's own probability density, (N,).
        """
        curve = self._prior.curves(rows, resolution)
        observed, error = (x[rows].to(curve.x.device).unsqueeze(1) for x in (self._observed, self._error))
        standardizer, home = self.model.standardizer, curve.x.device
        steps = torch.linspace(-6, 6, GRID, dtype=torch.float64, device=home)
        prior = curve(steps.expand(len(curve.x), -1))
        near = standardizer.edges(torch.where(observed.isnan(), 0.0, observed) + error * steps, self.index)[1]
        z = torch.cat([prior, near.minimum(prior[:, -1:]).maximum(prior[:, :1])], dim=1).sort(1).values  # (N, G)
        middle = standardizer.restore(0.5 * (z[:, 1:] + z[:, :-1]), self.index)
        likelihood = -0.5 * ((observed - middle) / error).square() - error.log() - HALF_LOG_2PI
        likelihood = torch.where(observed.isnan(), 0.0, likelihood)
        mass = _probability_between(curve.inverse(z)).clamp(min=1e-300).log() + likelihood
        evidence = mass.logsumexp(1)
        return z, (mass - evidence.unsqueeze(1)).exp(), evidence


class NoisyQuestion:
    """One column's density given values of others, some of which are measurements with errors.

    .. math:: p(y | obs) = \\int p(y | x)\\, p(x | obs)\\, dx, \\quad
        p(x | obs) \\propto p(x | exact) \\prod_i N(obs_i; x_i, error_i^2)

    The noisy columns' true values x are represented by weighted particles. Their columns are taken one after the other,
    each particle's from the posterior given those before; what the measurement is worth to the particle becomes its
    weight (sequential importance sampling).

    Args:
        question: With the measurements among its values.
        observed: Column index -> measurements in the column's unit, (N,); NaN = not given.
        errors: Column index -> their standard deviations, (N,); 0 or NaN = exact.
    """

    def __init__(self, question: Question, observed: Mapping[int, Tensor], errors: Mapping[int, Tensor]):
        self.model, self.device = question.model, question.device
        self.column, self.index = question.column, question.index
        self._question, self._observed, self._errors = question, observed, errors

    def __len__(self) -> int:
        return len(self._question)

    def curves(self, rows: slice, resolution: Resolution) -> MonotoneSpline:
        """Quantile functions of the mixtures over the particles, from the normal to the standard scale.

        Each particle's density is solved coarsely whatever the resolution: averaging smooths its errors.
        """
        step = max(1, ROWS[self.device.type] // PARTICLES)
        starts = tqdm(range(rows.start, rows.stop, step), unit_scale=step, unit="row", delay=5, leave=False)
        parts = [self._mixture(slice(start, min(start + step, rows.stop))) for start in starts]
        return MonotoneSpline(*map(torch.cat, zip(*parts)))

    def _mixture(self, rows: slice) -> MonotoneSpline:
        values, weight = particles(self._question, self._observed, self._errors, rows)  # (N, J, V), (N, J)
        n = len(weight)
        question = Question(self.model, self.device, self.column, values.flatten(0, 1))
        curve = question.curves(slice(0, len(question)), COARSE)
        # A grid that each of the particles' densities has a say in; shifted, as they may all be the same.
        xi = torch.linspace(-6, 6, 25 * PARTICLES, dtype=torch.float64, device=curve.x.device).reshape(25, PARTICLES).T
        z = curve(xi.repeat(n, 1)).reshape(n, -1).sort(1).values
        at = torch.linspace(0, z.shape[1] - 1, 2 * NODES, device=z.device).round().long()
        z = z[:, at].cummax(1).values  # (N, G)
        probability = ndtr(curve.inverse(z.repeat_interleave(PARTICLES, 0))).reshape(n, PARTICLES, -1)
        cdf = (weight.to(probability.device).unsqueeze(2) * probability).sum(1)
        return curves_of(z, cdf.diff(dim=1).clamp(min=0))


def particles(
    question: Question, observed: Mapping[int, Tensor], errors: Mapping[int, Tensor], rows: slice
) -> tuple[Tensor, Tensor]:
    """What the noisy columns' true values may have been.

    Args:
        question: Whose values are given; those of noisy columns are replaced.
        observed: Column index -> measurements in the column's unit, (N,); NaN = not given.
        errors: Column index -> their standard deviations, (N,); 0 or NaN = exact.
        rows: Which rows.

    Returns:
        Values on the standard scale, (N, J, V), and weights with sum 1, (N, J).
    """
    values = question.values[rows].clone()
    n = len(values)
    for column, error in errors.items():
        values[error[rows] > 0, column] = torch.nan
    values = values.repeat_interleave(PARTICLES, 0)  # (N J, V)
    log_weight = torch.zeros(len(values), dtype=torch.float64)
    # Even in all of the columns' probabilities together (Kronecker sequence on powers of the generalised golden ratio).
    golden = _golden_ratio(len(observed))
    for k, column in enumerate(observed):
        place = (0.5 + torch.arange(PARTICLES, dtype=torch.float64) * golden ** -(k + 1)).frac()  # (J,)
        # The particles of a row differ from the second column on.
        given, times = (values.clone(), PARTICLES) if k else (values[::PARTICLES].clone(), 1)
        given[:, column] = torch.nan
        prior = Question(question.model, question.device, question.model.vocabulary.names[column], given)
        seen, error = (x[column][rows].repeat_interleave(times) for x in (observed, errors))
        seen = torch.where(error > 0, seen, torch.nan)  # an exact value is among those given
        places = place.repeat(n).unsqueeze(1) if k else place.expand(n, -1)
        drawn, evidence = _draw(Posterior(prior, seen, error), places)
        measured = ~seen.repeat_interleave(PARTICLES // times).isnan()  # (N J,)
        values[:, column] = torch.where(measured, drawn.flatten().float(), values[:, column])
        if k:
            log_weight += torch.where(seen.isnan(), 0.0, evidence)
    return values.reshape(n, PARTICLES, -1), log_weight.reshape(n, PARTICLES).softmax(1)


def _draw(posterior: Posterior, place: Tensor) -> tuple[Tensor, Tensor]:
    """Quantiles of posteriors at places in 0 .. 1, (N, Q), standard scale, (N, Q), and the log evidence, (N,)."""
    drawn, evidence, step = [], [], ROWS[posterior.device.type]
    for start in range(0, len(posterior), step):
        rows = slice(start, min(start + step, len(posterior)))
        z, mass, log_density = posterior.masses(rows)
        drawn.append(_quantile(z, mass, place[rows].to(z.device)).cpu())
        evidence.append(log_density.cpu())
    return torch.cat(drawn), torch.cat(evidence)


def curves_of(z: Tensor, mass: Tensor) -> MonotoneSpline:
    """The quantile functions of probabilities (N, G - 1) between grid points (N, G) in increasing order."""
    xi = torch.linspace(-4, 4, NODES, dtype=torch.float64, device=z.device).expand(len(z), -1).contiguous()
    x = _quantile(z, mass, ndtr(xi))
    least = 1e-6 * (1e-3 + x[:, -1:] - x[:, :1]) / NODES
    return MonotoneSpline.through(xi, x.cummax(1).values + least * torch.arange(NODES, device=z.device))


def _quantile(z: Tensor, mass: Tensor, q: Tensor) -> Tensor:
    """Quantiles at q, (N, Q), of probabilities spread evenly between grid points."""
    cdf = torch.cat([torch.zeros_like(z[:, :1]), mass.cumsum(1)], dim=1)
    cdf = cdf / cdf[:, -1:]
    i = torch.searchsorted(cdf, q.contiguous(), right=True).clamp(1, z.shape[1] - 1)
    low, high = cdf.gather(1, i - 1), cdf.gather(1, i)
    share = ((q - low) / (high - low).clamp(min=1e-300)).clamp(0, 1)
    return z.gather(1, i - 1) * (1 - share) + z.gather(1, i) * share


def _probability_between(xi: Tensor) -> Tensor:
    """Normal probabilities of the intervals between quantiles, (N, G) -> (N, G - 1), exact in both tails."""
    low, high = xi[:, :-1], xi[:, 1:]
    sign = torch.where(low + high > 0, -1.0, 1.0)
    return (ndtr(sign * high) - ndtr(sign * low)).abs()


def _golden_ratio(dimensions: int) -> float:
    """The root of x^(d+1) = x + 1."""
    x = 2.0
    for _ in range(60):
        x = (1 + x) ** (1 / (dimensions + 1))
    return x
