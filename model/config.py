"""Every number that shapes a run: frozen dataclasses, and the experiments made of them.

The objects below are what constructors receive, what the command line overrides (one flag per field, its help text
is here), and what a checkpoint's ``config.json`` holds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace

ACTIVATIONS = ("gelu", "relu", "silu")
RECIPES = ("published", "improved")
PRECISIONS = ("fp32", "bf16")
CONTEXT_DRAWS = ("all", "observed", "grouped")
LENGTH_DRAWS = ("uniform", "log")


def _option(default, text: str, choices: tuple[str, ...] | None = None):
    return field(default=default, metadata={"help": text, "choices": choices})


def _require(ok: bool, message: str):
    if not ok:
        raise ValueError(message)


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the embedding and the Transformer; the defaults are California's (paper, appendix A)."""

    embedding_dim: int = _option(32, "width D of the embedding, the Transformer and the condition")
    heads: int = _option(4, "attention heads; must divide embedding_dim")
    feedforward_dim: int = _option(128, "hidden width of the Transformer's feed-forward layers")
    layers: int = _option(2, "encoder layers of the Transformer")
    dropout: float = _option(0.1, "dropout probability in the Transformer")
    activation: str = _option("gelu", "activation of embedding, Transformer and head", ACTIVATIONS)

    def __post_init__(self):
        _require(min(self.embedding_dim, self.heads, self.feedforward_dim, self.layers) >= 1, "sizes must be >= 1")
        _require(
            self.embedding_dim % self.heads == 0, f"heads ({self.heads}) must divide embedding_dim {self.embedding_dim}"
        )
        _require(0 <= self.dropout < 1, f"dropout must lie in [0, 1), not {self.dropout}")
        _require(self.activation in ACTIVATIONS, f"activation must be one of {ACTIVATIONS}, not {self.activation!r}")


@dataclass(frozen=True)
class HeadConfig:
    """Sizes and noise schedule of the denoising-diffusion head."""

    head_width: int = _option(64, "width W of the head's layers")
    head_layers: int = _option(2, "layers of the head")
    diffusion_steps: int = _option(100, "noise steps T; of the improved recipe, those of method='sde'")
    beta_min: float = _option(1e-5, "smallest noise variance of a step; published recipe only")
    beta_max: float = _option(0.1, "largest noise variance of a step; published recipe only")

    def __post_init__(self):
        _require(min(self.head_width, self.head_layers) >= 1, "sizes must be >= 1")
        _require(self.diffusion_steps >= 2, f"diffusion_steps must be >= 2, not {self.diffusion_steps}")
        _require(0 < self.beta_min < self.beta_max < 1, "needed: 0 < beta_min < beta_max < 1")


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; the defaults are California's."""

    recipe: str = _option("published", "how the model is trained", RECIPES)
    batch_size: int = _option(128, "rows per step")
    epochs: int = _option(512, "passes over the training rows; a multiple of cycles")
    cycles: int = _option(8, "warm restarts of the cosine learning rate; T_0 = epochs / cycles")
    learning_rate: float = _option(5e-3, "learning rate at the start of a cycle")
    min_learning_rate: float = _option(1e-5, "learning rate at the end of a cycle (eta_min)")
    weight_decay: float = _option(0.01, "AdamW's decoupled weight decay")
    max_context: int = _option(0, "most columns in a training context; 0 = all columns")
    context_draw: str = _option(
        "all",
        "contexts are drawn among all columns, missing ones leaving gaps, or among observed ones; grouped: the same, "
        "but vectors as often as numbers",
        CONTEXT_DRAWS,
    )
    length_draw: str = _option("uniform", "lengths of contexts are uniform, or short ones more often", LENGTH_DRAWS)
    complete_contexts: float = _option(0.0, "share of batches with up to max_context columns")
    noise_draws: int = _option(1, "noise draws per encoded row and step")
    guess_weight: float = _option(1.0, "weight of the first guess's likelihood in the loss; improved recipe only")
    averaging: float = _option(0.0, "decay of the running average of the weights that is the result; 0 = none")
    test_fraction: float = _option(0.1, "fraction of the objects kept for testing, never trained nor selected on")
    val_fraction: float = _option(0.1, "fraction of the objects on which the validation loss is computed")
    checkpoint_every: int = _option(16, "epochs between checkpoints; one more is written at the end")
    precision: str = _option("fp32", "of matrix products in training; answers are always fp32", PRECISIONS)
    compile: bool = _option(False, "compile the loss with torch.compile: minutes at the start, faster steps")
    seed: int = _option(0, "seed of split, initial weights, batches, noise and dropout")
    split_version: int = _option(2, "how rows get their side of the split: 2 by a hash of ids, 1 by order", (1, 2))

    def __post_init__(self):
        _require(self.recipe in RECIPES, f"recipe must be one of {RECIPES}, not {self.recipe!r}")
        _require(
            min(self.batch_size, self.epochs, self.cycles, self.checkpoint_every, self.noise_draws) >= 1,
            "counts must be >= 1",
        )
        _require(0 <= self.complete_contexts <= 1, f"complete_contexts must lie in [0, 1]: {self.complete_contexts}")
        _require(self.guess_weight > 0, f"guess_weight must be > 0, not {self.guess_weight}")
        _require(0 <= self.averaging < 1, f"averaging must lie in [0, 1), not {self.averaging}")
        _require(self.epochs % self.cycles == 0, f"epochs ({self.epochs}) must be a multiple of cycles ({self.cycles})")
        _require(0 <= self.min_learning_rate <= self.learning_rate, "needed: 0 <= min_learning_rate <= learning_rate")
        _require(self.learning_rate > 0, "learning_rate must be > 0")
        _require(self.weight_decay >= 0 and self.max_context >= 0, "weight_decay and max_context must be >= 0")
        _require(min(self.test_fraction, self.val_fraction) >= 0, "fractions must be >= 0")
        _require(self.test_fraction + self.val_fraction < 1, "test_fraction + val_fraction must be < 1")
        _require(self.split_version in (1, 2), f"split_version must be 1 or 2, not {self.split_version}")


