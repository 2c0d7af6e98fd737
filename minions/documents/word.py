"""DOCX: paragraphs and tables in the order of the document, a table row on one line.

Read from the XML rather than through python-docx's objects, which leave out inserted text, content
controls and text boxes. Not in the text: headers, footers, comments, deleted text, and the numbers
of automatic lists (Word computes them when it draws the page).
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from docx.opc.exceptions import PackageNotFoundError
from docx.opc.package import OpcPackage
from docx.oxml import parse_xml
from docx.oxml.ns import qn

from minions.documents.reading import Extract, ReadLimits, check_chars, check_pages, clean
from minions.documents.sniff import unsupported
from minions.errors import (
    CorruptDocument,
    DocumentTooLarge,
    EncryptedDocument,
    MinionsError,
    NoTextInDocument,
)

Element = Any
"""An lxml element; lxml ships no types."""

_PARAGRAPH, _TABLE, _ROW, _CELL = qn("w:p"), qn("w:tbl"), qn("w:tr"), qn("w:tc")
_RUN, _TEXT, _BREAK, _TYPE = qn("w:r"), qn("w:t"), qn("w:br"), qn("w:type")
_RENDERED_BREAK = qn("w:lastRenderedPageBreak")
_MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_IN_RUN = {qn("w:tab"): "\t", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-"}
_CONTAINERS = {
    qn(f"w:{tag}") for tag in ("sdt", "sdtContent", "customXml", "smartTag", "ins", "moveTo")
}
_NOTES = ("/footnotes", "/endnotes")
_NOTE_TAGS = (qn("w:footnote"), qn("w:endnote"))
_PAGE = "\f"
_LIBXML_NO_MEMORY = 2
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    PackageNotFoundError,
    SyntaxError,  # the base of lxml's XMLSyntaxError; lxml ships no types
    KeyError,  # a part that another one refers to is missing
    ValueError,
    NotImplementedError,  # a compression that zipfile does not know
)

_OTHER_ARCHIVES = (
    ("xl/workbook.xml", "an Excel workbook (.xlsx)"),
    ("xl/workbook.bin", "an Excel workbook (.xlsb)"),
    ("ppt/presentation.xml", "a PowerPoint presentation (.pptx)"),
    ("META-INF/container.xml", "an EPUB book"),
    ("content.xml", "an OpenDocument file"),
    ("META-INF/MANIFEST.MF", "a Java archive"),
)


def read_docx(data: bytes, name: str, limits: ReadLimits) -> Extract:
    """Read the body, then foot- and endnotes.

    Raises `UnsupportedDocument` for other ZIP archives, `EncryptedDocument`, `CorruptDocument`,
    `DocumentTooLarge` (also for a small file that would unpack to a huge one) and
    `NoTextInDocument`.
    """
    _check_archive(data, name, limits)
    try:
        text = _text(OpcPackage.open(io.BytesIO(data)))
    except _DAMAGE as error:
        if getattr(error, "code", None) == _LIBXML_NO_MEMORY:
            raise MemoryError from error
        raise _corrupt(name, str(error)) from error
    return _extract(text, name, limits)


def _check_archive(data: bytes, name: str, limits: ReadLimits) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise _corrupt(name, str(error)) from error
    if not any(re.fullmatch(r"word/document\d*\.xml", entry.filename) for entry in entries):
        raise _not_word({entry.filename for entry in entries}, name)
    if any(entry.flag_bits & 0x1 for entry in entries):
        raise EncryptedDocument(
            f"{name} is a ZIP archive locked with a password. Save it without the password."
        )
    # The directory may lie, but zipfile never unpacks more of an entry than the directory states.
    n_bytes = sum(entry.file_size for entry in entries)
    if n_bytes > limits.max_unpacked_bytes:
        raise DocumentTooLarge(
            f"{name} has {len(data):,} bytes but unpacks to {n_bytes:,}; the limit is "
            f"{limits.max_unpacked_bytes:,}. If it is no zip bomb, shrink its pictures, "
            "or raise the limit (max_unpacked_bytes)."
        )


def _not_word(names: set[str], name: str) -> MinionsError:
    for entry, what in _OTHER_ARCHIVES:
        if entry in names:
            return unsupported(name, what)
    what = f"a ZIP archive of {len(names):,} file{'' if len(names) == 1 else 's'}"
    return unsupported(name, what, "Unpack it and give the files inside.")


def _corrupt(name: str, reason: str) -> CorruptDocument:
    return CorruptDocument(
        f"{name} is a Word document that is damaged and can't be read ({reason}). "
        "Open it in a word processor and save it again."
    )


def _text(package: OpcPackage) -> str:
    """The whole text, with a form feed where a page begins."""
    part = package.main_document_part
    root = parse_xml(part.blob)
    _drop_unread(root)
    page_break = _page_break_test(root)
    headings = set(_heading_styles(part))
    found = root.find(qn("w:body"))
    if found is None:
        raise ValueError("it has no body")
    body = "".join(_blocks(found, headings, page_break))
    return body + "".join(_note_lines(part))


def _drop_unread(root: Element) -> None:
    """Remove what would appear twice: fallbacks for old readers, and the origin of moved text."""
    for element in list(root.iter(_FALLBACK, qn("w:moveFrom"))):
        element.getparent().remove(element)


def _page_break_test(root: Element) -> str:
    """Which tag tells pages apart: the breaks of Word's last layout, or else the author's own."""
    return _RENDERED_BREAK if next(root.iter(_RENDERED_BREAK), None) is not None else _BREAK


def _heading_styles(part: Any) -> Iterator[str]:
    """Ids of the styles for headings. Ids are localised, names are not."""
    for relation in part.rels.values():
        if not relation.is_external and relation.reltype.endswith("/styles"):
            for style in parse_xml(relation.target_part.blob).iter(qn("w:style")):
                label = style.find(qn("w:name"))
                if label is not None and re.match(r"(?i)heading|title", label.get(qn("w:val"), "")):
                    yield style.get(qn("w:styleId"))


def _blocks(parent: Element, headings: set[str], page_break: str) -> Iterator[str]:
    """Lines of the paragraphs and table rows under `parent`, in document order."""
    for child in parent:
        if child.tag == _PARAGRAPH:
            gap = "\n" if _style(child) in headings else ""
            yield gap + _paragraph(child, page_break) + "\n"
        elif child.tag == _TABLE:
            yield from _rows(child, page_break)
        elif child.tag in _CONTAINERS:
            yield from _blocks(child, headings, page_break)


def _style(paragraph: Element) -> str | None:
    style = paragraph.find(f"{qn('w:pPr')}/{qn('w:pStyle')}")
    return None if style is None else style.get(qn("w:val"))


def _paragraph(paragraph: Element, page_break: str) -> str:
    return "".join(_inline(element, paragraph, page_break) for element in paragraph.iter())


def _inline(element: Element, paragraph: Element, page_break: str) -> str:
    tag = element.tag
    if tag in (_TEXT, _MATH_TEXT):
        return element.text or ""
    if tag == _BREAK and element.get(_TYPE) != "page":
        return "\n"
    if tag == page_break:
        return _PAGE
    if tag == _PARAGRAPH and element is not paragraph:
        return "\n"  # a paragraph of a text box
    # The same tag, outside of a run, sets a tab stop.
    return _IN_RUN.get(tag, "") if element.getparent().tag == _RUN else ""


def _rows(table: Element, page_break: str) -> Iterator[str]:
    for row in table.iter(_ROW):
        if _enclosing(row, _TABLE) is not table:
            continue  # of a table inside a cell, whose text the cell already has
        line = " | ".join(_cell(cell, page_break) for cell in _cells(row))
        yield line.replace(_PAGE, "") + "\n"
        if _PAGE in line:
            yield _PAGE


def _cells(row: Element) -> Iterable[Element]:
    return (cell for cell in row.iter(_CELL) if _enclosing(cell, _ROW) is row)


def _enclosing(element: Element, tag: str) -> Element:
    return next(element.iterancestors(tag))


def _cell(cell: Element, page_break: str) -> str:
    lines = "".join(_blocks(cell, set(), page_break)).split("\n")
    return " ".join(line.strip(" \t") for line in lines if line.strip(" \t"))


def _note_lines(part: Any) -> Iterator[str]:
    """Foot- and endnotes, a line each."""
    for relation in part.rels.values():
        if relation.is_external or not relation.reltype.endswith(_NOTES):
            continue
        for note in parse_xml(relation.target_part.blob).iter(*_NOTE_TAGS):
            text = " ".join("".join(_blocks(note, set(), _PAGE)).split())
            if text:
                yield text + "\n"


def _extract(text: str, name: str, limits: ReadLimits) -> Extract:
    text = clean(text)
    check_chars(name, len(text), limits)
    pages = text.split(_PAGE)
    check_pages(name, len(pages), limits)
    if not text.strip():
        raise NoTextInDocument(
            f"{name} is a Word document without text (perhaps pictures of pages). "
            "Run text recognition (OCR) on it first."
        )
    return Extract(pages=tuple(pages))
