"""Questions and answers: quantiles, densities, joints, posteriors, and whether they are right.

A quantile is one path of the ODE in `flow`; ``Conditional.ppf`` in `distribution` asks for it.
"""

from . import calibration, flow
from .distribution import Conditional
from .emulator import Emulator
from .joint import Joint
from .question import OutsideTrainingRange, Question

__all__ = ["Conditional", "Emulator", "Joint", "OutsideTrainingRange", "Question", "calibration", "flow"]
