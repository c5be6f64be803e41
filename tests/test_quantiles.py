"""What quantile functions amount to: entropies and modes, of densities that are known."""

import numpy as np
import pytest
from scipy import stats

from model.inference import Conditional
from tests.exact import MIXTURE, Standard, exact_emulator, zero_inflated

N = 20_000


@pytest.mark.parametrize("recipe", ["improved", "published"])
def test_entropy_and_mode_are_exact(recipe):
    b = [0.0, 1.0, -1.0]
    p = exact_emulator(recipe).conditional("a", {"b": b})
    x = np.linspace(-10, 10, 20_001)
    for row in range(3):
        log_density = MIXTURE.conditional([0], {1: b[row]}).logpdf(x[:, None])
        entropy = -np.trapezoid(np.exp(log_density) * log_density, x)
        assert p.entropy()[row] == pytest.approx(entropy, abs=0.02)
        # A peak is flat: what counts is that the density there is the greatest.
        at_mode = np.interp(p.mode()[row], x, log_density)
        assert at_mode == pytest.approx(log_density.max(), abs=0.02)
        assert p.logpdf(p.mode()[:, None])[row, 0] >= p.logpdf(x)[row].max() - 1e-4


def test_entropy_of_a_normal_density_in_its_unit():
    """That of sigma = 3 km is ln 3 more than that of one kilometre."""
    x = 3 * np.random.default_rng(0).normal(size=N)
    p = Conditional(Standard(x))
    assert p.entropy()[0] == pytest.approx(stats.norm.entropy(scale=x.std()), abs=0.01)
    assert abs(p.mode()[0]) < 0.5


def test_entropy_counts_an_atom_as_one_value():
    """The mean of minus the log of what each sample counts: its pdf, or its pmf where it is an atom."""
    p = Conditional(Standard(zero_inflated(), rows=2))
    drawn = p.rvs(N, seed=0)
    counts = np.where(p.pmf(drawn) > 0, p.pmf(drawn), p.pdf(drawn))
    score = -np.log(counts)
    assert (np.abs(score.mean(1) - p.entropy()) < 4 * score.std(1) / N**0.5).all()


def test_entropy_of_a_column_of_atoms_only_is_that_of_their_shares():
    x = np.random.default_rng(0).choice([1.0, 2.0, 4.0], N, p=[0.5, 0.3, 0.2])
    p = Conditional(Standard(x))
    assert p.entropy()[0] == pytest.approx(stats.entropy(p.pmf([1.0, 2.0, 4.0])[0]))
    assert p.mode()[0] == 1


def test_the_mode_is_where_the_pdf_is_greatest_unless_atoms_hold_most():
    rng = np.random.default_rng(0)
    gamma = rng.gamma(3.0, 1.0, N)
    half = np.where(rng.random(N) < 0.45, 7.0, gamma)
    assert Conditional(Standard(half)).mode()[0] == pytest.approx(2, abs=0.4)  # of the gamma density
    most = np.where(rng.random(N) < 0.55, 7.0, gamma)
    assert Conditional(Standard(most)).mode()[0] == 7
