"""Noisy measurements: the posterior of a true value, and densities given columns that carry errors.

The trained density of a column is the prior; a measurement multiplies it by its likelihood. All integrals are sums
over quantiles of the prior, so that atoms and edges are treated as what they are.

N rows, J particles per row, G grid points, V kinds of data.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from ..scaling import MonotoneSpline
from .flow import COARSE, FULL, HALF_LOG_2PI, Resolution
from .quantiles import NODES, curves_of, probability_between, quantile, with_knots
from .question import ROWS, Question, ndtr

PARTICLES = 128  # per row: values that the noisy columns may have had; a power of 2, as Sobol's sequence likes it
RESAMPLED = 0.5  # of the particles: the effective number below which they are drawn anew
FEW = 32  # effective number below which is warned: the cdf is then off by 0.02 to 0.15, above 60 by 0.01 at most
GRID = 257  # points of the prior's quantiles, and as many around the measurement
FAR = 100.0  # on the standard scale: the width of errors beyond all values


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

    @property
    def given(self) -> tuple[str, ...]:
        """What is given, in words."""
        return self._prior.given if self._observed.isnan().all() else (*self._prior.given, _noisy(self.column))

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
        mass = probability_between(curve.inverse(z)).clamp(min=1e-300).log() + likelihood
        evidence = mass.logsumexp(1)
        return z, (mass - evidence.unsqueeze(1)).exp(), evidence


class NoisyQuestion:
    """One column's density given values of others, some of which are measurements with errors.

    .. math:: p(y | obs) = \\int p(y | x)\\, p(x | obs)\\, dx, \\quad
        p(x | obs) \\propto p(x | exact) \\prod_i N(obs_i; x_i, error_i^2)

    The noisy columns' true values x are represented by weighted `particles`.

    Args:
        question: With the measurements among its values.
        observed: Column index -> measurements in the column's unit, (N,); NaN = not given.
        errors: Column index -> their standard deviations, (N,); 0 or NaN = exact.
    """

    def __init__(self, question: Question, observed: Mapping[int, Tensor], errors: Mapping[int, Tensor]):
        self.model, self.device = question.model, question.device
        self.column, self.index = question.column, question.index
        self._question, self._observed, self._errors = question, observed, errors
        self._measured = {i: (errors[i] > 0) & ~x.isnan() for i, x in observed.items()}  # the others are exact, or none

    def __len__(self) -> int:
        return len(self._question)

    @property
    def given(self) -> tuple[str, ...]:
        """What is given, in words."""
        names = self.model.vocabulary.names
        noisy = {names[i] for i, measured in self._measured.items() if measured.any()}
        return tuple(_noisy(name) if name in noisy else name for name in self._question.given)

    def curves(self, rows: slice, resolution: Resolution) -> MonotoneSpline:
        """Quantile functions of the mixtures over the particles, from the normal to the standard scale.

        Each particle's density is solved coarsely whatever the resolution: averaging smooths its errors.
        """
        step, parts, places, effective = max(1, ROWS[self.device.type] // PARTICLES), [], [], []
        with tqdm(total=rows.stop - rows.start, unit="row", delay=5, leave=False) as bar:
            for columns, alike in self._orders(torch.arange(rows.start, rows.stop)):
                for part in alike.split(step if columns else ROWS[self.device.type]):
                    if columns:
                        values, weight, number = particles(self._question, self._observed, self._errors, part, columns)
                        parts.append(self._mixture(values, weight))
                        effective.append(number)
                    else:
                        parts.append(with_knots(self._question.curves(part, resolution), NODES))
                    places.append(part)
                    bar.update(len(part))
        _warn_of_few(torch.cat(effective or [torch.empty(0)]), rows)
        return MonotoneSpline(*map(torch.cat, zip(*parts))).rows(torch.cat(places).argsort().to(parts[0].x.device))

    def _orders(self, rows: Tensor) -> Iterator[tuple[list[int], Tensor]]:
        """The measured columns, the most precise beside the spread of the table's values first, and which rows."""
        measured = torch.stack([x[rows] for x in self._measured.values()], dim=1)  # (N, M)
        width = torch.stack([self._width(i, rows) for i in self._measured], dim=1)
        order = width.masked_fill(~measured, torch.inf).argsort(dim=1, stable=True)
        order = order.masked_fill(torch.arange(order.shape[1]) >= measured.sum(1, keepdim=True), -1)
        kinds, kind = order.unique(dim=0, return_inverse=True)
        columns = list(self._measured)
        for k, places in enumerate(kinds.tolist()):
            yield [columns[i] for i in places if i >= 0], rows[kind == k]

    def _width(self, column: int, rows: Tensor) -> Tensor:
        """The errors of a column on the standard scale, (N,)."""
        standardizer = self.model.standardizer
        observed, error = (x[column][rows].to(standardizer.minimum.device) for x in (self._observed, self._errors))
        low, high = (standardizer.edges(observed + side * error, column) for side in (-1, 1))
        return (high[1] - low[0]).nan_to_num(posinf=FAR).clamp(max=FAR).cpu()

    def _mixture(self, values: Tensor, weight: Tensor) -> MonotoneSpline:
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
    question: Question,
    observed: Mapping[int, Tensor],
    errors: Mapping[int, Tensor],
    rows: Tensor,
    columns: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """What the noisy columns' true values may have been.

    The columns are taken one after the other. What its measurement is worth to each particle, given the particle's
    values so far, becomes its weight; where few of the particles weigh much, they are drawn anew by their weights; then
    each takes its value from the posterior (Pitt & Shephard 1999, JASA 94, 590). Places within the posteriors are even
    in all of the columns together (Sobol's sequence), and nothing is random.

    Args:
        question: Whose values are given; those of noisy columns are replaced.
        observed: Column index -> measurements in the column's unit.
        errors: Column index -> their standard deviations, positive.
        rows: Which rows, (N,).
        columns: The noisy columns, in all of these rows. The first is best a precise one, as later ones change weights.

    Returns:
        Values on the standard scale, (N, J, V), weights with sum 1, (N, J), and the effective number of those first
        values that have descendants, (N,): particles that were drawn anew are no new ones.
    """
    values, n = question.values[rows].clone(), len(rows)
    values[:, columns] = torch.nan
    values = values.repeat_interleave(PARTICLES, 0)  # (N J, V)
    log_weight = torch.zeros(n, PARTICLES, dtype=torch.float64)
    root = torch.arange(PARTICLES).repeat(n, 1)  # which first value each descends from, (N, J)
    for k, (column, place) in enumerate(zip(columns, _places(len(columns)))):
        # The particles of a row differ from the second column on.
        given, places = (values, place.repeat(n).unsqueeze(1)) if k else (values[::PARTICLES], place.expand(n, -1))
        prior = Question(question.model, question.device, question.model.vocabulary.names[column], given)
        seen, error = (x[column][rows].repeat_interleave(len(given) // n) for x in (observed, errors))
        z, mass, evidence = Posterior(prior, seen, error).masses(slice(0, len(given)))
        if k:
            chosen, log_weight = _resample(log_weight + evidence.cpu().reshape(n, -1))
            values, z, mass = (x[chosen.to(x.device)] for x in (values, z, mass))
            root = root.flatten()[chosen].reshape(n, -1)
        values[:, column] = quantile(z, mass, places.to(z.device)).flatten().float().cpu()
    weight = log_weight.softmax(1)
    return values.reshape(n, PARTICLES, -1), weight, _effective(torch.zeros_like(weight).scatter_add(1, root, weight))


def _effective(weight: Tensor) -> Tensor:
    """How many equal weights would be as uneven as these, (N, J) with sum 1 -> (N,) (Kong 1992)."""
    return 1 / weight.square().sum(1)


def _resample(log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Draw particles anew in the rows where few weigh much, each as often as its weight says (systematic resampling).

    Returns:
        Which particles to go on with, (N J,), and their log weights, (N, J).
    """
    n, j = log_weight.shape
    weight, particle = log_weight.softmax(1), torch.arange(j)
    few = (_effective(weight) < RESAMPLED * j).unsqueeze(1)
    chosen = torch.searchsorted(weight.cumsum(1), ((particle + 0.5) / j).double().expand(n, -1).contiguous())
    chosen = torch.where(few, chosen.clamp(max=j - 1), particle)
    return (chosen + j * torch.arange(n).unsqueeze(1)).flatten(), log_weight.masked_fill(few, 0.0)


def _places(dimensions: int) -> Tensor:
    """Evenly spread points of the unit cube, (dimensions, J), in the order of their first coordinate.

    Particles drawn anew then stay in the order of their first column, so that neighbours are alike and copies of one
    get places that lie apart (Gerber & Chopin 2015, J. R. Stat. Soc. B 77, 509).
    """
    points = torch.quasirandom.SobolEngine(dimensions).draw(PARTICLES, dtype=torch.float64) + 0.5 / PARTICLES
    return points[points[:, 0].argsort()].T.contiguous()


def _warn_of_few(effective: Tensor, rows: slice):
    few = int((effective < FEW).sum())
    if few:
        warnings.warn(
            f"the measurements hardly go together in {few} of the rows {rows.start} to {rows.stop - 1}: the effective "
            f"number of values that their columns may have had is below {FEW} of {PARTICLES} (down to "
            f"{effective.min():.0f}), and the cdf may be off by 0.02 to 0.15; check them, or give larger errors",
            UserWarning,
            stacklevel=2,
        )


def _noisy(name: str) -> str:
    return f"{name} with errors"
