"""The question-and-answer face: names and units outside, tensors inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..device import pick_device
from ..run_folder import Model, load_model
from .columns import given_names, read_given, read_request, read_values
from .distribution import Conditional
from .joint import Joint
from .posterior import NoisyQuestion, Posterior
from .question import ROWS, Question, outside, standardize, warn_outside


class Emulator:
    """A trained density emulator of a table.

    What is given may be a dict of scalars and arrays, a pandas DataFrame, an astropy Table or QTable, a structured
    array, or a `Table`; ``{}`` asks for the unconditional density. NaN and masked values count as not observed. Values
    are in the columns' units unless they carry one. Where they lie outside the range of the training rows, an
    `OutsideTrainingRange` warning says so, once a call.

    Args:
        model: Network, standardizer, vocabulary.
        device: Where to compute; a GPU if there is one, else the CPU.
        calibrated: Widen densities by what the validation rows asked for (`model.scaling.Recalibration`); without it,
            answers are the network's own.
    """

    def __init__(self, model: Model, device: str | torch.device | None = None, calibrated: bool = True):
        self.device = pick_device(device)
        model.network.to(self.device).eval()
        model.standardizer.to("cpu" if self.device.type == "mps" else self.device)  # mps has no float64
        self.model = model if calibrated else replace(model, calibration=None)

    @classmethod
    def load(cls, run: str | Path, device: str | torch.device | None = None, calibrated: bool = True) -> Emulator:
        """Load a run folder.

        Raises:
            FileNotFoundError: If it is not a run folder, or holds no weights yet.
            ValueError: If a file in it is damaged.
        """
        return cls(load_model(run), device, calibrated)

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

    def conditional(self, request: str, given=None, errors=None) -> Conditional:
        """The density of one column given any others.

        Args:
            request: The column asked for.
            given: Values of other columns, N rows (see the class). The published recipe passes a requested column that
                is also given on to the network; the improved one never saw that.
            errors: Given column -> standard deviation of its measurement, a number or one per row, beyond what the
                column of the training table already carries. 0 or NaN = exact. Of measurements that hardly go together
                the first answer warns, see `posterior.FEW`.

        Returns:
            One distribution per row.

        Raises:
            KeyError: If a column is unknown, or cannot be requested.
            ValueError: If a value is infinite, an error negative or of a column that is not given, lengths or physical
                types do not fit, or the requested column is given (improved recipe).
        """
        values = self._read(given)
        errors = self._read_errors(errors, given, values)
        answer = self._conditional(request, values, errors)
        warn_outside(self.model, values, errors)
        return answer

    def joint(self, request: Sequence[str], given=None) -> Joint:
        """The joint density of several columns given any others, exactly; arguments and exceptions as `conditional`."""
        columns, values = read_request(request), self._read(given)
        for column in columns:
            self._check_request(column, values)
        if len(set(columns)) != len(columns):
            raise ValueError(f"each column may be requested once: {', '.join(columns)}")
        joint = Joint(self.model, self.device, columns, standardize(self.model, values))
        warn_outside(self.model, values)
        return joint

    def denoise(self, column: str, observed, error, given=None) -> Conditional:
        """The posterior of a column's true value: what others say about it, and a measurement of it.

        .. math:: p(x | obs, given) \\propto p(x | given)\\, N(obs; x, error^2)

        Args:
            column: The column that was measured.
            observed: Measurements, a number or one per row, in its unit unless they carry one; NaN = none.
            error: Their standard deviations, likewise, positive.
            given: Values of other columns, N rows (see the class).

        Raises:
            KeyError, ValueError: As `conditional`.
        """
        values = self._read(given)
        self._check_request(column, values)
        unit = self.units[column]
        observed = np.atleast_1d(read_values(column, observed, unit))
        error = np.atleast_1d(read_values(column, error, unit, differences=True))
        if not np.isfinite(observed[~np.isnan(observed)]).all():
            raise ValueError(f"a measurement of {column!r} is infinite: use NaN for none")
        if observed.ndim > 1 or error.ndim > 1:
            raise ValueError(
                f"measurements {observed.shape} and errors {error.shape}: a number, or one per row, is expected"
            )
        try:
            n = np.broadcast_shapes(observed.shape, error.shape, (len(values),))[0]
        except ValueError as reason:
            raise ValueError(
                f"{len(values)} rows are given, {len(observed)} measurements, {len(error)} errors"
            ) from reason
        values = np.broadcast_to(values, (n, values.shape[1])).copy()
        observed, error = (np.broadcast_to(x, (n,)).copy() for x in (observed, error))
        error[np.isnan(observed)] = 1.0  # of no measurement
        if not (error > 0).all():
            raise ValueError(f"the error of {column!r} must be positive, not {error[~(error > 0)][0]}")
        prior = Question(self.model, self.device, column, standardize(self.model, values))
        index, errors = prior.index, np.full(values.shape, np.nan)
        values[:, index], errors[:, index] = observed, error
        warn_outside(self.model, values, errors)
        return Conditional(Posterior(prior, torch.from_numpy(observed), torch.from_numpy(error)))

    def logpdf(self, table) -> np.ndarray:
        """Log density of whole rows over their observed columns, (N,): low for outliers and wrong cross-matches.

        By the chain rule, in the order of `columns`: each column that can be requested given those before it, and given
        all those that cannot be requested. Per product of the columns' units; an atom counts with its log mass.

        Args:
            table: N rows (see the class).
        """
        values = self._read(table)
        z, total = standardize(self.model, values), np.zeros(len(values))
        warn_outside(self.model, values)
        context = z.clone()
        context[:, [i for i, name in enumerate(self.columns) if name in self.requestable]] = torch.nan
        for i, name in enumerate(tqdm(self.columns, unit="column", delay=5, leave=False)):
            rows = np.flatnonzero(~np.isnan(values[:, i]))
            if name not in self.requestable or not len(rows):
                continue
            question = Question(self.model, self.device, name, context[rows])
            x = torch.from_numpy(values[rows, i : i + 1]).to(z.device)
            for start in range(0, len(rows), ROWS[self.device.type]):
                part = slice(start, start + ROWS[self.device.type])
                total[rows[part]] += question.log_probability(part, x[part]).squeeze(1).cpu().numpy()
            context[:, i] = z[:, i]
        return total

    def summary(self, given, request: Sequence[str], errors=None):
        """Point estimates with uncertainties for every row.

        Args:
            given: The table, N rows (see the class).
            request: Columns asked for.
            errors: As in `conditional`.

        Returns:
            A DataFrame with, for each requested column, ``_median``, ``_sigma`` (standard deviation), ``_q16`` and
            ``_q84``, in the column's unit; and ``outside_training_range``: the given columns whose value lies outside
            what the model was trained on, comma-separated, empty if none. It has the index of a DataFrame given.
        """
        import pandas as pd

        values = self._read(given)
        errors = self._read_errors(errors, given, values)
        frame = pd.DataFrame(index=given.index if isinstance(given, pd.DataFrame) else range(len(values)))
        for column in read_request(request):
            summary = self._conditional(column, values, errors).summary()
            for i, what in enumerate(("median", "sigma", "q16", "q84")):
                frame[f"{column}_{what}"] = summary[:, i]
        frame["outside_training_range"] = [
            ", ".join(np.array(self.columns)[row]) for row in outside(self.model, values)
        ]
        return frame

    def _conditional(self, request: str, values: np.ndarray, errors: np.ndarray) -> Conditional:
        self._check_request(request, values)
        question = Question(self.model, self.device, request, standardize(self.model, values))
        noisy = np.flatnonzero((errors > 0).any(axis=0))
        if not len(noisy):
            return Conditional(question)
        for name in (self.columns[i] for i in noisy):
            if name not in self.requestable:
                raise KeyError(
                    f"the model was not trained to answer for {name!r}: it can be given, but not with an error"
                )
        observed, sigma = ({i: torch.from_numpy(x[:, i].copy()) for i in noisy.tolist()} for x in (values, errors))
        return Conditional(NoisyQuestion(question, observed, sigma))

    def _read_errors(self, errors, given, values: np.ndarray) -> np.ndarray:
        """Errors in the columns' units, NaN where there are none, (N, V)."""
        sigma = self._read(errors, differences=True)
        for name in given_names(errors) - given_names(given):
            raise ValueError(f"an error is given for {name!r}, but no value: give both, or neither")
        for i, name in enumerate(self.columns):
            if (sigma[:, i] < 0).any():
                raise ValueError(f"the error of {name!r} is negative in row {int(np.argmax(sigma[:, i] < 0))}")
        if len(sigma) not in (1, len(values)):
            raise ValueError(f"{len(values)} rows are given and {len(sigma)} errors: give as many or one number")
        return np.broadcast_to(sigma, values.shape)

    def _read(self, given, differences: bool = False) -> np.ndarray:
        return read_given(given, self.model.vocabulary, self.model.units, differences)  # (N, V)

    def _check_request(self, column: str, values: np.ndarray):
        if not isinstance(column, str):
            raise TypeError(f"one column's name is needed, not {column!r}; joint() takes several")
        index = self.model.vocabulary.index(column)
        if column not in self.requestable:
            raise KeyError(
                f"the model was not trained to answer for {column!r}; it was for {', '.join(self.requestable)}"
            )
        if self.model.experiment.training.recipe == "improved" and not np.isnan(values[:, index]).all():
            raise ValueError(f"{column!r} is asked for and given: leave it out of what is given")
