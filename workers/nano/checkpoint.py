"""Training checkpoints: written whole or not at all, read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from workers.nano.model import Nano
from workers.nano.shape import NanoShape


def save_atomically(record: dict[str, Any], path: Path) -> None:
    """`torch.save` to a neighbour, then rename over `path`."""
    temporary = path.with_suffix(".tmp")
    torch.save(record, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of ours; tensors and plain values only."""
    record: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return record


def model_from(record: dict[str, Any]) -> Nano:
    """The model of a checkpoint."""
    model = Nano(NanoShape(**record["shape"]))
    model.load_state_dict(record["model"])
    return model
