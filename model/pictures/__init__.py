"""Axes in, artists out: figures of the notebooks, toys for the head, drawings of the project."""

from . import plotting, skies, toys
from .selection import Selection
from .skies import Sky

__all__ = ["Selection", "Sky", "plotting", "skies", "toys"]
