"""A table becomes a run folder: first weights, batches, steps, states, logs, many processes."""

from .initial import make_model
from .loop import Training
from .trainer import train

__all__ = ["Training", "make_model", "train"]
