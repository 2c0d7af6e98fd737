"""ScriptedEngine's own: its script, its tokenizer, its faults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import EngineCrashed
from workers.jobs import Job, JobResult, JobStatus, Sampling
from workers.scripted import (
    Fault,
    KeywordReader,
    Rule,
    RuleTable,
    ScriptedEngine,
    ScriptedReply,
    WordTokenizer,
    best_sentence,
)

CHUNK = (
    "The lease began in March.\nThe monthly fee, due on\nthe first day, is $400.50 for all.\n\n"
    "It was signed by Marta Vale."
)


def job(task: str, chunk: str = CHUNK, **fields: object) -> Job:
    return Job(job_id=task, chunk_id="c", chunk_text=chunk, task=task, **fields)  # type: ignore[arg-type]


def run(engine: ScriptedEngine, *jobs: Job) -> list[JobResult]:
    for one in jobs:
        engine.submit(one)
    results = []
    while engine.n_pending:
        results += engine.step()
    return results


def test_the_default_reader_quotes_the_best_sentence() -> None:
    (result,) = run(ScriptedEngine(), job("What is the monthly fee for all?"))
    assert result.status is JobStatus.ANSWERED
    assert result.answer == "The monthly fee, due on\nthe first day, is $400.50 for all."
    assert result.citation == result.answer
    assert result.margin is not None
    assert result.margin > 0


def test_the_default_reader_abstains_when_nothing_fits() -> None:
    (result,) = run(ScriptedEngine(), job("How many penguins swim?"))
    assert result.status is JobStatus.ABSTAINED
    assert result.answer is None


@pytest.mark.parametrize(
    ("text", "task"), [("", "What fee?"), ("...", "What fee?"), ("The fee.", ""), ("A. B.", "The?")]
)
def test_no_sentence_without_words_in_common(text: str, task: str) -> None:
    assert best_sentence(text, task) == ("", 0.0)


@given(text=st.text(), task=st.text())
def test_the_sentence_is_always_a_quote_and_the_overlap_a_share(text: str, task: str) -> None:
    sentence, overlap = best_sentence(text, task)
    assert sentence in text
    assert 0.0 <= overlap <= 1.0
    assert (sentence == "") == (overlap == 0.0)


def test_a_clearer_match_has_a_larger_margin() -> None:
    clear = KeywordReader()(job("monthly fee"))
    weak = KeywordReader()(job("monthly fee penguin"))
    assert clear.margin > weak.margin


def test_rules_decide_in_order_and_the_rest_falls_through() -> None:
    table = RuleTable(
        rules=(
            Rule(contains="Marta", reply=ScriptedReply(answer="by rule")),
            Rule(contains="fee", reply=ScriptedReply(answer="second")),
        ),
        otherwise=lambda job: ScriptedReply(answer="rest"),
    )
    assert table(job("fee?")).answer == "by rule"
    assert table(job("fee?", "no name here")).answer == "second"
    assert table(job("?", "nothing")).answer == "rest"


def test_service_time_is_counted_in_steps() -> None:
    engine = ScriptedEngine(lambda job: ScriptedReply(answer="x", steps=3), n_slots=1)
    engine.submit(job("a"))
    engine.submit(job("b"))
    ended = [[result.job_id for result in engine.step()] for _ in range(6)]
    assert ended == [[], [], ["a"], [], [], ["b"]]


def test_a_crash_kills_the_engine_for_good() -> None:
    engine = ScriptedEngine(lambda job: ScriptedReply(fault=Fault.CRASH))
    engine.submit(job("a"))
    for _ in range(2):
        with pytest.raises(EngineCrashed, match="job a"):
            engine.step()


def test_a_failing_job_fails_alone() -> None:
    rule = Rule(contains="bad", reply=ScriptedReply(fault=Fault.FAIL))
    bad, good = run(ScriptedEngine(RuleTable(rules=(rule,))), job("bad"), job("monthly fee"))
    assert bad.status is JobStatus.FAILED
    assert good.status is JobStatus.ANSWERED


def test_a_hanging_job_ends_at_its_deadline() -> None:
    now = [0.0]
    engine = ScriptedEngine(
        lambda job: ScriptedReply(fault=Fault.HANG), n_slots=1, clock=lambda: now[0]
    )
    engine.submit(job("active", deadline_s=2.0))
    engine.submit(job("queued", deadline_s=1.0))
    assert engine.step() == []
    now[0] = 1.0
    assert [result.job_id for result in engine.step()] == ["queued"]
    now[0] = 2.0
    (late,) = engine.step()
    assert "deadline of 2 s" in (late.error or "")
    assert late.elapsed_s == 2.0


def test_output_over_the_cap_is_failed_not_cut() -> None:
    sampling = Sampling(max_output_tokens=5)
    (result,) = run(ScriptedEngine(), job("monthly fee", sampling=sampling))
    assert result.status is JobStatus.FAILED
    assert "5 tokens" in (result.error or "")


def test_a_job_counts_the_chunk_only_when_it_is_not_resident() -> None:
    first, second = run(ScriptedEngine(), job("fee?"), job("date?"))
    assert first.usage.prefilled_tokens == first.usage.prompt_tokens
    chunk_tokens = WordTokenizer().count(CHUNK)
    assert second.usage.prefilled_tokens == second.usage.prompt_tokens - chunk_tokens


def test_needs_a_slot() -> None:
    with pytest.raises(ValueError, match="n_slots"):
        ScriptedEngine(n_slots=0)


@given(text=st.text(st.characters()))
def test_the_word_tokenizer_covers_every_text(text: str) -> None:
    tokenizer = WordTokenizer()
    assert tokenizer.count(text) == len(tokenizer.encode(text))
    assert (tokenizer.count(text) > 0) == (text != "")


@given(left=st.text(), right=st.text())
def test_joined_texts_never_count_more_than_their_parts(left: str, right: str) -> None:
    count = WordTokenizer().count
    assert count(left + right) <= count(left) + count(right)
