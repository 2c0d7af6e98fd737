"""A question followed as server-sent events, from any point, also after a restart.

`event:` names what happened, `id:` is its number in the run, `data:` a JSON object. Who comes back
says the last number that arrived (`Last-Event-ID`, or `?after=`) and misses nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from minions.event_json import ending
from minions.eventlog import DONE
from minions.rest.access import Asking
from minions.rest.errors import ERRORS, in_json
from minions.rest.office import Office, OfficeOf
from minions.rest.questions import QuestionId, run_of
from minions.store.model import RunRecord
from minions.store.rules import UNFINISHED
from minions.store.service import RunEvent

router = APIRouter(prefix="/v1/questions", tags=["questions"], responses=in_json(ERRORS))
RETRY_MS = 500
"""What browsers wait before they come back: less than the grace that the office gives."""


async def followed_run(office: OfficeOf, caller: Asking, question_id: QuestionId) -> RunRecord:
    """The caller's question; looked up before the stream begins, so that a wrong id is a 404."""
    return await run_of(office, caller, question_id)


def last_seen(
    after: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> int:
    """The number of the last event that the client has, 0 for none. What is no number is 0:
    browsers send back whatever they were given."""
    if after is not None:
        return after
    return int(last_event_id) if last_event_id and last_event_id.isdecimal() else 0


@router.get("/{question_id}/events", response_class=EventSourceResponse)
async def events(
    office: OfficeOf,
    run: Annotated[RunRecord, Depends(followed_run)],
    after: Annotated[int, Depends(last_seen)],
) -> AsyncGenerator[ServerSentEvent, None]:
    """Follow a question to its end. Leaving early cancels its work, unless it was asked for in the
    background or comes back within two seconds."""
    async with office.followed(run.run_id):
        await _complete(office, run)
        async for event in office.events.follow(run.run_id, after):
            yield _sse(event)


async def _complete(office: Office, run: RunRecord) -> None:
    """Give a run that ended elsewhere its last events: the command line keeps none."""
    if office.events.is_live(run.run_id) or run.status in UNFINISHED:
        return
    kept = await office.app.store.events(run.run_id)
    if kept and kept[-1].kind == DONE:
        return
    first = kept[-1].sequence + 1 if kept else 1
    await office.app.store.record_events(
        [
            RunEvent(run_id=run.run_id, sequence=first + n, kind=kind, data=data)
            for n, (kind, data) in enumerate(ending(run))
        ]
    )


def _sse(event: RunEvent) -> ServerSentEvent:
    return ServerSentEvent(
        event=event.kind, id=str(event.sequence), data=event.data, retry=RETRY_MS
    )
