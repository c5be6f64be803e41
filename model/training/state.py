"""All that changes while a run goes on, packed as tensors and plain facts, and put back."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def pack(
    network: nn.Module,
    standardizer: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], dict]:
    """Weights, scales, the optimiser's moments and every random state; facts are what JSON can hold."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"standardizer.{name}": tensor for name, tensor in standardizer.state_dict().items()}
    state = optimizer.state_dict()
    for i, moments in state["state"].items():
        tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in moments.items()}
    tensors |= {"rng.batches": generator.get_state(), "rng.cpu": torch.get_rng_state()}
    if generator.device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(generator.device)
    return tensors, {"param_groups": state["param_groups"], "scheduler": scheduler.state_dict()}


def unpack(
    tensors: dict[str, Tensor],
    facts: dict,
    network: nn.Module,
    standardizer: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
):
    """Put back what `pack` took; random states of a device that this machine lacks are left as they are."""
    modules: dict[str, dict[str, Tensor]] = {"network": {}, "standardizer": {}}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part in modules:
            modules[part][rest] = tensor
        elif part == "optimizer":
            i, _, moment = rest.partition(".")
            moments.setdefault(int(i), {})[moment] = tensor
    network.load_state_dict(modules["network"])
    standardizer.load_state_dict(modules["standardizer"])
    optimizer.load_state_dict({"state": moments, "param_groups": facts["param_groups"]})
    scheduler.load_state_dict(facts["scheduler"])
    torch.set_rng_state(tensors["rng.cpu"])
    if generator.device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], generator.device)
    # A generator's state belongs to its kind of device: a run moved to another one draws other batches from here on.
    if generator.get_state().shape == tensors["rng.batches"].shape:
        generator.set_state(tensors["rng.batches"])
