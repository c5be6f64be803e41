"""What a run leaves behind: config, weights and states, and the authors' own checkpoints.

Each file is complete or not there.
"""

from . import checkpoint
from .checkpoint import Model, load_model, load_plan, make_standardizer
from .files import write_atomically

__all__ = ["Model", "checkpoint", "load_model", "load_plan", "make_standardizer", "write_atomically"]
