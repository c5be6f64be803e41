"""Pictures: axes in, artists out; what the notebooks ask of the sky; toys for the head alone; the two drawings."""

from . import plotting, skies, toys
from .selection import Selection
from .skies import Sky

__all__ = ["Selection", "Sky", "plotting", "skies", "toys"]
