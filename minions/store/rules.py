"""Rules that both stores keep, and the errors for breaking them."""

from __future__ import annotations

from collections.abc import Iterable

from minions.documents.model import Chunk, Document
from minions.errors import BadRequest
from minions.store.model import RunStatus

UNFINISHED = (RunStatus.QUEUED, RunStatus.RUNNING)
"""A run in one of these is resumed; failed, cancelled and finished ones are done with. Of the
runs with one fingerprint, at most one is unfinished."""


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
