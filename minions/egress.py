"""What left the machine, as people and programs are shown it. Pure: the record in, a view out."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from minions.store.model import EgressEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentEgress:
    """How much of one document has left."""

    document_id: str
    name: str | None
    """None when the document was deleted since: the record outlives it."""
    n_calls: int
    n_chars: int
    """Characters that left at least once."""

    def to_json(self) -> dict[str, Any]:
        return {
            "document_id": self.document_id,
            "document": self.name,
            "n_calls": self.n_calls,
            "n_chars": self.n_chars,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class EgressReport:
    """Calls in the order in which they were recorded."""

    calls: tuple[EgressEntry, ...]
    names: Mapping[str, str]
    """Of the documents that are still kept, by id."""

    @property
    def n_bytes(self) -> int:
        return sum(len(call.content) for call in self.calls)

    @property
    def documents(self) -> tuple[DocumentEgress, ...]:
        """In the order in which they first left."""
        spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
        n_calls: dict[str, int] = defaultdict(int)
        for call in self.calls:
            for document_id, start, end in call.spans:
                spans[document_id].append((start, end))
            for document_id in {span[0] for span in call.spans}:
                n_calls[document_id] += 1
        return tuple(
            DocumentEgress(
                document_id=document_id,
                name=self.names.get(document_id),
                n_calls=n_calls[document_id],
                n_chars=covered(pieces),
            )
            for document_id, pieces in spans.items()
        )

    def to_json(self, *, show: bool = False) -> dict[str, Any]:
        """`show` adds the content of each call."""
        return {
            "n_calls": len(self.calls),
            "n_bytes": self.n_bytes,
            "documents": [document.to_json() for document in self.documents],
            "calls": [self._call_json(call, show=show) for call in self.calls],
        }

    def _call_json(self, call: EgressEntry, *, show: bool) -> dict[str, Any]:
        shown = {"content": call.content.decode(errors="replace")} if show else {}
        return {
            "run_id": call.run_id,
            "call_key": call.call_key,
            "at": iso(call.created_at),
            "destination": call.destination,
            "purpose": call.rung,
            "n_bytes": len(call.content),
            "sha256": hashlib.sha256(call.content).hexdigest(),
            "pieces": [
                {
                    "document_id": document_id,
                    "document": self.names.get(document_id),
                    "start": start,
                    "end": end,
                }
                for document_id, start, end in call.spans
            ],
            **shown,
        }


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """Length of the union of half-open spans."""
    total = reached = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def document_ids(calls: Sequence[EgressEntry]) -> list[str]:
    """Of all documents of which something left, each once."""
    return list(dict.fromkeys(span[0] for call in calls for span in call.spans))


def iso(unix_time: float) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(unix_time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
