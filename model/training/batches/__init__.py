"""Everything random about a training step: what is asked of which rows, as published and as improved."""

from .pools import LOTS, Pools
from .published import draw_batch, trainable_rows
from .questions import Questions, together

__all__ = ["LOTS", "Pools", "Questions", "draw_batch", "together", "trainable_rows"]
