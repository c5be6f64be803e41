"""The proposal of the posterior's importance sampling: where to draw stars that resemble what was observed.

n draws, K kinds, D latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import errors, population, relations
from .population import FRACTIONS, LATENTS

PRIOR_SHARE = 0.1  # of every proposal: no part of the prior is forgotten
KIND_SHARE = 0.05  # of every kind of star, before normalising: an unlikely one may only not have been found yet
INFLATION = 1.3  # of the fitted covariances, so that the proposal's tails are not the thinner ones
TEMPERED_ESS = 150.0  # a kind's proposal is fitted to weights flattened until they are worth that many draws
DUST = LATENTS.index("dust")
DUST_PRIOR_SHARE = 0.2  # of the dust's proposal where BP - RP decides it
DUST_WIDTH = 1.4  # of that proposal, over the propagated error of BP - RP


def normalised(log_weight: np.ndarray) -> np.ndarray:
    """Weights with sum 1 from their logs, (n,)."""
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()


def effective_size(log_weight: np.ndarray) -> float:
    """How many equally weighted draws these are worth."""
    return float(1 / (normalised(log_weight) ** 2).sum())


@dataclass(frozen=True)
class Proposal:
    """A mixture of the prior and, within each kind of star, a normal distribution of the latents.

    BP - RP is measured so well that it leaves a thin, curved sheet of possible stars. If it is given, the dust is drawn
    last, near the amount that gives a star of the other latents its colour.

    Args:
        probability: Of the kinds, (K,).
        mean, cholesky: Of the latents of each kind, (K, D) and (K, D, D).
        bp_rp: The observed BP - RP (mag), or None.
    """

    probability: np.ndarray
    mean: np.ndarray
    cholesky: np.ndarray
    bp_rp: float | None

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Kinds (n,) and latents (n, D)."""
        kind, latents = population.draw_latents(n, rng)
        fitted = rng.random(n) >= PRIOR_SHARE
        kind[fitted] = rng.choice(len(FRACTIONS), size=fitted.sum(), p=self.probability)
        dust = latents[:, DUST].copy()
        for k in range(len(FRACTIONS)):
            rows = fitted & (kind == k)
            latents[rows] = self.mean[k] + latents[rows] @ self.cholesky[k].T
        if self.bp_rp is not None:
            latents[fitted, DUST] = dust[fitted]
            centre, width = self._dust(kind, latents)
            near = fitted & np.isfinite(centre) & (rng.random(n) >= DUST_PRIOR_SHARE)
            latents[near, DUST] = centre[near] + width[near] * dust[near]
        return kind, latents

    def log_prior_ratio(self, kind: np.ndarray, latents: np.ndarray) -> np.ndarray:
        """Log of the prior's density over the proposal's, (n,); both without their common powers of 2 pi."""
        prior = np.log(FRACTIONS[kind]) - 0.5 * (latents**2).sum(axis=1)
        free = np.arange(len(LATENTS)) if self.bp_rp is None else np.delete(np.arange(len(LATENTS)), DUST)
        fitted = np.log(self.probability)[kind]
        for k in range(len(FRACTIONS)):
            rows = kind == k
            # The marginal of the free latents: of L L^T, rows and columns of the others.
            covariance = (self.cholesky[k] @ self.cholesky[k].T)[np.ix_(free, free)]
            cholesky = np.linalg.cholesky(covariance)
            standard = np.linalg.solve(cholesky, (latents[rows][:, free] - self.mean[k][free]).T)
            fitted[rows] -= np.log(np.diagonal(cholesky)).sum() + 0.5 * (standard**2).sum(axis=0)
        if self.bp_rp is not None:
            fitted += self._log_dust_density(kind, latents)
        return prior - np.logaddexp(np.log(PRIOR_SHARE) + prior, np.log1p(-PRIOR_SHARE) + fitted)

    def _dust(self, kind: np.ndarray, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The dust that gives these stars the observed colour, and the width to draw it with; NaN if none does."""
        star = population.stars(kind, latents)
        colour, g_0, parallax = relations.unreddened(star)
        ebv = (self.bp_rp - colour[:, 0]) / relations.REDDENING[0]
        centre, slope = relations.dustiness(1 / parallax, ebv)
        sigma = errors.bp_rp_error(star, g_0 + relations.EXTINCTION["g"] * ebv) / relations.REDDENING[0]
        relative = sigma / ebv
        centre[~(relative < 0.7)] = np.nan  # compatible with no dust at all: the prior decides
        return centre, DUST_WIDTH * relative * slope

    def _log_dust_density(self, kind: np.ndarray, latents: np.ndarray) -> np.ndarray:
        centre, width = self._dust(kind, latents)
        dust = latents[:, DUST]
        prior = -0.5 * dust**2
        log_density = prior.copy()
        found = np.isfinite(centre)
        near = -0.5 * ((dust - centre) / width)[found] ** 2 - np.log(width[found])
        log_density[found] = np.logaddexp(np.log(DUST_PRIOR_SHARE) + prior[found], np.log1p(-DUST_PRIOR_SHARE) + near)
        return log_density


def fit(kind: np.ndarray, latents: np.ndarray, log_weight: np.ndarray, bp_rp: float | None) -> Proposal:
    """The proposal that resembles weighted draws: kinds (n,), latents (n, D), log weights (n,)."""
    weight, means, choleskies = normalised(log_weight), [], []
    for k in range(len(FRACTIONS)):
        rows = kind == k
        flat = _flattened(log_weight[rows])
        mean = flat @ latents[rows]
        offset = latents[rows] - mean
        covariance = INFLATION * (offset.T * flat) @ offset + 1e-6 * np.eye(len(LATENTS))
        means.append(mean)
        choleskies.append(np.linalg.cholesky(covariance))
    probability = KIND_SHARE + np.array([weight[kind == k].sum() for k in range(len(FRACTIONS))])
    return Proposal(probability / probability.sum(), np.array(means), np.array(choleskies), bp_rp)


def _flattened(log_weight: np.ndarray) -> np.ndarray:
    """The weights, raised to the power (at most 1) that makes them worth at least TEMPERED_ESS draws."""
    low, high = 0.0, 1.0
    if effective_size(log_weight) < TEMPERED_ESS:
        for _ in range(15):
            power = (low + high) / 2
            low, high = (power, high) if effective_size(power * log_weight) > TEMPERED_ESS else (low, power)
    return normalised(high * log_weight)
