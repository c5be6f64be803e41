"""Where the numbers are crunched, and in what kind of machine."""

from __future__ import annotations

import os
import platform
import warnings
from datetime import UTC, datetime

import numpy as np
import torch


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The asked-for device; without one, CUDA where there is a GPU, else the CPU.

    Apple's ``mps`` is never picked by itself: it is known to give wrong results for this model.

    Raises:
        ValueError: If the device does not exist here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    if device.type == "mps":
        warnings.warn("mps is known to give wrong results for this model: compare with the CPU", stacklevel=2)
    return device


def describe_hardware(device: torch.device) -> str:
    """The hardware in a few words, to stand beside a measured number."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), {torch.get_num_threads()} threads"


def describe_system(device: torch.device) -> str:
    """What a developer needs to know of a machine on which something went wrong, as lines of text."""
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cuda": torch.version.cuda,
        "device": device,
        "hardware": describe_hardware(device),
    }
    return "".join(f"{name}: {value}\n" for name, value in facts.items())
