"""Documents in a conversation: long texts set apart, and the question about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.chat.conversation import (
    Attachment,
    Said,
    leans,
    question_of,
    set_long_texts_apart,
)
from minions.errors import BadRequest
from workers import Message, Role

LONG = "The pump costs 4,250 dollars. " * 40
LIMIT = 100


def said(content: str, role: Role = Role.USER) -> Said:
    return Said(message=Message(role=role, content=content))


def apart(*conversation: Said) -> list[Said]:
    return set_long_texts_apart(conversation, LIMIT, lambda text: len(text.split()))


@pytest.mark.parametrize(
    "message",
    [
        f"{LONG}\n\nWhat does it cost?",
        f"What does it cost?\n\n{LONG}",
        f"What does it cost?\n\n{LONG}\n\nKind regards",
        f"{LONG}\nWhat does it cost?",
        f"### Task:\nAnswer?\n\n{LONG}\n\n<user_query>\nWhat does it cost?\n</user_query>",
    ],
)
def test_the_question_is_told_from_the_text(message: str) -> None:
    (one,) = apart(said(message))
    assert one.message.content == "What does it cost?"
    (text,) = one.attachments
    assert text.name == "message-1.txt" and text.data is not None
    assert LONG.strip() in text.data.decode()


NOTE = (
    '<attached_files>\n<file type="file" id="f1" url="f1" name="offer.pdf"/>\n</attached_files>\n\n'
)


def found(*sources: tuple[str, str], question: str = "What does it cost?") -> str:
    """A question as Open WebUI sends it, with the texts that it found."""
    inside = "\n".join(f'<source id="1" name="{name}">{text}</source>' for name, text in sources)
    return f"### Task:\nRespond to the query.\n\n<context>\n{inside}\n</context>\n\n{question}"


def test_what_a_chat_page_puts_around_a_question_is_taken_off() -> None:
    sources = (("a&amp;b.pdf", LONG), ("c.txt", "Short."), ("a&amp;b.pdf", "The end."))
    asked = f"{NOTE}What does it cost?"
    (first,), (later,) = apart(said(found(*sources, question=asked))), apart(said(found(*sources)))
    assert first.message.content == later.message.content == "What does it cost?"
    assert first.attachments == later.attachments
    assert [(file.name, file.data) for file in first.attachments] == [
        ("a&b.pdf.txt", f"{LONG.strip()}\n\nThe end.".encode()),
        ("c.txt", b"Short."),
    ]


def test_a_note_about_files_is_no_part_of_what_was_asked() -> None:
    earlier, answer = said(f"{NOTE}Which law governs?"), said("Oregon", Role.ASSISTANT)
    conversation = apart(earlier, answer, said("Why is that?"))
    assert question_of(conversation) == (
        "Why is that? (Asked before: Which law governs? Answer: Oregon)"
    )


@pytest.mark.parametrize(
    "message",
    [
        f"My own words.\n\n{found(('a.txt', LONG))}",
        found(("a.txt", LONG)).replace("<context>\n", "<context>\nMy own words."),
        found(("a.txt", LONG)).replace("</source>", "</source> My own words."),
        found(("a.txt", LONG)).replace("</source>", " My own words."),
    ],
)
def test_no_words_are_lost_where_the_wrapping_is_another(message: str) -> None:
    (one,) = apart(said(message))
    (text,) = one.attachments
    assert text.name == "message-1.txt" and text.data is not None
    assert "My own words." in text.data.decode()


def test_short_texts_and_the_models_own_words_stay() -> None:
    conversation = (said("short"), said(LONG, Role.ASSISTANT), said(LONG, Role.TOOL))
    assert apart(*conversation) == list(conversation)


def test_a_long_system_text_is_a_document() -> None:
    system, user = apart(said(LONG, Role.SYSTEM), said("What does it cost?"))
    assert system.attachments and system.message.content == ""
    assert question_of([system, user]).startswith("What does it cost?")


def test_files_that_came_along_stay() -> None:
    file = Attachment(name="a.pdf", document_id="doc_1")
    message = Message(role=Role.USER, content=f"{LONG}\n\nWhy?")
    (one,) = apart(Said(message=message, attachments=(file,)))
    assert [attachment.name for attachment in one.attachments] == ["a.pdf", "message-1.txt"]


def test_a_text_without_a_question_is_refused_with_the_fix() -> None:
    with pytest.raises(BadRequest, match="first or last paragraph"):
        question_of(apart(said(LONG)))


def test_the_user_speaks_last() -> None:
    with pytest.raises(BadRequest, match="`assistant`"):
        question_of([said("What?"), said("That.", Role.ASSISTANT)])


def test_a_question_that_leans_brings_the_turn_before_along() -> None:
    conversation = [
        said("Which state's laws govern the lease?"),
        said("Oregon " * 100, Role.ASSISTANT),
        said("And who signed it then?"),
    ]
    question = question_of(conversation)
    assert question.startswith("And who signed it then? (Asked before: Which state's laws")
    assert "Answer: Oregon" in question and len(question) < 500


def test_a_question_that_stands_alone_stays_alone() -> None:
    asked = "Which company delivers the pumps in March?"
    assert question_of([said("What?"), said("A.", Role.ASSISTANT), said(asked)]) == asked


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What about Oregon?", True),
        ("Why?", True),
        ("How long does it take to deliver?", True),
        ("What does that mean?", True),
        ("And in the other years?", True),
        ("And who pays for that?", True),
        ("And who pays for late delivery?", False),
        ("Which state's laws govern this agreement?", False),
        ("And who must give notice of termination?", False),
        ("What does the company report as its net revenue for 2021 in total?", False),
        ("Which law governs the supply agreement?", False),
    ],
)
def test_leaning(question: str, expected: bool) -> None:
    assert leans(question) is expected


@given(content=st.text(max_size=600))
def test_nothing_that_was_said_gets_lost(content: str) -> None:
    """Every word is either in what stays or in the document."""
    (one,) = set_long_texts_apart([said(content)], 20, len)
    assert sorted(content.encode(errors="replace").decode().split()) == sorted(
        word for part in (one.message.content, *_texts(one)) for word in part.split()
    )


def _texts(one: Said) -> list[str]:
    return [(file.data or b"").decode() for file in one.attachments]
