"""Claims ranked by where their evidence stands, packed into a budget; profiles on disk."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.cloud.tokens import count_tokens
from minions.documents.model import Chunk, Document, Page
from minions.errors import BadRequest, NotFound
from minions.evidence.anchors import Anchors, best_window
from minions.evidence.answers import answer_in_quote
from minions.evidence.features import NAMES, declines, features_of
from minions.evidence.lexicon import Lexicon
from minions.evidence.model import Claim
from minions.evidence.relevance import (
    DEFAULT_PROFILE,
    Profile,
    load_profile,
    rank_claims,
    save_profile,
)
from minions.evidence.selection import (
    LEAST_SHARE,
    MAX_QUOTE_CHARS,
    SEPARATOR,
    likely,
    select_quotes,
)
from minions.evidence.verify import make_citation

QUESTION = "What were the total current assets of Harrow Mills in 2021?"
TEXTS = (
    "Harrow Mills Inc. grinds oats. The mill in Dunmore was opened by the founder's daughter.\n",
    "Risk factors. Prices of oats may rise in 2021. Our customers may turn to other mills.\n",
    "Balance sheet 2021 2020\nCash 120 98\nReceivables 310 287\nInventories 455 401\n"
    "Total current assets 885 786\nProperty 1,204 1,190\nTotal assets 2,089 1,976\n",
    "The board met six times. Mrs. Lowe was elected chair of the audit committee in May 2021.\n",
)
TEXT = "".join(TEXTS)
DOCUMENT = Document(
    document_id="doc_1",
    sha256="",
    name="harrow.txt",
    media_type="text/plain",
    n_bytes=len(TEXT),
    text=TEXT,
    pages=(Page(number=1, start=0, end=len(TEXT)),),
)
DOCUMENTS = {DOCUMENT.document_id: DOCUMENT}


def _chunk(index: int, text: str) -> Chunk:
    start = TEXT.index(text)
    return Chunk(
        chunk_id=f"c{index}",
        document_id="doc_1",
        index=index,
        start=start,
        end=start + len(text),
        text=text,
        first_page=1,
        last_page=1,
        n_tokens=50,
    )


CHUNKS = {f"c{index}": _chunk(index, text) for index, text in enumerate(TEXTS)}
LEXICON = Lexicon({key: chunk.text for key, chunk in CHUNKS.items()})


def claim(chunk_id: str, answer: str, quote: str = "", margin: float | None = None) -> Claim:
    citation = make_citation(quote, CHUNKS[chunk_id], DOCUMENT) if quote else None
    return Claim(
        job_id=f"{chunk_id}:{answer}",
        chunk_id=chunk_id,
        answer=answer,
        citation=citation,
        answer_in_quote=citation is not None and answer_in_quote(answer, citation.quote),
        margin=margin,
        logprob=None,
    )


RIGHT = claim("c2", "885", "Total current assets 885 786")
INVENTED = claim("c1", "$400 million", "Total current assets: $400 million")
REFUSAL = claim("c3", "The total current assets are not mentioned in the text.")
CLAIMS = (REFUSAL, INVENTED, RIGHT)


def test_what_is_far_less_likely_than_the_best_is_not_sent() -> None:
    edge = 0.5 * LEAST_SHARE
    ranked = [(RIGHT, 0.5), (INVENTED, edge), (REFUSAL, edge * 0.99)]
    assert likely(ranked) == ranked[:2]
    assert likely([]) == [] and likely([(REFUSAL, 0.001)]) == [(REFUSAL, 0.001)]


def test_verified_answer_from_the_table_ranks_first_and_a_refusal_last() -> None:
    ranked = rank_claims(CLAIMS, CHUNKS, QUESTION)
    assert [c for c, _ in ranked] == [RIGHT, INVENTED, REFUSAL]
    assert all(0 < p < 1 for _, p in ranked)


def test_features_say_what_they_mean() -> None:
    refusal, invented, right = features_of(CLAIMS, CHUNKS, QUESTION)
    assert (right.verified, right.answer_in_quote, right.numbers_in_chunk) == (1, 1, 1)
    assert (invented.verified, invented.has_number, invented.numbers_in_chunk) == (0, 1, 0)
    assert (refusal.declines, right.declines) == (1, 0)
    assert right.question_rank == 0 < refusal.question_rank
    assert right.figures_wanted == right.figures > refusal.figures
    assert right.task_answered == math.log(3 / 4)
    assert right.position == 0.5
    assert right.years_in_chunk == 1


def test_agreement_counts_other_chunks_that_say_the_same_number() -> None:
    other = claim("c0", "It was 885.")
    features = features_of((RIGHT, other, REFUSAL), CHUNKS, QUESTION)
    assert [f.agreement for f in features] == [math.log(2), math.log(2), 0]


def test_tasks_replace_the_question() -> None:
    tasks = {RIGHT.job_id: "Find the chair of the audit committee."}
    asked, own = (features_of([RIGHT], CHUNKS, QUESTION, t)[0] for t in (None, tasks))
    assert own.task_rank > asked.task_rank == 0
    assert own.question_rank == asked.question_rank


def test_margin_orders_claims_that_are_alike_otherwise() -> None:
    sure = claim("c2", "885", "Total current assets 885 786", margin=6.0)
    assert rank_claims([RIGHT, sure], CHUNKS, QUESTION)[0][0] is sure


def test_no_claims_rank_to_nothing() -> None:
    assert rank_claims([], CHUNKS, QUESTION) == []


def test_unknown_chunk_is_named() -> None:
    with pytest.raises(ValueError, match="c2, which is not among the 1 chunks"):
        rank_claims([RIGHT], {"c0": CHUNKS["c0"]}, QUESTION)


@given(st.lists(st.sampled_from(CLAIMS), max_size=6), st.text(max_size=60))
def test_ranking_keeps_every_claim_once_in_order(claims: list[Claim], question: str) -> None:
    ranked = rank_claims(claims, CHUNKS, question)
    assert sorted(c.job_id for c, _ in ranked) == sorted(c.job_id for c in claims)
    assert [p for _, p in ranked] == sorted((p for _, p in ranked), reverse=True)


@pytest.mark.parametrize(
    "answer", ["Not mentioned.", "The text does not say.", "Unfortunately, no data is given."]
)
def test_refusals_in_words_are_recognised(answer: str) -> None:
    assert declines(answer)


def test_lexicon_ranks_and_weighs() -> None:
    fits = LEXICON.fits("current assets")
    assert fits["c2"].rank == 0
    assert fits["c2"].word_share == fits["c2"].phrase_share == 1
    assert fits["c0"].word_share == 0
    assert LEXICON.weight("dunmore") > LEXICON.weight("2021")


def test_lexicon_of_nothing_is_empty() -> None:
    assert Lexicon({}).fits("current assets") == {}


# profiles


def test_profile_survives_the_disk(tmp_path: Path) -> None:
    profile = Profile(weights={"verified": 1.25}, bias=-1.5, slope=0.9, calibrated=True, source="x")
    save_profile(profile, tmp_path / "relevance.json")
    assert load_profile(tmp_path / "relevance.json") == profile


def test_default_profile_weighs_known_features_and_is_not_called_calibrated() -> None:
    assert set(DEFAULT_PROFILE.weights) <= set(NAMES)
    assert not DEFAULT_PROFILE.calibrated


def test_no_weight_makes_certain() -> None:
    certain = Profile(weights={"verified": 1e6}, bias=0.0)
    ranked = rank_claims([RIGHT], CHUNKS, QUESTION, certain)
    assert 0.99 < ranked[0][1] < 1


def test_missing_profile_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.json: fit one with"):
        load_profile(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is no relevance profile: the file"),
        ('{"weights": {"verified": "much"}, "bias": 0}', "weights.verified"),
        (json.dumps({"weights": {"moonphase": 1.0}, "bias": 0}), "weighs moonphase.*stale"),
    ],
)
def test_broken_or_stale_profile_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    with pytest.raises(BadRequest, match=complaint):
        load_profile(path)


# what is sent


def anchors() -> Anchors:
    return Anchors(QUESTION, CHUNKS, DOCUMENTS, LEXICON)


def test_misquoted_answer_is_anchored_where_it_stands() -> None:
    retyped = claim("c2", "885", "Total current assets | 885 | 786")
    assert retyped.citation is None
    [quote] = select_quotes([(retyped, 0.5)], DOCUMENTS, 200, count_tokens, anchors())
    assert quote.anchored
    assert "Total current assets 885" in quote.citation.quote


def test_without_anchors_only_verified_quotes_are_sent() -> None:
    ranked = [(INVENTED, 0.9), (RIGHT, 0.2)]
    [quote] = select_quotes(ranked, DOCUMENTS, 200, count_tokens)
    assert quote.claim is RIGHT
    assert not quote.anchored


def test_near_duplicates_are_sent_once() -> None:
    again = claim("c2", "885 in 2021", "Total current assets 885 786")
    ranked = [(RIGHT, 0.9), (again, 0.8)]
    assert len(select_quotes(ranked, DOCUMENTS, 500, count_tokens)) == 1


def test_chunks_take_turns() -> None:
    second = claim("c2", "Total assets 2,089", "Total assets 2,089 1,976")
    other = claim("c3", "Mrs. Lowe", "Mrs. Lowe was elected chair of the audit committee")
    ranked = [(RIGHT, 0.9), (second, 0.8), (other, 0.7)]
    # The budget is too small for the sentence around each quote to swallow the next one.
    packed = select_quotes(ranked, DOCUMENTS, 60, count_tokens)
    assert [quote.claim for quote in packed][:2] == [RIGHT, other]


def test_half_a_page_is_cut_after_a_word() -> None:
    text = "The mill ground oats. " * 200
    page = Page(number=1, start=0, end=len(text))
    document = Document(
        document_id="d", sha256="", name="d", media_type="", n_bytes=0, text=text, pages=(page,)
    )
    chunk = Chunk(
        chunk_id="c",
        document_id="d",
        index=0,
        start=0,
        end=len(text),
        text=text,
        first_page=1,
        last_page=1,
        n_tokens=0,
    )
    cited = make_citation(text.strip(), chunk, document)
    long = Claim(
        job_id="j",
        chunk_id="c",
        answer="oats",
        citation=cited,
        answer_in_quote=True,
        margin=None,
        logprob=None,
    )
    [quote] = select_quotes([(long, 0.5)], {"d": document}, 4_000, count_tokens)
    assert len(quote.citation.quote) <= MAX_QUOTE_CHARS
    assert text.startswith(quote.citation.quote + " ") or quote.citation.quote.endswith(".")


@given(
    st.lists(st.tuples(st.sampled_from(CLAIMS), st.floats(0, 1)), max_size=5),
    st.integers(0, 150),
)
def test_packing_keeps_to_budget_and_source(ranked: list[tuple[Claim, float]], budget: int) -> None:
    packed = select_quotes(ranked, DOCUMENTS, budget, count_tokens, anchors())
    quotes = [quote.citation for quote in packed]
    assert count_tokens(SEPARATOR.join(q.quote for q in quotes)) <= budget
    assert all(TEXT[q.start : q.end] == q.quote for q in quotes)
    ordered = sorted(quotes, key=lambda q: q.start)
    assert all(a.end <= b.start for a, b in itertools.pairwise(ordered))


@given(st.text(alphabet="ab 12.", max_size=80), st.integers(1, 30))
def test_window_is_whole_words_within_its_width(text: str, width: int) -> None:
    found = best_window(text, {"a": 1.0, "b": 2.0, "12": 3.0}, width)
    if found is not None:
        start, end = found
        assert 0 <= start < end <= start + width
        assert not text[start:end].startswith(" ")


def test_window_takes_the_heaviest_neighbourhood() -> None:
    text = "oats here. " + "x " * 100 + "oats and barley there"
    found = best_window(text, {"oat": 1.0, "barley": 1.0}, 40)
    assert found is not None
    assert text[slice(*found)] == "oats and barley"
