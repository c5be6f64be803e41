"""One flag per field, every flag counts, everything is saved, nonsense is refused."""

import json
from dataclasses import asdict, replace

import pytest

import training
from model.config import (
    EXPERIMENTS,
    FOREIGN,
    RECIPES,
    Experiment,
    HeadConfig,
    NetworkConfig,
    TrainingConfig,
    flat_fields,
    improved,
)

OTHER = {"activation": "relu", "cycles": 2, "max_context": 5, "seed": 3}
OTHER |= {"precision": "bf16", "compile": True, "complete_contexts": 0.7, "average_width": 0.05, "norm": "post"}
OTHER |= {"steps": 900, "max_minutes": 2.5, "split_version": 1}


def other_value(field):
    """A value that differs from the default, where there is a choice at all."""
    if field.name in OTHER:
        return OTHER[field.name]
    return field.default * 2 if isinstance(field.default, int) else field.default / 2


def from_flags(*flags) -> Experiment:
    return training.make_experiment(training.make_parser().parse_args([str(flag) for flag in flags]))


FLAGS = [(part, field) for part, field in flat_fields() if field.name != "recipe"]


@pytest.mark.parametrize(("part", "field"), FLAGS, ids=lambda value: getattr(value, "name", value))
def test_every_flag_changes_its_field_and_no_other(part, field):
    value = other_value(field)
    flag = "--" + field.name.replace("_", "-")
    recipe = "improved" if field.name in FOREIGN["published"] else "published"
    expected = asdict(EXPERIMENTS["california_housing"].override(recipe=recipe))
    assert expected[part][field.name] != value
    expected[part][field.name] = value
    flags = ["california_housing", "--recipe", recipe, flag, *([] if value is True else [value])]
    assert asdict(from_flags(*flags)) == expected


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_improved_recipe_brings_its_own_sizes_which_other_flags_override(name):
    experiment = from_flags(name, "--recipe", "improved", "--head-width", 24, "--steps", 7)
    training_ = experiment.training
    assert experiment == improved(EXPERIMENTS[name]).override(head_width=24, steps=7)
    assert (training_.recipe, training_.steps, experiment.head.head_width) == ("improved", 7, 24)
    assert (training_.noise_draws, training_.average_width) == (4, 0.1)
    assert training_.test_fraction == EXPERIMENTS[name].training.test_fraction
    assert experiment.network.embedding_dim == 0  # follows the table
    assert (experiment.name, experiment.dataset) == (name, EXPERIMENTS[name].dataset)
    assert experiment.override(recipe="improved") == experiment  # nothing is reset when nothing changes
    assert experiment.override(recipe="published") == EXPERIMENTS[name]
    assert from_flags(name, "--recipe", "published") == EXPERIMENTS[name]


def test_a_table_of_ones_own_gets_the_improved_recipe_whose_sizes_follow_it():
    experiment = from_flags("my_table.csv")
    assert (experiment.name, experiment.dataset) == ("my_table", "my_table.csv")
    assert experiment.training.recipe == "improved"
    small, large = (experiment.follow(rows, 10, patched=False) for rows in (100, 10**6))
    assert small.training.steps < large.training.steps
    assert small.training.batch_size < large.training.batch_size
    published_ = from_flags("my_table.csv", "--recipe", "published")
    assert published_ == Experiment("my_table", "my_table.csv")


@pytest.mark.parametrize("name", ["stars", "mixture"])
def test_a_table_that_is_called_like_an_experiment_is_not_that_experiment(name):
    for recipe in RECIPES:
        own = from_flags(f"{name}.csv", "--recipe", recipe)
        other = from_flags("my_table.csv", "--recipe", recipe)
        assert own == replace(other, name=name, dataset=f"{name}.csv")


@pytest.mark.parametrize(
    ("flag", "recipe"),
    [("--beta-min", "improved"), ("--cycles", "improved"), ("--guess-weight", "published")],
)
def test_a_flag_that_would_do_nothing_is_an_error(flag, recipe):
    value = 2 if flag == "--cycles" else 0.05
    for table in ("mixture", "my_table.csv"):
        with pytest.raises(ValueError, match=f"{flag[2:].replace('-', '_')} plays no part in the {recipe} recipe"):
            from_flags(table, "--recipe", recipe, flag, value)
        other = "published" if recipe == "improved" else "improved"
        assert from_flags(table, "--recipe", other, flag, value) != from_flags(table, "--recipe", other)


def test_field_names_are_unique_so_that_flags_are():
    names = [field.name for _, field in flat_fields()]
    assert len(names) == len(set(names))
    assert all(field.metadata["help"] for _, field in flat_fields())


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_experiment_survives_json(name, recipe):
    experiment = EXPERIMENTS[name].override(recipe=recipe, weight_decay=0.5)
    assert Experiment.from_dict(json.loads(json.dumps(experiment.to_dict()))) == experiment


def test_what_earlier_versions_saved_is_read():
    saved = EXPERIMENTS["mixture"].to_dict()
    saved["training"] |= {"context_draw": "grouped", "length_draw": "log", "averaging": 0.999}
    del saved["network"]["norm"], saved["training"]["split_version"]
    read = Experiment.from_dict(saved)
    assert (read.network.norm, read.training.split_version) == ("post", 1)


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
        (TrainingConfig, {"average_width": 1.0}, "average_width"),
        (TrainingConfig, {"patience": 0.0}, "patience"),
        (TrainingConfig, {"max_minutes": -1.0}, "max_minutes"),
        (NetworkConfig, {"norm": "middle"}, "norm"),
        (TrainingConfig, {"complete_contexts": 1.5}, "complete_contexts"),
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
    with pytest.raises(ValueError, match="recipe must be one of"):
        EXPERIMENTS["mixture"].override(recipe="secret")
