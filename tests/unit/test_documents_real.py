"""Ingest and chunking on real filings and contracts, where the shared data is present."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from minions.chunking import chunk_document
from minions.documents import Document, read_document
from tests.unit.test_chunking import ByteTokenizer, WordTokenizer, assert_laws
from tests.unit.test_documents import assert_tiles

DATA = Path(os.environ.get("MINIONS_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILINGS = DATA / "financebench" / "pdfs"
CONTRACTS = DATA / "cuad" / "contracts.jsonl.gz"
MAX_TOKENS = 1_000


def require(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"no {path.name} under {path.parent}: set MINIONS_DATA to the data's folder")
    return path


def assert_chunks_are_full(document: Document) -> None:
    chunks = chunk_document(document, WordTokenizer(), MAX_TOKENS)
    assert_laws(document, chunks, WordTokenizer(), MAX_TOKENS)
    fill = sum(chunk.n_tokens for chunk in chunks) / (MAX_TOKENS * len(chunks))
    assert fill >= 0.7


@pytest.mark.parametrize(
    ("name", "n_pages", "phrase"),
    [
        ("ULTABEAUTY_2023Q4_EARNINGS.pdf", 9, "Ulta Beauty"),
        ("AMCOR_2023Q4_EARNINGS.pdf", 14, "Net sales 11,151 11,154 — 1"),
        ("Pfizer_2023Q2_10Q.pdf", 72, "Noncontrolling"),
    ],
)
async def test_filing_is_read_and_chunked(name: str, n_pages: int, phrase: str) -> None:
    document = await read_document(require(FILINGS / name).read_bytes(), name)
    assert len(document.pages) == n_pages
    assert_tiles(document)
    assert phrase in document.text
    assert "\ufffe" not in document.text
    assert_chunks_are_full(document)


async def test_contracts_are_read_as_they_are_and_chunked() -> None:
    with gzip.open(require(CONTRACTS), "rt", encoding="utf-8") as lines:
        contracts = [json.loads(line) for _, line in zip(range(5), lines, strict=False)]
    for contract in contracts:
        document = await read_document(contract["text"].encode(), f"{contract['doc_id']}.txt")
        assert document.text == contract["text"]
        chunks = chunk_document(document, ByteTokenizer(), MAX_TOKENS)
        assert_laws(document, chunks, ByteTokenizer(), MAX_TOKENS)
