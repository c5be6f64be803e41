"""The network, one file a box of figure 1: embedding, Transformer, noise schedule, the two heads, and all composed."""

from .ddpm import DDPM
from .network import Batch, DensityNetwork
from .schedule import SigmoidSchedule
from .velocity import VelocityHead

__all__ = ["DDPM", "Batch", "DensityNetwork", "SigmoidSchedule", "VelocityHead"]
