"""What answers are worth by the type of their gold, and whether quotes are in the gold place."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.answers import score_answer
from eval.citations import citation_correct
from eval.items import AnswerType, GoldEvidence, Item, ItemDocument
from eval.score import as_list, chosen, matched_list_f1, rouge_l, shares_words, yes_or_no
from minions.documents import Document, Page

DOCUMENT = ItemDocument(name="d.txt", text="x")
DAYS = ("Mondays", "Tuesdays", "any weekday but Mondays")


def item(kind: AnswerType, *golds: str, choices: tuple[str, ...] = ()) -> Item:
    return Item(
        item_id="q",
        documents=(DOCUMENT,),
        question="How did sales of Alder Pumps do in FY2020?",
        gold_answers=golds,
        kind="test",
        answer_type=kind,
        choices=choices,
    )


@pytest.mark.parametrize(
    ("kind", "golds", "answer", "score", "correct"),
    [
        (AnswerType.SPAN, ("New York",), "the New York", 1.0, True),
        (AnswerType.SPAN, ("New York",), "It is governed by the law of New York.", 0.4, True),
        (AnswerType.SPAN, ("New York",), "New " * 20 + "York " * 20, 4 / 42, False),
        (AnswerType.SPAN, ("New York",), "Ohio", 0.0, False),
        (AnswerType.NUMBER, ("$1.5 million",), "It was $1,500,000.", 1.0, True),
        (AnswerType.NUMBER, ("1.9%",), "0.019", 1.0, True),
        (AnswerType.NUMBER, ("22.2%",), "23.2%", 0.0, False),
        (AnswerType.NUMBER, ("2019",), "in 2018", 0.0, False),
        (AnswerType.NUMBER, ("2019",), "in 2019", 1.0, True),
        (AnswerType.LIST, ("2019", "2018"), "2018, 2019", 1.0, True),
        (AnswerType.LIST, ("2019", "2018"), "- 2018\n- 2017", 0.5, True),
        (AnswerType.LIST, ("$1,571.7 million", "cash"), "cash and 1,571.7", 1.0, True),
        (AnswerType.LIST, ("2019", "2018", "2017"), "2019", 0.5, True),
        (AnswerType.LIST, ("a one", "a two", "a three", "a four"), "one", 0.4, False),
        (AnswerType.YES_NO, ("No, it fell",), "No", 1.0, True),
        (AnswerType.YES_NO, ("No",), "Yes, no doubt", 0.0, False),
        (AnswerType.YES_NO, ("No",), "Sales fell", 0.0, False),
        (AnswerType.FREE, ("Sales fell by 4%",), "They fell 4%", 1.0, True),
        (AnswerType.FREE, ("Sales fell by 4%",), "They rose 9%", 0.0, False),
        (AnswerType.SUMMARY, ("one two three four five",), "one two five", 0.75, True),
        (AnswerType.SUMMARY, ("one two three four five",), "six", 0.0, False),
    ],
)
def test_every_type_by_hand(
    kind: AnswerType, golds: tuple[str, ...], answer: str, score: float, correct: bool
) -> None:
    found = score_answer(item(kind, *golds), answer)
    assert found.score == pytest.approx(score)
    assert found.correct is correct
    assert all(0 <= value <= 1 for value in found.scores.values())


def test_a_figure_is_as_near_as_its_dataset_wants() -> None:
    average = item(AnswerType.NUMBER, "5085 thousand")
    assert score_answer(average, "5,092").correct
    assert not score_answer(replace(average, tolerance=Decimal("0.001")), "5,092").correct


@pytest.mark.parametrize("kind", [kind for kind in AnswerType if kind is not AnswerType.CHOICE])
def test_abstaining_is_right_only_where_there_is_no_answer(kind: AnswerType) -> None:
    there, absent = item(kind, "Yes, 5"), item(kind)
    assert score_answer(absent, None).correct and score_answer(absent, None).score == 1
    assert not score_answer(absent, "5").correct
    assert not score_answer(there, None).correct and score_answer(there, None).score == 0


@given(st.sampled_from(AnswerType), st.text(max_size=80), st.text(min_size=1, max_size=40))
def test_scores_are_shares_whatever_a_model_writes(
    kind: AnswerType, answer: str, gold: str
) -> None:
    choices = (gold, "other") if kind is AnswerType.CHOICE else ()
    found = score_answer(item(kind, gold, choices=choices), answer)
    assert 0 <= found.score <= 1
    assert all(0 <= value <= 1 for value in found.scores.values())


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ("B", 1),
        ("b.", 1),
        ("(B) Tuesdays", 1),
        ("Answer: B", 1),
        ("The answer is B.", 1),
        ("Tuesdays.", 1),
        ("It opens on Tuesdays", 1),
        ("any weekday but Mondays", 2),
        ("It is any weekday but Mondays", None),  # names two of them
        ("A museum day", None),
        ("Sundays", None),
        ("E", None),
        ("", None),
    ],
)
def test_which_choice_is_named(answer: str, place: int | None) -> None:
    assert chosen(answer, DAYS) == place


def test_a_choice_is_right_by_letter_and_by_words() -> None:
    question = item(AnswerType.CHOICE, "Tuesdays", choices=DAYS)
    assert question.asked.endswith("A. Mondays\nB. Tuesdays\nC. any weekday but Mondays")
    assert score_answer(question, "B").correct and score_answer(question, "Tuesdays").correct
    assert not score_answer(question, "A").correct


def test_lists_are_split_but_not_numbers() -> None:
    assert as_list("$1,571.7, 12 and tax") == ["$1,571.7", "12", "tax"]
    assert as_list("1. cash; 2) stock, net\n• tax.") == ["cash", "stock, net", "tax"]
    assert as_list(" ") == []


def test_items_pair_up_once() -> None:
    assert matched_list_f1(["a", "a"], ["a"], str.__eq__) == pytest.approx(2 / 3)
    assert matched_list_f1([], [], str.__eq__) == 1
    assert matched_list_f1([], ["a"], str.__eq__) == 0


def test_rouge_l_by_hand() -> None:
    # Lin 2004: the longest common subsequence of these is "police the gunman": 3 of 4 and 4
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(0.5)
    assert rouge_l("", "a") == 0 and rouge_l("?", "!") == 1


@given(st.text("ab ", max_size=30), st.text("ab ", max_size=30))
def test_rouge_l_is_symmetric_and_one_for_equals(one: str, other: str) -> None:
    assert rouge_l(one, other) == rouge_l(other, one)
    assert rouge_l(one, one) == 1


def test_yes_and_no() -> None:
    assert (yes_or_no('"Yes", it did'), yes_or_no("NO"), yes_or_no("nothing")) == (
        "yes",
        "no",
        None,
    )


def test_shared_words() -> None:
    assert shares_words("one two three four five six", "zero one two three four five")
    assert not shares_words("one two three four six", "one two three four five")
    assert shares_words("Oregon.", "the State of Oregon")
    assert not shares_words("", "the State of Oregon")


TEXT = "Fees. The fee is $5. Law. The laws of Oregon govern."


def read(text: str, document_id: str = "doc_1") -> Document:
    return Document(
        document_id=document_id,
        sha256="0" * 64,
        name="d.txt",
        media_type="text/plain",
        n_bytes=len(text),
        text=text,
        pages=(Page(number=1, start=0, end=len(text)),),
    )


def quote(text: str, **fields: Any) -> dict[str, Any]:
    start = TEXT.index(text)
    place = {"document_id": "doc_1", "page": 1, "start": start, "end": start + len(text)}
    return {"quote": text, **place, **fields}


LAW = GoldEvidence(text="The laws of Oregon", start=26, end=44)


@pytest.mark.parametrize(
    ("citations", "evidence", "documents", "right"),
    [
        ([quote("of Oregon govern")], LAW, {"d.txt": read(TEXT)}, True),
        ([quote("The fee is $5")], LAW, {"d.txt": read(TEXT)}, False),
        ([quote("The fee is $5"), quote("Oregon")], LAW, {"d.txt": read(TEXT)}, True),
        ([], LAW, {"d.txt": read(TEXT)}, False),
        # the text was read as another one: by words
        ([quote("of Oregon govern")], LAW, {"d.txt": read("- " + TEXT)}, False),
        ([quote("The laws of Oregon govern")], LAW, {"d.txt": read("- " + TEXT)}, True),
        # evidence of another document does not count
        (
            [quote("Oregon")],
            GoldEvidence(text="Oregon", document="e.txt"),
            {"d.txt": read(TEXT), "e.txt": read(TEXT + "!", "doc_2")},
            False,
        ),
        ([quote("Oregon")], GoldEvidence(text="", page=1), {"d.txt": read(TEXT)}, True),
        ([quote("Oregon")], GoldEvidence(text="", page=2), {"d.txt": read(TEXT)}, False),
    ],
)
def test_citations(
    citations: list[dict[str, Any]],
    evidence: GoldEvidence,
    documents: dict[str, Document],
    right: bool,
) -> None:
    assert citation_correct(citations, [evidence], documents) is right


def test_without_gold_evidence_nothing_is_said() -> None:
    assert citation_correct([quote("Oregon")], [], {"d.txt": read(TEXT)}) is None
