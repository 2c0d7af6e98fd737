"""From a file's bytes to a `Document`: the one way in."""

from __future__ import annotations

import asyncio
import hashlib
import re
from itertools import accumulate, pairwise

from minions.documents.model import Document, Page
from minions.documents.plain import read_plain
from minions.documents.reading import Extract, ReadLimits
from minions.documents.sandbox import read_in_child
from minions.documents.sniff import Kind, name_warning, sniff
from minions.errors import DocumentTooLarge, EmptyDocument

_DEFAULT_LIMITS = ReadLimits()
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


async def read_document(data: bytes, name: str, limits: ReadLimits = _DEFAULT_LIMITS) -> Document:
    """Read a PDF, DOCX, HTML, Markdown or text file.

    What it is, is decided by its bytes; a `name` that says otherwise is a warning. The same bytes
    give the same text and id whatever their name (the name decides only whether text is called
    Markdown). Text is decoded in a thread, everything else is parsed in a child process.

    Raises `DocumentTooLarge` or one of the `DocumentError`s (see `minions.errors`).
    """
    name = file_name(name)
    _check_bytes(name, len(data), limits)
    kind, sha256 = await asyncio.to_thread(_identify, data, name)
    extract = await _read(kind, data, name, limits)
    if not extract.has_text:
        raise EmptyDocument(f"{name} has no text in it. Check that it was saved completely.")
    warning = name_warning(name, kind)
    return Document(
        document_id=f"doc_{sha256[:24]}",
        sha256=sha256,
        name=name,
        media_type=kind.value,
        n_bytes=len(data),
        text="".join(extract.pages),
        pages=_tile(extract.pages),
        warnings=((warning,) if warning else ()) + extract.warnings,
    )


def file_name(name: str) -> str:
    """`name` without folders (of either slash) and without characters that can't be printed."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return _UNPRINTABLE.sub("", last).strip() or "document"


def _check_bytes(name: str, n_bytes: int, limits: ReadLimits) -> None:
    if n_bytes > limits.max_bytes:
        raise DocumentTooLarge(
            f"{name} has {n_bytes:,} bytes; the limit is {limits.max_bytes:,}. "
            "Split the file, or raise the limit (max_bytes)."
        )


def _identify(data: bytes, name: str) -> tuple[Kind, str]:
    return sniff(data, name), hashlib.sha256(data).hexdigest()


async def _read(kind: Kind, data: bytes, name: str, limits: ReadLimits) -> Extract:
    if kind in (Kind.TEXT, Kind.MARKDOWN):
        return await asyncio.to_thread(read_plain, data, name, limits)
    return await read_in_child(kind, data, name, limits)


def _tile(pages: tuple[str, ...]) -> tuple[Page, ...]:
    borders = pairwise(accumulate(map(len, pages), initial=0))
    return tuple(
        Page(number=number, start=start, end=end) for number, (start, end) in enumerate(borders, 1)
    )
