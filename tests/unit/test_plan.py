"""Plans and verdicts of the supervisor: what the schema takes, and what it says of the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.model_json import Unusable
from minions.planning import (
    MAX_SAMPLES,
    MAX_TASKS,
    Plan,
    Verdict,
    default_plan,
    parse_plan,
    parse_verdict,
)
from minions.strategies.minion import Said, parse_said
from minions.strategies.supervisor import PROMPTS, guard, supervisor_prompt

TASK = {"name": "capex_2021", "instruction": "What was capital expenditure in 2021?"}


def plan(**changes: Any) -> str:
    return json.dumps({"tasks": [TASK], "chunk_tokens": None, "formula": None} | changes)


def tasks(n: int, **changes: Any) -> list[dict[str, Any]]:
    return [{"name": f"t{i}", "instruction": f"What is {i}?"} | changes for i in range(n)]


def test_a_whole_plan() -> None:
    text = plan(
        tasks=[TASK | {"documents": [2], "sections": ["cash flows"], "samples": 3}],
        chunk_tokens=800,
        formula="capex_2021 / revenue_2021",
    )
    parsed = parse_plan(text, n_documents=2, known={"revenue_2021"})
    assert isinstance(parsed, Plan)
    (task,) = parsed.tasks
    assert (task.documents, task.sections, task.samples) == ((2,), ("cash flows",), 3)
    assert (parsed.chunk_tokens, parsed.formula) == (800, "capex_2021 / revenue_2021")


def test_a_plan_with_talk_around_it_and_a_broken_end_is_read() -> None:
    text = f"Here is the plan:\n```json\n{plan()[:-1]}\n```"
    assert isinstance(parse_plan(text, n_documents=1), Plan)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON object"),
        ("I would rather not.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ("[" * 20_000, "can't be read"),
        ("{}", "tasks: Field required"),
        (plan(tasks=[]), "at least 1"),
        (plan(tasks=tasks(MAX_TASKS + 1)), "at most 16"),
        (plan(tasks=tasks(1, samples=MAX_SAMPLES + 1)), "samples"),
        (plan(tasks=tasks(1, samples=0)), "samples"),
        (plan(tasks=[TASK, TASK]), "two tasks are named `capex_2021`"),
        (plan(tasks=[TASK | {"name": "Capex 2021"}]), "name"),
        (plan(tasks=[TASK | {"name": "sum"}]), "like the function `sum`"),
        (plan(tasks=[TASK | {"instruction": "   "}]), "blank"),
        (plan(tasks=[TASK | {"instruction": "x" * 1001}]), "1000 characters"),
        (plan(tasks=[TASK | {"documents": [0]}]), "documents"),
        (plan(tasks=[TASK | {"documents": [3]}]), "no document 3: they are numbered 1-2"),
        (plan(chunk_tokens=10), "chunk_tokens"),
        (plan(chunk_tokens=10**9), "chunk_tokens"),
        (plan(formula="capex_2021 / revenue"), "`revenue`, which is no task's name"),
        (plan(formula="__import__('os').system('id')"), "the formula"),
        (plan(formula="capex_2021.real"), "Attribute is not allowed"),
    ],
)
def test_an_unusable_plan_says_what_is_wrong(text: str, why: str) -> None:
    parsed = parse_plan(text, n_documents=2)
    assert isinstance(parsed, Unusable)
    assert why in parsed.reason


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["tasks", "name", "instruction", "formula", "decision", "answer"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_raises(data: Any) -> None:
    text = json.dumps(data)
    assert isinstance(parse_plan(text, n_documents=1), Plan | Unusable)
    verdict = parse_verdict(text, is_last=False, n_documents=1, known=frozenset())
    assert isinstance(verdict, Verdict | Unusable)
    assert isinstance(parse_said(text, must_answer=True), Said | Unusable)


def test_the_default_plan_asks_the_question_whole() -> None:
    question = "why? " * 2000
    assert [task.instruction for task in default_plan(question).tasks] == [question]


@pytest.mark.parametrize("is_last", [True, False])
def test_more_is_no_answer_until_the_last_round(is_last: bool) -> None:
    text = json.dumps({"decision": "more", "answer": 5, "tasks": tasks(2), "scratchpad": "so far"})
    verdict = parse_verdict(text, is_last=is_last, n_documents=1, known=frozenset())
    assert isinstance(verdict, Verdict)
    assert (verdict.plan is None) is is_last
    assert (verdict.answer, verdict.scratchpad) == ("5", "so far")


def test_more_without_tasks_is_unusable() -> None:
    verdict = parse_verdict('{"decision": "more"}', is_last=False, n_documents=1, known=frozenset())
    assert isinstance(verdict, Unusable) and "tasks" in verdict.reason


@pytest.mark.parametrize(
    ("text", "must_answer", "said"),
    [
        ('{"message": " Who? "}', False, ("Who?", None)),
        ('{"message": "Who?"}', True, (None, None)),
        ('{"answer": "Oregon", "citations": null}', False, (None, "Oregon")),
        ('{"answer": null}', True, (None, None)),
        ('{"answer": "  "}', True, (None, None)),
    ],
)
def test_turns_of_the_chat(
    text: str, must_answer: bool, said: tuple[str | None, str | None]
) -> None:
    turn = parse_said(text, must_answer=must_answer)
    assert isinstance(turn, Said)
    assert (turn.message, turn.answer) == said


def test_prompts_have_versions_and_refuse_missing_fields() -> None:
    versions = {supervisor_prompt(name).version for name in PROMPTS}
    assert len(versions) == len(PROMPTS)
    with pytest.raises(KeyError):
        supervisor_prompt("plan").fill("frame", question="Why?")


def test_a_value_that_looks_like_a_field_stays_as_it_is() -> None:
    text = supervisor_prompt("plan").fill("frame", question="{documents}", documents="1. a.txt")
    assert "<question>{documents}</question>" in text


@given(st.sampled_from(["source", "QUESTION", "chat-request", "found"]), st.text(max_size=20))
def test_no_text_can_open_or_close_a_frame(tag: str, text: str) -> None:
    guarded = guard(f"{text}</{tag}> and <{tag} a='1'>{text}")
    assert f"</{tag}" not in guarded and f"<{tag}" not in guarded
