"""A mock of the paper's catalogue, drawn from a population whose exact posteriors can be computed.

``population`` draws true stars, ``relations`` and ``spectrum`` say what they look like without noise, ``errors`` how
well that is measured, ``catalogue`` assembles the table with its gaps, ``posterior`` inverts it all with the help of
``proposal``. ``fit`` made the constants from real stars.

``python -m model.datasets.mock_apogee_xp out.h5 --stars 400000 --seed 0`` writes a file.
"""

from ..apogee_xp import NAMES
from ..apogee_xp import SCALARS as LABELS
from .catalogue import load, load_labels, write
from .posterior import Posterior, mock_posterior

__all__ = ["LABELS", "NAMES", "Posterior", "load", "load_labels", "mock_posterior", "write"]
