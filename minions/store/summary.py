"""A document as lists show it, in both stores."""

from __future__ import annotations

from dataclasses import dataclass

from minions.documents.model import Document


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentSummary:
    """A document without its text and pages, for lists."""

    document_id: str
    sha256: str
    name: str
    media_type: str
    n_bytes: int
    """Size of the file."""
    n_chars: int
    """Length of the text."""
    n_pages: int
    warnings: tuple[str, ...]
    created_at: float
    """Unix time at which its owner added it, seconds."""


def summarise(document: Document, name: str, created_at: float) -> DocumentSummary:
    """What lists show of a document, under its owner's name for it."""
    return DocumentSummary(
        document_id=document.document_id,
        sha256=document.sha256,
        name=name,
        media_type=document.media_type,
        n_bytes=document.n_bytes,
        n_chars=len(document.text),
        n_pages=len(document.pages),
        warnings=document.warnings,
        created_at=created_at,
    )
