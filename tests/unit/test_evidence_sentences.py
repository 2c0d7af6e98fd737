"""Quotes for the cloud: the best ones, whole sentences, within the budget, nothing twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.documents.model import Document, Page
from minions.evidence import sentence_around, widen
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
