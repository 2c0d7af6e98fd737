"""Makes the files that the ingest tests read, good and bad, from nothing but its arguments."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime

import docx
from docx.enum.text import WD_BREAK
from fpdf import FPDF
from PIL import Image

_MADE_AT = datetime(2024, 1, 1, tzinfo=UTC)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def pdf(pages: Sequence[str], *, user_password: str | None = None) -> bytes:
    """A PDF with one page per text; an empty text gives a blank page."""
    document = _new_pdf()
    for text in pages:
        document.add_page()
        if text:
            document.multi_cell(0, 6, text)
    if user_password is not None:
        document.set_encryption(owner_password="owner", user_password=user_password)
    return bytes(document.output())


def scanned_pdf(n_pages: int) -> bytes:
    """A PDF whose pages are pictures."""
    document = _new_pdf()
    for _ in range(n_pages):
        document.add_page()
        document.image(io.BytesIO(png()), x=10, y=10, w=100)
    return bytes(document.output())


def png() -> bytes:
    """A small grey picture."""
    stream = io.BytesIO()
    Image.new("L", (64, 64), 128).save(stream, "PNG")
    return stream.getvalue()


def word_document() -> bytes:
    """Two pages: a heading, a paragraph and a table; a page break; a last paragraph."""
    document = docx.Document()
    document.add_paragraph("This agreement is made on 1 May 2024.")
    document.add_heading("1. Term", level=1)
    document.add_paragraph("The term is five years.")
    table = document.add_table(rows=2, cols=3)
    for row, texts in zip(table.rows, (("Year", "2023", "2022"), ("Sales", "", "9")), strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    document.add_paragraph("Before the break").add_run().add_break(WD_BREAK.PAGE)
    document.add_paragraph("Signed in Vienna.")
    return _saved(document)


def word_document_without_text() -> bytes:
    document = docx.Document()
    document.add_picture(io.BytesIO(png()))
    return _saved(document)


def word_document_of(body_xml: str) -> bytes:
    """A DOCX whose body is the given XML (prefix `w`)."""
    plain = _saved(docx.Document())
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    xml = f'<w:document xmlns:w="{namespace}"><w:body>{body_xml}</w:body></w:document>'
    return with_entry(plain, "word/document.xml", xml.encode())


def word_document_with_footnote(text: str, note: str) -> bytes:
    """A DOCX of one paragraph and a footnote, with the separator that Word puts among the notes."""
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    notes = (
        f'<w:footnotes xmlns:w="{namespace}"><w:footnote w:type="separator" w:id="-1"><w:p/>'
        f'</w:footnote><w:footnote w:id="1"><w:p><w:r><w:t>{note}</w:t></w:r></w:p></w:footnote>'
        "</w:footnotes>"
    )
    data = word_document_of(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>")
    rels = entry(data, "word/_rels/document.xml.rels").replace(
        b"</Relationships>",
        f'<Relationship Id="n" Type="{kind}" Target="footnotes.xml"/></Relationships>'.encode(),
    )
    data = with_entry(data, "word/_rels/document.xml.rels", rels)
    return with_entry(data, "word/footnotes.xml", notes.encode())


def zip_bomb(n_bytes: int) -> bytes:
    """A DOCX with a part that unpacks to `n_bytes` of spaces."""
    return with_entry(word_document(), "word/media/image1.xml", b" " * n_bytes)


def archive(entries: dict[str, bytes]) -> bytes:
    """A ZIP archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in entries.items():
            target.writestr(name, content)
    return stream.getvalue()


def entry(zipped: bytes, name: str) -> bytes:
    """One file of an archive."""
    with zipfile.ZipFile(io.BytesIO(zipped)) as source:
        return source.read(name)


def with_entry(zipped: bytes, name: str, content: bytes) -> bytes:
    """The archive with one entry replaced or added."""
    with zipfile.ZipFile(io.BytesIO(zipped)) as source:
        entries = {known: source.read(known) for known in source.namelist()}
    return archive({**entries, name: content})


def old_office(stream: str) -> bytes:
    """The outline of an OLE2 file: its signature, and the name of a stream in its directory."""
    return _OLE + bytes(1016) + stream.encode("utf-16-le") + bytes(512)


def _new_pdf() -> FPDF:
    document = FPDF()
    document.set_creation_date(_MADE_AT)
    document.set_font("helvetica", size=11)
    return document


def _saved(document: docx.document.Document) -> bytes:
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()
