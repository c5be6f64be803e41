"""What moves the weights, and how fast: AdamW with warm restarts as published; Muon and AdamW as improved."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..config import TrainingConfig

WARMUP = 100  # steps, or a tenth of all if that is less, in which the learning rate rises
MOMENTS = 0.9, 0.99  # AdamW's betas in the improved recipe
CLIP = 1.0  # longest gradient of the improved recipe
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the iteration that makes a matrix orthogonal


class Muon(torch.optim.Optimizer):
    r"""Momentum whose every matrix is made orthogonal before it is added: all directions are learned at one rate.

    As ``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"``, against which it is tested; but matrices of one
    shape are taken together and in fp32, which halves the time of a step of small networks.

    Reference: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982 (0.2).

    Args:
        params: Matrices.
        lr: Learning rate, on AdamW's scale.
        weight_decay: Decoupled, as AdamW's.
        momentum: Decay of the average of gradients.
        dtype: In which matrices are made orthogonal; that is never exact.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self):
        """One update."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
                    self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
            for shape, params in alike.items():
                average, gradients = [self.state[p]["momentum_buffer"] for p in params], [p.grad for p in params]
                torch._foreach_lerp_(average, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, average, group["momentum"])  # Nesterov's
                update = orthogonal(torch.stack(ahead).to(self.dtype)).to(params[0].dtype).unbind()
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(update), alpha=-group["lr"] * 0.2 * math.sqrt(max(shape)))


def orthogonal(x: Tensor, steps: int = 5) -> Tensor:
    """Nearly orthogonal matrices with the singular vectors of x, (M, rows, columns): a Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


class Published:
    """AdamW with cosine warm restarts; the learning rate moves once an epoch."""

    def __init__(self, network: nn.Module, config: TrainingConfig):
        self.optimizers = [
            torch.optim.AdamW(
                network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
            )
        ]
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            self.optimizers[0], T_0=config.epochs // config.cycles, eta_min=config.min_learning_rate
        )

    def step(self, progress: float, steps: int):
        """Move the weights; how far the run has come plays no part."""
        self.optimizers[0].step()

    def finish_round(self):
        """An epoch is over."""
        self.scheduler.step()

    @property
    def learning_rate(self) -> float:
        return self.scheduler.get_last_lr()[0]


class Improved:
    """Muon for the matrices of Transformer and head, AdamW for the rest; a warm-up, then half a cosine, step by step.

    Weight decay is for matrices; biases, norms, tables of columns and frequencies are left alone. Gradients are
    clipped.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig):
        matrices, rest = split_parameters(network)
        self.parameters, self.top = matrices + rest, config.learning_rate
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        self.warmup = max(1, min(WARMUP, config.steps // 10))
        self.optimizers = [
            Muon(matrices, config.learning_rate, config.weight_decay, dtype=dtype),
            torch.optim.AdamW(rest, lr=config.learning_rate, weight_decay=0.0, betas=MOMENTS, fused=True),
        ]

    def step(self, progress: float, steps: int):
        """Move the weights.

        Args:
            progress: Share of the run that is over, 0 .. 1.
            steps: Steps taken so far.
        """
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        rate = self.top * min(1.0, (steps + 1) / self.warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def finish_round(self):
        """Nothing is done round by round."""

    @property
    def learning_rate(self) -> float:
        return self.optimizers[0].param_groups[0]["lr"]


def split_parameters(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The matrices that Muon moves, and all other parameters."""
    hidden = {
        module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] in ("encoder", "head") and min(module.weight.shape) > 2
    }
    parameters = list(network.parameters())
    return [p for p in parameters if p in hidden], [p for p in parameters if p not in hidden]
