"""Files that are complete or not there, and tensors in them with a checksum; nothing is pickled."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict | None = None):
    """Write tensors, facts (anything JSON can hold) and a checksum of both as one safetensors file, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts or {})
    # One entry only: safetensors writes several in random order, and equal runs should give equal files.
    metadata = {"checked": json.dumps({"facts": text, "sha256": _checksum(tensors, text)})}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """What `save_tensors` wrote.

    Raises:
        ValueError: If the file is cut short or its checksum is wrong.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            checked = json.loads(file.metadata()["checked"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        damaged = checked["sha256"] != _checksum(tensors, checked["facts"])
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged or incomplete ({error}): restore it from a copy") from error
    if damaged:
        raise ValueError(f"{path} is damaged (its checksum does not match): restore it from a copy")
    return tensors, json.loads(checked["facts"])


def write_atomically(path: Path, content: bytes):
    """Write a file so that its place holds the old content or the new one, never a part.

    Raises:
        OSError: If it cannot be written (disk full, say); what stood there before is intact.
    """
    part = path.with_name(path.name + ".tmp")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"could not write {path} ({error.strerror}); the file before it is intact"
        ) from error


def _checksum(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
