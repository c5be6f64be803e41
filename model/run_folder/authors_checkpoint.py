"""The authors' published checkpoints, read into this repository's format.

Their folders hold ``config.json`` and ``checkpoints/epoch_*.pt`` (the last epoch counts; the file may also lie beside
the config). Used from the command line::

    python -m model.authors_checkpoint their_folder our_run_folder
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from ..config import Experiment, HeadConfig, NetworkConfig
from ..datasets.apogee_xp import CONTEXT_ONLY
from ..datasets.vocabulary import Vocabulary
from ..nn import DensityNetwork
from ..scaling import Standardizer
from .checkpoint import Model, new_run, save_config, save_model

# Their parameter names -> ours, longest match first.
RENAMED = {
    "embedding_layer.embeddings": "embedding.weight",
    "embedding_layer.bias": "embedding.bias",
    "encoder_transformer_blocks.": "encoder.layers.",
    "self_attn.in_proj_": "qkv.",
    "self_attn.out_proj.": "out.",
    "diffusion_head.lin_layers.": "head.denoiser.layers.",
    "diffusion_head.lin_out.": "head.denoiser.out.",
    "cond_lin.": "cond.",
    "embed.weight": "step.weight",
    ".lin.": ".linear.",
}


def read(folder: str | Path) -> Model:
    """Read one of the authors' checkpoint folders.

    Only tensors and plain containers are unpickled (``weights_only``). The rows they trained on and the range of the
    training values are not in their files: the model's split is empty and no given value is flagged.

    Raises:
        FileNotFoundError: If the folder lacks its config or a checkpoint.
        ValueError: If the config describes another architecture, naming what differs.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"{folder} holds no config.json: give a checkpoint folder of the authors")
    checkpoints = [*folder.glob("checkpoints/epoch_*.pt"), *folder.glob("epoch_*.pt")]
    if not checkpoints:
        raise FileNotFoundError(f"{folder} holds neither checkpoints/epoch_*.pt nor epoch_*.pt")
    latest = max(checkpoints, key=lambda path: int(path.stem.removeprefix("epoch_")))
    config = json.loads((folder / "config.json").read_text())
    weights = torch.load(latest, map_location="cpu", weights_only=True)["model_state_dict"]

    names = config["tokenizer_config"]["vocabs"]
    experiment = _experiment(folder.name, config)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn only to be overwritten
        network = DensityNetwork(len(names), experiment)
    network.load_state_dict({_rename(name): tensor for name, tensor in weights.items()})
    return Model(
        experiment=experiment,
        vocabulary=Vocabulary(names),
        units=("",) * len(names),
        requestable=tuple(name for name in names if name not in CONTEXT_ONLY),
        standardizer=_standardizer(config["norm_config"], len(names)),
        network=network.eval(),
        split=np.empty(0, dtype=np.uint8),
        source=f"the authors' checkpoint {latest.name}",
    )


def _experiment(name: str, config: dict) -> Experiment:
    net, head = config["nn_config"], config["ddpm_config"]
    n_columns = len(config["tokenizer_config"]["vocabs"])
    expected = {
        "schedule": (head["schedule"], "sigmoid"),
        "dim": (head["dim"], 1),
        "cond_dim": (head["cond_dim"], net["embedding_dim"]),
        "encoder_activation": (net["encoder_activation"], net["embedding_activation"]),
        "activation": (head["activation"], net["embedding_activation"]),
        "vocab_tokens": (config["tokenizer_config"]["vocab_tokens"], list(range(1, n_columns + 1))),
    }
    for key, (found, wanted) in expected.items():
        if found != wanted:
            raise ValueError(f"the authors' config has {key} = {found!r}; this architecture has {wanted!r}")
    return Experiment(
        name=name,
        dataset="",
        network=NetworkConfig(
            embedding_dim=net["embedding_dim"],
            heads=net["encoder_head_num"],
            feedforward_dim=net["encoder_dense_num"],
            layers=net["encoder_n_layers"],
            dropout=net["encoder_dropout_rate"],
            activation=net["embedding_activation"],
        ),
        head=HeadConfig(
            head_width=head["dense_num"],
            head_layers=head["n_layers"],
            diffusion_steps=head["num_steps"],
            beta_min=head["beta_start"],
            beta_max=head["beta_end"],
        ),
    )


def _standardizer(norm: dict, n_columns: int) -> Standardizer:
    standardizer = Standardizer(n_columns)
    # Their tables start with the padding token; a column they left unscaled has mean 0 and sd 1 here.
    scaled = torch.tensor(norm["_input_standardized"][1:])
    standardizer.center.copy_(torch.tensor(norm["_input_mean"][1:], dtype=torch.float64) * scaled)
    sd = torch.tensor(norm["_input_std"][1:], dtype=torch.float64)
    standardizer.scale.copy_(torch.where(scaled, sd, 1.0))
    return standardizer


def _rename(name: str) -> str:
    for theirs, ours in RENAMED.items():
        name = name.replace(theirs, ours)
    return name


def main():
    parser = argparse.ArgumentParser(description="Convert one of the authors' checkpoint folders to a run folder.")
    parser.add_argument("folder", type=Path, help="holds config.json and checkpoints/epoch_*.pt")
    parser.add_argument("run", type=Path, help="run folder to make, for Emulator.load")
    arguments = parser.parse_args()
    model = read(arguments.folder)
    with new_run(arguments.run) as folder:
        save_config(folder, model)
        save_model(folder, model)
    print(f"{arguments.run}: {model.source}, {model.network.count_parameters()[0]:,} parameters")


if __name__ == "__main__":
    main()
