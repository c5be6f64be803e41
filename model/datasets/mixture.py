"""A Gaussian mixture: a table whose every marginal, conditional and joint density is known in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .table import Table

NAMES = ("a", "b", "c", "d")


class GaussianMixture:
    r"""A mixture of K normal distributions in V dimensions.

    .. math:: p(x) = \sum_k \pi_k N(x; \mu_k, \Sigma_k)

    Args:
        weights: Probabilities of the components, (K,), positive, with sum 1.
        means: Their means, (K, V).
        covariances: Their covariance matrices, (K, V, V), positive definite.

    Raises:
        ValueError: If the shapes disagree or the weights are no probabilities.
        numpy.linalg.LinAlgError: If a covariance is not positive definite.

    Example:
        >>> mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[[1.0]], [[1.0]]])
        >>> mixture.cdf(0.0)
        array(0.5)
    """

    def __init__(self, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray):
        self.weights = np.asarray(weights, dtype=np.float64)
        self.means = np.asarray(means, dtype=np.float64)
        self.covariances = np.asarray(covariances, dtype=np.float64)
        n_components, n_dims = self.means.shape
        if self.weights.shape != (n_components,) or self.covariances.shape != (n_components, n_dims, n_dims):
            raise ValueError(
                f"weights {self.weights.shape}, means {self.means.shape} and covariances {self.covariances.shape} "
                "must have shapes (K,), (K, V) and (K, V, V)"
            )
        if (self.weights < 0).any() or not np.isclose(self.weights.sum(), 1.0):
            raise ValueError(f"weights must be positive and have sum 1: {self.weights}")
        self._cholesky = np.linalg.cholesky(self.covariances)  # (K, V, V)

    def mean(self) -> np.ndarray:
        """The mean, (V,)."""
        return self.weights @ self.means

    def std(self) -> np.ndarray:
        """The standard deviation of each dimension, (V,)."""
        variances = np.diagonal(self.covariances, axis1=1, axis2=2)  # (K, V)
        return np.sqrt(self.weights @ (variances + (self.means - self.mean()) ** 2))

    def rvs(self, n: int, seed: int) -> np.ndarray:
        """Independent samples, (n, V)."""
        rng = np.random.default_rng(seed)
        component = rng.choice(len(self.weights), size=n, p=self.weights)  # (n,)
        noise = rng.standard_normal((n, self.means.shape[1]))  # (n, V)
        return self.means[component] + np.einsum("nij,nj->ni", self._cholesky[component], noise)

    def conditional(self, request: Sequence[int], given: Mapping[int, float]) -> GaussianMixture:
        r"""The distribution of some dimensions given the values of others; of the rest it is marginalised.

        Each component is conditioned as a normal distribution and reweighted by its density at the given values.
        Reference: Bishop 2006, Pattern Recognition and Machine Learning, eqs. 2.81, 2.82 and 9.12.

        Args:
            request: Dimensions to keep, in the order wanted, R of them.
            given: Dimension -> its value; may be empty.

        Raises:
            ValueError: If a dimension is requested twice, or both requested and given.
        """
        request, known = list(request), list(given)
        if len(set(request + known)) != len(request) + len(known):
            raise ValueError(f"each dimension may be requested or given once: request {request}, given {known}")
        means, covariances = self.means[:, request], self.covariances[:, request][:, :, request]  # (K, R), (K, R, R)
        if not known:
            return GaussianMixture(self.weights, means, covariances)

        values = np.array([given[dim] for dim in known])  # (G,)
        cross = self.covariances[:, request][:, :, known]  # (K, R, G)
        known_covariances = self.covariances[:, known][:, :, known]  # (K, G, G)
        gain = np.linalg.solve(known_covariances, cross.swapaxes(1, 2)).swapaxes(1, 2)  # (K, R, G)
        means = means + np.einsum("krg,kg->kr", gain, values - self.means[:, known])
        covariances = covariances - gain @ cross.swapaxes(1, 2)
        covariances = 0.5 * (covariances + covariances.swapaxes(1, 2))  # rounding must not make it asymmetric

        log_weights = self.conditional(known, {})._log_joint(values)  # (K,)
        weights = np.exp(log_weights - np.logaddexp.reduce(log_weights))
        return GaussianMixture(weights, means, covariances)

    def logpdf(self, points: np.ndarray) -> np.ndarray:
        """The log density at points (..., V), shape (...)."""
        return np.logaddexp.reduce(self._log_joint(np.asarray(points, dtype=np.float64)), axis=-1)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """The cumulative probability of a mixture of one dimension, shape of x.

        Raises:
            ValueError: If there is more than one dimension.
        """
        from scipy.special import ndtr

        if self.means.shape[1] != 1:
            raise ValueError(f"cdf is for one dimension, this mixture has {self.means.shape[1]}: take a conditional")
        standard = (np.asarray(x)[..., None] - self.means[:, 0]) / self._cholesky[:, 0, 0]  # (..., K)
        return np.asarray(ndtr(standard) @ self.weights)

    def _log_joint(self, points: np.ndarray) -> np.ndarray:
        """Log of weight times density of each component at points (..., V), shape (..., K)."""
        offset = points[..., None, :] - self.means  # (..., K, V)
        standard = np.linalg.solve(self._cholesky, offset[..., None])[..., 0]  # (..., K, V)
        log_det = np.log(np.diagonal(self._cholesky, axis1=1, axis2=2)).sum(-1)  # (K,)
        n_dims = self.means.shape[1]
        with np.errstate(divide="ignore"):  # a component that the given values rule out has weight 0
            log_weights = np.log(self.weights)
        return log_weights - 0.5 * (standard**2).sum(-1) - log_det - 0.5 * n_dims * np.log(2 * np.pi)


def _covariances(sds: Sequence[Sequence[float]], correlations: Sequence[Sequence[float]]) -> np.ndarray:
    """Covariance matrices from standard deviations (K, V) and the correlations of the upper triangles, row by row."""
    sds = np.asarray(sds)
    n_dims = sds.shape[1]
    matrices = np.tile(np.eye(n_dims), (len(sds), 1, 1))
    upper = np.triu_indices(n_dims, k=1)
    for matrix, correlation in zip(matrices, correlations):
        matrix[upper] = correlation
        matrix.T[upper] = correlation
    return matrices * sds[:, :, None] * sds[:, None, :]


# Components one and two agree in `c` and differ in `a`: p(a | c near 0) has two peaks, as log g has at a Teff that
# both dwarfs and giants reach. Component three bends the other relations.
MIXTURE = GaussianMixture(
    weights=[0.45, 0.35, 0.20],
    means=[[-1.4, -0.6, 0.0, 0.6], [1.4, 0.3, 0.3, -0.6], [0.4, 1.2, -1.2, 0.0]],
    covariances=_covariances(
        sds=[[0.6, 0.9, 0.9, 0.9], [0.7, 1.0, 0.8, 0.8], [1.0, 0.8, 0.9, 1.1]],
        # ab, ac, ad, bc, bd, cd
        correlations=[
            [0.6, 0.3, -0.2, 0.4, 0.0, 0.3],
            [-0.5, 0.2, 0.4, 0.1, -0.3, -0.4],
            [0.3, -0.6, 0.1, -0.2, 0.5, 0.2],
        ],
    ),
)


def load(n: int = 200_000, seed: int = 0) -> Table:
    """A table of n rows drawn from `MIXTURE`, columns ``a b c d``, nothing missing."""
    return Table(names=NAMES, values=MIXTURE.rvs(n, seed), source="Gaussian mixture of three components")
