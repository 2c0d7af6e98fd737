"""Answers of a model that extracts, from hand-made logits: grammar and excerpt together."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import numpy as np
import pytest

from tests.models import vocabulary_path
from workers.jobs import Sampling
from workers.llama.api import LlamaModel
from workers.llama.extracting import ExtractingState, Extraction, TokenTexts
from workers.llama.generation import Generation
from workers.llama.grammar import AnswerGrammar
from workers.llama.tokenizer import LlamaTokenizer
from workers.verbatim import Verbatim

EXCERPT = "Neither Party shall assign this Agreement. Neither Party shall bear any costs."


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaModel]:
    model = LlamaModel(vocabulary_path(), vocab_only=True)
    yield model
    model.close()


def answered(model: LlamaModel, excerpt: str, wished: str) -> str:
    """The JSON when the model wishes for the tokens of `wished`, one after the other.

    Where a wish is refused, and after the last one, tokens rank by number: the lowest is best."""
    tokenizer = LlamaTokenizer(model)
    grammar = AnswerGrammar(model, tokenizer)
    generation = Generation(
        sampling=Sampling(max_output_tokens=64),
        grammar=grammar,
        bytes_of=model.token_bytes,
        extraction=Extraction(
            source=Verbatim(excerpt), texts=TokenTexts(model.token_bytes, model.n_vocab)
        ),
    )
    wishes = tokenizer.encode(wished)
    while not generation.is_over:
        row = -np.arange(model.n_vocab, dtype=np.float32)
        if generation.n_tokens < len(wishes):
            row[wishes[generation.n_tokens]] = 10.0
        generation.take(row)
    generation.close()
    grammar.close()
    return generation.text


def test_pieces_of_the_excerpt_are_written_as_wished(model: LlamaModel) -> None:
    wished = ' "assign", "citation": "Neither Party shall assign"}'
    assert json.loads(answered(model, EXCERPT, wished)) == {
        "answer": "assign",
        "citation": "Neither Party shall assign",
    }


def test_what_the_excerpt_does_not_say_is_not_written(model: LlamaModel) -> None:
    wished = ' "Neither Party shall sell", "citation": "Both Parties"}'
    said = json.loads(answered(model, EXCERPT, wished))
    assert said["answer"].startswith("Neither Party shall ")
    assert said["answer"] in EXCERPT
    assert said["citation"] in EXCERPT and said["citation"]


def test_a_citation_from_elsewhere_is_not_written(model: LlamaModel) -> None:
    elsewhere = "Nothing more is said about it here. " * 8
    wished = ' "bear any costs", "citation": "Neither Party shall assign this"}'
    said = json.loads(answered(model, f"{EXCERPT[:43]}{elsewhere}{EXCERPT[43:]}", wished))
    assert said["answer"] == "bear any costs"
    assert "bear" in said["citation"] or "costs" in said["citation"]


def test_null_is_still_possible(model: LlamaModel) -> None:
    assert answered(model, EXCERPT, " null").startswith('{"answer": null')


def test_a_blank_excerpt_binds_nothing(model: LlamaModel) -> None:
    said = json.loads(answered(model, " \n", ' "free", "citation": "words"}'))
    assert said == {"answer": "free", "citation": "words"}


HOSTILE = (
    EXCERPT,
    'The "Fee" is 5\\10 of C:\\"dir", payable in München — «30» days. München again.',
    '"" \\" a\\\\ "a" aa aaa a_a',
)


@pytest.mark.parametrize("excerpt", HOSTILE)
@pytest.mark.parametrize("seed", range(3))
def test_all_that_may_follow_is_found_without_asking_about_each(
    model: LlamaModel, excerpt: str, seed: int
) -> None:
    source = random.Random(seed)
    tokenizer = LlamaTokenizer(model)
    grammar = AnswerGrammar(model, tokenizer)
    texts = TokenTexts(model.token_bytes, model.n_vocab)
    state = ExtractingState(grammar.start(), Extraction(source=Verbatim(excerpt), texts=texts))
    vocabulary = np.arange(model.n_vocab, dtype=np.int32)
    state.accept(grammar.quote)
    for _ in range(25):
        allowed = [token for token in vocabulary.tolist() if state.allows(token)]
        assert state.keep_allowed(vocabulary).tolist() == allowed
        some = np.array(source.sample(range(model.n_vocab), 64), np.int32)
        assert state.keep_allowed(some).tolist() == [t for t in some.tolist() if t in allowed]
        if not allowed:
            break
        state.accept(source.choice(allowed))
    state.close()
    grammar.close()
