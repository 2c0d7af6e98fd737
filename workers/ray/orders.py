"""What the pool's process tells its bridge. What the bridge tells back are `FleetEvent`s."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workers.cluster_models import Shelf
from workers.ray.recipe import Recipe
from workers.ray.wire import Batch

WORKER_RESOURCE = "minions_worker"
"""Ray resource that a node offers: how many workers may run on it, one per card."""
NAME_LABEL = "minions.name"
"""Ray label of a node: the name that people know the machine by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Connect:
    """The first order: where the cluster is and what its workers run."""

    address: str
    """`HOST:PORT` of the head."""
    recipe: Recipe
    locks_dir: Path
    """Folder, on each node, of the locks on its devices."""
    reserve_bytes: int
    """GPU memory that must be free before an engine is built on a card."""
    shelf: Shelf | None = None
    """Files of the model, for nodes that lack them."""
    max_workers: int | None = None
    """No more workers than that; None for one on every device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Send:
    """Jobs for a worker."""

    worker_id: str
    batch: Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel:
    """Tickets that a worker shall end."""

    worker_id: str
    tickets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A question to a worker's engine: `encode` or `overhead` of a text."""

    number: int
    worker_id: str
    method: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """To an `Ask`; an error when `value` is None."""

    number: int
    value: list[int] | int | None
    error: str = ""
