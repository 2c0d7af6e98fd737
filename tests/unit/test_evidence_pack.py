"""Quotes for the cloud: the best ones, whole sentences, within the budget, nothing twice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.documents.model import Document, Page
from minions.evidence import pack_quotes, sentence_around, widen
from minions.evidence.model import AnswerGroup, Citation, Claim, Evidence
from minions.evidence.verify import cite

TEXT = (
    "The fee is $5 per unit. The term of this Agreement, which Acme Inc. signed, is two years! "
    "Governing law: New York.\n\nSchedule A\n\nThe fee is $6 per unit in No. 7. End of text"
)


def _document(text: str) -> Document:
    return Document(
        document_id="doc_1",
        sha256="",
        name="contract.txt",
        media_type="text/plain",
        n_bytes=len(text),
        text=text,
        pages=(Page(number=1, start=0, end=len(text)),),
    )


DOCUMENT = _document(TEXT)


def citation_of(quote: str) -> Citation:
    start = TEXT.index(quote)
    return cite(DOCUMENT, start, start + len(quote))


def evidence_of(*groups: list[str]) -> Evidence:
    return Evidence(
        groups=tuple(
            AnswerGroup(
                answer=quotes[0],
                claims=tuple(
                    Claim(
                        job_id=quote,
                        chunk_id="c",
                        answer=quote,
                        citation=citation_of(quote),
                        answer_in_quote=True,
                        margin=None,
                        logprob=None,
                    )
                    for quote in quotes
                ),
                score=1.0,
            )
            for quotes in groups
        ),
        n_answered=sum(map(len, groups)),
        n_abstained=0,
        n_failed=0,
        n_unverified=0,
    )


def packed(evidence: Evidence, budget: int, *, in_sentences: bool = False) -> list[str]:
    documents = {"doc_1": DOCUMENT} if in_sentences else None
    return [c.quote for c in pack_quotes(evidence, budget, len, documents)]


def test_groups_take_turns() -> None:
    evidence = evidence_of(["The fee is $5", "two years"], ["New York"])
    assert packed(evidence, 1000) == ["The fee is $5", "New York", "two years"]


def test_what_does_not_fit_is_left_out_and_smaller_ones_still_go() -> None:
    evidence = evidence_of(["The term of this Agreement", "two years"], ["New York"])
    assert packed(evidence, 20) == ["New York", "two years"]
    assert packed(evidence, 0) == []


def test_nothing_is_sent_twice() -> None:
    evidence = evidence_of(["fee is $5 per unit", "is $5 per"], ["fee is $5 per unit."])
    assert packed(evidence, 1000) == ["fee is $5 per unit"]


def test_quotes_go_in_their_sentence_where_it_fits() -> None:
    evidence = evidence_of(["two years"], ["New York"])
    sentences = [
        "The term of this Agreement, which Acme Inc. signed, is two years!",
        "Governing law: New York.",
    ]
    assert packed(evidence, 1000, in_sentences=True) == sentences
    assert packed(evidence, 40, in_sentences=True) == ["two years", "Governing law: New York."]


@pytest.mark.parametrize(
    ("quote", "sentence"),
    [
        ("fee is $5", "The fee is $5 per unit."),
        ("two years!", "The term of this Agreement, which Acme Inc. signed, is two years!"),
        ("$6 per unit", "The fee is $6 per unit in No. 7."),
        ("Schedule", "Schedule A"),
        ("End of", "End of text"),
        ("unit. The term", TEXT[: TEXT.index(" Governing")]),
    ],
)
def test_the_sentence_around(quote: str, sentence: str) -> None:
    citation = citation_of(quote)
    assert widen(citation, DOCUMENT).quote == sentence
    assert widen(widen(citation, DOCUMENT), DOCUMENT).quote == sentence


def test_a_long_sentence_is_cut_between_words() -> None:
    text = "many words " * 100 + "the quote " + "other words " * 100
    start = text.index("the quote")
    span = sentence_around(text, start, start + 9, max_chars=60)
    assert span.end - span.start <= 60
    assert text[span.start : span.end] == "many words many words the quote other words other words"


@settings(max_examples=150, deadline=None)
@given(
    st.text(alphabet=st.sampled_from('abc .!\n"”)Nno'), max_size=300), st.data(), st.integers(0, 80)
)
def test_the_sentence_holds_the_quote_and_keeps_its_limit(
    text: str, data: st.DataObject, max_chars: int
) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    span = sentence_around(text, start, end, max_chars)
    assert 0 <= span.start <= start <= end <= span.end <= len(text)
    assert span.end - span.start <= max(max_chars, end - start)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(
                ["fee is $5", "$6 per", "two years", "New York", "Schedule A", "The fee is"]
            ),
            min_size=1,
            max_size=4,
        ),
        max_size=4,
    ),
    st.integers(0, 200),
    st.booleans(),
)
def test_the_budget_holds_and_spans_are_apart(
    groups: list[list[str]], budget: int, in_sentences: bool
) -> None:
    documents = {"doc_1": DOCUMENT} if in_sentences else None
    citations = pack_quotes(evidence_of(*groups), budget, len, documents)
    assert sum(len(citation.quote) for citation in citations) <= budget
    assert all(TEXT[c.start : c.end] == c.quote for c in citations)
    spans = sorted((citation.start, citation.end) for citation in citations)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
