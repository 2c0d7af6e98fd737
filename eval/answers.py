"""What an answer to a labelled question is worth, by the type of its gold answer. Pure.

The main metric of each type is `score`; whether an answer counts as correct is decided by it:

    span      token-F1 with the best gold (SQuAD)         correct from 0.5, or as said below
    number    numeric match (`Item.tolerance`)            correct at 1
    list      F1 over its items                           correct from 0.5
    choice    the right choice                            correct at 1
    yes_no    the right word at the beginning             correct at 1
    free      the rule grader (`eval.grader`)             correct at 1
    summary   ROUGE-L                                     correct from 0.2

A span is also correct when it stands word for word in an answer of at most `SENTENCE_WORDS` words:
models that answer in sentences are not wrong for it. Nothing is fitted to anything: the thresholds
are conventions, and scores are kept beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from eval.grader import grade
from eval.items import AnswerType, Item
from eval.score import (
    as_list,
    chosen,
    exact_match,
    matched_list_f1,
    normalise_answer,
    numeric_match,
    rouge_l,
    token_f1,
    yes_or_no,
)
from minions.evidence.values import values_of

CORRECT_F1 = 0.5
"""As in the field's usual reading of a span that overlaps by half."""
SENTENCE_WORDS = 30
CORRECT_ROUGE_L = 0.2
"""Somewhat below what published systems reach on QMSum: the gist is there."""

Metrics = dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """An answer's worth."""

    score: float
    """The main metric, 0..1."""
    correct: bool
    scores: Metrics
    """Every metric that applies, the main one included."""


def score_answer(item: Item, answer: str | None) -> Scored:
    """What `answer` is worth; None is an abstention, which is all right or all wrong."""
    if not item.answerable:
        right = float(answer is None)
        return Scored(score=right, correct=bool(right), scores={"abstention": right})
    main, least = _MAIN[item.answer_type]
    if answer is None:
        return Scored(score=0.0, correct=False, scores={main: 0.0})
    scores = _METRICS[item.answer_type](item, answer)
    correct = scores[main] >= least or scores.get("stated") == 1
    return Scored(score=scores[main], correct=correct, scores=scores)


def _span(item: Item, answer: str) -> Metrics:
    golds = item.gold_answers
    return {
        "f1": token_f1(answer, golds),
        "exact": float(exact_match(answer, golds)),
        "stated": float(any(_states(answer, gold) for gold in golds)),
    }


def _states(answer: str, gold: str) -> bool:
    """The gold's words stand in a row in an answer of sentence length."""
    ours, theirs = normalise_answer(answer), normalise_answer(gold)
    return len(ours.split()) <= SENTENCE_WORDS and bool(theirs) and f" {theirs} " in f" {ours} "


def _number(item: Item, answer: str) -> Metrics:
    golds = item.gold_answers
    return {
        "numeric": float(any(_same_number(answer, gold, item.tolerance) for gold in golds)),
        "exact": float(exact_match(answer, golds)),
    }


def _same_number(answer: str, gold: str, tolerance: Decimal) -> bool:
    """Within the tolerance, and a year to the year: 2018 is within 1% of 2019."""
    is_year = all(quantity.looks_like_year for quantity in values_of(gold).quantities)
    return numeric_match(answer, gold, 0 if is_year else tolerance)


def _list(item: Item, answer: str) -> Metrics:
    whole = " ".join(item.gold_answers)
    return {
        "list_f1": matched_list_f1(as_list(answer), item.gold_answers, _same_item),
        "f1": token_f1(answer, whole),
    }


def _same_item(ours: str, gold: str) -> bool:
    """Word for word, or the same figure in another notation."""
    return normalise_answer(ours) == normalise_answer(gold) or numeric_match(ours, gold, 0)


def _choice(item: Item, answer: str) -> Metrics:
    place = chosen(answer, item.choices)
    right = place is not None and item.choices[place] in item.gold_answers
    return {"choice": float(right)}


def _yes_no(item: Item, answer: str) -> Metrics:
    wanted = {yes_or_no(gold) for gold in item.gold_answers} - {None}
    return {"yes_no": float(yes_or_no(answer) in wanted)}


def _free(item: Item, answer: str) -> Metrics:
    golds = item.gold_answers
    return {
        "graded": float(any(grade(item.question, gold, answer).correct for gold in golds)),
        "f1": token_f1(answer, golds),
    }


def _summary(item: Item, answer: str) -> Metrics:
    golds = item.gold_answers
    return {"rouge_l": rouge_l(answer, golds), "f1": token_f1(answer, golds)}


_METRICS: Mapping[AnswerType, Callable[[Item, str], Metrics]] = {
    AnswerType.SPAN: _span,
    AnswerType.NUMBER: _number,
    AnswerType.LIST: _list,
    AnswerType.CHOICE: _choice,
    AnswerType.YES_NO: _yes_no,
    AnswerType.FREE: _free,
    AnswerType.SUMMARY: _summary,
}
_MAIN: Mapping[AnswerType, tuple[str, float]] = {
    AnswerType.SPAN: ("f1", CORRECT_F1),
    AnswerType.NUMBER: ("numeric", 1.0),
    AnswerType.LIST: ("list_f1", CORRECT_F1),
    AnswerType.CHOICE: ("choice", 1.0),
    AnswerType.YES_NO: ("yes_no", 1.0),
    AnswerType.FREE: ("graded", 1.0),
    AnswerType.SUMMARY: ("rouge_l", CORRECT_ROUGE_L),
}
"""(main metric, least value that counts as correct)."""
