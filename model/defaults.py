"""What follows from the table where nothing is said: sizes, batches, steps."""

from __future__ import annotations

import math

# The fields that follow the table where they are left at 0.
FOLLOWS = ("embedding_dim", "heads", "feedforward_dim", "layers", "head_width", "head_layers")
FOLLOWS += ("batch_size", "steps", "learning_rate", "complete_contexts")
FEW, STEPS, MOST_STEPS = 300, 1500, 24_000  # steps grow with the root of the rows, from STEPS at FEW rows
WIDE, MANY = 16, 20_000  # a table of more slots and more rows wants a wide network
SECONDS_A_STEP, FLOPS = 0.015, 4e10  # of one core, 2 threads make little of it; measured on small and large networks


def follow(rows: int, slots: int, patched: bool) -> dict[str, float]:
    """The fields that are left to the table.

    Args:
        rows: Rows to train on.
        slots: Slots of a complete row: its columns, a patch of a long vector counting as one.
        patched: Whether the table has such vectors.

    Returns:
        Field name -> value, for all of `FOLLOWS`.
    """
    if slots <= 2:
        dim, layers, head_width, head_layers = 32, 2, 64, 3
    elif slots > WIDE and rows >= MANY:
        dim, layers, head_width, head_layers = 192, 2, 512, 4
    else:
        dim, layers, head_width, head_layers = 64, 3, 128, 4
    return {
        "embedding_dim": dim,
        "heads": dim // 16 if dim < 192 else dim // 24,
        "feedforward_dim": 4 * dim,
        "layers": layers,
        "head_width": head_width,
        "head_layers": head_layers,
        "learning_rate": 2e-3 if dim >= 192 or rows < 100 else 4e-3,
        "batch_size": 512 if dim >= 192 else 256 if rows > 5000 else 128,
        # Where a vector says nearly all, what can be known without it has to be asked for more often.
        "complete_contexts": 0.25 if patched else 0.5,
        "steps": round(min(STEPS * math.sqrt(max(rows, FEW) / FEW), MOST_STEPS) / 100) * 100,
    }


def minutes(experiment, slots: int) -> float:
    """A guess of the minutes that all steps take on a CPU: what is printed before the first one."""
    network, head, training = experiment.network, experiment.head, experiment.training
    layer = 4 * network.embedding_dim**2 + 2 * network.embedding_dim * network.feedforward_dim
    row = network.layers * layer * (1 + slots) + training.noise_draws * head.head_layers * head.head_width**2
    return training.steps * (SECONDS_A_STEP + 6 * training.batch_size * row / FLOPS) / 60
