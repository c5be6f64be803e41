"""A model before its first step: from scratch, or from a trained one whose table had fewer columns."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from ..config import Experiment
from ..datasets import TRAIN, Table, split_rows
from ..datasets.split import SplitKey
from ..datasets.vocabulary import Vocabulary
from ..nn import DensityNetwork, Slots
from ..run_folder import Model, make_standardizer

# Rows from which medians and scales are taken, at most: more would not change them, and the table may exceed memory.
FITTED_ROWS = 1_000_000
UNKNOWN = 255  # a side that is none


def make_model(table: Table, experiment: Experiment) -> Model:
    """Split the table, fit the standardizer on (up to a million) training rows, draw the network's weights."""
    config = experiment.training
    split = split_rows(table, config.seed, config.test_fraction, config.val_fraction, config.split_version)
    rows = np.flatnonzero(split == TRAIN)
    if len(rows) > FITTED_ROWS:
        rows = np.sort(np.random.default_rng(config.seed).choice(rows, FITTED_ROWS, replace=False))
    experiment = fit_to_table(table, experiment)
    return Model(
        experiment=experiment,
        vocabulary=Vocabulary(table.names),
        units=table.units,
        requestable=table.requestable,
        standardizer=make_standardizer(len(table.names), experiment).fit(table.values[rows], table.names, table.offset),
        network=DensityNetwork(len(table.names), experiment, table.groups),
        groups=table.groups,
        split=split,
        source=table.source,
        fingerprint=table.fingerprint(),
        split_key=SplitKey(
            version=config.split_version if table.split is None else 1,
            seed=config.seed,
            columns=table.names,
            ids=table.ids is not None,
            test_fraction=config.test_fraction,
        ),
    )


def fit_to_table(table: Table, experiment: Experiment) -> Experiment:
    """The experiment with all that is left to the table filled in, from its training rows and its slots."""
    config, slots = experiment.training, Slots(table.groups)
    rows = round(len(table) * (1 - config.test_fraction - config.val_fraction))
    return experiment.follow(rows, len(slots.single) + len(slots.patches), len(slots.patches) > 0)


def column_order(trained: Model, table: Table) -> tuple[str, ...]:
    """The trained model's columns in its order, then the table's new ones.

    Raises:
        ValueError: If the table lacks a column of the trained model.
    """
    known = trained.vocabulary.names
    missing = [name for name in known if name not in table.names]
    if missing:
        raise ValueError(f"the trained model knows {', '.join(missing)}, which the table lacks")
    return known + tuple(name for name in table.names if name not in known)


def inherit_split(trained: Model, table: Table, experiment: Experiment) -> Table:
    """The table with a split in which no object that a trained model has learned from is a test object.

    The trained model's seed and, without ids, its columns decide the sides; no larger fraction of test objects is taken
    than it had. Where it was split by the places of rows (`split_rows`, version 1), a table that has only grown at its
    end keeps the sides of old objects; of another one nothing can be said, which is a warning.

    Args:
        trained: The model to start from.
        table: Has its columns, and perhaps others. If it brings its split, that is kept.
        experiment: Of the new run.
    """
    if table.split is not None:
        return table
    key, config, problem = trained.split_key, experiment.training, ""
    by_place = key.version == 1 or key.ids != (table.ids is not None)
    test_fraction = config.test_fraction if by_place else min(config.test_fraction, key.test_fraction)
    every = replace(table, requestable=table.names)  # columns are selected to be hashed, not to be asked for
    split = split_rows(every.select(key.columns), key.seed, test_fraction, config.val_fraction)
    if by_place:
        old = _sides_by_place(trained, every.select(trained.vocabulary.names))
        split = np.where(old == UNKNOWN, split, old)
        if (old == UNKNOWN).all():
            problem = "the rows it has learned from cannot be found in this table: some may be test rows now"
    elif test_fraction < config.test_fraction:
        problem = f"it has left out only a fraction of {test_fraction:g} of the objects: no more are test objects now"
    if problem:
        warnings.warn(f"about the trained model to start from: {problem}", stacklevel=3)
    return replace(table, split=split)


def _sides_by_place(trained: Model, table: Table) -> np.ndarray:
    """The side that a trained model's split gave each row, (N,), if its table is the first rows of this; or UNKNOWN."""
    n, old = len(trained.split), np.full(len(table), UNKNOWN, dtype=np.uint8)
    if not 0 < n <= len(table) or table.fingerprint(n) != trained.fingerprint:
        return old
    old[:n] = trained.split
    if table.ids is not None:  # later rows may be new observations of old objects
        ids, first = np.unique(table.ids[:n], return_index=True)
        place = np.searchsorted(ids, table.ids).clip(max=len(ids) - 1)
        old = np.where(ids[place] == table.ids, trained.split[first[place]], old)
    return old


def continue_from(trained: Model, model: Model):
    """Give a new model the weights and scales of a trained one; only the new columns' own rows stay as drawn.

    Args:
        trained: Its columns are the first ones of the new model.
        model: Changed in place.

    Raises:
        ValueError: If the networks differ in more than their columns.
    """
    recipes = trained.experiment.training.recipe, model.experiment.training.recipe
    if recipes[0] != recipes[1]:
        raise ValueError(f"the trained model is of the {recipes[0]} recipe, not the {recipes[1]} one: train it anew")
    old, new = (replace(m.experiment.network, dropout=0.0) for m in (trained, model))  # dropout has no weights
    if old != new or trained.experiment.head != model.experiment.head:
        raise ValueError(
            f"the trained model has other sizes: {old}, {trained.experiment.head}, not {new}, {model.experiment.head}"
        )
    known, offset = len(trained.units), model.standardizer.offset.clone()
    if trained.units != model.units[:known]:
        raise ValueError(f"the trained model has units {trained.units}; the table has {model.units[:known]}")
    scales = model.standardizer.state_dict()
    low, high = scales["minimum"][:known].clone(), scales["maximum"][:known].clone()
    for trained_part, part in ((trained.network, model.network), (trained.standardizer, model.standardizer)):
        state = part.state_dict()
        for name, tensor in trained_part.state_dict().items():
            # Tables of columns are longer in the new model; everything else has the same shape.
            state[name][tuple(slice(n) for n in tensor.shape)] = tensor
        part.load_state_dict(state)
    model.standardizer.shift(offset)  # of the new table, whose rows are stored so
    key = trained.split_key  # which has decided the split, see `inherit_split`
    model.split_key = key._replace(test_fraction=min(key.test_fraction, model.split_key.test_fraction))
    # The new rows are trained on too.
    scales["minimum"][:known] = scales["minimum"][:known].minimum(low)
    scales["maximum"][:known] = scales["maximum"][:known].maximum(high)
