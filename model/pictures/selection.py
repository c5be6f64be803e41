"""What is given: one object that conditions the model, cuts the data and writes the caption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Selection:
    """Columns held at a value, so that model, data and caption of a figure cannot disagree.

    The model is conditioned on the values themselves; data, of which none lie exactly there, are cut within a
    half-width around them, on every column that the model is conditioned on.

    Args:
        values: Column name -> value at which it is held, in the column's unit.
        half_width: Column name -> half-width of the cut on the data, same unit. Needed for all the columns or, if no
            data stand beside the model, none.
        units: Column name -> unit for the caption; columns without one are pure numbers.

    Raises:
        ValueError: If no column is held, a number is not finite, a half-width is not positive, or a half-width or unit
            is given for only some of the columns or for another column.

    Example:
        >>> selection = Selection({"MedInc": 7.0}, half_width={"MedInc": 0.25})
        >>> selection.given(), selection.mask({"MedInc": np.array([1.0, 6.9, np.nan])}).tolist()
        ({'MedInc': 7.0}, [False, True, False])
        >>> selection.caption(), selection.caption(with_data=True)
        ('MedInc = 7.0', 'MedInc = 7.0 (data: 6.75 to 7.25)')
    """

    values: Mapping[str, float]
    half_width: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("values", "half_width", "units"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        if not self.values:
            raise ValueError("a selection holds at least one column at a value")
        if self.half_width and set(self.half_width) != set(self.values):
            raise ValueError(
                f"half-widths of {', '.join(self.half_width)} but values of {', '.join(self.values)}: "
                "data would be cut on other columns than the model is conditioned on"
            )
        unknown = sorted(set(self.units) - set(self.values))
        if unknown:
            raise ValueError(f"units of {', '.join(unknown)}, which no value is given for")
        for name, number in self.values.items():
            if not np.isfinite(number):
                raise ValueError(f"{name} = {number}: the value must be finite")
        for name, number in self.half_width.items():
            if not (np.isfinite(number) and number > 0):
                raise ValueError(f"the half-width of {name} is {number}: it must be finite and positive")

    def given(self) -> dict[str, float]:
        """What the model is conditioned on: the ``given`` of ``Emulator.conditional``."""
        return {name: float(value) for name, value in self.values.items()}

    def bounds(self, name: str) -> tuple[float, float]:
        """The least and the greatest value of a column that the cut on the data keeps.

        Raises:
            ValueError: If the selection has no half-widths.
        """
        if not self.half_width:
            raise ValueError(f"no half-width of {', '.join(self.values)}: without one no data can be selected")
        return float(self.values[name] - self.half_width[name]), float(self.values[name] + self.half_width[name])

    def mask(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Which rows of the data belong to the selection, (N,) bool: a row where any of its columns is NaN does not.

        Args:
            columns: Anything that gives a column, (N,), by its name: a dict, a DataFrame, an astropy Table.

        Raises:
            KeyError: If a column of the selection is not among them.
            ValueError: If the selection has no half-widths.
        """
        inside = []
        for name in self.values:
            low, high = self.bounds(name)
            column = np.asarray(columns[name])
            inside.append((column >= low) & (column <= high))
        return np.all(inside, axis=0)

    def caption(self, with_data: bool = False) -> str:
        """What is held, and, only if data are shown beside the model, how they were cut.

        Raises:
            ValueError: If data are to be named but the selection has no half-widths.
        """
        held = ", ".join(f"{name} = {value}{self._unit(name)}" for name, value in self.values.items())
        return f"{held} (data: {self._cut()})" if with_data else held

    def _cut(self) -> str:
        # Ten digits tell every cut apart and hide the rounding of 0.3 - 0.1 = 0.19999999999999998.
        ranges = {name: "{:.10g} to {:.10g}".format(*self.bounds(name)) + self._unit(name) for name in self.values}
        return ", ".join(r if len(ranges) == 1 else f"{name} {r}" for name, r in ranges.items())

    def _unit(self, name: str) -> str:
        return f" {self.units[name]}" if self.units.get(name) else ""
