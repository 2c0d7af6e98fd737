"""Chat pages' own requests: recognised by their form, answered by rule, never mistaken."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.chat.housekeeping import housekeeping_reply

HISTORY = (
    "USER: How do heat pumps work in winter?\nEven at minus ten?\n"
    "ASSISTANT: They move heat: USER: is not a turn here.\n"
    "USER: Are heat pumps loud?"
)


def request(task: str, wanted: str, history: str = HISTORY) -> str:
    """In the form of Open WebUI's prompts."""
    return (
        f"### Task:\n{task}\n\n### Guidelines:\n- Be brief.\n\n### Output:\nJSON format: {wanted}\n"
        f"\n### Chat History:\n<chat_history>\n{history}\n</chat_history>"
    )


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        ('{ "title": "your title" }', {"title": "How do heat pumps work in"}),
        ('{ "tags": ["tag1", "tag2"] }', {"tags": ["Pumps", "Winter", "Minus"]}),
        ('{ "follow_ups": ["Question 1?"] }', {"follow_ups": []}),
        ('{ "queries": ["query1"] }', {"queries": []}),
        ('{\n  "text": "completion"\n}', {"text": ""}),
        ('{\n    "prompt": "Your description."\n}', {"prompt": "Are heat pumps loud?"}),
    ],
)
def test_each_kind_gets_the_json_that_it_wants(wanted: str, answer: dict[str, object]) -> None:
    reply = housekeeping_reply(request("Do something for the chat.", wanted))
    assert reply is not None and json.loads(reply) == answer


def test_a_title_may_be_wanted_without_json() -> None:
    prompt = request("Generate a concise, 3-5 word title.", "none").replace("JSON format: none", "")
    assert housekeeping_reply(prompt) == "How do heat pumps work in"


@pytest.mark.parametrize("history", ["", "ASSISTANT: Hello.", "no roles at all"])
def test_an_empty_history_has_a_title_and_a_tag(history: str) -> None:
    for wanted, answer in (
        ('{"title": "x"}', {"title": "New chat"}),
        ('{"tags": ["x"]}', {"tags": ["General"]}),
    ):
        reply = housekeeping_reply(request("Serve the chat.", wanted, history))
        assert reply is not None and json.loads(reply) == answer


@pytest.mark.parametrize(
    "message",
    [
        "What is a good title for my chat?",
        '### Task:\nReturn {"title": "..."} for this essay.',
        'What does <chat_history>USER: hi</chat_history> with "title": mean?',
        request("Judge this chat.", "a sentence"),
        "",
    ],
)
def test_what_a_person_asks_is_never_taken_for_it(message: str) -> None:
    assert housekeeping_reply(message) is None


@given(history=st.text(max_size=300))
def test_any_history_gives_json(history: str) -> None:
    for wanted in ('{"title": "x"}', '{"tags": ["x"]}', '{"prompt": "x"}'):
        reply = housekeeping_reply(request("Serve the chat.", wanted, history))
        assert reply is not None
        json.loads(reply)
