"""A table becomes a run folder: batches, the first weights, steps, state, logs, several processes."""

from .initial import make_model
from .loop import Training
from .trainer import train

__all__ = ["Training", "make_model", "train"]
