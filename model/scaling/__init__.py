"""Columns <-> the scale the network works on: smooth monotone curves, robust scaling, quantile scaling with atoms."""

from .quantile import QuantileStandardizer
from .robust import Standardizer
from .spline import MonotoneSpline

__all__ = ["MonotoneSpline", "QuantileStandardizer", "Standardizer"]
