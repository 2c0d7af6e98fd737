"""Answers written from hand-made logits, under the real grammar of a real vocabulary."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import numpy as np
import pytest

from tests.models import vocabulary_path
from workers.answer import parse_answer
from workers.errors import EngineCrashed
from workers.jobs import Sampling
from workers.llama.api import LlamaModel, Logits
from workers.llama.generation import Generation, is_looping
from workers.llama.grammar import GBNF, PREFILL, AnswerGrammar
from workers.llama.tokenizer import LlamaTokenizer


class Writer:
    """Feeds a generation with rows in which the wanted token is the best."""

    def __init__(self) -> None:
        self.model = LlamaModel(vocabulary_path(), vocab_only=True)
        self.tokenizer = LlamaTokenizer(self.model)
        self.grammar = AnswerGrammar(self.model, self.tokenizer)

    def start(self, max_output_tokens: int = 256) -> Generation:
        sampling = Sampling(max_output_tokens=max_output_tokens)
        return Generation(sampling=sampling, grammar=self.grammar, bytes_of=self.model.token_bytes)

    def row(self, text: str, logit: float = 10.0) -> Logits:
        """Logits with one token of `text` at `logit` and all others at 0."""
        row = np.zeros(self.model.n_vocab, np.float32)
        (token,) = self.tokenizer.encode_trusted(text)
        row[token] = logit
        return row

    def write(self, text: str, max_output_tokens: int = 256) -> Generation:
        """A generation that is offered the tokens of `text` until it is over."""
        generation = self.start(max_output_tokens)
        tokens = self.tokenizer.encode(text)
        sizes = [len(self.model.token_bytes(token)) for token in tokens]
        begins = dict(zip(itertools.accumulate(sizes, initial=0), tokens, strict=False))
        n_written = 0
        while not generation.is_over and n_written < sum(sizes):
            row = np.zeros(self.model.n_vocab, np.float32)
            row[begins[n_written]] = 10.0
            n_written += sum(len(self.model.token_bytes(t)) for t in generation.take(row))
        generation.close()
        return generation


@pytest.fixture(scope="module")
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.grammar.close()
    writer.model.close()


@pytest.mark.parametrize(
    "text",
    [
        ' "4.5%", "citation": "the rate is 4.5%"}',
        '"a", "citation": null}',
        ' "he said \\"no\\" \\u00e9 é 漢", "citation": "{}"}',
    ],
)
def test_a_whole_answer_is_complete_at_its_last_brace(writer: Writer, text: str) -> None:
    generation = writer.write(text)
    assert generation.is_complete
    assert generation.text == PREFILL + text
    json.loads(generation.text)


def test_null_ends_at_once(writer: Writer) -> None:
    generation = writer.write(' null, "citation": null}')
    assert generation.abstained and generation.is_complete
    assert generation.text == PREFILL + " null"


def test_the_cap_ends_it_incomplete(writer: Writer) -> None:
    generation = writer.write(' "one two three", "citation": null}', max_output_tokens=4)
    assert generation.is_over and not generation.is_complete
    assert generation.n_tokens == 4


def test_what_is_not_json_is_not_written(writer: Writer) -> None:
    generation = writer.start()
    generation.take(writer.row("the"))
    assert generation.text != PREFILL + "the"
    assert generation.text[len(PREFILL) :].lstrip()[:1] in ('"', "n", "")
    generation.close()


@pytest.mark.parametrize("marker", ["<|end|>", "<|start|>", "<|channel|>", "<|return|>"])
def test_control_tokens_are_not_written_inside_strings(writer: Writer, marker: str) -> None:
    generation = writer.start()
    generation.take(writer.row('"'))
    generation.take(writer.row(marker))
    assert marker not in generation.text
    assert generation.n_tokens == 2
    generation.close()


def test_margin_is_the_gap_between_a_string_and_null(writer: Writer) -> None:
    row = writer.row('"', 7.0)
    row[writer.tokenizer.encode_trusted("null")[0]] = 4.0
    row[writer.tokenizer.encode_trusted(" n")[0]] = 2.0
    generation = writer.start()
    generation.take(row)
    assert generation.margin == pytest.approx(3.0)
    generation.close()


def test_margin_waits_for_the_token_after_a_bare_space(writer: Writer) -> None:
    generation = writer.start()
    generation.take(writer.row(" "))
    assert generation.margin is None
    generation.take(writer.row('"', 5.0))
    assert generation.margin == pytest.approx(5.0)
    generation.close()


def test_margin_is_the_least_gap_of_an_answers_first_tokens(writer: Writer) -> None:
    generation = writer.start()
    generation.take(writer.row('"', 9.0))
    generation.take(writer.row("the", 6.0))
    assert generation.margin == pytest.approx(6.0)
    near = writer.row("the", 6.0)
    near[writer.tokenizer.encode_trusted(" the")[0]] = 5.5
    generation.take(near)
    assert generation.margin == pytest.approx(0.5)
    generation.take(writer.row("the", 8.0))
    assert generation.margin == pytest.approx(0.5)
    generation.close()


def test_margin_is_zero_where_the_model_would_rather_have_written_something_else(
    writer: Writer,
) -> None:
    generation = writer.start()
    generation.take(writer.row('"', 9.0))
    generation.take(writer.row("\n", 6.0))
    assert generation.margin == 0.0
    generation.close()


def test_an_abstention_has_the_margin_of_its_first_token(writer: Writer) -> None:
    generation = writer.start()
    for logit, letter in zip((7.0, 0.5, 0.5, 0.5), "null", strict=True):
        generation.take(writer.row(letter, logit))
    assert generation.abstained
    assert generation.margin == pytest.approx(7.0)
    generation.close()


def test_logprob_covers_the_answer_and_not_the_citation(writer: Writer) -> None:
    generation = writer.start()
    for text in ('"', "the", '"'):
        generation.take(writer.row(text, 20.0))
    sure = generation.logprob
    assert sure is not None and sure == pytest.approx(0.0, abs=1e-4)
    generation.take(np.zeros(writer.model.n_vocab, np.float32))
    assert generation.logprob == sure
    generation.close()


def test_a_closed_grammar_says_so(writer: Writer) -> None:
    generation = writer.start()
    generation.close()
    generation.close()
    with pytest.raises(EngineCrashed, match="closed"):
        generation.take(writer.row('"'))


def test_accepting_what_is_not_allowed_raises_instead_of_aborting(writer: Writer) -> None:
    grammar = writer.model.new_grammar('root ::= "a"')
    with pytest.raises(ValueError, match="does not allow"):
        grammar.accept(writer.tokenizer.encode("b")[0])
    with pytest.raises(ValueError, match="does not allow"):
        grammar.accept(-1)
    grammar.close()


def test_bad_gbnf_is_refused(writer: Writer) -> None:
    with pytest.raises(ValueError, match="grammar"):
        writer.model.new_grammar("root ::= (")


def test_an_answer_that_runs_on_is_closed_and_says_so(writer: Writer) -> None:
    """Three quarters of the cap are the answer's; the rest stays for the citation."""
    long = "".join(chr(97 + i % 26) + str(i) for i in range(200))
    generation = writer.write(f' "{long}", "citation": null}}', max_output_tokens=64)
    answer = parse_answer(generation.text, complete=generation.is_complete).answer
    assert generation.was_cut
    assert answer and long.startswith(answer[:10])
    assert generation.n_tokens <= 64


