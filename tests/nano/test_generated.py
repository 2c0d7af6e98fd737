"""The generator: questions and answers agree with the text, seeds repeat, splits stay apart."""

from __future__ import annotations

import json
import zlib

import pytest

from workers.nano.examples import answer_text
from workers.nano.generated import DocumentWriter, generated_example, load_genres


@pytest.mark.parametrize("split", ["train", "test", "hard"])
def test_values_and_quotes_stand_in_the_text(split: str) -> None:
    for seed in range(120):
        example = generated_example(seed, split, 30 + seed)
        for asked in example.asked:
            value, quote = example.value(asked), example.quote(asked)
            if not asked.answerable:
                assert (value, quote) == (None, None)
                continue
            assert value and quote
            assert value in " ".join(example.text.split())
            assert quote in " ".join(example.text.split())


@pytest.mark.parametrize("split", ["train", "standard", "hard"])
def test_facts_know_where_they_stand(split: str) -> None:
    for seed in range(60):
        example = generated_example(seed, split, 30 + seed, words=("lantern", "orchard", "ferry"))
        for fact in example.facts:
            assert example.text[slice(*fact.entity)] == fact.key[0]
            assert fact.piece[0] <= fact.value[0] < fact.value[1] <= fact.piece[1]
            assert fact.value[1] <= fact.entity[0] or fact.value[0] >= fact.entity[1]
        for asked in example.asked:
            assert asked.about is not None
            key, named = asked.about
            assert asked.question[slice(*named)] == key[0]
            assert asked.answerable == (key in {fact.key for fact in example.facts})


def test_the_same_seed_writes_the_same_document() -> None:
    assert generated_example(7, "train", 90) == generated_example(7, "train", 90)
    assert generated_example(7, "train", 90) != generated_example(8, "train", 90)


def test_plain_documents_are_about_trained_names() -> None:
    for seed in range(60):
        names = {f.key[0] for f in generated_example(seed, "plain", 60).facts}
        assert len(names) <= 2
        assert all(zlib.crc32(name.encode()) % 10 for name in names)


def test_every_stated_fact_is_asked_before_one_is_asked_again() -> None:
    example = generated_example(4, "plain", 40, n_questions=30, again=True)
    keys = [a.about[0] for a in example.asked if a.answerable and a.about]
    n_facts = len(example.facts)
    assert len(keys) > n_facts
    assert set(keys[:n_facts]) == {fact.key for fact in example.facts}


def test_about_two_in_five_questions_have_no_answer() -> None:
    asked = [a for seed in range(200) for a in generated_example(seed, "train", 120).asked]
    absent = sum(not a.answerable for a in asked) / len(asked)
    assert 0.33 < absent < 0.5


def test_held_out_genres_are_never_trained_on() -> None:
    held_out = {g.name for g in load_genres() if g.held_out}
    assert len(held_out) >= 3
    for split in ("train", "plain"):
        assert not {DocumentWriter(seed, split).genre.name for seed in range(300)} & held_out
    for split in ("standard", "hard"):
        assert {DocumentWriter(seed, split).genre.name for seed in range(60)} == held_out


def test_an_absent_fact_is_not_stated() -> None:
    for seed in range(60):
        writer = DocumentWriter(seed, "train")
        _, placed = writer.layout(100)
        stated = [f for unit, _ in placed for f in unit.facts]
        missed = writer.near_miss(stated) if stated else None
        if missed is not None:
            assert missed.key not in {f.key for f in stated}


def test_the_answer_is_json_after_the_forced_start() -> None:
    said = '{"answer":' + answer_text('the "Buyer"', 'between the "Buyer" and – others')
    assert json.loads(said) == {
        "answer": 'the "Buyer"',
        "citation": 'between the "Buyer" and – others',
    }
    assert json.loads('{"answer":' + answer_text(None, None)) == {"answer": None, "citation": None}
