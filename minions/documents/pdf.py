"""PDF by pdfium. Meant for the child process: pdfium is C++, not thread-safe, and fed by strangers.

The text is what the file's text layer holds, in the file's order; pdfium keeps the cells of a table
row on one line. Forms, annotations and text drawn as curves or images are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pypdfium2
from pypdfium2.raw import FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY

from minions.documents.reading import (
    Extract,
    ReadLimits,
    check_chars,
    check_pages,
    clean,
    number_list,
)
from minions.errors import (
    CorruptDocument,
    DocumentError,
    EncryptedDocument,
    NoTextInDocument,
)

_END_MARK = b"%%EOF"
_WORD = re.compile(r"\w[\w-]*")
# pdfium puts U+FFFE where a hyphen ended a line, and swallows the line's end with it.
_LINE_END_HYPHEN = re.compile("([\\w-]*)\ufffe(\\w*)")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")


def read_pdf(data: bytes, name: str, limits: ReadLimits) -> Extract:
    """Read every page's text layer.

    Raises `EncryptedDocument`, `CorruptDocument`, `DocumentTooLarge` and, when no page has text,
    `NoTextInDocument`. Pages without text among others that have it are a warning.
    """
    document = _open(data, name)
    check_pages(name, len(document), limits)
    texts = _page_texts(document, name, limits)
    pages = _mend_hyphens([text or "" for text in texts])
    if not any(page.strip() for page in pages):
        raise _no_text(texts, name)
    return Extract(pages=tuple(pages), warnings=tuple(_warnings(data, texts, name)))


def _open(data: bytes, name: str) -> pypdfium2.PdfDocument:
    try:
        document = pypdfium2.PdfDocument(data)
        n_pages = len(document)
    except pypdfium2.PdfiumError as error:
        raise _open_error(error, data, name) from error
    if n_pages == 0:
        raise CorruptDocument(f"{name} is a PDF without any page. Save or download it again.")
    return document


def _open_error(error: pypdfium2.PdfiumError, data: bytes, name: str) -> DocumentError:
    if error.err_code in (FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY):
        return EncryptedDocument(
            f"{name} is an encrypted PDF that opens only with a password. "
            "Save a copy without the password, and try again."
        )
    state = "is damaged" if _has_end_mark(data) else "was cut short (its end is missing)"
    return CorruptDocument(
        f"{name} is a PDF that {state} and can't be opened ({len(data):,} bytes). "
        "Save or download it again."
    )


def _has_end_mark(data: bytes) -> bool:
    return _END_MARK in data[-2048:]


def _page_texts(document: pypdfium2.PdfDocument, name: str, limits: ReadLimits) -> list[str | None]:
    """Text per page; None for a page that pdfium could not load."""
    texts: list[str | None] = []
    n_chars = 0
    for index in range(len(document)):
        text = _page_text(document, index)
        texts.append(text)
        n_chars += len(text or "")
        where = f" on its first {index + 1:,} of {len(document):,} pages"
        check_chars(name, n_chars, limits, where=where)
    return texts


def _page_text(document: pypdfium2.PdfDocument, index: int) -> str | None:
    try:
        page = document[index]
        textpage = page.get_textpage()
    except pypdfium2.PdfiumError:
        return None
    text = _normalised(textpage.get_text_range())
    # Now, not at garbage collection: a 5,000-page file would hold every page in memory.
    textpage.close()
    page.close()
    return text


def _normalised(text: str) -> str:
    """One newline per line end and at the end of the page; no control or broken characters."""
    text = clean(text).replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROL.sub("", text)
    return text.rstrip("\n") + "\n" if text.strip() else ""


def _mend_hyphens(pages: list[str]) -> list[str]:
    """Undo the hyphens of line ends, by the document's own words.

    `share|holders` becomes `shareholders` if that word occurs elsewhere in the document and
    `share-holders` does not; otherwise the hyphen that is printed stays (`non|GAAP`).
    """
    words = {word.lower() for page in pages for word in _WORD.findall(page)}

    def mend(match: re.Match[str]) -> str:
        before, after = match.groups()
        joined, hyphened = before + after, f"{before}-{after}"
        is_one_word = joined.lower() in words and hyphened.lower() not in words
        return joined if before and after and is_one_word else hyphened

    return [_LINE_END_HYPHEN.sub(mend, page) for page in pages]


def _warnings(data: bytes, texts: Sequence[str | None], name: str) -> list[str]:
    damaged = [number for number, text in enumerate(texts, 1) if text is None]
    textless = [number for number, text in enumerate(texts, 1) if text == ""]
    warnings = []
    if not _has_end_mark(data):
        warnings.append(f"{name} was cut short (its end is missing): parts of it may be lost.")
    if damaged:
        pages_are = _pages(damaged, "is", "are")
        warnings.append(f"{name}: {pages_are} damaged and could not be read.")
    if textless:
        pages_have = _pages(textless, "has", "have")
        warnings.append(
            f"{name}: {pages_have} no text layer (blank, or scanned): nothing there was read."
        )
    return warnings


def _pages(numbers: Sequence[int], singular: str, plural: str) -> str:
    """Subject and verb: `page 3 is`, `pages 3, 7-9 are`."""
    if len(numbers) == 1:
        return f"page {numbers[0]} {singular}"
    return f"pages {number_list(numbers)} {plural}"


def _no_text(texts: Sequence[str | None], name: str) -> DocumentError:
    n_pages = f"{len(texts):,} page{'s' if len(texts) > 1 else ''}"
    if all(text is None for text in texts):
        return CorruptDocument(
            f"{name} is a PDF whose {n_pages} can't be read: it is damaged. "
            "Save or download it again."
        )
    return NoTextInDocument(
        f"{name} is scanned: {n_pages} without a text layer. "
        "Run text recognition (OCR) on it first, for example with ocrmypdf."
    )
