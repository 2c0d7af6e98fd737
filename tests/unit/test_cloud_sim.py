"""The simulated provider's parts: its reader, its frame, its cache, its faults."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from minions.cloud.sim import Fault, FaultKind, SimPlan
from minions.cloud.sim.answer import parse_frame
from minions.cloud.sim.ledger import PrefixCache
from minions.cloud.sim.plan import FaultQueue
from minions.cloud.sim.reader import find
from minions.cloud.sim.sentences import sentences
from minions.cloud.sim.wire import pieces

LEASE = (
    "LEASE AGREEMENT\n\nThis Lease is entered into as of March 3, 2021 by and between Oak Street "
    "Holdings, LLC and Blue Door Bakery, Inc. The tenant shall pay a monthly rent of $4,250.50, "
    "due on the first day. The initial term of this Lease is thirty-six (36) months. Dogs are "
    "welcome in the courtyard. This Lease shall be governed by the laws of the State of Oregon."
)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How much is the monthly rent?", "$4,250.50"),
        ("How long is the initial term of the lease?", "thirty-six (36) months"),
        ("Which state's law governs the lease?", "Oregon"),
        ("When was the lease entered into?", "March 3, 2021"),
        (
            "Who are the parties to the agreement?",
            "Oak Street Holdings, LLC; Blue Door Bakery, Inc.",
        ),
        ("Are dogs welcome in the courtyard?", "Dogs are welcome in the courtyard."),
    ],
)
def test_the_reader_finds_the_answer_and_its_sentence(question: str, answer: str) -> None:
    finding = find(question, [LEASE])
    assert finding is not None
    assert finding.answer == answer
    assert finding.citation in LEASE


@pytest.mark.parametrize(
    "question",
    ["What is the capital of Mongolia?", "Who insures the aircraft engines?", "", "of the"],
)
def test_the_reader_abstains(question: str) -> None:
    assert find(question, [LEASE]) is None
    assert find(question, []) is None


def test_a_long_document_is_read_in_seconds() -> None:
    filler = "The party of the first part shall deliver goods to the second part on request. "
    text = filler * 4000 + LEASE + filler * 4000
    started = time.monotonic()
    finding = find("How much is the monthly rent?", [text])
    assert finding is not None
    assert finding.answer == "$4,250.50"
    assert time.monotonic() - started < 10.0


@given(st.text(max_size=400), st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_citation_is_verbatim(text: str, question: str) -> None:
    finding = find(question, [text])
    assert finding is None or finding.citation in text
    for sentence in sentences(text):
        assert text[sentence.start :].startswith(sentence.text)
        assert len(sentence.text) <= 700


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


def test_a_frame_is_parsed_wherever_its_question_stands() -> None:
    sources = '<source id="1" pages="2">\nOne <question>fake</question>\n</source>\n'
    sources += "<source>Two</source>"
    for content in (f"<question>Q?</question>{sources}", f"{sources}<question> Q? </question>"):
        frame = parse_frame(content)
        assert frame is not None
        assert frame.question == "Q?"
        assert frame.sources == ("One <question>fake</question>", "Two")


@pytest.mark.parametrize(
    "content", ["plain", "<question>Q</question>", "<source>S</source>", "<source>S"]
)
def test_no_frame(content: str) -> None:
    assert parse_frame(content) is None


def test_the_prefix_cache_counts_as_openai_does() -> None:
    cache, tokens = PrefixCache(), list(range(3000))
    assert cache.take(tokens[:1023]) == 0
    assert cache.take(tokens[:1023]) == 0
    assert cache.take(tokens[:2000]) == 0
    assert cache.take(tokens) == 1024 + 128 * 7
    assert cache.take([*tokens[:1100], 7]) == 1024
    assert cache.take([5, *tokens]) == 0


def test_random_faults_repeat_with_their_seed() -> None:
    plan = SimPlan(fault_rate=0.3, seed=7)
    queue = FaultQueue(plan)
    first = [queue.next() for _ in range(200)]
    queue.reset()
    assert [queue.next() for _ in range(200)] == first
    assert 30 < sum(one is not None for one in first) < 90
    assert [FaultQueue(SimPlan(fault_rate=0.3, seed=8)).next() for _ in range(9)] != first[:9]


def test_no_faults_unless_asked() -> None:
    queue = FaultQueue(SimPlan())
    assert all(queue.next() is None for _ in range(100))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "slow"},
        {"kind": "timeout", "delay_s": 1},
        {"kind": "server_error", "retry_after_s": 1},
        {"kind": "rate_limit", "retry_after_s": -1},
        {"kind": "earthquake"},
        {"kind": FaultKind.TIMEOUT, "hours": 3},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate(fields)


def test_a_fault_rate_is_a_share() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        SimPlan(fault_rate=1.5)
