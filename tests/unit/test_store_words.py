"""Words of texts and queries, the index of the database, and BM25."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from minions.documents.model import Chunk, Document, Page
from minions.store import open_store
from minions.store.bm25 import bm25_scores
from minions.store.words import MAX_QUERY_WORDS, query_words, searchable, words


def test_numbers_keep_their_separators_and_words_lose_theirs() -> None:
    assert words("Sales: $1,577.00 (2018-10-K).") == ["sales", "1,577.00", "2018", "10", "k"]
    assert words("the company's snake_case") == ["the", "company", "s", "snake", "case"]


def test_ligatures_soft_hyphens_and_wide_digits_are_plain() -> None:
    assert words("\ufb01nan\u00adcial ２０１８") == ["financial", "2018"]


def test_stop_words_go_unless_alone() -> None:
    assert query_words("What was the revenue of the Revenue?") == ["revenue"]
    assert query_words("to be or not to be") == ["to", "be", "or", "not"]
    assert query_words("?!") == []


def test_a_query_has_at_most_so_many_words() -> None:
    assert len(query_words(" ".join(f"w{n}" for n in range(1000)))) == MAX_QUERY_WORDS


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=())))
def test_searchable_text_fits_any_database(text: str) -> None:
    plain = searchable(text)
    assert "\0" not in plain
    assert plain.encode().decode() == plain
    assert not set("".join(query_words(text))) & set("\"'*():^ \0")


def test_bm25_prefers_rare_words_and_short_texts() -> None:
    texts = {
        "short": ["rare", "common"],
        "long": ["rare", "common"] + ["filler"] * 4,
        "plain": ["common"],
        "other": ["filler"],
    }
    scores = bm25_scores(texts, ["rare", "common"])
    assert sorted(scores, key=lambda key: -scores[key]) == ["short", "long", "plain"]
    assert bm25_scores({}, ["rare"]) == {}
    assert bm25_scores({"empty": []}, ["rare"]) == {}


def _pieces(document: Document, size: int) -> list[Chunk]:
    return [
        Chunk(
            chunk_id=f"{size}/{start}",
            document_id=document.document_id,
            index=start // size,
            start=start,
            end=min(start + size, len(document.text)),
            text=document.text[start : start + size],
            first_page=1,
            last_page=1,
            n_tokens=size,
        )
        for start in range(0, len(document.text), size)
    ]


async def test_the_index_knows_stems_and_stays_true_to_the_chunks(tmp_path: Path) -> None:
    text = "The tenant terminated both leases early; rents were paid. " * 20
    document = Document(
        document_id="doc_1",
        sha256="0",
        name="n",
        media_type="text/plain",
        n_bytes=len(text),
        text=text,
        pages=(Page(number=1, start=0, end=len(text)),),
    )
    store = await open_store(tmp_path / "store.db")
    await store.put_document(document)
    for size in (200, 300, 200, 100, 300):
        await store.put_chunks("doc_1", "even" if size % 200 else "odd", _pieces(document, size))
    assert len(await store.search(["doc_1"], "odd", "a tenant terminating a lease", 5)) == 5
    _check_index(tmp_path / "store.db", n_terms_at_least=5)
    await store.delete_document("doc_1")
    _check_index(tmp_path / "store.db", n_terms_at_least=0)
    await store.close()


def _check_index(path: Path, n_terms_at_least: int) -> None:
    """SQLite compares the index with the chunks it was made of, and raises if they differ."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO chunk_index(chunk_index, rank) VALUES('integrity-check',1)")
        connection.execute(
            "CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, chunk_index, row)"
        )
        (n_terms,) = connection.execute("SELECT count(*) FROM temp.terms").fetchone()
    connection.close()
    assert n_terms >= n_terms_at_least
    assert (n_terms == 0) == (n_terms_at_least == 0)
