"""A quote is found where it stands, whatever its form, and never where it does not."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minions.documents.model import Chunk, Document, Page
from minions.evidence.verify import (
    MAX_SKIPPED_CHARS,
    Span,
    find_all_quotes,
    find_quote,
    is_verifiable,
    make_citation,
    quoted_blocks,
)

CONTRACT = (
    "4.2 Term. This Agreement shall remain in force for a period of three (3) years after the "
    "Effective Date, unless terminated earlier. Neither Party shall be liable for indirect "
    "damages. The Licensee, John Smith, shall not assign this Agreement without the prior "
    "written consent of the Licensor. Fees of $1,577 million are due on March 5, 2021; a discount "
    "of 2.5% applies. The parties are unlikely to renew the long-term agree-\nment."
)

PROPERTY = settings(max_examples=150, deadline=None)


def found(quote: str, text: str = CONTRACT) -> str | None:
    span = find_quote(quote, text)
    return None if span is None else text[span.start : span.end]


@pytest.mark.parametrize(
    ("quote", "stands_as"),
    [
        ("Neither Party shall be liable", "Neither Party shall be liable"),
        ("Neither  Party\nshall\u00a0be li\u200bable", "Neither Party shall be liable"),
        ("neither party SHALL be liable", "Neither Party shall be liable"),
        ("“Neither Party shall be liable.”", "Neither Party shall be liable"),
        ("“indirect damages,”", "indirect damages"),
        ("the long‑term agreement", "the long-term agree-\nment"),
        ("long-\nterm agree\u00adment", "long-term agree-\nment"),
        ("$1,577", "$1,577"),
        ("$ 1,577 million", "$1,577 million"),
        ("three ( 3 ) years", "three (3) years"),
        ("March 5, 2021 ;a discount", "March 5, 2021; a discount"),
        ("The Licensee ... shall not assign", "The Licensee, John Smith, shall not assign"),
        ("…John Smith, shall not assign […]", "John Smith, shall not assign"),
        ("without the prior written cons", "without the prior written consent"),
    ],
)
def test_differences_of_form_are_forgiven(quote: str, stands_as: str) -> None:
    assert found(quote) == stands_as


@pytest.mark.parametrize(
    "quote",
    [
        "Fees of $1,578 million are due",
        "Fees of $1577 million are due",
        "Fees of $1,57",
        "577 million are due",
        "5% applies",
        "a discount of 25% applies",
        "shall assign this Agreement without the prior",
        "The Licensee, Jane Smith, shall not assign",
        "The Licensee, John Smit, shall",
        "John Smi",
        "likely to renew the long-term",
        "on March 6, 2021",
        "shall not assign ... The Licensee",
        "Neither Party ... shall be eligible",
    ],
)
def test_differences_of_substance_are_not(quote: str) -> None:
    assert find_quote(quote, CONTRACT) is None


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("growth was 5% in all", "Last year growth was -5% in all"),
        ("5% in all", "growth was -5% in all"),
        ("-5% in all", "growth was 5% in all"),
        ("a total of 102 units", "a total of 10² units"),
        ("a total of 1,577 units", "a total of 1, 577 units"),
        ("a total of 105 units", "a total of 10 5 units"),
        ("5,770 units were sold", "15,770 units were sold"),
        ("the résume of John", "the résumé of John"),
    ],
)
def test_numbers_and_accents_are_never_bent(quote: str, text: str) -> None:
    assert find_quote(quote, text) is None


@pytest.mark.parametrize(
    ("quote", "text", "stands_as"),
    [
        ("the first offer", "the ﬁrst oﬀer of all", "the ﬁrst oﬀer"),
        ("Total 42 units", "Ｔｏｔａｌ ４２ units", "Ｔｏｔａｌ ４２ units"),
        ("the agreement of all", "the agree\ufffe\nment of all", "the agree\ufffe\nment of all"),
        (
            "Net sales $1,577 $1,373",
            "Net sales\n$\n1,577\n$\n1,373",
            "Net sales\n$\n1,577\n$\n1,373",
        ),
        ("Company's “Class A” stock", "the Company’s 'Class A' stock", "Company’s 'Class A' stock"),
        ("the café in Paris", "the cafe\u0301 in Paris", "the cafe\u0301 in Paris"),
        ("2020 revenue rose", "In 2019-2020 revenue rose", "2020 revenue rose"),
    ],
)
def test_what_extraction_does_to_text(quote: str, text: str, stands_as: str) -> None:
    assert found(quote, text) == stands_as


@pytest.mark.parametrize("quote", ["", "  ", "of the", "it is not", "the", "fee", "12", "...", "—"])
def test_quotes_that_prove_nothing(quote: str) -> None:
    assert not is_verifiable(quote)
    assert find_quote(quote, f"{quote} and it is not of the fee 12 ... {quote}") is None


@pytest.mark.parametrize("quote", ["$5", "7%", "2021", "indemnification", "John Smith"])
def test_short_quotes_that_prove_something(quote: str) -> None:
    assert found(quote, f"x {quote} y") == quote


def test_an_ellipsis_skips_a_bounded_distance() -> None:
    near = "the first part" + " x" * 200 + " the second part"
    far = "the first part" + " x" * MAX_SKIPPED_CHARS + " the second part"
    assert found("the first part ... the second part", near) == near
    assert find_quote("the first part ... the second part", far) is None
    assert found("the first part ... the second part", f"the first part, {far}, {near}") == near


def test_the_first_of_several_is_taken_and_all_can_be_listed() -> None:
    text = "net sales rose; Net  Sales fell; net sales rested"
    assert find_quote("net sales", text) == Span(start=0, end=9)
    assert len(find_all_quotes("net sales", text)) == 2
    assert [text[s.start : s.end] for s in find_all_quotes("NET SALES", text)] == [
        "net sales",
        "Net  Sales",
        "net sales",
    ]


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("a" * 5000 + " b c", "a" * 100_000),
        ("1" * 500, "1" * 100_000),
        ("x y", " " * 100_000 + "x" + " " * 1000 + "z"),
        ("bcd efg", "abcd efg " * 12_000),
        ("foo bar ..." * 500, "foo bar " * 12_000),
        ("a b-c d", "-\n" * 50_000),
        ("a b-c d", "a" + "-" * 100_000),
        ("net sales '", "'\"" * 50_000),
        ("word and other " * 7000, "word and other " * 6999),
    ],
)
def test_hostile_input_costs_no_more_than_its_length(quote: str, text: str) -> None:
    began = time.perf_counter()
    find_all_quotes(quote, text)
    assert time.perf_counter() - began < 5


WORD = st.text(alphabet="abcdeXYZéß", min_size=2, max_size=7)
NUMBER = st.sampled_from(["1,577", "$42", "3.5%", "(429)", "2021"])
WORDS = st.lists(st.one_of(WORD, WORD, NUMBER), min_size=6, max_size=30)


@PROPERTY
@given(WORDS, st.data())
def test_any_slice_of_whole_words_is_found_as_it_is(words: list[str], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(words) - 2))
    last = data.draw(st.integers(first + 2, len(words)))
    quote, text = " ".join(words[first:last]), " ".join(words)
    assume(is_verifiable(quote))
    assert found(quote, text) == quote


@PROPERTY
@given(WORDS, st.data())
def test_a_perturbed_slice_is_found_where_it_was_taken(
    words: list[str], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(words) - 4))
    slice_words = words[first : first + 4]
    start = len(" ".join([*words[:first], ""]))
    assume(" ".join(words).find(" ".join(slice_words)) == start)
    gap = st.sampled_from([" ", "\n", "\u00a0 ", " \u200b", "\t"])
    quote = "".join(word + data.draw(gap) for word in slice_words)
    marks = data.draw(st.sampled_from([("“", "”"), ("'", "'"), ("", "."), ('"', '"...'), ("", "")]))
    found_at = find_quote(marks[0] + quote.strip() + marks[1], " ".join(words))
    assert found_at == Span(start=start, end=start + len(" ".join(slice_words)))


@PROPERTY
@given(st.lists(WORD, min_size=4, max_size=12), st.integers(1, 5), st.data())
def test_hyphenation_is_undone(words: list[str], at: int, data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(words) - 1))
    assume(at < len(words[which]) and words[which][at - 1 : at + 1].isalpha())
    broken = [*words]
    hyphen = data.draw(st.sampled_from(["-\n", "\u00ad", "\ufffe\r\n", "\u2010\n"]))
    broken[which] = words[which][:at] + hyphen + words[which][at:]
    assert found(" ".join(words), "Thus " + " ".join(broken) + " 9") == " ".join(broken)


@PROPERTY
@given(st.text(max_size=200), st.text(max_size=40), st.data())
def test_spans_lie_in_the_text_and_finding_is_idempotent(
    text: str, other: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(text)))
    quote = data.draw(st.sampled_from([other, text[start : start + 30]]))
    for span in find_all_quotes(quote, text):
        assert 0 <= span.start < span.end <= len(text)
        quoted = text[span.start : span.end]
        assert not is_verifiable(quoted) or found(quoted, text) == quoted


@PROPERTY
@given(st.text(max_size=200), st.data())
def test_a_slice_is_refused_only_for_its_edges(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    quote = text[start : start + 30]
    assume(is_verifiable(quote))
    padded = f"{text[:start]} . {quote} . {text[start + 30 :]}"
    span = find_quote(quote, padded)
    assert span is not None and padded[span.start : span.end] == quote


def document_of(*pages: str) -> Document:
    text = "".join(pages)
    ends = [len("".join(pages[: n + 1])) for n in range(len(pages))]
    return Document(
        document_id="doc_1",
        sha256="",
        name="contract.txt",
        media_type="text/plain",
        n_bytes=len(text.encode()),
        text=text,
        pages=tuple(
            Page(number=n + 1, start=end - len(page), end=end)
            for n, (page, end) in enumerate(zip(pages, ends, strict=True))
        ),
    )


def chunk_of(document: Document, start: int, end: int) -> Chunk:
    return Chunk(
        chunk_id=f"chunk_{start}",
        document_id=document.document_id,
        index=0,
        start=start,
        end=end,
        text=document.text[start:end],
        first_page=document.page_at(start),
        last_page=document.page_at(end - 1),
        n_tokens=1,
    )


def test_a_citation_is_the_documents_own_words_with_their_page() -> None:
    document = document_of("Page one is a preface. ", CONTRACT)
    chunk = chunk_of(document, 10, len(document.text))
    citation = make_citation("“NEITHER party shall\nbe liable”", chunk, document)
    assert citation is not None
    assert citation.quote == "Neither Party shall be liable"
    assert document.text[citation.start : citation.end] == citation.quote
    assert (citation.page, citation.document_name) == (2, "contract.txt")


def test_a_quote_outside_the_chunk_is_no_citation() -> None:
    document = document_of("Page one is a preface. ", CONTRACT)
    assert make_citation("Page one is a preface", chunk_of(document, 30, 200), document) is None


def test_a_quote_with_talk_around_it() -> None:
    document = document_of(CONTRACT)
    chunk = chunk_of(document, 0, len(CONTRACT))
    talk = 'The text says:\n\n"Neither Party shall be liable"\n\nThis proves it.'
    citation = make_citation(talk, chunk, document)
    assert citation is not None and citation.quote == "Neither Party shall be liable"
    assert quoted_blocks("The “Licensee” shall assign it: “gladly”") == []
    assert make_citation('The "Licensee" shall\n\nassign it.', chunk, document) is None
