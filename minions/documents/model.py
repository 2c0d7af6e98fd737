"""A document as the product sees it: one text, pages over it, chunks over it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page, or what stands for one in formats that have none (they are a single page 1)."""

    number: int
    """From 1, as a reader counts."""
    start: int
    """Half-open character span in `Document.text`; pages tile the text without gap or overlap."""
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A read document. The same bytes give the same document, whatever the file was called."""

    document_id: str
    """`doc_` and the first 24 hex digits of the SHA-256 of the file's bytes."""
    sha256: str
    """SHA-256 of the file's bytes, hex."""
    name: str
    """The file's name, without folders."""
    media_type: str
    """What the bytes are, not what the name says."""
    n_bytes: int
    text: str
    """The whole text; every offset anywhere in the product is an index into it."""
    pages: tuple[Page, ...]
    warnings: tuple[str, ...] = ()
    """What a reader should know, e.g. pages without text among others that have it."""

    def page_at(self, offset: int) -> int:
        """Number of the page that holds the character at `offset` (clamped to the text)."""
        low, high = 0, len(self.pages) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.pages[middle].start <= offset:
                low = middle
            else:
                high = middle - 1
        return self.pages[low].number


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A piece of a document that one worker prompt holds.

    Law: `document.text[chunk.start:chunk.end] == chunk.text`.
    """

    chunk_id: str
    """Depends on the document and the span only, so that it is the same on every machine."""
    document_id: str
    index: int
    """From 0, in reading order."""
    start: int
    end: int
    text: str
    first_page: int
    last_page: int
    n_tokens: int
    """Counted by the worker's own tokenizer."""
