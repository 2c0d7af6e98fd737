"""Work as it travels: a chunk's text goes once with a batch, however many jobs share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from workers.chat import ChatDelta
from workers.jobs import Job
from workers.seams import Outcome, Work


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Jobs for one worker, packed."""

    texts: tuple[str, ...]
    """Each different chunk text once."""
    work: tuple[tuple[int, Work], ...]
    """Jobs without their text, each with the index of it; -1 for a chat, which has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """What a worker has to say, numbered so that it can be said again until it has arrived."""

    number: int
    """Of the last output in it; 0 when there has been none yet."""
    outputs: tuple[Outcome | ChatDelta, ...]
    n_given_up: int = 0
    """How often the engine had crashed so many times in a row that all its jobs were failed."""


def pack(work: Sequence[Work]) -> Batch:
    """Take the texts out of the jobs."""
    indices: dict[str, int] = {}
    packed: list[tuple[int, Work]] = []
    for item in work:
        if isinstance(item, Job):
            index = indices.setdefault(item.chunk_text, len(indices))
            packed.append((index, replace(item, chunk_text="")))
        else:
            packed.append((-1, item))
    return Batch(texts=tuple(indices), work=tuple(packed))


def unpack(batch: Batch) -> list[Work]:
    """The jobs as they were."""
    return [
        replace(item, chunk_text=batch.texts[index]) if isinstance(item, Job) else item
        for index, item in batch.work
    ]
