"""What a run leaves behind: config, weights and states, complete or not there; and the authors' own checkpoints."""

from . import checkpoint
from .checkpoint import Model, load_model, load_plan, make_standardizer, write_atomically

__all__ = ["Model", "checkpoint", "load_model", "load_plan", "make_standardizer", "write_atomically"]
