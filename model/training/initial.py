"""A model before its first step: from scratch, or from a trained one whose table had fewer columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..config import Experiment
from ..datasets import TRAIN, Table, split_rows
from ..datasets.vocabulary import Vocabulary
from ..nn import DensityNetwork
from ..run_folder import Model, make_standardizer

# Rows from which medians and scales are taken, at most: more would not change them, and the table may exceed memory.
FITTED_ROWS = 1_000_000


def make_model(table: Table, experiment: Experiment) -> Model:
    """Split the table, fit the standardizer on (up to a million) training rows, draw the network's weights."""
    config = experiment.training
    split = split_rows(table, config.seed, config.test_fraction, config.val_fraction)
    rows = np.flatnonzero(split == TRAIN)
    if len(rows) > FITTED_ROWS:
        rows = np.sort(np.random.default_rng(config.seed).choice(rows, FITTED_ROWS, replace=False))
    return Model(
        experiment=experiment,
        vocabulary=Vocabulary(table.names),
        units=table.units,
        requestable=table.requestable,
        standardizer=make_standardizer(len(table.names), experiment).fit(table.values[rows], table.names),
        network=DensityNetwork(len(table.names), experiment),
        split=split,
        source=table.source,
        fingerprint=table.fingerprint(),
    )


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
    known = len(trained.units)
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
    # The new rows are trained on too.
    scales["minimum"][:known] = scales["minimum"][:known].minimum(low)
    scales["maximum"][:known] = scales["maximum"][:known].maximum(high)