@dataclass(frozen=True)
class Experiment:
    """A table and the sizes of what is trained on it.

    Example:
        >>> short = EXPERIMENTS["california_housing"].override(epochs=16, head_width=32)
        >>> short.training.epochs, short.head.head_width
        (16, 32)
    """

    name: str
    dataset: str
    network: NetworkConfig = field(default_factory=NetworkConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def override(self, **values) -> Experiment:
        """The same experiment with some fields of network, head or training replaced, by the field's name.

        Another recipe brings its own sizes and training; the other fields are then replaced in those.

        Raises:
            TypeError: If no part has a field of this name.
            ValueError: If a value is out of range, or belongs to another recipe.
        """
        recipe = values.pop("recipe", self.training.recipe)
        if recipe != self.training.recipe:
            _require(recipe in RECIPES, f"recipe must be one of {RECIPES}, not {recipe!r}")
            return (improved if recipe == "improved" else published)(self).override(**values)
        foreign = {"published": {"guess_weight"}, "improved": {"beta_min", "beta_max"}}[recipe]
        for name in foreign & set(values):
            raise ValueError(f"{name} plays no part in the {recipe} recipe")
        parts = {}
        for part in ("network", "head", "training"):
            config = getattr(self, part)
            known = {f.name: values.pop(f.name) for f in fields(config) if f.name in values}
            parts[part] = replace(config, **known)
        if values:
            raise TypeError(f"no config field is called {', '.join(sorted(values))}")
        return replace(self, **parts)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict) -> Experiment:
        return cls(
            name=saved["name"],
            dataset=saved["dataset"],
            network=NetworkConfig(**saved["network"]),
            head=HeadConfig(**saved["head"]),
            training=TrainingConfig(**{"split_version": 1} | saved["training"]),  # runs from before there was another
        )


def published(experiment: Experiment) -> Experiment:
    """An experiment with the sizes and the procedure of the published recipe: its own, or California's."""
    if _is_known(experiment):
        return EXPERIMENTS[experiment.name]
    return replace(experiment, network=NetworkConfig(), head=HeadConfig(), training=TrainingConfig())


