"""A Transformer with a denoising-diffusion head: a density emulator of a table."""

from model.checkpoint import Model
from model.config import EXPERIMENTS, Experiment
from model.datasets import Table
from model.distribution import Conditional
from model.emulator import Emulator
from model.joint import Joint
from model.trainer import train

__all__ = ["EXPERIMENTS", "Conditional", "Emulator", "Experiment", "Joint", "Model", "Table", "train"]