def test_a_loop_is_closed_long_before_the_cap(writer: Writer) -> None:
    generation = writer.start(max_output_tokens=256)
    generation.take(writer.row('"'))
    while not generation.was_cut:
        generation.take(writer.row("7"))
    assert generation.n_tokens < 64
    assert generation.text.endswith('7", "citation":')


def test_a_string_is_never_closed_inside_a_character(writer: Writer) -> None:
    generation = writer.write(' "' + "漢" * 200, max_output_tokens=40)
    assert generation.was_cut
    assert "\ufffd" not in generation.text


def test_ordinary_repetition_is_no_loop() -> None:
    assert not is_looping([1, 2, 3] * 9)
    assert is_looping([1, 2, 3] * 20)
    assert is_looping([5] * 40)
    assert not is_looping(list(range(60)))


@pytest.mark.parametrize(
    "before", ["", " ", '"', ' "a', ' "a"', ' "a",', ' "a", "citation":', ' "a", "citation": "b']
)
def test_what_is_listed_beforehand_is_what_the_grammar_allows(writer: Writer, before: str) -> None:
    state, plain = writer.grammar.start(), writer.model.new_grammar(GBNF)
    for token in writer.tokenizer.encode(before):
        state.accept(token)
        plain.accept(token)
    vocabulary = np.arange(writer.model.n_vocab, dtype=np.int32)
    allowed = vocabulary[plain.allowed(vocabulary)]
    control = writer.tokenizer.control_tokens
    expected = [token for token in allowed.tolist() if token not in control]
    assert state.keep_allowed(vocabulary).tolist() == expected
    state.close()
    plain.close()


@pytest.mark.parametrize("seed", range(12))
def test_passing_over_plain_text_changes_nothing_that_is_allowed(writer: Writer, seed: int) -> None:
    """A walk through answers with escapes, cut characters and quotes, beside llama.cpp's own
    grammar, which is told of every token."""
    draw = np.random.default_rng(seed)
    state, plain = writer.grammar.start(), writer.model.new_grammar(GBNF)
    vocabulary = np.arange(writer.model.n_vocab, dtype=np.int32)
    is_control = np.isin(vocabulary, list(writer.tokenizer.control_tokens))
    marked = np.array([_is_marked(writer.model.token_bytes(int(t))) for t in vocabulary])
    for _ in range(60):
        allowed = vocabulary[plain.allowed(vocabulary) & ~is_control]
        if not len(allowed):
            break
        asked = draw.integers(0, len(vocabulary), 40).tolist()
        assert [state.allows(t) for t in asked] == [t in set(allowed.tolist()) for t in asked]
        assert state.keep_allowed(vocabulary).tolist() == allowed.tolist()
        rare = allowed[marked[allowed]]
        among = rare if len(rare) and draw.random() < 0.4 else allowed
        token = int(draw.choice(among))
        state.accept(token)
        plain.accept(token)
    state.close()
    plain.close()


def _is_marked(text: bytes) -> bool:
    """What a uniform draw would hardly ever hit: quotes, backslashes, pieces of characters."""
    return any(byte in b'"\\' or byte > 127 for byte in text)
