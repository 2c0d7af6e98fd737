"""Ingest: files that can't be read. Each shows the whole message that a user gets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from minions.documents import ReadLimits, read_document
from minions.errors import (
    CorruptDocument,
    DocumentTimeout,
    DocumentTooLarge,
    EmptyDocument,
    EncryptedDocument,
    MinionsError,
    NoTextInDocument,
    UnsupportedDocument,
)
from tests import files

TEXT_PDF = files.pdf(["The term is five years.", "Page two.", "Page three."])
WORD = files.word_document()
SMALL = ReadLimits(max_bytes=10_000, max_pages=2, max_chars=20, max_unpacked_bytes=1_000_000)


@dataclass(frozen=True, kw_only=True)
class Bad:
    name: str
    data: bytes
    error: type[MinionsError]
    message: str
    limits: ReadLimits = field(default_factory=ReadLimits)


BAD_FILES = [
    Bad(
        name="locked.pdf",
        data=files.pdf(["secret"], user_password="user"),
        error=EncryptedDocument,
        message="locked.pdf is an encrypted PDF that opens only with a password. "
        "Save a copy without the password, and try again.",
    ),
    Bad(
        name="locked.docx",
        data=files.old_office("EncryptedPackage"),
        error=EncryptedDocument,
        message="locked.docx is an Office document locked with a password. "
        "Remove the password in the program that made it, and try again.",
    ),
    Bad(
        name="empty.pdf",
        data=b"",
        error=EmptyDocument,
        message="empty.pdf is empty (0 bytes, no text). Check that it was saved completely.",
    ),
    Bad(
        name="blank.txt",
        data=b" \r\n\t\n",
        error=EmptyDocument,
        message="blank.txt is empty (5 bytes, no text). Check that it was saved completely.",
    ),
    Bad(
        name="blank.md",
        data="\u2003\n\u00a0".encode(),
        error=EmptyDocument,
        message="blank.md has no text in it. Check that it was saved completely.",
    ),
    Bad(
        name="half.pdf",
        data=TEXT_PDF[: len(TEXT_PDF) // 2],
        error=CorruptDocument,
        message="half.pdf is a PDF that was cut short (its end is missing) and can't be opened "
        f"({len(TEXT_PDF) // 2:,} bytes). Save or download it again.",
    ),
    Bad(
        name="broken.pdf",
        data=b"%PDF-1.7\n" + b"x" * 100 + b"\n%%EOF\n",
        error=CorruptDocument,
        message="broken.pdf is a PDF that is damaged and can't be opened (116 bytes). "
        "Save or download it again.",
    ),
    Bad(
        name="scan.pdf",
        data=files.scanned_pdf(3),
        error=NoTextInDocument,
        message="scan.pdf is scanned: 3 pages without a text layer. "
        "Run text recognition (OCR) on it first, for example with ocrmypdf.",
    ),
    Bad(
        name="picture.pdf",
        data=files.png(),
        error=UnsupportedDocument,
        message="picture.pdf is a PNG image, which can't be read here. "
        "Its text, if it shows any, must be recognised (OCR) first.",
    ),
    Bad(
        name="old.doc",
        data=files.old_office("WordDocument"),
        error=UnsupportedDocument,
        message="old.doc is an old Word document (.doc), which can't be read here. "
        "Save it as PDF, DOCX, HTML, Markdown or plain text.",
    ),
    Bad(
        name="letter.rtf",
        data=b"{\\rtf1\\ansi Hello}",
        error=UnsupportedDocument,
        message="letter.rtf is a Rich Text (RTF) document, which can't be read here. "
        "Save it as PDF, DOCX, HTML, Markdown or plain text.",
    ),
    Bad(
        name="zipped.docx",
        data=files.archive({"a.txt": b"a", "b.txt": b"b"}),
        error=UnsupportedDocument,
        message="zipped.docx is a ZIP archive of 2 files, which can't be read here. "
        "Unpack it and give the files inside.",
    ),
    Bad(
        name="sheet.xlsx",
        data=files.archive({"[Content_Types].xml": b"", "xl/workbook.xml": b""}),
        error=UnsupportedDocument,
        message="sheet.xlsx is an Excel workbook (.xlsx), which can't be read here. "
        "Save it as PDF, DOCX, HTML, Markdown or plain text.",
    ),
    Bad(
        name="noise.txt",
        data=bytes(range(256)) * 8,
        error=UnsupportedDocument,
        message="noise.txt is a binary file of a type that is not known here. "
        "Give a PDF, DOCX, HTML, Markdown or plain text file.",
    ),
    Bad(
        name="cut.docx",
        data=WORD[: len(WORD) // 2],
        error=CorruptDocument,
        message="cut.docx is a Word document that is damaged and can't be read "
        "(File is not a zip file). Open it in a word processor and save it again.",
    ),
    Bad(
        name="pictures.docx",
        data=files.word_document_without_text(),
        error=NoTextInDocument,
        message="pictures.docx is a Word document without text (perhaps pictures of pages). "
        "Run text recognition (OCR) on it first.",
    ),
    Bad(
        name="app.html",
        data=b"<html><body><script>render()</script></body></html>",
        error=NoTextInDocument,
        message="app.html is an HTML page that shows no text; perhaps a script fills it in. "
        "Save the page from a browser as PDF, and give that.",
    ),
    Bad(
        name="big.txt",
        data=b"x" * 10_001,
        limits=SMALL,
        error=DocumentTooLarge,
        message="big.txt has 10,001 bytes; the limit is 10,000. "
        "Split the file, or raise the limit (max_bytes).",
    ),
    Bad(
        name="long.txt",
        data=b"x" * 21,
        limits=SMALL,
        error=DocumentTooLarge,
        message="long.txt has 21 characters; the limit is 20. "
        "Split the file, or raise the limit (max_chars).",
    ),
    Bad(
        name="pages.pdf",
        data=TEXT_PDF,
        limits=SMALL,
        error=DocumentTooLarge,
        message="pages.pdf has 3 pages; the limit is 2. "
        "Split the file, or raise the limit (max_pages).",
    ),
    Bad(
        name="long.pdf",
        data=TEXT_PDF,
        limits=ReadLimits(max_chars=20),
        error=DocumentTooLarge,
        message="long.pdf has 24 characters on its first 1 of 3 pages; the limit is 20. "
        "Split the file, or raise the limit (max_chars).",
    ),
    Bad(
        name="slow.pdf",
        data=TEXT_PDF,
        limits=ReadLimits(timeout_s=0.001),
        error=DocumentTimeout,
        message="slow.pdf took longer than 0.001 s to read, and reading was stopped. "
        "Split the file, or raise the limit (timeout_s).",
    ),
    Bad(
        name="hungry.pdf",
        data=TEXT_PDF,
        limits=ReadLimits(memory_bytes=24 * 1024**2),
        error=DocumentTimeout,
        message="hungry.pdf needs more than 24 MiB of memory to read, and reading was stopped. "
        "Split the file, or raise the limit (memory_bytes).",
    ),
    Bad(
        name="hungry.docx",
        data=files.word_document_of("<w:p/>" * 1_000_000),
        limits=ReadLimits(memory_bytes=160 * 1024**2),
        error=DocumentTimeout,
        message="hungry.docx needs more than 160 MiB of memory to read, and reading was stopped. "
        "Split the file, or raise the limit (memory_bytes).",
    ),
]


@pytest.mark.parametrize("bad", BAD_FILES, ids=[bad.name for bad in BAD_FILES])
async def test_bad_file_gives_its_own_error(bad: Bad) -> None:
    with pytest.raises(bad.error) as caught:
        await read_document(bad.data, f"folder/{bad.name}", bad.limits)
    assert type(caught.value) is bad.error
    assert str(caught.value) == bad.message


async def test_zip_bomb_is_refused_before_it_unpacks() -> None:
    data = files.zip_bomb(5_000_000)
    with pytest.raises(DocumentTooLarge) as caught:
        await read_document(data, "bomb.docx", ReadLimits(max_unpacked_bytes=1_000_000))
    message = str(caught.value)
    assert message.startswith(f"bomb.docx has {len(data):,} bytes but unpacks to 5,")
    assert message.endswith(
        "; the limit is 1,000,000. If it is no zip bomb, shrink its pictures, "
        "or raise the limit (max_unpacked_bytes)."
    )


@pytest.mark.parametrize("xml", [b"<w:document>", b"<document/>", b""])
async def test_docx_with_broken_xml_says_so(xml: bytes) -> None:
    data = files.with_entry(WORD, "word/document.xml", xml)
    with pytest.raises(CorruptDocument, match="is a Word document that is damaged"):
        await read_document(data, "a.docx")


async def test_docx_with_broken_compression_says_so() -> None:
    data = bytearray(WORD)
    start = data.index(b"word/document.xml") + 40
    data[start : start + 60] = b"\xff" * 60
    with pytest.raises(CorruptDocument, match="is a Word document that is damaged"):
        await read_document(bytes(data), "a.docx")


def children() -> set[str]:
    """Process ids of living children of this process; empty where /proc does not tell."""
    found: set[str] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        found.update(listing.read_text().split())
    return found


async def test_cancelled_reading_kills_its_child() -> None:
    before = children()
    task = asyncio.create_task(read_document(files.pdf(["text"] * 50), "a.pdf"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() <= before
