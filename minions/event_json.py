"""Events as clients are told them: a name and a JSON object each."""

from __future__ import annotations

from typing import Any

from minions.documents.model import Chunk
from minions.events import (
    CloudDelta,
    DraftChanged,
    Event,
    JobEnded,
    ReadingStarted,
    RungChosen,
)
from minions.question import citation_json
from minions.store.model import RunRecord, RunStatus


def event_json(event: Event) -> tuple[str, dict[str, Any]]:
    """Name and data of an event."""
    match event:
        case ReadingStarted():
            return "reading", _reading(event)
        case JobEnded():
            status = "cached" if event.cached else event.status.value
            return "job", {"chunk_id": event.chunk_id, "status": status}
        case DraftChanged():
            return "draft", _draft(event)
        case RungChosen():
            rung = None if event.rung is None else event.rung.value
            return "rung", {"rung": rung, "reason": event.reason}
        case CloudDelta():
            return "cloud_delta", {"text": event.text}


def ending(run: RunRecord) -> list[tuple[str, dict[str, Any]]]:
    """The last events of a run that has its outcome."""
    told: list[tuple[str, dict[str, Any]]] = []
    if run.status is RunStatus.FINISHED and run.reply is not None:
        told.append(("reply", run.reply))
    if run.error is not None:
        told.append(("error", run.error))
    return [*told, ("status", {"status": run.status.value}), ("done", {})]


def _reading(event: ReadingStarted) -> dict[str, Any]:
    return {
        "n_jobs": event.n_jobs,
        "n_resumed": event.n_resumed,
        "n_cached": event.n_cached,
        "chunks": [_chunk(chunk) for chunk in event.chunks],
    }


def _chunk(chunk: Chunk) -> dict[str, Any]:
    return {
        "chunk_id": chunk.chunk_id,
        "document_id": chunk.document_id,
        "page": chunk.first_page,
        "start": chunk.start,
        "end": chunk.end,
    }


def _draft(event: DraftChanged) -> dict[str, Any]:
    return {
        "answer": event.answer,
        "citations": [citation_json(citation) for citation in event.citations],
        "p_correct": round(event.p_correct, 4),
        "coverage": round(event.coverage, 6),
    }
