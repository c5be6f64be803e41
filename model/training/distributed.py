"""Several processes, one a GPU, that train one network: started by ``torchrun``, found by its environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def local_device() -> torch.device | None:
    """The GPU that belongs to this process under torchrun; None in a single process or without GPUs."""
    if "LOCAL_RANK" not in os.environ:
        return None
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes, if there are any: NCCL between GPUs, gloo between CPUs."""
    if "RANK" not in os.environ or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, 0 in a single one; number 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(x: Tensor) -> Tensor:
    """The rows of x that are this process's: K processes share them in order, as evenly as can be."""
    return x.tensor_split(world_size())[rank()]


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of x over the processes, in each of them."""
    if dist.is_initialized():
        dist.all_reduce(x)
    return x


def keep_gradients(network: nn.Module, until: bool) -> AbstractContextManager:
    """Let gradients add up in this process alone, until they are to be averaged over all."""
    network = getattr(network, "_orig_mod", network)  # what torch.compile wraps
    return nullcontext() if until or not isinstance(network, DistributedDataParallel) else network.no_sync()


def wait_for_all():
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def data_parallel(network: nn.Module) -> nn.Module:
    """The network, made to average its gradients over the processes where there are several."""
    return DistributedDataParallel(network) if world_size() > 1 else network


@contextmanager
def full_speed(device: torch.device) -> Iterator[None]:
    """TF32 for fp32 matrix products where the card has it: of its digits, training needs no more."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
