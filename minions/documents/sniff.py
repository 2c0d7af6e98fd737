"""What a file is, by its bytes. The name is consulted only to warn, and to tell Markdown apart."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath

from minions.errors import EmptyDocument, EncryptedDocument, UnsupportedDocument

READABLE = "PDF, DOCX, HTML, Markdown or plain text"


class Kind(StrEnum):
    """A format that is read here; the value is its media type."""

    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    """Any ZIP archive, until its reader has looked inside."""
    HTML = "text/html"
    MARKDOWN = "text/markdown"
    TEXT = "text/plain"

    @property
    def label(self) -> str:
        """What a person calls it."""
        return _LABELS[self]


_LABELS = {
    Kind.PDF: "a PDF",
    Kind.DOCX: "a Word document (DOCX)",
    Kind.HTML: "HTML",
    Kind.MARKDOWN: "Markdown",
    Kind.TEXT: "plain text",
}

_EXTENSIONS = {
    ".pdf": Kind.PDF,
    ".docx": Kind.DOCX,
    ".docm": Kind.DOCX,
    ".dotx": Kind.DOCX,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".txt": Kind.TEXT,
}

_IMAGE = "Its text, if it shows any, must be recognised (OCR) first."
_CONVERT = f"Save it as {READABLE}."
_UNPACK = "Unpack it and give the files inside."

_SIGNATURES: tuple[tuple[bytes, int, str, str], ...] = (
    # bytes, their offset, what the file is, what to do
    (b"\x89PNG\r\n\x1a\n", 0, "a PNG image", _IMAGE),
    (b"\xff\xd8\xff", 0, "a JPEG image", _IMAGE),
    (b"GIF87a", 0, "a GIF image", _IMAGE),
    (b"GIF89a", 0, "a GIF image", _IMAGE),
    (b"II*\x00", 0, "a TIFF image", _IMAGE),
    (b"MM\x00*", 0, "a TIFF image", _IMAGE),
    (b"WEBP", 8, "a WebP image", _IMAGE),
    (b"ftypheic", 4, "a HEIC image", _IMAGE),
    (b"ftypavif", 4, "an AVIF image", _IMAGE),
    (b"\x1f\x8b", 0, "a gzip archive", _UNPACK),
    (b"BZh", 0, "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\x00", 0, "an XZ archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7-Zip archive", _UNPACK),
    (b"Rar!\x1a\x07", 0, "a RAR archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", 0, "a Zstandard archive", _UNPACK),
    (b"ustar", 257, "a tar archive", _UNPACK),
    (b"SQLite format 3\x00", 0, "an SQLite database", _CONVERT),
    (b"PAR1", 0, "a Parquet table", _CONVERT),
    (b"GGUF", 0, "a GGUF model", _CONVERT),
    (b"\x7fELF", 0, "a program (ELF)", _CONVERT),
    (b"MZ\x90", 0, "a program (Windows)", _CONVERT),
    (b"ftyp", 4, "a video or audio file (MP4)", _CONVERT),
    (b"OggS", 0, "an audio file (Ogg)", _CONVERT),
    (b"ID3", 0, "an audio file (MP3)", _CONVERT),
    (b"RIFF", 0, "an audio or video file (RIFF)", _CONVERT),
)

# Formats that are text themselves; the ones above always have control bytes near their start, which
# tells them from a text that begins with the same letters.
_TEXTUAL_SIGNATURES = (
    (b"{\\rtf1", 0, "a Rich Text (RTF) document", _CONVERT),
    (b"%!PS-Adobe", 0, "a PostScript file", _CONVERT),
)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_STREAMS = {
    "WordDocument": "an old Word document (.doc)",
    "Workbook": "an old Excel workbook (.xls)",
    "PowerPoint Document": "an old PowerPoint presentation (.ppt)",
    "__properties_version1.0": "an Outlook message (.msg)",
}

# The header may follow junk (ISO 32000-1, annex H.3.4.1: anywhere in the first 1024 bytes); it must
# stand at the start of a line, so that a text which mentions `%PDF-` stays a text.
_PDF_HEADER = re.compile(rb"(?:\A|[\r\n\xbf])\s*%PDF-")
_HTML_START = re.compile(r"\s*<")
_HTML_TAG = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_HTML_WINDOW_BYTES = 4_096


def sniff(data: bytes, name: str) -> Kind:
    """The format of `data`.

    Raises `EmptyDocument`, `EncryptedDocument` (a locked Office file) and `UnsupportedDocument`,
    which says what the file is.
    """
    if not data.strip(b" \t\r\n\f\x00"):
        raise EmptyDocument(
            f"{name} is empty ({len(data):,} bytes, no text). Check that it was saved completely."
        )
    if _PDF_HEADER.search(data[:1024]):
        return Kind.PDF
    if data.startswith(b"PK\x03\x04") or data.startswith(b"PK\x05\x06"):
        return Kind.DOCX
    if data.startswith(_OLE):
        raise _ole_error(data, name)
    _refuse_known_binary(data, name)
    if _is_html(data[:_HTML_WINDOW_BYTES]):
        return Kind.HTML
    return Kind.MARKDOWN if _named_kind(name) is Kind.MARKDOWN else Kind.TEXT


def name_warning(name: str, kind: Kind) -> str | None:
    """What to tell a reader whose file is not what its name says; None when all is well."""
    suffix = PurePosixPath(name).suffix
    expected = _named_kind(name)
    # Plain text goes by many names (.log, .csv, none at all); a PDF or DOCX by one.
    if expected is kind or (expected is None and (kind is Kind.TEXT or not suffix)):
        return None
    return f"{name} is named {suffix} but holds {kind.label}; it was read as {kind.label}."


def unsupported(name: str, what: str, advice: str = _CONVERT) -> UnsupportedDocument:
    """The error for a file of a known type that is not read here."""
    return UnsupportedDocument(f"{name} is {what}, which can't be read here. {advice}")


def _named_kind(name: str) -> Kind | None:
    return _EXTENSIONS.get(PurePosixPath(name).suffix.lower())


def _refuse_known_binary(data: bytes, name: str) -> None:
    is_binary = _CONTROL.search(data[:1024]) is not None
    candidates = _SIGNATURES if is_binary else _TEXTUAL_SIGNATURES
    for signature, offset, what, advice in candidates:
        if data.startswith(signature, offset):
            raise unsupported(name, what, advice)


def _ole_error(data: bytes, name: str) -> EncryptedDocument | UnsupportedDocument:
    """OLE2 holds the Office formats of before 2007, and today's ones when they are encrypted."""
    if _stream_name("EncryptedPackage") in data:
        return EncryptedDocument(
            f"{name} is an Office document locked with a password. "
            "Remove the password in the program that made it, and try again."
        )
    for stream, what in _OLE_STREAMS.items():
        if _stream_name(stream) in data:
            return unsupported(name, what)
    return unsupported(name, "an old Office file (OLE2)")


def _stream_name(stream: str) -> bytes:
    return stream.encode("utf-16-le")


def _is_html(head: bytes) -> bool:
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16" if utf16 else "utf-8", "ignore").lstrip("\ufeff")
    return bool(_HTML_START.match(text) and _HTML_TAG.search(text))
