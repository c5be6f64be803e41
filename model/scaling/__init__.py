"""Columns <-> the network's scale: monotone splines, robust and quantile scaling, atoms.

The published recipe scales by `robust`, the improved one by `quantile`, whose quantiles are those of the training
rows; the quantiles of an answer are computed in ``inference``.
"""

from .quantile import QuantileStandardizer
from .recalibration import Answers, Recalibration
from .robust import Standardizer
from .spline import MonotoneSpline

__all__ = ["Answers", "MonotoneSpline", "QuantileStandardizer", "Recalibration", "Standardizer"]
