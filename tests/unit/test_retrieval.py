"""Ranking without a model: its words, lexicon, structure and order. The report is invented."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.documents.model import Chunk
from minions.retrieval import DocumentIndex, Weights, rank_chunks
from minions.retrieval.bm25 import WordIndex
from minions.retrieval.lexicon import Kind, Part, lexicon, parse_lexicon
from minions.retrieval.query import analyse
from minions.retrieval.structure import profile
from minions.retrieval.words import folded, singular
from minions.store.bm25 import bm25_scores

CONTENTS = """Table of Contents
Consolidated Statements of Income 3
Consolidated Balance Sheets 4
Consolidated Statements of Cash Flows 5"""
DISCUSSION = """Results of Operations
Net sales increased 4% compared to the prior year, primarily due to higher volume of kettles,
partially offset by currency. Capital expenditures are expected to grow. Gross margin declined
due to the price of steel."""
INCOME = """Orchard Kettles Ltd. Consolidated Statements of Income
(In thousands) 2031 2030
Net sales $ 9,140 $ 8,790
Cost of goods sold 5,020 4,700
Gross profit 4,120 4,090
Selling, general and administrative 2,010 1,990
Operating income 2,110 2,100
Interest expense (90) (95)
Income before income taxes 2,020 2,005
Net income $ 1,580 $ 1,560
Diluted 1.02 1.00"""
BALANCE = """Consolidated Balance Sheets
Cash and cash equivalents $ 700 $ 650
Trade receivables, net 810 790
Inventories 905 880
Total current assets 2,415 2,320
Property and equipment, net 3,300 3,250
Goodwill 400 400
Total assets $ 6,115 $ 5,970
Accounts payable 640 655
Total current liabilities 1,205 1,190
Retained earnings 2,900 2,700"""
CASH_FLOW = """Consolidated Statements of Cash Flows
Depreciation and amortization ........... 410 405
Deferred income taxes ........... 12 (9)
Net cash provided by operating activities ........... 2,050 1,990
Purchases of property and equipment ........... (502) (488)
Net cash used in investing activities ........... (502) (488)
Dividends paid ........... (300) (290)
Net cash used in financing activities ........... (1,498) (1,400)
Cash and cash equivalents at end of year ........... 700 650"""
NOTES = "Note 1. The company makes kettles. Revenue is recognised when a kettle is delivered."
REPORT = (CONTENTS, DISCUSSION, INCOME, BALANCE, CASH_FLOW, NOTES)
CONTRACT = (
    "SUPPLY AGREEMENT between Orchard Kettles Ltd. and Birch Steel Inc., dated 4 May 2031.",
    "The supplier delivers steel each month. The contract price is in the annex of this contract.",
    "This contract shall be construed in accordance with the laws of Norway.",
)


def chunks_of(*texts: str, document_id: str = "doc_a") -> list[Chunk]:
    """Chunks as if a document had been cut into `texts`."""
    made, start = [], 0
    for index, text in enumerate(texts):
        end = start + len(text)
        made.append(
            Chunk(
                chunk_id=f"{document_id}_{index}",
                document_id=document_id,
                index=index,
                start=start,
                end=end,
                text=text,
                first_page=index + 1,
                last_page=index + 1,
                n_tokens=len(text.split()),
            )
        )
        start = end
    return made


def best(question: str, texts: tuple[str, ...]) -> str:
    return rank_chunks(question, chunks_of(*texts))[0].chunk.text


# --- words and lexicon ---


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("sales", "sale"),
        ("inventories", "inventory"),
        ("losses", "loss"),
        ("taxes", "tax"),
        ("business", "business"),
        ("analysis", "analysis"),
        ("its", "its"),
        ("1,577", "1,577"),
    ],
)
def test_plurals_are_folded(word: str, expected: str) -> None:
    assert singular(word) == expected


def test_folding_keeps_letters_and_digits_only() -> None:
    assert folded("SG&A — Shareholders’ Equity (2031)") == "sg a shareholders equity 2031"


def test_every_phrase_of_the_lexicon_can_match() -> None:
    """A phrase that is not folded would never be found."""
    for concept in lexicon().concepts.values():
        for phrase in (*concept.asked, *concept.written):
            assert phrase == folded(phrase), concept.name
        assert concept.asked
        assert concept.part or concept.kind is not Kind.LINE
    for statement in lexicon().statements:
        assert all(name == folded(name) for name in statement.names)
    assert {statement.part for statement in lexicon().statements} == set(Part)


def test_a_ratio_that_needs_an_unknown_line_is_refused() -> None:
    with pytest.raises(ValueError, match="payablez"):
        parse_lexicon('[ratio.dpo]\nasked = ["dpo"]\nneeds = ["payablez"]\n')


# --- the question ---


def concept_names(question: str) -> set[str]:
    return {concept.name for concept in analyse(question).concepts}


def test_a_ratio_is_replaced_by_its_lines() -> None:
    assert concept_names("What is the quick ratio?") >= {"current liabilities", "receivables"}
    assert "quick ratio" not in concept_names("What is the quick ratio?")


def test_short_names_are_whole_words() -> None:
    assert "receivables" in concept_names("What is net AR?")
    assert "receivables" not in concept_names("Are there any arguments?")


def test_periods_become_years_and_instructions_are_left_out() -> None:
    query = analyse("What is FY31 net income? Round your answer to two decimal places.")
    assert query.words == ("2031", "net", "income")


def test_what_to_do_otherwise_is_left_out() -> None:
    query = analyse("Did cash grow? If that is not meaningful, then explain why.")
    assert query.words == ("cash", "grow")


def test_a_question_of_instructions_alone_keeps_its_words() -> None:
    assert analyse("Answer the question.").words


def test_named_statements_are_found_in_instructions_too() -> None:
    question = "What is D&A? Give a response using the statement of cash flows."
    assert analyse(question).named == (Part.CASH_FLOW,)


@pytest.mark.parametrize("text", ["if " * 20_000, "answer " * 20_000, ". " * 20_000])
def test_hostile_questions_take_no_long(text: str) -> None:
    started = time.process_time()
    analyse(text)
    assert time.process_time() - started < 5


# --- the chunk ---


def test_statements_are_told_by_their_captions() -> None:
    for text, part in (
        (INCOME, Part.INCOME_STATEMENT),
        (BALANCE, Part.BALANCE_SHEET),
        (CASH_FLOW, Part.CASH_FLOW),
    ):
        parts = profile(text).parts
        assert max(parts, key=lambda each: parts[each]) is part
        assert parts[part] == 1.0


def test_contents_name_statements_without_being_any() -> None:
    assert max(profile(CONTENTS).parts.values()) < 0.5


def test_a_statement_without_its_title_counts_less() -> None:
    untitled = BALANCE.split("\n", 1)[1]
    assert 0.5 < profile(untitled).parts[Part.BALANCE_SHEET] < 1.0


def test_explanations_are_told_from_tables() -> None:
    assert profile(DISCUSSION).results == 1.0
    assert profile(BALANCE).results == 0.0


def test_a_text_without_words_is_nothing() -> None:
    assert profile("\n \n").results == 0.0
    assert max(profile("").parts.values()) == 0.0


# --- the order ---


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is FY2031 capex?", CASH_FLOW),
        ("What was spent on capital expenditure, going by the cash flow statement?", CASH_FLOW),
        ("What are FY2031's days payable, from the balance sheet?", BALANCE),
        ("What is net PP&E at year end, as the balance sheet has it?", BALANCE),
        ("What is FY31 COGS? Base it on the statement of income.", INCOME),
        ("What is the operating margin in FY2031?", INCOME),
        ("What drove the change of gross margin in 2031?", DISCUSSION),
        ("When is a kettle delivered?", NOTES),
    ],
)
def test_reports_are_read_where_the_answer_stands(question: str, expected: str) -> None:
    assert best(question, REPORT) == expected


@pytest.mark.parametrize(
    ("question", "index"),
    [
        ("Who are the parties to the contract, and what is the date of the contract?", 0),
        ("Which law governs the contract?", 2),
    ],
)
def test_contracts_are_read_where_the_answer_stands(question: str, index: int) -> None:
    assert best(question, CONTRACT) == CONTRACT[index]


def test_reasons_say_what_the_score_is_made_of() -> None:
    first = rank_chunks("What is capex in the cash flow statement?", chunks_of(*REPORT))[0]
    assert first.reasons[0] == "named statement 1.20"
    total = sum(float(reason.rsplit(" ", 1)[1]) for reason in first.reasons)
    assert total == pytest.approx(first.score, abs=0.05)


def test_a_weight_of_zero_leaves_a_signal_out() -> None:
    index = DocumentIndex(chunks_of(*REPORT), Weights(items=0, statement=0, neighbours=0))
    ranked = index.rank("What is FY2031 capex?")
    assert {reason.split()[0] for each in ranked for reason in each.reasons} <= {"words"}


def test_the_opening_of_each_document_counts() -> None:
    chunks = [*chunks_of(*CONTRACT), *chunks_of(*CONTRACT, document_id="doc_b")]
    ranked = rank_chunks("Who are the parties to it?", chunks, limit=2)
    assert [each.chunk.chunk_id for each in ranked] == ["doc_a_0", "doc_b_0"]


def test_a_report_does_not_make_a_contract_one() -> None:
    contract = chunks_of(*CONTRACT, document_id="doc_b")
    ranked = rank_chunks("Which law governs?", [*chunks_of(*REPORT), *contract])
    assert ranked[0].chunk == contract[2]


TEXTS = st.lists(st.sampled_from([*REPORT, *CONTRACT, "", "…", "数 1,577"]), max_size=8)


@given(question=st.text(max_size=80) | st.sampled_from(["What is capex?", ""]), texts=TEXTS)
def test_no_chunk_is_lost_and_the_order_is_fixed(question: str, texts: list[str]) -> None:
    chunks = chunks_of(*texts)
    ranked = rank_chunks(question, chunks)
    assert sorted(each.chunk.index for each in ranked) == list(range(len(chunks)))
    assert [each.score for each in ranked] == sorted((e.score for e in ranked), reverse=True)
    assert ranked == rank_chunks(question, chunks)
    assert ranked[:2] == rank_chunks(question, chunks, limit=2)


def test_three_hundred_chunks_are_ranked_quickly() -> None:
    index = DocumentIndex(chunks_of(*(REPORT * 50)))
    started = time.process_time()
    assert len(index.rank("What is the quick ratio for FY2031, from the balance sheet?")) == 300
    assert time.process_time() - started < 0.5


# --- BM25 ---

WORDS = st.lists(st.sampled_from(["ab", "bc", "cd", "de", "ef"]), max_size=12)


@given(texts=st.lists(WORDS, min_size=1, max_size=6), query=WORDS)
def test_bm25_is_the_stores(texts: list[list[str]], query: list[str]) -> None:
    expected = bm25_scores({str(number): text for number, text in enumerate(texts)}, query)
    scores = WordIndex(texts).scores(query)
    assert scores == pytest.approx([expected.get(str(n), 0.0) for n in range(len(texts))])
