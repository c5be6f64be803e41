"""Figure 1, one file a box: embedding, Transformer, noise schedule, heads and their losses.

`network` composes them. The loss is ``DDPM.loss`` of the published recipe and ``VelocityHead.loss`` of the improved
one; a new noise schedule stands beside the one in `schedule`.
"""

from .ddpm import DDPM
from .network import Batch, DensityNetwork
from .schedule import SigmoidSchedule
from .slots import Slots
from .velocity import VelocityHead

__all__ = ["DDPM", "Batch", "DensityNetwork", "SigmoidSchedule", "Slots", "VelocityHead"]
