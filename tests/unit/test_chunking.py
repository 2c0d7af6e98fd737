"""Chunking: the laws over any Unicode text and any tokenizer, and where the borders fall."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minions.chunking import chunk_document, chunking_key
from minions.documents import Chunk, Document, Page
from minions.errors import BadRequest
from workers.seams import Tokenizer


class ByteTokenizer:
    """A token per UTF-8 byte: no character is cheaper, an emoji is four."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def count(self, text: str) -> int:
        return len(text.encode("utf-8"))


class WordTokenizer:
    """Words with the space before them, long ones in parts of six, as trained BPE roughly does."""

    pieces = re.compile(r" ?\w{1,6}|\s+|[^\w\s]")

    def encode(self, text: str) -> list[int]:
        return [hash(piece) for piece in self.pieces.findall(text)]

    def count(self, text: str) -> int:
        return len(self.pieces.findall(text))


class CrookedTokenizer:
    """Not additive, either way: long texts cost more than their parts, and some cost less."""

    def encode(self, text: str) -> list[int]:
        return [0] * self.count(text)

    def count(self, text: str) -> int:
        n_chars = len(text)
        return n_chars if n_chars < 4 else n_chars * (3 + n_chars % 7) // 5


class HungryTokenizer:
    """Takes 20 tokens for an owl."""

    def encode(self, text: str) -> list[int]:
        return [0] * self.count(text)

    def count(self, text: str) -> int:
        return sum(20 if character == "🦉" else 1 for character in text)


TOKENIZERS: list[Tokenizer] = [ByteTokenizer(), WordTokenizer(), CrookedTokenizer()]
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.one_of(
    st.text(CHARACTERS, max_size=400),
    st.text("ab .\n", max_size=600),
    st.text(" \t\n\r\f\u2003", max_size=300),
    st.text("e\u0301\u200d🏽👩‍🚀\r\n", max_size=300),
    st.text("五年。「」!", max_size=300),
    st.builds(lambda run, n: run * n, st.text(CHARACTERS, min_size=1, max_size=4), st.just(700)),
    st.lists(
        st.sampled_from(["Sales $ 1,2 3,4\n", "A sentence. ", "ITEM 7. Risks\n", "word ", "\n\n"]),
        max_size=60,
    ).map("".join),
)


def document_of(*pages: str) -> Document:
    text = "".join(pages)
    spans, start = [], 0
    for number, page in enumerate(pages, 1):
        spans.append(Page(number=number, start=start, end=start + len(page)))
        start += len(page)
    return Document(
        document_id="doc_test",
        sha256="0" * 64,
        name="test.txt",
        media_type="text/plain",
        n_bytes=len(text.encode()),
        text=text,
        pages=tuple(spans),
    )


def assert_laws(
    document: Document, chunks: Sequence[Chunk], tokenizer: Tokenizer, max_tokens: int
) -> None:
    assert "".join(chunk.text for chunk in chunks) == document.text
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    position = 0
    for chunk in chunks:
        assert chunk.start == position < chunk.end
        assert document.text[chunk.start : chunk.end] == chunk.text
        assert tokenizer.count(chunk.text) == chunk.n_tokens <= max_tokens
        assert chunk.first_page == document.page_at(chunk.start)
        assert chunk.last_page == document.page_at(chunk.end - 1)
        position = chunk.end
    assert position == len(document.text)
    assert len({chunk.chunk_id for chunk in chunks}) == len(chunks)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    pages=st.lists(TEXTS, min_size=1, max_size=3),
    tokenizer=st.sampled_from(TOKENIZERS),
    max_tokens=st.integers(16, 300),
)
@example(pages=[""], tokenizer=TOKENIZERS[0], max_tokens=16)
@example(pages=["", "a", ""], tokenizer=TOKENIZERS[0], max_tokens=16)
@example(pages=["x" * 5_000], tokenizer=TOKENIZERS[2], max_tokens=16)
@example(pages=["🦉" * 2_000], tokenizer=TOKENIZERS[0], max_tokens=17)
@example(pages=["e" + "\u0301" * 3_000], tokenizer=TOKENIZERS[0], max_tokens=16)
@example(pages=["\n" * 3_000], tokenizer=TOKENIZERS[1], max_tokens=16)
def test_chunks_tile_any_text_within_the_limit(
    pages: list[str], tokenizer: Tokenizer, max_tokens: int
) -> None:
    document = document_of(*pages)
    chunks = chunk_document(document, tokenizer, max_tokens)
    assert_laws(document, chunks, tokenizer, max_tokens)
    assert chunks == chunk_document(document, tokenizer, max_tokens)


