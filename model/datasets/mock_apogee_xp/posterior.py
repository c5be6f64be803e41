r"""The exact posterior of a catalogued value of the mock, given other catalogued values of the same star.

Every star is a function of a kind k and of latents z that are standard normal, so for observed values d, and a
requested column whose catalogued value x has its own noise,

.. math:: p(x | d) \propto \sum_k \pi_k \int N(x; \mu(k, z), \sigma(k, z)^2) \, p(d | k, z) \, N(z; 0, 1) \, dz

which is done by importance sampling. The proposal starts as the prior, the generator itself, and is fitted to the
weighted draws of each round (adaptive importance sampling: Bugallo et al. 2017, IEEE Signal Process. Mag. 34, 60). Only
the last round's draws are used, so that they do not depend on what they were fitted to.

S draws, D latents.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from . import errors, population, relations
from .errors import COLUMNS, CORRELATED, CORRELATION
from .proposal import effective_size, fit, normalised

log = logging.getLogger(__name__)

FIRST_ROUND = 2**15  # draws of the prior that all rows share
ROUND = 2**14  # least draws from a fitted proposal
STREAM = 2**31  # of random numbers, apart from those of the catalogue's blocks with the same seed


@dataclass(frozen=True)
class Posterior:
    """A weighted mixture of normal distributions, one per draw: a true star that is measured with its errors.

    Args:
        centre: The requested column's value without noise, (S,).
        sigma: Its one-sigma error, (S,).
        weight: Weights with sum 1, (S,).
        drawn: How many stars were drawn in all rounds.
        enough: Whether the effective sample size reached what was asked for.
    """

    centre: np.ndarray
    sigma: np.ndarray
    weight: np.ndarray
    drawn: int
    enough: bool

    @property
    def ess(self) -> float:
        """Effective sample size, 1 / sum of squared weights."""
        return float(1 / (self.weight**2).sum())

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Cumulative probability at x (K,) or a number, the shape of x."""
        from scipy.special import ndtr

        return np.array([self.weight @ ndtr((v - self.centre) / self.sigma) for v in np.ravel(x)]).reshape(np.shape(x))

    def pdf(self, x: np.ndarray) -> np.ndarray:
        """Density at x (K,) or a number, the shape of x."""
        height = self.weight / (self.sigma * np.sqrt(2 * np.pi))
        density = [height @ np.exp(-0.5 * ((v - self.centre) / self.sigma) ** 2) for v in np.ravel(x)]
        return np.array(density).reshape(np.shape(x))

    def ppf(self, q: np.ndarray) -> np.ndarray:
        """Quantiles at levels q (K,) or a number, the shape of q; each normal distribution is cut into 16 parts."""
        from scipy.special import ndtri

        points = (self.centre[:, None] + self.sigma[:, None] * ndtri((np.arange(16) + 0.5) / 16)).ravel()
        order = np.argsort(points)
        weight = np.repeat(self.weight / 16, 16)[order]
        return np.interp(q, np.cumsum(weight) - 0.5 * weight, points[order])


def mock_posterior(
    row: Mapping[str, float],
    request: str,
    *,
    min_ess: float = 2000.0,
    max_draws: int = 2**20,
    seed: int = 0,
) -> Posterior:
    """The exact posterior of a catalogued (noisy) value of a mock star whose other values are catalogued.

    Exact for catalogues whose gaps do not depend on the star (``missing="random"``), up to the noise of importance
    sampling. XP coefficients cannot be given.

    Args:
        row: Column -> catalogued value, of ``bprp jh jk`` (mag), ``teff`` (K), ``logg m_h`` (dex), ``logebv`` and
            ``g_fakemag``; NaN = not given.
        request: The column asked for, one of the same.
        min_ess: Effective sample size to reach.
        max_draws: Give up rather than draw more stars than that; logged, and ``enough`` is False.
        seed: Seed of the draws.

    Raises:
        KeyError: If a column is unknown to the posterior.
        ValueError: If the requested column is given, or a value is infinite.

    Example:
        >>> posterior = mock_posterior({"teff": 4700.0}, "logg")
        >>> bool(posterior.cdf(3.0) > 0.5), posterior.enough
        (True, True)
    """
    unknown = sorted({request, *row} - set(COLUMNS))
    if unknown:
        raise KeyError(f"the exact posterior knows {', '.join(COLUMNS)}, not {', '.join(unknown)}")
    given = {name: float(value) for name, value in row.items() if not np.isnan(value)}
    for name, value in given.items():
        if np.isinf(value):
            raise ValueError(f"{name} is {value}: give a finite number, or NaN if it is unknown")
    if request in given:
        raise ValueError(f"{request} is requested and given")

    kind, latents, truth, sigma = _prior_draws(seed)
    log_weight = _log_likelihood(truth, sigma, given)
    drawn, n, rng = len(kind), ROUND, np.random.default_rng([seed, STREAM, 1])
    while (ess := effective_size(log_weight)) < min_ess and drawn + n <= max_draws:
        proposal = fit(kind, latents, log_weight, given.get("bprp"))
        if drawn > len(kind):  # the last draws came from a fitted proposal: how many like them would do?
            n = int(np.clip(1.5 * min_ess / ess * len(kind), ROUND, 2 * len(kind)))
        kind, latents = proposal.draw(n, rng)
        truth, sigma = _columns(kind, latents)
        log_weight = _log_likelihood(truth, sigma, given) + proposal.log_prior_ratio(kind, latents)
        drawn += n
    if ess < min_ess:
        log.warning("posterior of %s given %s: effective sample size %.0f < %.0f", request, given, ess, min_ess)

    weight = normalised(log_weight)
    kept = weight > 1e-9 * weight.max()
    centre, width = _given_other_colour(request, truth[kept], sigma[kept], given)
    return Posterior(centre, width, weight[kept] / weight[kept].sum(), drawn, bool(ess >= min_ess))


@lru_cache(maxsize=1)
def _prior_draws(seed: int) -> tuple[np.ndarray, ...]:
    """Kinds, latents, and noise-free columns and errors (S, 8) of stars drawn from the prior."""
    kind, latents = population.draw_latents(FIRST_ROUND, np.random.default_rng([seed, STREAM, 0]))
    return kind, latents, *_columns(kind, latents)


def _columns(kind: np.ndarray, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    star = population.stars(kind, latents)
    photometry = relations.photometry(star)
    return errors.truth(star, photometry), errors.errors(star, photometry)


def _given_other_colour(name: str, truth: np.ndarray, sigma: np.ndarray, given: Mapping[str, float]):
    """Mean and standard deviation, (S,) each, of a catalogued value of these stars.

    J - H and J - K share the noise of J: where the other one is given, its own error says something about this one's.
    """
    column = COLUMNS.index(name)
    mean, sd = truth[:, column], sigma[:, column]
    other = [colour for colour in CORRELATED if name in CORRELATED and colour != name and colour in given]
    if not other:
        return mean, sd
    known = COLUMNS.index(other[0])
    mean = mean + CORRELATION * sd / sigma[:, known] * (given[other[0]] - truth[:, known])
    return mean, sd * np.sqrt(1 - CORRELATION**2)


def _log_likelihood(truth: np.ndarray, sigma: np.ndarray, given: Mapping[str, float]) -> np.ndarray:
    """Log density of the given values for each star, (S,), up to a constant: one value after the other."""
    total, before = np.zeros(len(truth)), {}
    for name, value in given.items():
        mean, sd = _given_other_colour(name, truth, sigma, before)
        total -= 0.5 * ((value - mean) / sd) ** 2 + np.log(sd)
        before[name] = value
    return total
