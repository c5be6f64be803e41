"""A table becomes a run folder: first weights, batches, steps, states, logs, many processes."""

from . import loop, procedures
from .initial import fit_to_table, make_model
from .loop import Training
from .trainer import train

__all__ = ["Training", "fit_to_table", "loop", "make_model", "procedures", "train"]