def cut(max_tokens: int, *pages: str) -> list[str]:
    document = document_of(*pages)
    return [chunk.text for chunk in chunk_document(document, ByteTokenizer(), max_tokens)]


LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        ("Cd ef ", "gh. "),  # a sentence's end beats a word's
        ("Gh. ", "Ij kl.\n"),  # a line's end beats a sentence's
        ("Gh ij.\n", "Kl 1 22 3\nNo\n"),  # the end of a table beats a line's
        ("Sum 1 2\nNo\n", "op.\n\n"),  # a blank line beats the end of a table
    ],
)
def test_stronger_border_wins_in_the_last_part(weaker: str, stronger: str) -> None:
    start = LETTERS + " " + LETTERS + " " + LETTERS[:12] + ". "
    kept = start + stronger.removesuffix("No\n")
    rest = ("No\n" if stronger.endswith("No\n") else "") + weaker
    text = kept + rest + "Z" + LETTERS * 3
    assert cut(100, text)[0] == kept


def test_page_end_beats_every_border_inside_pages() -> None:
    first = "word " * 15
    second = "Line one.\n\nLine two.\n" + "word " * 20
    assert cut(100, first, second)[0] == first


def test_heading_begins_a_chunk() -> None:
    text = "Risk is high.\n" * 6 + "Item 7A. Market risk\n" + "Rates may rise.\n" * 10
    assert cut(120, text)[1].startswith("Item 7A. Market risk\n")


@pytest.mark.parametrize("max_tokens", range(60, 140, 7))
def test_table_rows_are_not_cut(max_tokens: int) -> None:
    rows = [f"Net sales of Inc. No. {i} in U.S. $ {i},000 $ {i},500\n" for i in range(40)]
    for chunk in cut(max_tokens, "".join(rows)):
        assert chunk.endswith("\n")


def test_abbreviations_do_not_end_sentences() -> None:
    text = "x" * 70 + " filed by Acme Inc. The U.S. Court held. But then it went on and on and on."
    assert cut(120, text)[0].endswith("Court held. ")


def test_letters_keep_their_accents_and_emoji_their_parts() -> None:
    family = "👩\u200d🚀"
    for chunk in cut(24, "e\u0301" * 60 + family * 20):
        assert not chunk.startswith(("\u0301", "\u200d", "🚀"))


def test_last_chunk_is_not_a_scrap() -> None:
    sizes = [len(text) for text in cut(100, "word " * 21)]
    assert sum(sizes) == 105
    assert min(sizes) >= 25


def test_chunk_ids_depend_on_document_and_span_only() -> None:
    document = document_of("A sentence. " * 50)
    by_bytes = chunk_document(document, ByteTokenizer(), 600)
    by_words = chunk_document(document, WordTokenizer(), 10_000)
    assert by_bytes[0].chunk_id == by_words[0].chunk_id
    assert re.fullmatch(r"chk_[0-9a-f]{24}", by_bytes[0].chunk_id)


def test_limit_below_sixteen_is_refused() -> None:
    with pytest.raises(BadRequest) as caught:
        chunk_document(document_of("text"), ByteTokenizer(), 15)
    assert str(caught.value) == (
        "chunks of 15 tokens are too small: at least 16 are needed. "
        "Use a model or server with a longer context, or a shorter question."
    )


def test_character_over_the_limit_is_named() -> None:
    with pytest.raises(BadRequest) as caught:
        chunk_document(document_of("an owl: 🦉!"), HungryTokenizer(), 16)
    assert str(caught.value) == (
        "the character U+1F989 at offset 8 of test.txt is 20 tokens, and a chunk may have 16. "
        "Use a model or server with a longer context."
    )


def test_key_tells_tokenizers_and_limits_apart() -> None:
    keys = {chunking_key(name, limit) for name in ("a", "b") for limit in (16, 32)}
    assert len(keys) == 4
    assert chunking_key("a", 16) == chunking_key("a", 16)
    assert all(re.fullmatch(r"[0-9a-f]{16}", key) for key in keys)


@pytest.mark.parametrize("unit", ["A sentence of seven words is here. ", "x", " ", "Row 1 2\n"])
def test_a_megabyte_takes_seconds(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    started = time.perf_counter()
    chunks = chunk_document(document_of(text), WordTokenizer(), 1_000)
    assert time.perf_counter() - started < 20  # 1-2 s on a quiet machine
    assert sum(chunk.n_tokens for chunk in chunks[:-1]) >= 0.7 * 1_000 * (len(chunks) - 1)
