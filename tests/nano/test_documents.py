"""Chunks of real documents: nothing lost, places inside, quotes around their values."""

from __future__ import annotations

import random

from workers.nano.documents import (
    Document,
    DocumentQuestion,
    Located,
    ask_in_window,
    chunk_spans,
    collapse_whitespace,
    fitting_quote,
    make_document,
    window_around,
)
from workers.nano.lookups import lookup_questions

TEXT = (
    "SERVICES AGREEMENT\n\nThis Agreement is made on March 3, 2011 by Hydron Inc. and Zeta LLC. "
    + " ".join(f"Section {i} says that item {i} costs {i * 7} dollars per year." for i in range(80))
    + '\n\nThis Agreement shall be governed by the laws of the State of Texas. "Products" means all'
    " goods that Hydron Inc. lists in Exhibit A."
)


class Words:
    """One token per word."""

    def encode(self, text: str) -> list[int]:
        return [0] * len(text.split())


def contract() -> Document:
    start = TEXT.index("Texas")
    value = (start, start + 5)
    law = DocumentQuestion(
        key="Governing Law",
        wordings=("Which law governs?",),
        places=(Located(value=value, quote=fitting_quote(TEXT, value)),),
    )
    return make_document("one", TEXT, [law], Words())


def test_chunks_cover_the_document_in_order() -> None:
    document = contract()
    spans = chunk_spans(document, 60)
    assert "".join(TEXT[a:b] for a, b in spans) == TEXT
    assert max(len(TEXT[a:b].split()) for a, b in spans) <= 61


def test_a_window_holds_its_place_and_asks_about_it() -> None:
    document = contract()
    law = document.questions[0]
    for seed in range(40):
        rng = random.Random(seed)
        window = window_around(document, law.places[0].value, rng, rng.randint(20, 200))
        asked = ask_in_window(law, law.wordings[0], window)
        assert asked is not None and asked.value_span is not None
        assert TEXT[slice(*window)][slice(*asked.value_span)] == "Texas"


def test_a_window_elsewhere_has_no_answer() -> None:
    document = contract()
    asked = ask_in_window(document.questions[0], "Which law governs?", (0, 200))
    assert asked is not None and not asked.answerable


def test_a_short_value_is_quoted_with_its_sentence() -> None:
    quote = contract().questions[0].places[0].quote
    shown = TEXT[slice(*quote)]
    assert shown == "This Agreement shall be governed by the laws of the State of Texas."


def test_collapsing_whitespace_moves_spans_along() -> None:
    text = "a  b\n\n  Texas   law"
    start = text.index("Texas")
    collapsed, spans = collapse_whitespace(text, [(start, start + 5)])
    assert collapsed == "a b Texas law"
    assert collapsed[slice(*spans[0])] == "Texas"


def test_lookups_point_into_the_text() -> None:
    asked = lookup_questions(TEXT, random.Random(3), 6)
    assert len(asked) >= 4
    for question in asked:
        assert question.value_span is not None and question.quote_span is not None
        assert 0 <= question.value_span[0] < question.value_span[1] <= len(TEXT)
