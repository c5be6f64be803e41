"""A Transformer with a denoising-diffusion head: a density emulator of a table."""

from .config import EXPERIMENTS, Experiment
from .datasets import Table
from .inference import Conditional, Emulator, Joint
from .run_folder import Model
from .training import train

__all__ = ["EXPERIMENTS", "Conditional", "Emulator", "Experiment", "Joint", "Model", "Table", "train"]
