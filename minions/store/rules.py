"""Rules that both stores keep, and the errors for breaking them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minions.documents.model import Chunk, Document
from minions.errors import BadRequest
from minions.store.model import RunStatus

UNFINISHED = (RunStatus.QUEUED, RunStatus.RUNNING)
"""A run in one of these is resumed; failed, cancelled and finished ones are done with. Of the
runs with one fingerprint, at most one is unfinished."""


RESPONSE_DAYS = 30
"""How long answers over OpenAI's API are kept, as OpenAI does."""
RESPONSE_S = RESPONSE_DAYS * 86_400.0
CALL_S = 3_600.0
"""No call takes longer: what was set aside earlier than that before midnight is of the day before.
"""


def run_id_taken(run_id: str) -> BadRequest:
    """The error for a new run under an old id."""
    return BadRequest(f"run {run_id!r} exists already: give a new run id")


def question_in_progress(run_id: str, status: RunStatus) -> BadRequest:
    """The error for a second unfinished run with the same fingerprint."""
    return BadRequest(
        f"run {run_id!r} can't be {status.value}: another run of the same question is "
        "unfinished, continue that one"
    )


def require_same_text(document: Document, chunks: Iterable[Chunk]) -> None:
    """Raise BadRequest unless every chunk is a piece of the document's text as it says."""
    for chunk in chunks:
        if chunk.document_id != document.document_id:
            raise BadRequest(
                f"chunk {chunk.chunk_id!r} belongs to document {chunk.document_id!r}, "
                f"not {document.document_id!r}: keep each document's chunks apart"
            )
        if document.text[chunk.start : chunk.end] != chunk.text:
            raise BadRequest(
                f"chunk {chunk.chunk_id!r} is not the text of document {document.document_id!r} "
                f"from {chunk.start} to {chunk.end}: chunk the document again"
            )


KEPT_OF_A_REPLY = ("abstained", "rung", "p_correct", "p_correct_source", "coverage", "cost")
"""What stays of a reply whose document was deleted: figures, and nothing that was read."""
DOCUMENT_DELETED = {"code": "document_deleted", "message": "A document of it was deleted."}
"""The error of a run that can't go on, because its document is gone."""


def without_derived(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply without anything that came out of its documents."""
    kept = {name: reply[name] for name in KEPT_OF_A_REPLY if name in reply}
    return {**kept, "answer": None, "citations": [], "warnings": [DOCUMENT_DELETED["message"]]}


def documents_of(question: dict[str, Any]) -> list[str]:
    """Ids of the documents that a run's question is about, each once."""
    return list(dict.fromkeys(question.get("documents", [])))
