"""Questions and answers: from named columns to quantiles, densities, joints, posteriors, and whether they are right."""

from . import calibration, flow
from .distribution import Conditional
from .emulator import Emulator
from .joint import Joint
from .question import Question

__all__ = ["Conditional", "Emulator", "Joint", "Question", "calibration", "flow"]
