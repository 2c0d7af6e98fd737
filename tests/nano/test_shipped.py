"""The file that ships: what the card says, and that it reads through llama.cpp."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from workers.nano.reader import LlamaTokenizer, NanoReader, closing_quote, unescaped

FOLDER = Path(__file__).parents[2] / "workers" / "nano"
GGUF = FOLDER / "nano.gguf"
CONTRACT = (
    "This Services Agreement is made as of March 3, 2011 between Hydron Inc. and Zeta LLC. "
    "The fee is payable within thirty days. This Agreement shall be governed by and construed in "
    "accordance with the laws of the State of Texas, without regard to conflict of laws."
)


@pytest.fixture(scope="module")
def reader() -> NanoReader:
    return NanoReader(GGUF)


def test_the_card_names_this_very_file() -> None:
    digest = hashlib.sha256(GGUF.read_bytes()).hexdigest()
    card = json.loads((FOLDER / "nano.json").read_text(encoding="utf-8"))
    assert card["sha256"] == digest
    assert digest in (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_it_is_small() -> None:
    assert GGUF.stat().st_size <= 25_000_000


def test_it_reads_a_contract(reader: NanoReader) -> None:
    questions = ["Which state's law governs this agreement?", "Is there a source code escrow?"]
    governed, escrow = reader.read(CONTRACT, questions)
    assert governed.value is not None and "Texas" in governed.value
    assert governed.margin > escrow.margin


def test_what_it_says_is_a_piece_of_the_chunk(reader: NanoReader) -> None:
    """The file says of itself that it extracts: readers hold it to the text."""
    asked = ["Who are the parties?", "When is the fee payable?", "Which law governs?", "Fee?"]
    said = [r for r in reader.read(CONTRACT, asked) if r.value is not None]
    assert said
    for reading in said:
        assert reading.value and reading.value in CONTRACT
        assert reading.quote is not None and reading.quote in CONTRACT


def test_reading_twice_says_the_same(reader: NanoReader) -> None:
    asked = ["When was the agreement made?"]
    assert reader.read(CONTRACT, asked) == reader.read(CONTRACT, asked)


def test_llama_and_trainer_split_text_alike(reader: NanoReader) -> None:
    pytest.importorskip("tokenizers", reason="needs the `train` extra")
    from workers.nano.tokenizer import NanoTokenizer

    ours = NanoTokenizer.load()
    assert isinstance(reader.tokenizer, LlamaTokenizer)
    for text in (
        CONTRACT,
        ' "a \\"b\\"", "citation": null}',
        "“x”   – § 4.2\n\n\n____ don't 12,345.6",
    ):
        assert reader.tokenizer.encode(text) == ours.encode(text)


def test_strings_end_at_an_unescaped_quote() -> None:
    assert closing_quote('the \\"Buyer\\" is", "') == 16
    assert closing_quote("open") == -1
    assert unescaped('the \\"Buyer\\" is') == 'the "Buyer" is'
