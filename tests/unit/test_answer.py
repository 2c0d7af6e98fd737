"""What can be read from a worker's reply, and what must be refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.answer import ParsedAnswer, parse_answer


def answered(answer: str, citation: str | None = None) -> ParsedAnswer:
    return ParsedAnswer(answer=answer, citation=citation, abstained=False)


ABSTAINED = ParsedAnswer(answer=None, citation=None, abstained=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"answer": "4.5%", "citation": "rate is 4.5%"}', answered("4.5%", "rate is 4.5%")),
        ('{"answer":"a","citation":null}', answered("a")),
        ('{"answer": "a"}', answered("a")),
        ('  \n{ "answer" :  "a" ,"citation" : "b" }  ', answered("a", "b")),
        ('```json\n{"answer": "a", "citation": "b"}\n```', answered("a", "b")),
        ('Sure! {"answer": "a", "citation": "b"} Hope it helps.', answered("a", "b")),
        ("{'answer': 'it is', 'citation': None}", answered("it is")),
        ('{"answer": "a", "citation": "b",}', answered("a", "b")),
        ('{"answer": 4.50, "citation": null}', answered("4.50")),
        ('{"answer": true}', answered("true")),
        ('{"answer": ["a", "b"], "citation": ["x"]}', answered("a; b", "x")),
        ('{"answer": "a", "citation": "  "}', answered("a")),
        ('{"answer": null, "citation": null}', ABSTAINED),
        ('{"answer": null, "citation": "unrelated"}', ABSTAINED),
        ('{"answer": None, "citation": None}', ABSTAINED),
        ('{"answer": "null"}', ABSTAINED),
        ('{"answer": ""}', ABSTAINED),
        ('{"answer": []}', ABSTAINED),
        ('{"answer": "None of the parties"}', answered("None of the parties")),
    ],
)
def test_complete_replies(text: str, expected: ParsedAnswer) -> None:
    assert parse_answer(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"answer": "a", "citation": "the rate is', answered("a", "the rate is")),
        ('{"answer": "a", "citation": "he said \\"', answered("a", 'he said "')),
        ('{"answer": "a", "citation": "caf\\u00', answered("a", "caf")),
        ('{"answer": "a", "cit', answered("a")),
        ('{"answer": "a"', answered("a")),
        ('{"answer": null', ABSTAINED),
    ],
)
def test_replies_cut_after_the_answer(text: str, expected: ParsedAnswer) -> None:
    assert parse_answer(text, complete=False) == expected


@pytest.mark.parametrize(
    "text", ['{"answer": "half an', '{"answer": 45', '{"answer":', '{"ans', ""]
)
def test_replies_cut_inside_the_answer_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cap fell inside the answer"):
        parse_answer(text, complete=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON object"),
        ("I cannot help with that.", "no JSON object"),
        ('{"citation": "b"}', 'no "answer" key'),
        ('{"answer": {"value": 1}}', "got an object"),
    ],
)
def test_unusable_replies_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_answer(text)


WORDS = st.text(min_size=1).filter(lambda text: text.strip().lower() not in ("", "null"))


@given(answer=WORDS, citation=WORDS, ascii_only=st.booleans())
def test_every_string_survives(answer: str, citation: str, ascii_only: bool) -> None:
    text = json.dumps({"answer": answer, "citation": citation}, ensure_ascii=ascii_only)
    assert parse_answer(text) == answered(answer, citation)
    assert parse_answer(text, complete=False) == answered(answer, citation)


@given(answer=WORDS, citation=WORDS, data=st.data())
def test_a_cut_reply_never_gives_half_an_answer(
    answer: str, citation: str, data: st.DataObject
) -> None:
    text = json.dumps({"answer": answer, "citation": citation})
    cut = data.draw(st.integers(0, len(text)))
    try:
        parsed = parse_answer(text[:cut], complete=False)
    except ValueError:
        return
    assert parsed.answer == answer


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parsed = parse_answer(text)
    except ValueError:
        return
    assert parsed.abstained == (parsed.answer is None)


def test_a_lone_surrogate_is_replaced() -> None:
    parsed = parse_answer('{"answer": "a\\ud83d"}')
    assert parsed.answer == "a\ufffd"
