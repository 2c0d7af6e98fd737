"""A turn while it is answered: pieces, silence, failure, and clients that leave."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from minions.chat.turn import ChatReply
from minions.errors import BadRequest
from minions.rest.openai_answer import Say
from minions.rest.openai_stream import Answering, failure_json

DONE = ChatReply(run_id=None, model="m", text="ab", finish_reason="stop")


async def two_pieces(say: Say) -> ChatReply:
    say("a")
    await asyncio.sleep(0.05)
    say("b")
    return DONE


async def fails(say: Say) -> ChatReply:
    raise BadRequest("This is wrong.")


async def test_the_pieces_come_in_order_and_then_the_whole() -> None:
    answering = Answering(work=two_pieces)
    assert [piece async for piece in answering.pieces()] == ["a", "b"]
    assert answering.task.result() is DONE


async def test_a_silence_is_filled() -> None:
    answering = Answering(work=two_pieces, keepalive_s=0.01)
    pieces = [piece async for piece in answering.pieces()]
    assert pieces[0] == "a" and pieces[-1] == "b" and "" in pieces


async def test_an_early_failure_is_told_before_the_stream_begins() -> None:
    with pytest.raises(BadRequest, match="This is wrong"):
        await Answering(work=fails).begin()


async def test_the_first_piece_begins_the_stream() -> None:
    async def speaks_and_waits(say: Say) -> ChatReply:
        say("a")
        await asyncio.Event().wait()
        return DONE

    answering = Answering(work=speaks_and_waits)
    await asyncio.wait_for(answering.begin(), 0.5)
    async with aclosing(answering.pieces()) as pieces:
        assert await anext(pieces) == "a"
    assert answering.task.cancelled(), "who leaves the stream gives the turn up"


def test_a_defect_shows_its_kind_and_no_more() -> None:
    told = failure_json(KeyError("sk-secret"))["error"]
    assert "KeyError" in told["message"] and "secret" not in told["message"]
    assert failure_json(BadRequest("Wrong."))["error"]["message"] == "Wrong."
