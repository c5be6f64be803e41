"""Every number that shapes a run: frozen dataclasses, and the experiments made of them.

The objects below are what constructors receive, what the command line overrides (one flag per field, its help text
is here), and what a checkpoint's ``config.json`` holds. A field of the improved recipe that is 0 follows the table.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace

from .defaults import follow

ACTIVATIONS = ("gelu", "relu", "silu")
RECIPES = ("published", "improved")
PRECISIONS = ("fp32", "bf16")
NORMS = ("post", "pre")
# Fields that play no part in the other recipe.
PUBLISHED_ONLY = {"epochs", "cycles", "min_learning_rate", "max_context", "beta_min", "beta_max"}
IMPROVED_ONLY = {"steps", "max_minutes", "patience", "evaluations", "complete_contexts", "average_width"}
IMPROVED_ONLY |= {"guess_weight", "norm"}
FOREIGN = {"published": IMPROVED_ONLY, "improved": PUBLISHED_ONLY}
FORMER = {"context_draw", "length_draw", "averaging"}  # of training, in checkpoints of earlier versions
BUDGET = {"steps", "max_minutes"}  # what a finished or stopped run may be given more of


def _option(default, text: str, choices: tuple[str, ...] | None = None):
    return field(default=default, metadata={"help": text, "choices": choices})


def _require(ok: bool, message: str):
    """Raise a ValueError with this message unless ok."""
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
    norm: str = _option("post", "layer norm after each part of a layer, as published, or before it", NORMS)

    def __post_init__(self):
        _require(min(self.embedding_dim, self.heads, self.feedforward_dim, self.layers) >= 0, "sizes must be >= 1")
        _require(
            not self.heads or self.embedding_dim % self.heads == 0,
            f"heads ({self.heads}) must divide embedding_dim {self.embedding_dim}",
        )
        _require(self.norm in NORMS, f"norm must be one of {NORMS}, not {self.norm!r}")
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
        _require(min(self.head_width, self.head_layers) >= 0, "sizes must be >= 1")
        _require(self.diffusion_steps >= 2, f"diffusion_steps must be >= 2, not {self.diffusion_steps}")
        _require(0 < self.beta_min < self.beta_max < 1, "needed: 0 < beta_min < beta_max < 1")


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained; the defaults are California's."""

    recipe: str = _option("published", "how the model is trained", RECIPES)
    batch_size: int = _option(128, "rows per step")
    epochs: int = _option(512, "passes over the training rows; a multiple of cycles")
    cycles: int = _option(8, "warm restarts of the cosine learning rate; T_0 = epochs / cycles")
    steps: int = _option(0, "steps of the optimiser at most: the budget, along which the learning rate falls")
    max_minutes: float = _option(0.0, "end after so many minutes; 0 = no limit but that of the steps")
    patience: float = _option(0.25, "share of the steps after which a run ends that has not become better")
    evaluations: int = _option(30, "how often in a run the fixed validation questions are asked")
    learning_rate: float = _option(5e-3, "highest learning rate")
    min_learning_rate: float = _option(1e-5, "learning rate at the end of a cycle (eta_min)")
    weight_decay: float = _option(0.01, "AdamW's decoupled weight decay; of the improved recipe, of matrices only")
    max_context: int = _option(0, "most columns in a training context; 0 = all columns")
    complete_contexts: float = _option(0.0, "share of the questions that give all that is observed")
    noise_draws: int = _option(1, "noise draws per encoded row and step")
    guess_weight: float = _option(1.0, "weight of the first guess's likelihood in the loss")
    average_width: float = _option(
        0.0, "width of the average of the weights, as a share of the steps taken so far; 0 = none"
    )
    test_fraction: float = _option(0.1, "fraction of the objects kept for testing, never trained nor selected on")
    val_fraction: float = _option(0.1, "fraction of the objects that choose the best weights and the calibration")
    checkpoint_every: int = _option(16, "epochs, or evaluations, between checkpoints; one more is written at the end")
    precision: str = _option("fp32", "of matrix products in training; answers are always fp32", PRECISIONS)
    compile: bool = _option(False, "compile the loss with torch.compile: minutes at the start, faster steps")
    seed: int = _option(0, "seed of split, initial weights, batches, noise and dropout")
    split_version: int = _option(2, "how rows get their side of the split: 2 by a hash of ids, 1 by order", (1, 2))

    def __post_init__(self):
        _require(self.recipe in RECIPES, f"recipe must be one of {RECIPES}, not {self.recipe!r}")
        _require(min(self.epochs, self.cycles, self.checkpoint_every, self.evaluations) >= 1, "counts must be >= 1")
        _require(min(self.batch_size, self.steps, self.noise_draws) >= 0, "counts must be >= 1")
        _require(0 <= self.complete_contexts <= 1, f"complete_contexts must lie in [0, 1]: {self.complete_contexts}")
        _require(0 < self.patience <= 1, f"patience must lie in (0, 1], not {self.patience}")
        _require(self.max_minutes >= 0, f"max_minutes must be >= 0, not {self.max_minutes}")
        _require(self.guess_weight > 0, f"guess_weight must be > 0, not {self.guess_weight}")
        _require(0 <= self.average_width < 0.3, f"average_width must lie in [0, 0.3), not {self.average_width}")
        _require(self.epochs % self.cycles == 0, f"epochs ({self.epochs}) must be a multiple of cycles ({self.cycles})")
        _require(0 <= self.min_learning_rate <= self.learning_rate, "needed: 0 <= min_learning_rate <= learning_rate")
        _require(self.learning_rate > 0 or self.recipe == "improved", "learning_rate must be > 0")
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
        for name in sorted(FOREIGN[recipe] & set(values)):
            raise ValueError(f"{name} plays no part in the {recipe} recipe")
        parts = {}
        for part in ("network", "head", "training"):
            config = getattr(self, part)
            known = {f.name: values.pop(f.name) for f in fields(config) if f.name in values}
            parts[part] = replace(config, **known)
        if values:
            raise TypeError(f"no config field is called {', '.join(sorted(values))}")
        return replace(self, **parts)

    def follow(self, rows: int, slots: int, patched: bool) -> Experiment:
        """The same experiment with every field that is left to the table, 0, set to what follows from it.

        Args:
            rows: Rows to train on.
            slots: Slots of a complete row.
            patched: Whether some of them are patches.
        """
        values = follow(rows, slots, patched)
        parts = {}
        for part in ("network", "head", "training"):
            config = getattr(self, part)
            left = {f.name: values[f.name] for f in fields(config) if f.name in values and not getattr(config, f.name)}
            parts[part] = replace(config, **left)
        return replace(self, **parts) if self.training.recipe == "improved" else self

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict) -> Experiment:
        return cls(
            name=saved["name"],
            dataset=saved["dataset"],
            network=NetworkConfig(**saved["network"]),
            head=HeadConfig(**saved["head"]),
            # Runs from before there was another version of the split have the first.
            training=TrainingConfig(
                **{"split_version": 1} | {k: v for k, v in saved["training"].items() if k not in FORMER}
            ),
        )


