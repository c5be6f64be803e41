"""The errors of the few steps and nodes with which densities are solved, on trained checkpoints.

Random questions to rows that were never trained on; the distribution that the user gets, interpolation included,
against the same network's own, solved with 1,000 steps (improved recipe) or with all T (published) at many quantiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.special import ndtr

from model import Emulator, Table, datasets
from model.datasets import TEST
from model.inference import Conditional, Question, flow
from model.inference.flow import FULL, REACH, Resolution
from model.scaling import MonotoneSpline

NODES = 257  # of the reference
PUBLISHED_QUESTIONS = 30
STEPS = {"improved": 1000, "published": 20_000}  # the published head has T steps: a grid so fine that it takes them all


class Reference:
    """The quantile functions of a question's rows, solved finely; `Conditional` takes it in the question's place."""

    def __init__(self, question: Question):
        self.model, self.device = question.model, question.device
        self.column, self.index, self.given = question.column, question.index, question.given
        cond = question.encode(slice(None))
        ode = flow.field(self.model.network.head, cond, STEPS[self.model.experiment.training.recipe])
        xi = torch.linspace(-REACH, REACH, NODES, device=cond.device).expand(len(cond), -1).contiguous()
        self.xi, self.x = xi.double(), ode.push(xi).double()
        rounding = 1e-9 * torch.arange(NODES, device=cond.device)  # neighbours that float32 cannot tell apart
        self.curve = MonotoneSpline.through(self.xi, self.x.cummax(1).values + rounding)

    def __len__(self) -> int:
        return len(self.x)

    def curves(self, rows: slice, resolution: Resolution) -> MonotoneSpline:
        return self.curve.rows(rows)


def random_questions(emulator: Emulator, table: Table, n: int, rng: np.random.Generator) -> Iterator[Question]:
    """A random column, asked of a random test row of which a random number of random columns is given."""
    model = emulator.model
    rows = rng.choice(np.flatnonzero(model.split == TEST), n)
    columns = rng.choice(emulator.requestable, n)
    given = np.full((n, len(table.names)), np.nan)
    for i, row in enumerate(table.physical(rows)):
        others = [j for j in np.flatnonzero(~np.isnan(row)) if table.names[j] != columns[i]]
        kept = rng.permutation(others)[: rng.integers(len(others) + 1)].astype(int)
        given[i, kept] = row[kept]
    values = model.standardizer.standardize(torch.from_numpy(given).to(model.standardizer.minimum.device)).cpu()
    for column in np.unique(columns):
        yield Question(model, emulator.device, str(column), values[torch.from_numpy(columns == column)])


def solver_errors(question: Question) -> np.ndarray:
    """KS distance, median's error and sigma's error, both in units of sigma, of each row: (N, 3)."""
    reference = Reference(question)
    curve = question.curves(slice(None), FULL)
    distance = ks(curve, reference.x.to(curve.x.device), reference.xi.to(curve.x.device))
    exact, quick = Conditional(reference), Conditional(question).summary()
    sigma = exact.std()
    median_error, sigma_error = np.abs(quick[:, 0] - exact.median()) / sigma, np.abs(quick[:, 1] / sigma - 1)
    return np.stack([distance.cpu().numpy(), median_error, sigma_error], axis=1)


def ks(curve: MonotoneSpline, x: Tensor, xi: Tensor) -> Tensor:
    """Largest difference of the distribution function from that whose quantiles are x, (N,).

    On the standard scale: the map to the column's unit increases, so it changes nothing but to hide what an atom holds.
    """
    return (ndtr(curve.inverse(x)) - ndtr(xi)).abs().amax(1)


def measure_errors(runs: list[Path], n_questions: int) -> dict:
    """The errors of each checkpoint whose table is here, and of all improved ones together.

    Args:
        runs: Run folders.
        n_questions: Questions to the improved checkpoints together; a published one gets `PUBLISHED_QUESTIONS` at most.

    Returns:
        ``checkpoints``, and the figures of all improved ones, None if there is none.
    """
    emulators = {run.name: Emulator.load(run) for run in runs}
    recipes = {name: emulator.model.experiment.training.recipe for name, emulator in emulators.items()}
    each = -(-n_questions // max(1, list(recipes.values()).count("improved")))
    checkpoints, improved = {}, []
    for name, emulator in emulators.items():
        try:
            table = load_table(emulator)
        except FileNotFoundError as error:
            print(f"{name} is left out: {error}")
            continue
        n = each if recipes[name] == "improved" else min(each, PUBLISHED_QUESTIONS)
        questions = random_questions(emulator, table, n, np.random.default_rng(0))
        errors = np.concatenate([solver_errors(question) for question in questions])
        checkpoints[name] = {"recipe": recipes[name], **describe(errors)}
        print(name, checkpoints[name], flush=True)
        if recipes[name] == "improved":
            improved.append(errors)
    total = describe(np.concatenate(improved)) if improved else dict.fromkeys(describe(np.zeros((1, 3))))
    return {**total, "checkpoints": checkpoints}


def load_table(emulator: Emulator) -> Table:
    """The table that an emulator was trained on.

    Raises:
        FileNotFoundError: If it is not here.
        ValueError: If another one is in its place.
    """
    table = datasets.load(emulator.model.experiment.dataset)
    if table.fingerprint() != emulator.model.fingerprint:
        raise ValueError(f"{emulator!r} was trained on another table than the one in {datasets.data_folder()}")
    return table


def describe(errors: np.ndarray) -> dict:
    """The JSON entry of errors as `solver_errors` gives them."""
    (distance, median, sigma), (worst, *_) = errors.mean(0), errors.max(0)
    return {
        "questions": len(errors),
        "ks_solver": round(float(distance), 5),
        "ks_solver_max": round(float(worst), 5),
        "summary_error": {"median": round(float(median), 5), "sigma": round(float(sigma), 5)},
    }
