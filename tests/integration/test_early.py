"""Answers before the end: told while reading goes on, enough to stop, or read before."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from minions.cloud.recorded import RecordedCloud
from minions.errors import BadRequest, BudgetExceeded, CeilingExceeded
from minions.events import DraftChanged, Event, JobEnded, ReadingStarted
from minions.question import Reply, StrategyName
from router import Rung
from tests.house import CONTRACT, House, open_house
from tests.integration.test_ladder import LAW, QUOTE, finds_the_law, recording
from workers import Effort, Job
from workers.scripted import ScriptedReply

FILLER = "The pumps are painted blue and are delivered on wooden pallets each Monday. " * 1500
LONG = CONTRACT + FILLER


def two_laws(job: Job) -> ScriptedReply:
    """Two places that contradict one another, both among the likeliest."""
    for state in ("Oregon", "Nevada"):
        if state in job.chunk_text:
            quote = QUOTE.replace("Oregon", state)
            return ScriptedReply(answer=state, citation=quote, margin=9.0)
    return ScriptedReply()


async def ask(house: House, text: str = LAW, **options: object) -> tuple[Reply, list[Event]]:
    seen: list[Event] = []
    reply = await house.desk.ask(house.question(text, **options), seen.append)
    return reply, seen


def read_now(events: list[Event]) -> list[JobEnded]:
    return [event for event in events if isinstance(event, JobEnded) and not event.cached]


async def test_a_draft_is_told_long_before_the_end(tmp_path: Path) -> None:
    async with open_house(tmp_path, script=finds_the_law, text=LONG) as house:
        reply, seen = await ask(house)
    first = next(event for event in seen if isinstance(event, DraftChanged))
    assert (first.answer, first.citations[0].quote) == ("Oregon", QUOTE)
    assert first.coverage < 0.05
    assert len(read_now(seen[: seen.index(first)])) < len(read_now(seen)) / 10
    assert reply.coverage == 1.0 and reply.jobs.skipped == 0


async def test_certain_enough_it_stops_and_says_what_was_read(tmp_path: Path) -> None:
    async with open_house(tmp_path, script=finds_the_law, text=LONG) as house:
        whole, _ = await ask(house, fresh=True)
        reply, seen = await ask(house, stop_early=True, fresh=True)
        entries = await house.store.ledger(reply.trace_id)
    assert (reply.answer, reply.rung) == ("Oregon", Rung.LOCAL)
    assert reply.p_correct >= 0.75
    assert 0 < reply.coverage < 0.3
    assert reply.jobs.skipped > reply.jobs.answered + reply.jobs.abstained
    results = reply.jobs.answered + reply.jobs.abstained + reply.jobs.failed
    assert results == len(read_now(seen)) == len(entries)
    assert results + reply.jobs.skipped == whole.jobs.answered + whole.jobs.abstained
    assert any("Reading stopped early" in warning for warning in reply.warnings)


@pytest.mark.parametrize(
    "question",
    ["List all parties of this agreement.", "Summarise the agreement.", "Is there a warranty?"],
)
async def test_questions_of_the_whole_text_are_read_to_the_end(
    tmp_path: Path, question: str
) -> None:
    async with open_house(tmp_path, script=finds_the_law, text=LONG) as house:
        reply, _ = await ask(house, question, stop_early=True)
    assert reply.coverage == 1.0 and reply.jobs.skipped == 0
    assert any("was read to the end" in warning for warning in reply.warnings)


async def test_with_two_answers_it_reads_on(tmp_path: Path) -> None:
    other = QUOTE.replace("Oregon", "Nevada")
    async with open_house(
        tmp_path, script=two_laws, text=f"{CONTRACT}\n{other}\n{FILLER}"
    ) as house:
        reply, _ = await ask(house, stop_early=True, strategy=StrategyName.LOCAL)
    assert reply.coverage == 1.0


async def test_an_abstention_is_no_reason_to_stop(tmp_path: Path) -> None:
    async with open_house(tmp_path, script=lambda job: ScriptedReply(), text=LONG) as house:
        reply, _ = await ask(house, stop_early=True)
    assert reply.abstained and reply.coverage == 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": StrategyName.CLOUD},
        {"strategy": StrategyName.MINIONS},
        {"alpha": 0.1},
        {"rung": Rung.PASSAGES},
    ],
)
async def test_wishes_that_contradict_stop_early_are_refused(
    tmp_path: Path, options: dict[str, object]
) -> None:
    async with open_house(tmp_path) as house:
        with pytest.raises(BadRequest, match="stop_early"):
            await ask(house, stop_early=True, **options)


async def test_what_was_read_for_the_same_question_is_not_read_again(tmp_path: Path) -> None:
    async with open_house(tmp_path, script=finds_the_law, text=LONG) as house:
        first, seen_first = await ask(house)
        again, seen_again = await ask(house, target=0.5)
        entries = await house.store.ledger(again.trace_id)
        fresh, seen_fresh = await ask(house, target=0.5, fresh=True)
    started = next(event for event in seen_again if isinstance(event, ReadingStarted))
    assert started.n_cached == started.n_jobs == len(started.chunks) == len(read_now(seen_first))
    assert read_now(seen_again) == [] and entries == []
    assert (again.answer, again.citations, again.coverage) == (first.answer, first.citations, 1.0)
    assert again.jobs == first.jobs
    assert len(read_now(seen_fresh)) == len(read_now(seen_first))
    assert fresh.answer == first.answer


async def test_a_cached_reading_may_stop_early_too(tmp_path: Path) -> None:
    async with open_house(tmp_path, script=finds_the_law, text=LONG) as house:
        await ask(house)
        reply, seen = await ask(house, stop_early=True)
    assert read_now(seen) == []
    assert reply.answer == "Oregon" and reply.coverage == 1.0


async def test_a_rung_can_be_bought_whatever_the_chances(tmp_path: Path) -> None:
    cloud = RecordedCloud([recording("Oregon", QUOTE)])
    async with open_house(tmp_path, client=cloud, script=finds_the_law) as house:
        local, _ = await ask(house)
        bought, seen = await ask(house, rung=Rung.PASSAGES)
    assert (local.rung, bought.rung) == (Rung.LOCAL, Rung.PASSAGES)
    assert len(cloud.requests) == 1 and read_now(seen) == []
    assert "you asked for the rung `passages`" in bought.reason


async def test_the_rung_local_buys_nothing_however_unsure_the_answer(tmp_path: Path) -> None:
    cloud = RecordedCloud([recording("Oregon", QUOTE)])
    async with open_house(tmp_path, client=cloud, script=finds_the_law) as house:
        reply, _ = await ask(house, rung=Rung.LOCAL, target=1.0)
    assert (reply.rung, reply.answer) == (Rung.LOCAL, "Oregon")
    assert "buy nothing" in reply.reason
    assert cloud.requests == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rung": Rung.DOCUMENT, "privacy": Rung.EVIDENCE}, CeilingExceeded),
        ({"rung": Rung.DOCUMENT, "max_cost_usd": Decimal(0)}, BudgetExceeded),
        ({"rung": Rung.DOCUMENT, "strategy": StrategyName.LOCAL}, BadRequest),
    ],
)
async def test_a_rung_asked_for_passes_no_limit(
    tmp_path: Path, options: dict[str, object], error: type[Exception]
) -> None:
    cloud = RecordedCloud([recording("Oregon", QUOTE)])
    async with open_house(tmp_path, client=cloud, script=finds_the_law) as house:
        with pytest.raises(error):
            await ask(house, **options)
    assert cloud.requests == []


async def test_reasoning_that_the_worker_can_not_do_is_refused(tmp_path: Path) -> None:
    async with open_house(tmp_path, script=finds_the_law) as house:
        with pytest.raises(BadRequest, match="effort"):
            await ask(house, effort=Effort.HIGH)
