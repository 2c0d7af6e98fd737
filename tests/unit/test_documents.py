"""Ingest: what good files become. The bad ones are in `test_documents_bad.py`."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.documents import Document, ReadLimits, file_name, read_document
from minions.documents.plain import read_plain
from minions.documents.reading import number_list
from tests import files

SENTENCE = "The annual fee is 3,000 euros. "


def assert_tiles(document: Document) -> None:
    """Pages cover the text without gap or overlap, and the text is valid UTF-8."""
    ends = [page.end for page in document.pages]
    assert [page.start for page in document.pages] == [0, *ends[:-1]]
    assert ends[-1] == len(document.text)
    assert [page.number for page in document.pages] == list(range(1, len(ends) + 1))
    assert "\x00" not in document.text
    document.text.encode("utf-8")


def page_texts(document: Document) -> list[str]:
    return [document.text[page.start : page.end] for page in document.pages]


async def test_pdf_has_pages_offsets_and_hash() -> None:
    data = files.pdf(["First page. " + SENTENCE, "Second page.", "Third page."])
    document = await read_document(data, "contracts/2024/fees.pdf")
    assert_tiles(document)
    assert page_texts(document)[1:] == ["Second page.\n", "Third page.\n"]
    assert document.page_at(document.text.index("Third")) == 3
    assert document.name == "fees.pdf"
    assert document.media_type == "application/pdf"
    assert document.n_bytes == len(data)
    assert document.sha256 == hashlib.sha256(data).hexdigest()
    assert document.document_id == f"doc_{document.sha256[:24]}"
    assert document.warnings == ()


async def test_same_bytes_are_the_same_document_under_any_name() -> None:
    data = files.pdf(["Some text."])
    one, other = [await read_document(data, name) for name in ("a.pdf", "b.pdf")]
    assert (one.document_id, one.text) == (other.document_id, other.text)
    different = await read_document(data + b"\n", "a.pdf")
    assert different.document_id != one.document_id


async def test_pdf_page_without_text_is_a_warning_when_others_have_text() -> None:
    document = await read_document(files.pdf(["One.", "", "Three.", "", ""]), "r.pdf")
    assert page_texts(document) == ["One.\n", "", "Three.\n", "", ""]
    assert document.warnings == (
        "r.pdf: pages 2, 4-5 have no text layer (blank, or scanned): nothing there was read.",
    )
    assert_tiles(document)


async def test_pdf_named_txt_is_read_with_a_warning() -> None:
    document = await read_document(files.pdf(["Some text."]), "notes.txt")
    assert document.text == "Some text.\n"
    assert document.warnings == ("notes.txt is named .txt but holds a PDF; it was read as a PDF.",)


async def test_text_named_pdf_is_read_with_a_warning() -> None:
    document = await read_document(b"Just text.", "notes.pdf")
    assert document.media_type == "text/plain"
    assert document.warnings == (
        "notes.pdf is named .pdf but holds plain text; it was read as plain text.",
    )


async def test_cut_pdf_that_still_opens_says_that_it_was_cut() -> None:
    data = files.pdf(["One.", "Two."])
    document = await read_document(data[: data.rindex(b"startxref")], "cut.pdf")
    assert page_texts(document) == ["One.\n", "Two.\n"]
    assert document.warnings == (
        "cut.pdf was cut short (its end is missing): parts of it may be lost.",
    )


async def test_docx_keeps_order_headings_table_rows_and_pages() -> None:
    document = await read_document(files.word_document(), "agreement.docx")
    assert_tiles(document)
    first, second = page_texts(document)
    assert first.splitlines() == [
        "This agreement is made on 1 May 2024.",
        "",
        "1. Term",
        "The term is five years.",
        "Year | 2023 | 2022",
        "Sales |  | 9",
        "Before the break",
    ]
    assert second == "\nSigned in Vienna.\n"


async def test_docx_reads_inserted_and_controlled_text_and_not_deleted_text() -> None:
    body = (
        "<w:p><w:pPr><w:tabs><w:tab w:val='left' w:pos='720'/></w:tabs></w:pPr>"
        "<w:r><w:t>kept</w:t><w:tab/></w:r>"
        "<w:ins><w:r><w:t>inserted</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>moved away</w:t></w:r></w:moveFrom></w:p>"
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>controlled</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    )
    document = await read_document(files.word_document_of(body), "a.docx")
    assert document.text == "kept\tinserted\ncontrolled\n"


async def test_docx_follows_the_pages_of_words_last_layout() -> None:
    def run(text: str) -> str:
        return f"<w:r><w:lastRenderedPageBreak/><w:t>{text}</w:t></w:r>"

    cells = "".join(f"<w:tc><w:p>{run(text)}</w:p></w:tc>" for text in ("a", "b"))
    body = (
        "<w:p><w:r><w:t>one </w:t><w:br w:type='page'/></w:r></w:p>"
        f"<w:p>{run('two')}</w:p><w:tbl><w:tr>{cells}</w:tr></w:tbl>"
        "<w:p><w:r><w:t>three</w:t></w:r></w:p>"
    )
    document = await read_document(files.word_document_of(body), "a.docx")
    assert page_texts(document) == ["one \n", "two\na | b\n", "three\n"]


async def test_docx_footnotes_follow_the_body() -> None:
    data = files.word_document_with_footnote("Sales rose.", "Restated.")
    assert (await read_document(data, "a.docx")).text == "Sales rose.\nRestated.\n"


async def test_html_shows_what_a_browser_shows() -> None:
    html = b"""<!DOCTYPE html><html><head><title>no</title><style>p {}</style></head><body>
    <script>var no = 1</script><p>H<sub>2</sub>O &amp; more
    text</p><h2>Fees</h2><div style="display:none">no</div>
    <table><tr><th>Year</th><th></th><th>2023</th></tr><tr><td><p>Sales</p><p>net</p></td>
    <td>$</td><td>9<br>8</td></tr></table>last<br>line<pre>x\n  y</pre></body></html>"""
    document = await read_document(html, "page.html")
    assert_tiles(document)
    assert document.text.split("\n") == [
        "H2O & more text",
        "",
        "Fees",
        "Year | 2023",
        "Sales net | $ | 9 8",
        "last",
        "line",
        "x",
        "  y",
        "",
    ]


async def test_html_table_for_layout_keeps_its_lines() -> None:
    inner = b"<table><tr><td>b</td></tr></table>"
    html = b"<html><table><tr><td><p>a</p>" + inner + b"</td></tr></table></html>"
    assert (await read_document(html, "x.htm")).text == "a\nb\n"


async def test_html_in_its_declared_encoding() -> None:
    html = '<html><head><meta charset="windows-1251"></head><body>Договор</body></html>'
    document = await read_document(html.encode("cp1251"), "x.html")
    assert (document.text, document.warnings) == ("Договор\n", ())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
async def test_text_in_every_unicode_encoding(encoding: str) -> None:
    text = "Gebühr: 3 000 €\r\n“Term” – 五年 🦉\n"
    document = await read_document(text.encode(encoding), "a.txt")
    assert document.text == text
    assert (document.media_type, document.warnings) == ("text/plain", ())


async def test_utf16_without_mark_is_guessed() -> None:
    document = await read_document(("The fee is due. " * 20).encode("utf-16-le"), "a.txt")
    assert document.text.startswith("The fee is due.")
    assert document.warnings == ("a.txt is not UTF-8; it was read as utf_16_le, which is a guess.",)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Café résumé naïve", "latin-1"),
        ("Le présent contrat est conclu pour une durée de cinq années.", "cp1252"),
        ("Umowa została zawarta na okres pięciu lat. Zmiany wymagają formy pisemnej.", "cp1250"),
        ("Договор заключён сроком на пять лет.", "cp1251"),
    ],
)
async def test_old_encodings_are_guessed_with_a_warning(text: str, encoding: str) -> None:
    document = await read_document(text.encode(encoding), "a.txt")
    assert document.text == text
    assert "is not UTF-8; it was read as cp125" in document.warnings[0]


async def test_form_feeds_are_page_borders() -> None:
    document = await read_document(b"one\fNUL:\x00" + b"two " * 50 + b"\f", "a.txt")
    assert page_texts(document) == ["one\f", "NUL:" + "two " * 50 + "\f"]


async def test_markdown_is_text_and_only_its_name_tells() -> None:
    data = b"# Title\n\n<div>html inside</div>\n"
    markdown, text = [await read_document(data, name) for name in ("a.md", "a")]
    assert markdown.text == text.text == data.decode()
    assert (markdown.media_type, text.media_type) == ("text/markdown", "text/plain")


@pytest.mark.parametrize("text", ["GGUF is a format.", "RIFF", "ID3 tags", "See %PDF-1.7 for it."])
async def test_text_that_begins_like_a_binary_is_text(text: str) -> None:
    assert (await read_document(text.encode(), "a.txt")).text == text


@settings(max_examples=50, deadline=None, derandomize=True)
@given(text=st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=200))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    data = b"\xef\xbb\xbf" + text.encode("utf-8")
    extract = read_plain(data, "a.txt", ReadLimits())
    assert "".join(extract.pages) == text


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("a/b.pdf", "b.pdf"),
        ("C:\\files\\b.pdf", "b.pdf"),
        ("..", ".."),
        ("evil\x1b[2J\udc80.txt", "evil[2J.txt"),
        ("folder/", "folder"),
        ("", "document"),
    ],
)
def test_names_lose_folders_and_control_characters(given_name: str, name: str) -> None:
    assert file_name(given_name) == name


def test_numbers_are_listed_in_runs() -> None:
    assert number_list([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
