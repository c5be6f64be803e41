"""Train a density emulator of a table, from the command line.

::

    python training.py california_housing
    python training.py my_table.csv --id-column source_id --request teff logg
    python training.py --list
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

from model import EXPERIMENTS, Experiment, datasets, train
from model.config import FOREIGN, HeadConfig, NetworkConfig, TrainingConfig, flat_fields, improved
from model.defaults import FOLLOWS
from model.nn import DensityNetwork
from model.run_folder import load_plan
from model.training import fit_to_table

IMPROVED = improved(Experiment("", ""))
PARTS = {"network": NetworkConfig, "head": HeadConfig, "training": TrainingConfig}


def make_parser() -> argparse.ArgumentParser:
    """One flag per config field; its type, help and default come from the field."""
    parser = argparse.ArgumentParser(
        description="Train a Transformer with a denoising-diffusion head on a table.",
        epilog="An experiment brings its own sizes and training; the published defaults shown are California's. A "
        "table of your own gets the improved recipe, whose sizes and steps follow the table: --dry-run prints them.",
    )
    parser.add_argument("table", nargs="?", help=f"an experiment ({', '.join(EXPERIMENTS)}) or a path to a table")
    parser.add_argument("--list", action="store_true", help="list the experiments and stop")
    parser.add_argument("--dry-run", action="store_true", help="build the network, print what would happen, and stop")
    parser.add_argument("--run", type=Path, help="run folder to write (default: runs/<experiment>)")
    parser.add_argument("--resume", action="store_true", help="continue the run in the run folder")
    parser.add_argument(
        "--init-from",
        type=Path,
        metavar="DIR",
        help="run folder of a trained model to start from",
    )
    parser.add_argument("--device", help="cuda, cuda:1, cpu, mps (default: cuda where there is a GPU, else cpu)")
    parser.add_argument("--id-column", help="column that names the object: its rows stay on one side of the split")
    parser.add_argument("--columns", nargs="+", metavar="NAME", help="columns to use (default: all numeric ones)")
    parser.add_argument(
        "--request", nargs="+", metavar="NAME", help="columns that may be asked for (default: all used)"
    )
    parser.add_argument("--key", help="dataset or group inside an HDF5 file (default: the only one)")
    for part, group in ((part, parser.add_argument_group(part)) for part in PARTS):
        types = get_type_hints(PARTS[part])
        for field in (field for owner, field in flat_fields() if owner == part):
            text = f"{field.metadata['help']} (default: {_default(part, field)})"
            kind = types[field.name]
            options = {"action": "store_true"} if kind is bool else {"type": kind, "choices": field.metadata["choices"]}
            group.add_argument("--" + field.name.replace("_", "-"), default=argparse.SUPPRESS, help=text, **options)
    return parser


def _default(part: str, field) -> str:
    """The defaults of a field in both recipes, as far as it plays a part in them."""
    values = {}
    for recipe, experiment in (("published", EXPERIMENTS["california_housing"]), ("improved", IMPROVED)):
        value = getattr(getattr(experiment, part), field.name)
        if field.name not in FOREIGN[recipe]:
            values[recipe] = "follows the table" if field.name in FOLLOWS and not value else value
    if len(set(values.values())) == 1 and len(values) == 2:
        return str(values["published"])
    return ", ".join(f"{recipe}: {value}" for recipe, value in values.items())


def make_experiment(arguments: argparse.Namespace) -> Experiment:
    """The experiment named on the command line with its fields overridden; a resumed run brings its own fields."""
    overrides = {field.name: getattr(arguments, field.name) for _, field in flat_fields() if field.name in arguments}
    if arguments.resume:
        experiment = load_plan(run_folder(arguments)).experiment
    elif arguments.table in EXPERIMENTS:
        experiment = EXPERIMENTS[arguments.table]
    elif arguments.table in datasets.LOADERS:
        names = [name for name, experiment in EXPERIMENTS.items() if experiment.dataset == arguments.table]
        raise ValueError(f"{arguments.table!r} is a data set; the experiment on it is {' or '.join(names)}")
    else:
        experiment = improved(Experiment(Path(arguments.table).stem, arguments.table))
    if arguments.init_from is not None:
        trained = load_plan(arguments.init_from).experiment
        recipe = overrides.pop("recipe", trained.training.recipe)
        experiment = replace(experiment.override(recipe=recipe), network=trained.network, head=trained.head)
    return experiment.override(**overrides)


def run_folder(arguments: argparse.Namespace) -> Path:
    """Where the run is written: that of an experiment with another recipe than the published one is named after it."""
    suffix = f"_{arguments.recipe}" if arguments.table in EXPERIMENTS and arguments.__dict__.get("recipe") else ""
    return arguments.run or Path("runs") / (Path(arguments.table).stem + suffix.replace("_published", ""))


def load_table(arguments: argparse.Namespace) -> datasets.Table:
    dataset = EXPERIMENTS[arguments.table].dataset if arguments.table in EXPERIMENTS else arguments.table
    return datasets.load(
        dataset,
        id_column=arguments.id_column,
        columns=arguments.columns,
        request=arguments.request,
        key=arguments.key,
    )


def list_experiments():
    for name, experiment in EXPERIMENTS.items():
        network, head, training = experiment.network, experiment.head, experiment.training
        print(
            f"{name:20s} {network.layers} layers x {network.embedding_dim}, "
            f"head {head.head_layers} x {head.head_width}, T = {head.diffusion_steps}, "
            f"{training.epochs} epochs of batches of {training.batch_size} (as published)\n"
            f"{'':20s} {datasets.describe(experiment.dataset)}"
        )


def dry_run(arguments: argparse.Namespace, experiment: Experiment):
    """Print the network, its size and the table, and write nothing."""
    names = datasets.column_names(experiment.dataset) if not arguments.columns else arguments.columns
    groups = ()
    if names is None or experiment.training.recipe == "improved":
        table = load_table(arguments)
        names, groups = table.names, table.groups
        experiment = fit_to_table(table, experiment)
    network = DensityNetwork(len(names), experiment, groups)
    total, head = network.count_parameters()
    print(network)
    print(f"columns      {len(names)}: {', '.join(names)}")
    print(f"parameters   {total:,}, of which {head:,} in the head")
    print(f"training     {experiment.training}")
    print(f"table        {datasets.describe(experiment.dataset)}")
    print(f"run folder   {run_folder(arguments)}")


def main():
    parser = make_parser()
    arguments = parser.parse_args()
    if arguments.list:
        list_experiments()
        return
    if arguments.table is None:
        parser.error("name an experiment or a table; --list shows the experiments")
    try:
        experiment = make_experiment(arguments)
        if arguments.dry_run:
            dry_run(arguments, experiment)
            return
        run = run_folder(arguments)
        processes = os.environ.get("LOCAL_WORLD_SIZE")  # set by torchrun
        start = ["torchrun", f"--nproc_per_node={processes}", "--"] if processes else ["python"]
        command = shlex.join([*start, "training.py", *sys.argv[1:]])
        train(
            load_table(arguments),
            experiment,
            run=run,
            resume=arguments.resume,
            init_from=arguments.init_from,
            device=arguments.device,
            command=command,
        )
    except (ValueError, KeyError, TypeError, OSError, FloatingPointError, RuntimeError) as error:
        text = error.args[0] if isinstance(error, KeyError) else error
        sys.exit(f"training.py: error: {text}")
    print(f"trained: {run}; ask it with Emulator.load({str(run)!r})")


if __name__ == "__main__":
    main()