def improved(experiment: Experiment) -> Experiment:
    """An experiment with the sizes and the procedure of the improved recipe (`model.velocity` and README)."""
    default = Experiment(
        experiment.name,
        experiment.dataset,
        NetworkConfig(embedding_dim=64, heads=8, feedforward_dim=256, layers=3, dropout=0.0),
        HeadConfig(head_width=128, head_layers=4),
        TrainingConfig(
            recipe="improved",
            batch_size=256,
            epochs=300,
            cycles=1,
            learning_rate=2e-3,
            min_learning_rate=1e-6,
            context_draw="observed",
            length_draw="log",
            complete_contexts=0.5,
            noise_draws=4,
            averaging=0.999,
        ),
    )
    return default.override(**IMPROVED.get(experiment.name, {}) if _is_known(experiment) else {})


def _is_known(experiment: Experiment) -> bool:
    """Whether it is one of `EXPERIMENTS`, not a table of the user's whose file has the name of one."""
    return experiment.name in EXPERIMENTS and EXPERIMENTS[experiment.name].dataset == experiment.dataset


# What the improved recipe changes from one experiment to the other.
_IMPROVED_STARS = {
    "embedding_dim": 192,
    "heads": 24,
    "feedforward_dim": 2048,
    "layers": 2,
    "head_width": 512,
    "head_layers": 5,
    "batch_size": 1024,
    "epochs": 512,
    "learning_rate": 5e-4,
    "max_context": 64,
    "context_draw": "grouped",
    "complete_contexts": 0.125,
}
_LONG = {"batch_size": 1024, "length_draw": "uniform"}  # tables of few columns and very many rows
IMPROVED = {
    "stars": _IMPROVED_STARS | {"test_fraction": 0.0},
    "mock_stars": _IMPROVED_STARS,
    "california_housing": {"epochs": 400, "length_draw": "uniform", "guess_weight": 0.1},
    "green2021": {"epochs": 600, "complete_contexts": 0.25},
    "mixture": _LONG | {"epochs": 100},
    "mock_labels": _LONG
    | {"embedding_dim": 128, "heads": 4, "feedforward_dim": 512, "epochs": 34, "learning_rate": 1.5e-3}
    | {"context_draw": "grouped", "complete_contexts": 0.7, "val_fraction": 0.02},
}


def flat_fields():
    """Every overridable field of an experiment, with the part it belongs to: what the command line offers."""
    for part, config in (("network", NetworkConfig), ("head", HeadConfig), ("training", TrainingConfig)):
        for f in fields(config):
            yield part, f


# Leung, Bovy & Speagle 2024, section 3. Its test set is a file of its own, so no rows are set aside here.
_STARS = Experiment(
    "stars",
    "apogee_xp",
    NetworkConfig(embedding_dim=192, heads=24, feedforward_dim=2048, layers=2, dropout=0.2),
    HeadConfig(head_width=512, head_layers=5, diffusion_steps=120),
    TrainingConfig(
        batch_size=1024,
        epochs=10_240,
        cycles=10,
        learning_rate=1e-3,
        min_learning_rate=1e-11,
        max_context=64,
        test_fraction=0.0,
    ),
)

# Dropout widens the densities of networks as small as these (README, departures), so it is off.
_SMALL = (NetworkConfig(embedding_dim=64, dropout=0.0), HeadConfig(head_layers=3))

EXPERIMENTS = {
    "stars": _STARS,
    "mock_stars": replace(_STARS, name="mock_stars", dataset="mock_apogee_xp").override(test_fraction=0.1),
    "california_housing": Experiment("california_housing", "california_housing"),
    "green2021": Experiment(
        "green2021",
        "green2021",
        *_SMALL,
        TrainingConfig(epochs=768, cycles=2, learning_rate=2e-3, noise_draws=4),
    ),
    "mixture": Experiment(
        "mixture",
        "mixture",
        *_SMALL,
        TrainingConfig(batch_size=512, epochs=160, cycles=1, learning_rate=2e-3, noise_draws=4),
    ),
    "mock_labels": Experiment(
        "mock_labels",
        "mock_labels",
        *_SMALL,
        TrainingConfig(batch_size=512, epochs=60, cycles=1, learning_rate=2e-3, noise_draws=4),
    ),
}
