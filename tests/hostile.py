"""Files that mean harm, made from a seed: the n-th file of a seed is always the same."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.files import archive, pdf, png, with_entry, word_document, word_document_of, zip_bomb

WORDS = ("The seller shall deliver.", "Payment is due.", "naïve café", "١٢٣", "漢字", "\u202eevil")
NAMES = (
    "report.pdf",
    "../../etc/passwd",
    "C:\\windows\\win.ini",
    "a" * 300 + ".txt",
    "nul\0byte.txt",
    'quote".pdf',
    "line\r\nbreak.docx",
    "<script>alert(1)</script>.html",
    "\u202etxt.exe",
    "…" * 60,
    ".",
    "%00%2e%2e%2f.pdf",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostileFile:
    """One file and how it was made."""

    kind: str
    name: str
    data: bytes


def hostile_files(seed: int, n: int) -> Iterator[HostileFile]:
    """The first `n` files of a seed; each kind comes in turn, with its details drawn."""
    kinds = list(MAKERS)
    for number in range(n):
        rng = random.Random(f"{seed}/{number}")
        kind = kinds[number % len(kinds)]
        yield HostileFile(kind=kind, name=rng.choice(NAMES), data=MAKERS[kind](rng))


def _some_pdf(rng: random.Random) -> bytes:
    return pdf(["\n".join(rng.choices(WORDS[:2], k=20)) for _ in range(rng.randint(1, 3))])


def _truncated(make: Callable[[random.Random], bytes]) -> Callable[[random.Random], bytes]:
    def truncated(rng: random.Random) -> bytes:
        whole = make(rng)
        return whole[: rng.randrange(len(whole))]

    return truncated


def _flipped(make: Callable[[random.Random], bytes]) -> Callable[[random.Random], bytes]:
    def flipped(rng: random.Random) -> bytes:
        data = bytearray(make(rng))
        for _ in range(rng.randint(1, 40)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)

    return flipped


def _pdf_of(*objects: str) -> bytes:
    """A PDF of raw objects, numbered from 1, with a right cross-reference table; 1 is the root."""
    body, offsets = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    trailer = f"<< /Root 1 0 R /Size {len(objects) + 1} >>"
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer {trailer}\n"
    return body + f"{end}startxref\n{len(body)}\n%%EOF".encode()


CATALOG = "<< /Type /Catalog /Pages 2 0 R >>"


def _pdf_cycle(rng: random.Random) -> bytes:
    """A page tree that is its own grandchild."""
    back = rng.choice(["2 0 R", "3 0 R", "1 0 R"])
    return _pdf_of(
        CATALOG,
        f"<< /Type /Pages /Kids [3 0 R {back}] /Count 2 >>",
        "<< /Type /Pages /Parent 2 0 R /Kids [2 0 R 3 0 R] /Count 2 >>",
    )


def _pdf_lying_count(rng: random.Random) -> bytes:
    return _pdf_of(
        CATALOG,
        f"<< /Type /Pages /Kids [3 0 R] /Count {rng.choice([10**9, -1, 2**31, 10**30])} >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] >>",
    )


def _pdf_huge_page(rng: random.Random) -> bytes:
    side = rng.choice([10**7, 10**12, 2**31, -5])
    text = "BT /F1 12 Tf 72 72 Td (The seller shall deliver.) Tj ET"
    return _pdf_of(
        CATALOG,
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {side} {side}] /Contents 4 0 R "
        "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Courier >> >> >> >>",
        f"<< /Length {len(text)} >>\nstream\n{text}\nendstream",
    )


def _pdf_bomb(rng: random.Random) -> bytes:
    """A content stream that unpacks to megabytes, twice packed."""
    packed = zlib.compress(zlib.compress(b"q Q " * rng.randint(10**6, 4 * 10**6)))
    stream = packed.decode("latin-1")
    return _pdf_of(
        CATALOG,
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R >>",
        f"<< /Length {len(packed)} /Filter [/FlateDecode /FlateDecode] >>\n"
        f"stream\n{stream}\nendstream",
    )


def _pdf_nested(rng: random.Random) -> bytes:
    depth = rng.randint(1_000, 100_000)
    return _pdf_of(CATALOG, "[" * depth + "]" * depth)


def _docx_entities(rng: random.Random) -> bytes:
    """Entities of entities, or one that names a file of this machine."""
    levels = "".join(
        f'<!ENTITY e{n} "{"&e" + str(n - 1) + ";" if n else "ha"}'
        f'{("&e" + str(n - 1) + ";") * 9 if n else ""}">'
        for n in range(rng.randint(3, 12))
    )
    outside = '<!ENTITY x SYSTEM "file:///etc/hostname">'
    xml = f"<!DOCTYPE d [{rng.choice([levels, outside])}]><d>&e2;&x;</d>"
    return with_entry(word_document(), "word/document.xml", xml.encode())


def _docx_deep(rng: random.Random) -> bytes:
    depth = rng.randint(100, 20_000)
    return word_document_of("<w:p>" * depth + "</w:p>" * depth)


def _docx_paths(rng: random.Random) -> bytes:
    evil = rng.choice(["../../outside.xml", "/etc/passwd", "word/../../x", "a" * 5000])
    return with_entry(word_document(), evil, b"<x/>")


def _html_deep(rng: random.Random) -> bytes:
    tag = rng.choice(["div", "table><tr><td", "b", "svg", "template"])
    return f"<html><body>{f'<{tag}>' * rng.randint(100, 50_000)}text".encode()


def _html_wide(rng: random.Random) -> bytes:
    return b"<html><p " + b"a=1 " * rng.randint(10**4, 10**5) + b">text<script>while(1);</script>"


def _text_wrong(rng: random.Random) -> bytes:
    text = " ".join(rng.choices(WORDS, k=30))
    return rng.choice(
        [
            text.encode("utf-16") + b"x",
            text.encode("utf-8")[:-1],
            b"\xff\xfe" + text.encode(),
            text.encode() + b"\0" * 1000,
            b"\xed\xa0\x80" * 50,
            ("\ufeff" * 5 + text).encode(),
            b"\x1b[2J\x07" + text.encode(),
            (text * 20_000).encode(),
        ]
    )


def _wrong_type(rng: random.Random) -> bytes:
    return rng.choice(
        [
            png(),
            b"\x7fELF" + rng.randbytes(500),
            b"MZ" + rng.randbytes(500),
            gzip.compress(b"text" * 1000),
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + rng.randbytes(2000),
            b"SQLite format 3\0" + rng.randbytes(500),
            archive({"a.txt": b"only a ZIP"}),
            b"%PDF-",
            b"PK\x03\x04",
            b"{\\rtf1 text}",
            b"",
            b" \n\t" * 100,
        ]
    )


MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    "truncated pdf": _truncated(_some_pdf),
    "flipped pdf": _flipped(_some_pdf),
    "pdf page cycle": _pdf_cycle,
    "pdf lying count": _pdf_lying_count,
    "pdf huge page": _pdf_huge_page,
    "pdf bomb": _pdf_bomb,
    "pdf nested": _pdf_nested,
    "truncated docx": _truncated(lambda _rng: word_document()),
    "flipped docx": _flipped(lambda _rng: word_document()),
    "docx entities": _docx_entities,
    "docx deep": _docx_deep,
    "docx paths": _docx_paths,
    "zip bomb": lambda rng: zip_bomb(rng.choice([10**7, 6 * 10**8])),
    "html deep": _html_deep,
    "html wide": _html_wide,
    "text wrong": _text_wrong,
    "wrong type": _wrong_type,
    "noise": lambda rng: rng.randbytes(rng.randint(1, 20_000)),
}
