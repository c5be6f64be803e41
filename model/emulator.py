"""The question-and-answer face: names and units outside, tensors inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from model.checkpoint import Model, load_model
from model.columns import read_given, read_request
from model.device import pick_device
from model.distribution import Conditional, Joint

ABSURD = 1e6  # scales from the median: a sentinel such as 1e20, on which the network would overflow


class Emulator:
    """A trained density emulator of a table.

    What is given may be a dict of scalars and arrays, a pandas DataFrame, an astropy Table or QTable, or a
    `model.datasets.Table`; ``{}`` asks for the unconditional density. NaN and masked values count as not observed.
    Values are in the columns' units unless they carry one.

    Args:
        model: Network, standardizer, vocabulary.
        device: Where to compute; a GPU if there is one, else the CPU.
    """

    def __init__(self, model: Model, device: str | torch.device | None = None):
        self.device = pick_device(device)
        model.network.to(self.device).eval()
        model.standardizer.cpu()
        self.model = model

    @classmethod
    def load(cls, run: str | Path, device: str | torch.device | None = None) -> Emulator:
        """Load a run folder.

        Raises:
            FileNotFoundError: If it is not a run folder, or holds no weights yet.
            ValueError: If a file in it is damaged.
        """
        return cls(load_model(run), device)

    def __repr__(self) -> str:
        parameters, _ = self.model.network.count_parameters()
        return f"Emulator({self.model.experiment.name}: {len(self.columns)} columns, {parameters:,} parameters)"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that may be given."""
        return self.model.vocabulary.names

    @property
    def units(self) -> dict[str, str]:
        """Unit of each column; "" for a pure number."""
        return dict(zip(self.columns, self.model.units))

    @property
    def requestable(self) -> tuple[str, ...]:
        """Names of the columns that may be asked for."""
        return self.model.requestable

    def conditional(self, request: str, given=None) -> Conditional:
        """The density of one column given any others.

        A requested column that is also given is passed on to the network, as in the published procedure.

        Args:
            request: The column asked for.
            given: Values of other columns, N rows (see the class).

        Returns:
            One distribution per row.

        Raises:
            KeyError: If a column is unknown, or cannot be requested.
            ValueError: If a value is infinite, or lengths or physical types do not fit.
        """
        self._check_request(request)
        return Conditional(self.model, self.device, request, self._standardize(self._read(given)))

    def joint(self, request: Sequence[str], given=None) -> Joint:
        """The joint density of several columns given any others; arguments and errors as `conditional`."""
        columns = read_request(request)
        for column in columns:
            self._check_request(column)
        if len(set(columns)) != len(columns):
            raise ValueError(f"each column may be requested once: {', '.join(columns)}")
        return Joint(self.model, self.device, columns, self._standardize(self._read(given)))

    def summary(self, given, request: Sequence[str], samples: int = 1000, seed: int = 0):
        """Point estimates with uncertainties for every row.

        Args:
            given: The table, N rows (see the class).
            request: Columns asked for.
            samples: Draws per row behind each number.
            seed: Of these draws.

        Returns:
            A DataFrame with, for each requested column, ``_median``, ``_sigma`` (standard deviation), ``_q16`` and
            ``_q84``, in the column's unit; and ``outside_training_range``: the given columns whose value lies outside
            what the model was trained on, comma-separated, empty if none. It has the index of a DataFrame given.
        """
        import pandas as pd

        values = self._read(given)
        frame = pd.DataFrame(index=given.index if isinstance(given, pd.DataFrame) else range(len(values)))
        for column in read_request(request):
            self._check_request(column)
            density = Conditional(self.model, self.device, column, self._standardize(values))
            quantiles = density.ppf([0.5, 0.16, 0.84], samples, seed)  # (N, 3)
            frame[f"{column}_median"] = quantiles[:, 0]
            frame[f"{column}_sigma"] = density.std(samples, seed)
            frame[f"{column}_q16"], frame[f"{column}_q84"] = quantiles[:, 1], quantiles[:, 2]
        frame["outside_training_range"] = self._outside(values)
        return frame

    def _read(self, given) -> np.ndarray:
        return read_given(given, self.model.vocabulary, self.model.units)  # (N, V)

    def _standardize(self, values: np.ndarray) -> torch.Tensor:
        z = self.model.standardizer.standardize(torch.from_numpy(values))
        absurd = (z.abs() > ABSURD).nonzero()
        if len(absurd):
            row, column = absurd[0].tolist()
            raise ValueError(
                f"column {self.columns[column]!r}, row {row}: {values[row, column]:g} is over a million scales from "
                "the training rows' median; use NaN for a value that was not observed"
            )
        return z

    def _outside(self, values: np.ndarray) -> list[str]:
        low, high = self.model.standardizer.minimum.numpy(), self.model.standardizer.maximum.numpy()
        values = values.astype(np.float32)  # as the training rows were
        outside = (values < low) | (values > high)  # NaN is in no range and outside none
        return [", ".join(np.array(self.columns)[row]) for row in outside]

    def _check_request(self, column: str):
        if not isinstance(column, str):
            raise TypeError(f"one column's name is needed, not {column!r}; joint() takes several")
        self.model.vocabulary.token(column)
        if column not in self.requestable:
            raise KeyError(
                f"the model was not trained to answer for {column!r}; it was for {', '.join(self.requestable)}"
            )
