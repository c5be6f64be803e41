"""One flag per field, every flag counts, everything is saved, nonsense is refused."""

import json
from dataclasses import asdict

import pytest

import training
from model.config import EXPERIMENTS, Experiment, HeadConfig, NetworkConfig, TrainingConfig, flat_fields

OTHER = {"activation": "relu", "cycles": 2, "max_context": 5, "seed": 3, "recipe": "published"}
OTHER |= {"context_draw": "observed", "precision": "bf16", "compile": True}


def other_value(field):
    """A value that differs from the default, where there is a choice at all."""
    if field.name in OTHER:
        return OTHER[field.name]
    return field.default * 2 if isinstance(field.default, int) else field.default / 2


@pytest.mark.parametrize(("part", "field"), list(flat_fields()), ids=lambda value: getattr(value, "name", value))
def test_every_flag_changes_its_field_and_no_other(part, field):
    value = other_value(field)
    flag = "--" + field.name.replace("_", "-")
    flags = ["california_housing", flag] if value is True else ["california_housing", flag, str(value)]
    experiment = training.make_experiment(training.make_parser().parse_args(flags))
    expected = asdict(EXPERIMENTS["california_housing"])
    expected[part][field.name] = value
    assert asdict(experiment) == expected


def test_field_names_are_unique_so_that_flags_are():
    names = [field.name for _, field in flat_fields()]
    assert len(names) == len(set(names))
    assert all(field.metadata["help"] for _, field in flat_fields())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_survives_json(name):
    experiment = EXPERIMENTS[name]
    assert Experiment.from_dict(json.loads(json.dumps(experiment.to_dict()))) == experiment


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (NetworkConfig, {"heads": 5}, "heads"),
        (NetworkConfig, {"dropout": 1.0}, "dropout"),
        (NetworkConfig, {"activation": "sine"}, "activation"),
        (HeadConfig, {"beta_max": 1e-6}, "beta_min"),
        (HeadConfig, {"diffusion_steps": 1}, "diffusion_steps"),
        (TrainingConfig, {"epochs": 10}, "multiple of cycles"),
        (TrainingConfig, {"recipe": "secret"}, "recipe"),
        (TrainingConfig, {"learning_rate": 0.0, "min_learning_rate": 0.0}, "learning_rate"),
        (TrainingConfig, {"test_fraction": 0.6, "val_fraction": 0.4}, "test_fraction"),
    ],
)
def test_values_out_of_range_are_named(config, values, message):
    with pytest.raises(ValueError, match=message):
        config(**values)


def test_an_unknown_field_is_named():
    with pytest.raises(TypeError, match="learning_rat"):
        EXPERIMENTS["mixture"].override(learning_rat=1.0)
