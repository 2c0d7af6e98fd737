"""Results become evidence: counted, verified, merged and ranked, whatever their order."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.documents.model import Chunk, Document, Page
from minions.evidence import gather_evidence
from minions.evidence.model import Evidence
from workers.jobs import JobResult, JobStatus

PAGES = (
    "This Agreement is governed by the laws of the State of New York. Fees are $1,577 million. ",
    "Any dispute is settled in New York. The term is two (2) years. Notice is thirty days. ",
    "The Licensee may not assign this Agreement. Delaware courts have no jurisdiction. ",
)
TEXT = "".join(PAGES)


def _document() -> Document:
    starts = [TEXT.index(page) for page in PAGES]
    return Document(
        document_id="doc_1",
        sha256="",
        name="contract.txt",
        media_type="text/plain",
        n_bytes=len(TEXT),
        text=TEXT,
        pages=tuple(
            Page(number=n + 1, start=start, end=start + len(page))
            for n, (start, page) in enumerate(zip(starts, PAGES, strict=True))
        ),
    )


def _chunk(page: int) -> Chunk:
    start = TEXT.index(PAGES[page])
    return Chunk(
        chunk_id=f"c{page}",
        document_id="doc_1",
        index=page,
        start=start,
        end=start + len(PAGES[page]),
        text=PAGES[page],
        first_page=page + 1,
        last_page=page + 1,
        n_tokens=20,
    )


DOCUMENTS = {"doc_1": _document()}
CHUNKS = {chunk.chunk_id: chunk for chunk in map(_chunk, range(len(PAGES)))}


def answered(
    job_id: str,
    page: int,
    answer: str,
    citation: str | None = None,
    margin: float | None = None,
) -> JobResult:
    return JobResult(
        job_id=job_id,
        chunk_id=f"c{page}",
        status=JobStatus.ANSWERED,
        answer=answer,
        citation=citation,
        margin=margin,
    )


def abstained(job_id: str) -> JobResult:
    return JobResult(job_id=job_id, chunk_id="c0", status=JobStatus.ABSTAINED)


def failed(job_id: str) -> JobResult:
    return JobResult(job_id=job_id, chunk_id="c1", status=JobStatus.FAILED, error="deadline")


def gather(*results: JobResult) -> Evidence:
    return gather_evidence(results, CHUNKS, DOCUMENTS)


def test_nothing_found_is_no_draft() -> None:
    evidence = gather(abstained("a"), failed("b"), abstained("c"))
    assert evidence.draft is None
    assert (evidence.n_answered, evidence.n_abstained, evidence.n_failed) == (0, 2, 1)
    assert gather_evidence([], {}, {}).groups == ()


def test_agreeing_answers_are_one_group_with_every_citation() -> None:
    evidence = gather(
        answered("1", 0, "New York", "governed by the laws of the state of NEW YORK"),
        answered("2", 1, "the State of New York", "dispute is settled in New York"),
        answered("3", 2, "Delaware", "Delaware courts have jurisdiction"),
    )
    draft, rival = evidence.groups
    assert {claim.job_id for claim in draft.claims} == {"1", "2"}
    assert [citation.page for citation in draft.citations] == [1, 2]
    assert all(TEXT[c.start : c.end] == c.quote for c in draft.citations)
    assert (rival.answer, rival.citations, evidence.n_unverified) == ("Delaware", (), 1)


def test_a_citation_must_stand_in_the_chunk_that_was_read() -> None:
    evidence = gather(answered("1", 1, "New York", "governed by the laws of the State of New York"))
    assert evidence.n_unverified == 1


def test_one_verified_claim_outranks_many_unverified() -> None:
    made_up = [answered(f"m{n}", n % 3, "Ohio", "the laws of Ohio", 9.0) for n in range(300)]
    evidence = gather(*made_up, answered("v", 1, "two years", "The term is two (2) years", 0.1))
    assert [group.answer for group in evidence.groups] == ["two years", "Ohio"]


def test_support_grows_with_places_more_than_with_samples() -> None:
    quote = "governed by the laws of the State of New York"
    one = gather(answered("1", 0, "New York", quote))
    twice = gather(answered("1", 0, "New York", quote), answered("2", 0, "New York", quote))
    elsewhere = gather(
        answered("1", 0, "New York", quote), answered("2", 1, "New York", "settled in New York")
    )
    scores = [evidence.groups[0].score for evidence in (one, twice, elsewhere)]
    assert scores == [1.5, 2.25, 2.25]
    thrice = gather(*(answered(str(n), 0, "New York", quote) for n in range(3)))
    assert thrice.groups[0].score - scores[1] < scores[1] - scores[0]


def test_margin_breaks_ties() -> None:
    evidence = gather(
        answered("1", 1, "two years", "The term is two (2) years", 1.0),
        answered("2", 1, "thirty days", "Notice is thirty days", 3.0),
        answered("3", 0, "$1,577 million", "Fees are $1,577 million", None),
    )
    assert [group.answer for group in evidence.groups] == [
        "thirty days",
        "two years",
        "$1,577 million",
    ]


def test_the_wording_is_the_best_supported_one() -> None:
    evidence = gather(
        answered("1", 0, "State of New York", "the laws of the State of New York"),
        answered("2", 1, "New York", "settled in New York"),
        answered("3", 1, "New York", "Any dispute is settled in New York"),
    )
    assert len(evidence.groups) == 1
    assert evidence.groups[0].answer == "New York"


def test_what_must_stay_apart() -> None:
    evidence = gather(
        answered("1", 2, "may assign"),
        answered("2", 2, "may not assign"),
        answered("3", 0, "$1,577 million"),
        answered("4", 0, "$1,577 thousand"),
        answered("5", 0, "1,577"),
        answered("6", 0, "1,578"),
    )
    assert len(evidence.groups) == 5
    for group in evidence.groups:
        assert not {"3", "4"} <= {claim.job_id for claim in group.claims}


def test_overlapping_citations_join_long_answers() -> None:
    long = "The Licensee may not assign this Agreement to anybody at any time for any price"
    first = answered("1", 2, long, "The Licensee may not assign")
    same = answered("2", 2, long + " or fee", "may not assign this Agreement")
    other = answered("2", 2, long + " or fee", "Delaware courts have no jurisdiction")
    assert len(gather(first, same).groups) == 1
    assert len(gather(first, other).groups) == 2


def test_a_result_of_an_unknown_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="c7"):
        gather(answered("1", 7, "New York", "New York courts"))
    with pytest.raises(ValueError, match="no answer"):
        gather(JobResult(job_id="1", chunk_id="c0", status=JobStatus.ANSWERED))


ANSWERS = ["New York", "state of New York", "new york.", "2 years", "two (2) years", "1,577", "no"]
ANSWERS += ["$1,577 million", "$1,577 thousand", "Delaware", "York", "", "may not assign", "a"]
QUOTES = [None, "laws of the State of New York", "The term is two (2) years", "made up words"]
QUOTES += ["Fees are $1,577 million", "settled in New York", "New  York"]
RESULTS = st.lists(
    st.one_of(
        st.builds(
            answered,
            st.sampled_from("abcdefgh"),
            st.integers(0, 2),
            st.sampled_from(ANSWERS),
            st.sampled_from(QUOTES),
            st.sampled_from([None, 0.5, 2.0]),
        ),
        st.builds(abstained, st.sampled_from("xy")),
        st.builds(failed, st.sampled_from("xy")),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(RESULTS, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_counts_are_right(
    results: Sequence[JobResult], rng: random.Random
) -> None:
    evidence = gather(*results)
    assert gather(*rng.sample(results, len(results))) == evidence
    assert evidence.n_answered + evidence.n_abstained + evidence.n_failed == len(results)
    claims = [claim for group in evidence.groups for claim in group.claims]
    assert len(claims) == evidence.n_answered
    assert sum(claim.citation is None for claim in claims) == evidence.n_unverified
    assert [g.score for g in evidence.groups] == sorted(g.score for g in evidence.groups)[::-1]


@pytest.mark.parametrize("distinct", [20, 2000])
def test_two_thousand_results_merge_quickly(distinct: int) -> None:
    results = [
        answered(str(n), n % 3, f"clause {chr(97 + n % 26)}x{n % distinct} applies", "New  York")
        for n in range(2000)
    ]
    began = time.perf_counter()
    evidence = gather(*results)
    assert time.perf_counter() - began < 5
    assert len(evidence.groups) >= distinct
