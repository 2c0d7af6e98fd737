"""One plain turn through the whole house: who answers, what it costs, what leaves, what is kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minions.chat.desk import ChatDesk
from minions.chat.turn import ChatReply, Route, Turn
from minions.cloud.model import AttemptOutcome, CloudClient, CloudUsage
from minions.cloud.recorded import RecordedCloud, Recording
from minions.cloud.sim import FaultKind
from minions.errors import BadRequest, BeyondAbilities, CeilingExceeded, WorkerFailed
from minions.question import Options
from minions.store.model import LedgerEntry, RunStatus, Store
from router import Rung
from router.chat_profile import ChatProfile
from tests.cloud import fault, sim_running
from tests.house import open_house
from tests.unit.test_chat_router import profile
from workers import ChatJob, Message, Role, Tool, ToolCall
from workers.inline_pool import InlinePool
from workers.scripted import ChatScript, Fault, ScriptedEngine, ScriptedTurn

USAGE = CloudUsage(prompt_tokens=60, cached_tokens=10, completion_tokens=20)
OSLO = Recording(text="It is Oslo.", usage=USAGE)
WEATHER = Tool(name="weather", description="Tells the weather.", parameters={"type": "object"})
CALL = ToolCall(call_id="call_1", name="weather", arguments='{"city": "Oslo"}')


def says(text: str, **fields: object) -> ChatScript:
    turn = ScriptedTurn(text=text, **fields)  # type: ignore[arg-type]
    return lambda job: turn


HEDGES = says("I'm sorry, I don't know.")
KNOWS = says("The capital of Norway is Oslo.")


@dataclass
class Room:
    """A chat desk, what it keeps, and what a listener heard."""

    chat: ChatDesk
    store: Store
    heard: list[str] = field(default_factory=list)
    spoken: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, turn: Turn) -> ChatReply:
        return await self.chat.answer(turn, self.hear)

    def hear(self, piece: str) -> None:
        self.heard.append(piece)
        self.spoken.set()

    async def rows(self, kind: str) -> list[LedgerEntry]:
        return [row for row in await self.store.ledger() if row.kind == kind]


@contextlib.asynccontextmanager
async def room(
    folder: Path,
    script: ChatScript,
    cloud: CloudClient | None = None,
    *,
    chats: bool = True,
    learned: ChatProfile | None = None,
    share: float | None = None,
) -> AsyncIterator[Room]:
    pool = InlinePool(lambda: ScriptedEngine(chat_script=script, chats=chats))

    async def open_pool() -> InlinePool:
        return pool

    async with open_house(folder, client=cloud) as house:
        desk = replace(house.desk, open_pool=open_pool)
        try:
            chat = ChatDesk(desk=desk, profile=learned, share=share)
            yield Room(chat=chat, store=house.store)
        finally:
            await pool.close()


def turn(*messages: Message, **fields: object) -> Turn:
    said = messages or (Message(role=Role.USER, content="Which city is the capital of Norway?"),)
    return Turn(messages=said, **fields)  # type: ignore[arg-type]


# ---- who answers ----


async def test_a_good_local_answer_costs_nothing(tmp_path: Path) -> None:
    cloud = RecordedCloud([])
    async with room(tmp_path, KNOWS, cloud) as house:
        reply = await house.ask(turn())
        (row,) = await house.rows("local")
        (run,) = await house.store.list_runs()
        trace = await house.store.get_trace(run.run_id)
    assert reply.text == "".join(house.heard) == "The capital of Norway is Oslo."
    assert reply.reply["rung"] == "local" and reply.reply["cost"]["cloud_usd"] == 0
    assert reply.reply["cost"]["savings_ratio"] == 1 and cloud.requests == []
    assert (reply.usage.prompt, reply.usage.completion) == (
        row.prompt_tokens,
        row.completion_tokens,
    )
    assert run.status is RunStatus.FINISHED and run.reply is not None
    assert {**run.reply, **reply.reply} == run.reply, "what was told is kept"
    assert [step["name"] for step in trace["steps"]] == [
        "turn",
        "forecast",
        "load worker",
        "decide",
        "draft",
        "decide",
    ]


async def test_a_doubtful_draft_is_bought_anew_and_never_heard(tmp_path: Path) -> None:
    cloud = RecordedCloud([OSLO])
    async with room(tmp_path, HEDGES, cloud) as house:
        reply = await house.ask(turn(temperature=0.5))
        (egress,) = await house.store.egress()
        rows = [*await house.rows("local"), *await house.rows("cloud")]
    (request,) = cloud.requests
    assert reply.text == "".join(house.heard) == "It is Oslo." and reply.model == "gpt-4.1"
    assert (reply.reply["rung"], request.temperature) == ("evidence", 0.5)
    assert egress.content == request.sent and b"capital of Norway" in egress.content
    assert len(rows) == 2 and reply.usage.cached == 10
    assert reply.usage.prompt == sum(row.prompt_tokens for row in rows)


async def test_a_high_target_asks_the_cloud_at_once(tmp_path: Path) -> None:
    async with room(tmp_path, KNOWS, RecordedCloud([OSLO])) as house:
        reply = await house.ask(turn(options=Options(target=0.95)))
        assert await house.rows("local") == []
    assert reply.text == "It is Oslo."


async def test_what_a_right_answer_is_worth_decides(tmp_path: Path) -> None:
    async with room(tmp_path, HEDGES, RecordedCloud([OSLO])) as house:
        worthless = Options(value_usd=Decimal("0.000001"))
        reply = await house.ask(turn(options=worthless))
    assert reply.reply["rung"] == "local"


@pytest.mark.parametrize(
    ("fields", "closed"),
    [
        ({"route": Route.LOCAL}, "minions-local"),
        ({"options": Options(privacy=Rung.LOCAL)}, "ceiling"),
        ({"options": Options(max_cost_usd=Decimal("0.000001"))}, "may cost up to"),
        ({"options": Options(max_latency_s=0.5)}, "takes about"),
    ],
)
async def test_wishes_keep_a_turn_at_home(
    tmp_path: Path, fields: dict[str, object], closed: str
) -> None:
    cloud = RecordedCloud([OSLO])
    async with room(tmp_path, HEDGES, cloud) as house:
        reply = await house.ask(turn(**fields))
        assert await house.store.egress() == []
    assert reply.text == "I'm sorry, I don't know." and cloud.requests == []
    assert closed in reply.reply["reason"]
    assert len(house.heard) > 3, "with nobody else to ask, the draft is streamed as it is written"


async def test_the_route_to_the_cloud_does_not_pass_a_ceiling(tmp_path: Path) -> None:
    cloud = RecordedCloud([OSLO])
    async with room(tmp_path, KNOWS, cloud) as house:
        with pytest.raises(CeilingExceeded, match="privacy ceiling"):
            await house.ask(turn(route=Route.CLOUD, options=Options(privacy=Rung.LOCAL)))
        reply = await house.ask(turn(route=Route.CLOUD))
    assert reply.text == "It is Oslo." and len(cloud.requests) == 1


async def test_what_a_tool_brought_in_counts_as_a_document(tmp_path: Path) -> None:
    messages = (
        Message(role=Role.USER, content="What does my diary say?"),
        Message(role=Role.ASSISTANT, content="", tool_calls=(CALL,)),
        Message(role=Role.TOOL, content="Dear diary.", tool_call_id="call_1"),
    )
    cloud = RecordedCloud([OSLO])
    async with room(tmp_path, HEDGES, cloud) as house:
        kept = await house.ask(turn(*messages, options=Options(privacy=Rung.PASSAGES)))
        assert cloud.requests == []
        sent = await house.ask(turn(*messages, options=Options(privacy=Rung.DOCUMENT)))
    assert (kept.reply["rung"], sent.reply["rung"]) == ("local", "document")


# ---- workers that can't ----


async def test_without_anyone_who_chats_the_error_tells_the_fix(tmp_path: Path) -> None:
    async with room(tmp_path, KNOWS, chats=False) as house:
        with pytest.raises(BeyondAbilities, match="Send a document along") as told:
            await house.ask(turn())
        (run,) = await house.store.list_runs()
    assert "no cloud is set up" in str(told.value) and "--model gpt-oss-20b" in str(told.value)
    assert run.status is RunStatus.FAILED and run.error == {
        "code": "beyond_abilities",
        "message": str(told.value),
    }


async def test_a_worker_that_only_extracts_leaves_the_turn_to_the_cloud(tmp_path: Path) -> None:
    cloud = RecordedCloud([OSLO])
    async with room(tmp_path, KNOWS, cloud, chats=False) as house:
        assert (await house.ask(turn())).text == "It is Oslo."
        with pytest.raises(BeyondAbilities, match="privacy ceiling"):
            await house.ask(turn(options=Options(privacy=Rung.LOCAL)))
    assert len(cloud.requests) == 1


async def test_a_worker_that_fails_is_stood_in_for_or_told(tmp_path: Path) -> None:
    fails = says("", fault=Fault.FAIL)
    async with room(tmp_path, fails, RecordedCloud([OSLO])) as house:
        assert (await house.ask(turn())).text == "It is Oslo."
        with pytest.raises(WorkerFailed, match="lets this job fail"):
            await house.ask(turn(route=Route.LOCAL))
        assert [row.outcome for row in await house.rows("local")] == ["failed", "failed"]


async def test_a_cloud_that_fails_leaves_the_draft(tmp_path: Path) -> None:
    broken = RecordedCloud([Recording(outcome=AttemptOutcome.RATE_LIMITED)])
    async with room(tmp_path, HEDGES, broken) as house:
        reply = await house.ask(turn())
        (row,) = await house.rows("cloud")
    assert reply.text == "I'm sorry, I don't know." == "".join(house.heard)
    assert any("could not help" in warning for warning in reply.reply["warnings"])
    assert row.outcome == "rate_limited" and row.cost_nano_usd == 0


# ---- tools ----


async def test_tools_go_to_the_cloud_and_its_calls_come_back(tmp_path: Path) -> None:
    cloud = RecordedCloud([Recording(finish_reason="tool_calls", tool_calls=(CALL,), usage=USAGE)])
    async with room(tmp_path, HEDGES, cloud) as house:
        reply = await house.ask(
            turn(route=Route.CLOUD, tools=(WEATHER,), tool_choice="weather", stop=("END",))
        )
    (request,) = cloud.requests
    assert request.conversation is not None
    assert request.conversation.tools == (WEATHER,)
    assert (request.conversation.tool_choice, request.conversation.stop) == ("weather", ("END",))
    assert (reply.tool_calls, reply.finish_reason) == ((CALL,), "tool_calls")


async def test_local_calls_come_back_one_at_a_time_where_that_is_wanted(tmp_path: Path) -> None:
    two = says("", tool_calls=(CALL, replace(CALL, call_id="call_2")))
    async with room(tmp_path, two) as house:
        both = await house.ask(turn(tools=(WEATHER,)))
        first = await house.ask(turn(tools=(WEATHER,), parallel_tool_calls=False))
    assert (len(both.tool_calls), len(first.tool_calls)) == (2, 1)


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_conversation_with_tools_over_either_api(tmp_path: Path, api: str) -> None:
    messages = (
        Message(role=Role.SYSTEM, content="Be brief."),
        Message(role=Role.USER, content="Does it rain in Oslo?"),
        Message(role=Role.ASSISTANT, content="I look.", tool_calls=(CALL,)),
        Message(role=Role.TOOL, content="It rains in Oslo.", tool_call_id="call_1"),
    )
    with sim_running() as sim:
        async with room(tmp_path, HEDGES, sim.cloud(api=api)) as house:  # type: ignore[arg-type]
            told = await house.ask(turn(*messages, route=Route.CLOUD, tools=(WEATHER,)))
            asked = await house.ask(
                turn(route=Route.CLOUD, tools=(WEATHER,), tool_choice="required")
            )
            rows = await house.rows("cloud")
            sent = await house.store.egress()
        billed = sim.ledger()
    assert told.text == "It rains in Oslo." == "".join(house.heard)
    (call,) = asked.tool_calls
    assert (call.name, call.arguments, asked.finish_reason) == ("weather", "{}", "tool_calls")
    assert [row.prompt_tokens for row in rows] == [b["usage"]["prompt_tokens"] for b in billed]
    assert b"It rains in Oslo." in sent[0].content and b"weather" in sent[0].content


# ---- what must hold whatever happens ----


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    ceiling=st.sampled_from(Rung),
    cap=st.none() | st.decimals(min_value=0, max_value="0.02", places=6),
    route=st.sampled_from(Route),
    with_tool_result=st.booleans(),
    script=st.sampled_from([HEDGES, KNOWS, says("", fault=Fault.FAIL)]),
    chats=st.booleans(),
)
async def test_no_ceiling_and_no_cap_is_ever_passed(
    tmp_path: Path,
    ceiling: Rung,
    cap: Decimal | None,
    route: Route,
    with_tool_result: bool,
    script: Callable[[ChatJob], ScriptedTurn],
    chats: bool,
) -> None:
    messages = [Message(role=Role.USER, content="Which city is the capital of Norway?")]
    if with_tool_result:
        called = Message(role=Role.ASSISTANT, content="", tool_calls=(CALL,))
        messages += [called, Message(role=Role.TOOL, content="Oslo", tool_call_id="call_1")]
    options = Options(privacy=ceiling, max_cost_usd=cap)
    cloud = RecordedCloud([OSLO])
    async with room(tmp_path, script, cloud, chats=chats) as house:
        with contextlib.suppress(BeyondAbilities, CeilingExceeded, WorkerFailed):
            await house.ask(turn(*messages, route=route, options=options))
        rows = await house.rows("cloud")
    needed = Rung.DOCUMENT if with_tool_result else Rung.EVIDENCE
    if not ceiling.allows(needed) or route is Route.LOCAL:
        assert cloud.requests == [] and rows == []
    spent = sum(row.cost_nano_usd or 0 for row in rows)
    assert cap is None or spent <= cap * 10**9


async def test_hidden_values_are_put_back_before_anybody_hears_them(tmp_path: Path) -> None:
    cloud = RecordedCloud([Recording(text="Write to [EMAIL_1].", usage=USAGE)])
    said = Message(role=Role.USER, content="Where do I reach Ann, at ann@example.org?")
    async with room(tmp_path, HEDGES, cloud) as house:
        reply = await house.ask(
            turn(said, route=Route.CLOUD, options=Options(redact=True), tools=(WEATHER,))
        )
        (egress,) = await house.store.egress()
    assert b"ann@example.org" not in egress.content and b"[EMAIL_1]" in egress.content
    assert reply.text == "Write to ann@example.org." == "".join(house.heard)
    assert reply.reply["cost"]["redacted"] == {"EMAIL": 1}


async def test_an_answer_that_broke_off_is_heard_once(tmp_path: Path) -> None:
    fact = Message(role=Role.SYSTEM, content="The capital city of Norway is Oslo, by the fjord.")
    asked = Message(role=Role.USER, content="Which city is the capital of Norway?")
    with sim_running() as sim:
        sim.fail_with(fault(FaultKind.CUT_STREAM))
        async with room(tmp_path, HEDGES, sim.cloud()) as house:
            reply = await house.ask(turn(fact, asked, route=Route.CLOUD))
            outcomes = [row.outcome for row in await house.rows("cloud")]
    assert reply.text == fact.content == "".join(house.heard)
    assert outcomes == ["cut_stream", "ok"]


async def test_a_cancelled_turn_frees_the_worker_and_is_on_record(tmp_path: Path) -> None:
    async with room(tmp_path, says("never ends", fault=Fault.HANG)) as house:
        talking = asyncio.create_task(house.ask(turn()))
        await asyncio.wait_for(house.spoken.wait(), 10)
        talking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await talking
        (run,) = await house.store.list_runs()
        (row,) = await house.rows("local")
        assert await house.store.get_trace(run.run_id)
    assert run.status is RunStatus.CANCELLED
    assert (row.outcome, row.usage_reported) == ("cancelled", False)


async def test_a_turn_that_a_crash_cut_off_is_told_as_failed(tmp_path: Path) -> None:
    async with room(tmp_path, says("never ends", fault=Fault.HANG)) as house:
        talking = asyncio.create_task(house.ask(turn()))
        await asyncio.wait_for(house.spoken.wait(), 10)
        (run,) = await house.store.list_runs()
        assert await house.chat.desk.resume(run) is None
        again = await house.store.get_run(run.run_id)
        talking.cancel()
        await asyncio.wait({talking})
    assert again.status is RunStatus.FAILED and "Ask again" in (again.error or {})["message"]


# ---- what was learned ----


async def test_a_profile_decides_for_its_own_pair_of_models(tmp_path: Path) -> None:
    ours = replace(profile(), weak_model="scripted", strong_model="gpt-4.1")
    async with room(tmp_path, KNOWS, RecordedCloud([OSLO]), learned=ours) as house:
        reply = await house.ask(turn(options=Options(target=0.65)))
    assert reply.reply["p_correct_source"] == "calibrated"
    assert reply.reply["rung"] == "evidence", "it gives this question .60 at home and .70 there"


async def test_a_profile_of_other_models_is_refused_aloud(tmp_path: Path) -> None:
    async with room(tmp_path, KNOWS, learned=profile()) as house:
        reply = await house.ask(turn())
    assert reply.reply["p_correct_source"] == "prior"
    assert any("fitted for small and large" in w for w in reply.reply["warnings"])


async def test_a_promise_without_labels_is_refused(tmp_path: Path) -> None:
    async with room(tmp_path, KNOWS) as house:
        with pytest.raises(BadRequest, match="alpha needs documents"):
            await house.ask(turn(options=Options(alpha=0.1)))
        assert await house.store.list_runs() == []


async def test_a_share_of_questions_goes_by_the_order_of_any_profile(tmp_path: Path) -> None:
    """Its forecast gain here is .10; its questions' gains fall from 1 to 0 evenly."""
    asked = turn()
    async with room(
        tmp_path, HEDGES, RecordedCloud([OSLO]), learned=profile(), share=0.95
    ) as house:
        among = await house.ask(asked)
    async with room(tmp_path, HEDGES, RecordedCloud([OSLO]), learned=profile(), share=0.5) as house:
        rest = await house.ask(asked)
        assert len(house.heard) > 3, "what is not looked at again is streamed"
    assert (among.reply["rung"], rest.reply["rung"]) == ("evidence", "local")
    assert among.reply["warnings"] == [] and "not among the 50%" in rest.reply["reason"]
