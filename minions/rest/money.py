"""Money over HTTP: quotes, savings, what left the machine. Each caller sees their own."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BeforeValidator

from minions.app import App, chunk_tokens
from minions.egress import EgressReport, document_ids
from minions.errors import NotFound
from minions.estimate import estimate
from minions.rest.access import Asking
from minions.rest.bodies import EstimateBody
from minions.rest.errors import ERRORS, MAY_FAIL
from minions.rest.office import OfficeOf
from minions.rest.questions import question_of, run_of
from minions.savings import LocalRates, day_start, savings
from minions.settings import Settings
from minions.store.model import EgressEntry

router = APIRouter(prefix="/v1", tags=["money"], responses=ERRORS)
ALL_RUNS = 1_000_000


def _iso_day(value: object) -> object:
    """Unix times would do for a date as well, and nobody means that."""
    if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        raise ValueError("a day is written 2026-01-31")
    return value


UtcDay = Annotated[date, BeforeValidator(_iso_day)]


@router.post("/estimate", responses=MAY_FAIL)
async def quote(office: OfficeOf, caller: Asking, body: EstimateBody) -> dict[str, Any]:
    """Quote every rung of the ladder. No model is loaded and nothing is sent."""
    app = office.app
    question = await question_of(app, caller.owner, body)
    documents = [await app.store.get_document(i, caller.owner) for i in question.document_ids]
    result = await asyncio.to_thread(  # counts the tokens of whole documents
        estimate, question.text, documents, app.desk.terms, chunk_tokens(app.settings)
    )
    return {"object": "estimate", **result.to_json()}


@router.get("/savings")
async def get_savings(
    office: OfficeOf,
    caller: Asking,
    since: Annotated[
        UtcDay | None, Query(description="Only what was asked from this UTC day on.")
    ] = None,
) -> dict[str, Any]:
    """What was paid, what the cloud alone would have cost, and what this machine cost."""
    store = office.app.store
    begin = None if since is None else day_start(since.isoformat())
    ledger = await store.ledger(owner=caller.owner)
    runs = await store.list_runs(ALL_RUNS, caller.owner)
    result = savings(ledger, runs, local_rates(office.app.settings), begin)
    return {"object": "savings", **result.to_json()}


@router.get("/egress")
async def get_egress(
    office: OfficeOf,
    caller: Asking,
    question: Annotated[str | None, Query(max_length=200, description="Of one question.")] = None,
    show: Annotated[bool, Query(description="With the content of each call.")] = False,
) -> dict[str, Any]:
    """What left this machine: every call with its bytes, its pieces of documents, and where to."""
    run_id = None
    if question is not None:
        run_id = (await run_of(office, caller, question)).run_id
    calls = await office.app.store.egress(run_id, owner=caller.owner)
    report = EgressReport(calls=tuple(calls), names=await _names(office.app, caller.owner, calls))
    return {"object": "egress", **report.to_json(show=show)}


def local_rates(settings: Settings) -> LocalRates:
    """What an hour of reading costs, as far as the user says so."""
    return LocalRates(
        watts=settings.local_watts,
        usd_per_kwh=settings.usd_per_kwh,
        card_usd_per_hour=settings.card_usd_per_hour,
    )


async def _names(app: App, owner: str, calls: Sequence[EgressEntry]) -> dict[str, str]:
    names = {}
    for document_id in document_ids(calls):
        with contextlib.suppress(NotFound):  # deleted since: the record outlives it
            names[document_id] = (await app.store.document_summary(document_id, owner)).name
    return names
