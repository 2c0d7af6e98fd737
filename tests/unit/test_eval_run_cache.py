"""Kept answers of the cloud: bought once, told apart by every byte, free and counted later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eval.response_cache import CachedCloud
from minions.cloud.model import AttemptOutcome, CloudUsage, Conversation
from minions.cloud.recorded import RecordedCloud, Recording
from minions.errors import CloudUnavailable
from tests.cloud import Ear, cloud_request
from workers import Message, Role

USAGE = CloudUsage(prompt_tokens=80, cached_tokens=16, completion_tokens=30)
FIRST = Recording(text='{"answer": "New York"}', usage=USAGE)
SECOND = Recording(text='{"answer": "Ohio"}', usage=USAGE)


def kept(folder: Path, *recordings: Recording) -> tuple[CachedCloud, RecordedCloud]:
    inner = RecordedCloud(recordings)
    return CachedCloud(client=inner, folder=folder / "kept"), inner


async def test_the_second_asker_gets_the_first_ones_answer(tmp_path: Path) -> None:
    cloud, inner = kept(tmp_path, FIRST, SECOND)
    one, other = Ear(), Ear()
    bought = await one.call(cloud, cloud_request())
    again, _ = kept(tmp_path, SECOND)  # another process
    for asked in (cloud, again):
        request = cloud_request()
        found = await other.call(asked, request, stream=True)
        assert (found.text, found.finish_reason) == (bought.text, bought.finish_reason)
        assert found.idempotency_key == request.idempotency_key
        assert found.usage == bought.usage == found.attempts[0].usage
        assert found.attempts[0].outcome is AttemptOutcome.CACHED and not found.attempts[0].sent
    assert len(inner.requests) == 1
    assert (one.outcomes, other.outcomes) == (["ok"], ["cached", "cached"])
    assert other.deltas == [bought.text, bought.text]


@pytest.mark.parametrize(
    "change",
    [
        {"content": "another question"},
        {"instructions": "another task"},
        {"model": "another-model"},
        {"max_output_tokens": 401},
        {"json_object": False},
        {"temperature": None},
    ],
)
async def test_another_request_is_bought(tmp_path: Path, change: dict[str, Any]) -> None:
    cloud, inner = kept(tmp_path, FIRST, SECOND)
    await Ear().call(cloud, cloud_request())
    found = await Ear().call(cloud, cloud_request(**change))
    assert found.text == SECOND.text and len(inner.requests) == 2


async def test_failures_are_not_kept(tmp_path: Path) -> None:
    cloud, _ = kept(tmp_path, Recording(outcome=AttemptOutcome.SERVER_ERROR), FIRST)
    with pytest.raises(CloudUnavailable):
        await Ear().call(cloud, cloud_request())
    assert (await Ear().call(cloud, cloud_request())).text == FIRST.text


async def test_chats_are_passed_on(tmp_path: Path) -> None:
    cloud, inner = kept(tmp_path, FIRST, SECOND)
    chat = Conversation(messages=(Message(role=Role.USER, content="Hello"),))
    for _ in range(2):
        await Ear().call(cloud, cloud_request(conversation=chat))
    assert len(inner.requests) == 2
