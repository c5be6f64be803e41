"""All that changes while a run goes on, packed as tensors and plain facts, and put back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .optimizers import Improved, Published


def pack(
    networks: nn.Module, standardizer: nn.Module, optimizer: Published | Improved, generator: torch.Generator
) -> tuple[dict[str, Tensor], dict]:
    """Weights, scales, the optimisers' moments and every random state; facts are what JSON can hold."""
    tensors = {f"network.{name}": tensor for name, tensor in networks.state_dict().items()}
    tensors |= {f"standardizer.{name}": tensor for name, tensor in standardizer.state_dict().items()}
    states = [one.state_dict() for one in optimizer.optimizers]
    for k, one in enumerate(states):
        for i, moments in one["state"].items():
            tensors |= {f"optimizer.{k}.{i}.{name}": torch.as_tensor(tensor) for name, tensor in moments.items()}
    tensors |= {"rng.batches": generator.get_state(), "rng.cpu": torch.get_rng_state()}
    if generator.device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(generator.device)
    facts = {"param_groups": [one["param_groups"] for one in states]}
    if isinstance(optimizer, Published):
        facts["scheduler"] = optimizer.scheduler.state_dict()
    return tensors, facts


def unpack(
    tensors: dict[str, Tensor],
    facts: dict,
    networks: nn.Module,
    standardizer: nn.Module,
    optimizer: Published | Improved,
    generator: torch.Generator,
):
    """Put back what `pack` took; random states of a device that this machine lacks are left as they are."""
    unpack_module(tensors, "network", networks)
    unpack_module(tensors, "standardizer", standardizer)
    moments: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizer.optimizers]
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, k, i, moment = name.split(".")
            moments[int(k)].setdefault(int(i), {})[moment] = tensor
    for one, state, groups in zip(optimizer.optimizers, moments, facts["param_groups"]):
        one.load_state_dict({"state": state, "param_groups": groups})
    if isinstance(optimizer, Published):
        optimizer.scheduler.load_state_dict(facts["scheduler"])
    torch.set_rng_state(tensors["rng.cpu"])
    if generator.device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], generator.device)
    # A generator's state belongs to its kind of device: a run moved to another one draws other batches from here on.
    if generator.get_state().shape == tensors["rng.batches"].shape:
        generator.set_state(tensors["rng.batches"])


def unpack_module(tensors: dict[str, Tensor], name: str, module: nn.Module):
    """Put back the tensors of one module."""
    module.load_state_dict({k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")})
