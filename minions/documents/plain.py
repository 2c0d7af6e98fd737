"""Plain text and Markdown: the decoded text as it is, with form feeds as page borders."""

from __future__ import annotations

import codecs
import re

from charset_normalizer import CharsetMatches, from_bytes

from minions.documents.reading import Extract, ReadLimits, check_chars, check_pages, clean
from minions.errors import UnsupportedDocument

_BOMS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_CONTROL = re.compile("[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROL_SHARE = 0.01
_MAX_NUL_SHARE = 0.1


def read_plain(data: bytes, name: str, limits: ReadLimits) -> Extract:
    """Read text or Markdown. Raises `UnsupportedDocument` when the bytes are no text at all."""
    text, warnings = decode(data, name)
    text = clean(text)
    check_chars(name, len(text), limits)
    pages = tuple(re.findall("[^\f]*\f|[^\f]+", text))
    check_pages(name, len(pages), limits)
    return Extract(pages=pages, warnings=warnings)


def decode(data: bytes, name: str, declared: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Text of `data`, and a warning when its encoding had to be guessed.

    Tried in turn: the byte order mark, UTF-8, the encoding that the file itself declares, a guess.
    """
    encoding = _marked_encoding(data) or _valid_encoding(data, declared)
    if encoding is not None:
        return _decoded(data, encoding, name), ()
    encoding = _guess(data, name)
    text = _decoded(data, encoding, name)
    return text, (f"{name} is not UTF-8; it was read as {encoding}, which is a guess.",)


def _marked_encoding(data: bytes) -> str | None:
    return next((encoding for bom, encoding in _BOMS if data.startswith(bom)), None)


def _valid_encoding(data: bytes, declared: str | None) -> str | None:
    if data.count(0) > _MAX_NUL_SHARE * len(data):
        return None  # UTF-16 without a mark is valid UTF-8 full of NULs
    candidates = ["utf-8", *([declared] if declared else [])]
    for encoding in candidates:
        try:
            data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        return encoding
    return None


def _guess(data: bytes, name: str) -> str:
    matches = from_bytes(data)
    best = matches.best()
    if best is None:
        raise _not_text(name)
    return "cp1252" if _is_western_tie(matches) else best.encoding


def _is_western_tie(matches: CharsetMatches) -> bool:
    """Whether Windows-1252 explains the bytes as well as the best guess does.

    Short Western texts fit several code pages equally, and the detector then takes the first by
    name (cp1250). Windows-1252, which contains the letters of Latin-1, is by far the likelier one.
    """
    best = matches.best()
    return best is not None and any(
        "cp1252" in match.could_be_from_charset
        and match.chaos <= best.chaos
        and match.coherence >= best.coherence
        for match in matches
    )


def _decoded(data: bytes, encoding: str, name: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnsupportedDocument(
            f"{name} begins as {encoding} text but is broken at byte {error.start:,}. "
            "Save it again as UTF-8."
        ) from error
    if len(_CONTROL.findall(text)) > _MAX_CONTROL_SHARE * len(text):
        raise _not_text(name)
    return text


def _not_text(name: str) -> UnsupportedDocument:
    return UnsupportedDocument(
        f"{name} is a binary file of a type that is not known here. "
        "Give a PDF, DOCX, HTML, Markdown or plain text file."
    )