def published(experiment: Experiment) -> Experiment:
    """An experiment with the sizes and the procedure of the published recipe: its own, or California's."""
    if _is_known(experiment):
        return EXPERIMENTS[experiment.name]
    return replace(experiment, network=NetworkConfig(), head=HeadConfig(), training=TrainingConfig())


def improved(experiment: Experiment) -> Experiment:
    """An experiment with the improved recipe (`model.nn.velocity` and README), whose sizes follow the table."""
    return Experiment(
        experiment.name,
        experiment.dataset,
        NetworkConfig(embedding_dim=0, heads=0, feedforward_dim=0, layers=0, dropout=0.0, norm="pre"),
        HeadConfig(head_width=0, head_layers=0),
        TrainingConfig(
            recipe="improved",
            batch_size=0,
            learning_rate=0.0,
            min_learning_rate=0.0,
            weight_decay=0.01,
            noise_draws=4,
            guess_weight=0.1,
            average_width=0.1,
            checkpoint_every=1,
            # The paper's test set is a file of its own.
            test_fraction=experiment.training.test_fraction if _is_known(experiment) else 0.1,
        ),
    )


def _is_known(experiment: Experiment) -> bool:
    """Whether it is one of `EXPERIMENTS`, not a table of the user's whose file has the name of one."""
    return experiment.name in EXPERIMENTS and EXPERIMENTS[experiment.name].dataset == experiment.dataset


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
