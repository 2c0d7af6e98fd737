"""Questions over HTTP: ask, wait or come back, see what came of it, cancel, climb."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from minions.app import App
from minions.errors import BadRequest, Contradiction, NotFound
from minions.question import Options, Question, StrategyName
from minions.rest.access import Asking, Caller
from minions.rest.bodies import BuyBody, InlineDocument, QuestionBase, QuestionBody
from minions.rest.errors import ERRORS, MAY_FAIL
from minions.rest.following import following, own_run
from minions.rest.idempotency import IdempotencyKey, claimed_id
from minions.rest.listing import WantedOf, list_json
from minions.rest.office import Office, OfficeOf, Work
from minions.store.model import RunRecord
from minions.store.rules import UNFINISHED
from router import Rung

router = APIRouter(prefix="/v1/questions", tags=["questions"], responses=ERRORS)
QuestionId = Annotated[str, Path(max_length=200, examples=["run_0123456789abcdef01234567"])]
INTERRUPTED = "interrupted"


@router.post(
    "", status_code=202, responses={200: {"description": "With `wait`: the reply."}, **MAY_FAIL}
)
async def ask(
    request: Request,
    office: OfficeOf,
    caller: Asking,
    response: Response,
    body: QuestionBody,
    key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Ask. 202 with an id to fetch or to follow, or, with `wait`, 200 with the reply."""
    began = time.time()
    with office.room():
        claimed = await claimed_id(
            office.app.store, caller.owner, key, body.model_dump_json(), "run"
        )
        question = await question_of(office.app, caller.owner, body)
        record = await office.app.desk.accept(question, caller.owner, claimed)
        task = _started(office, record, began, background=body.background)
    response.headers["Location"] = f"/v1/questions/{record.run_id}"
    if body.wait:
        await answered(office, request, record.run_id, task)
        response.status_code = 200
    return run_json(await office.app.store.get_run(record.run_id), office)


@router.get("")
async def list_questions(office: OfficeOf, caller: Asking, wanted: WantedOf) -> dict[str, Any]:
    """Your questions, the newest first."""
    runs = await office.app.store.run_page(caller.owner, wanted)
    return list_json(runs, lambda run: run_json(run, office))


@router.get("/{question_id}")
async def get_question(office: OfficeOf, caller: Asking, question_id: QuestionId) -> dict[str, Any]:
    """State of a question, with its reply once it is finished."""
    return run_json(await run_of(office, caller, question_id), office)


@router.get("/{question_id}/trace")
async def get_trace(office: OfficeOf, caller: Asking, question_id: QuestionId) -> dict[str, Any]:
    """Every hop, job, decision and cloud call of a question, once its work has stopped. Before
    that, and after its document was deleted, there are no steps."""
    run = await run_of(office, caller, question_id)
    try:
        return await office.app.store.get_trace(run.run_id)
    except NotFound:
        return {"trace_id": run.run_id, "began_at": run.created_at, "elapsed_s": 0, "steps": []}


@router.post("/{question_id}/cancel")
async def cancel(office: OfficeOf, caller: Asking, question_id: QuestionId) -> dict[str, Any]:
    """Give a question up. Its local and cloud work has stopped when this answers; what has an
    outcome already keeps it."""
    run = await run_of(office, caller, question_id)
    await office.cancel(run.run_id)
    return run_json(await office.app.store.get_run(run.run_id), office)


@router.post("/{question_id}/buy", status_code=202, responses=MAY_FAIL)
async def buy(
    office: OfficeOf,
    caller: Asking,
    response: Response,
    question_id: QuestionId,
    body: BuyBody,
    key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Ask the same once more, and climb to a rung at once. What was read is not read again."""
    began = time.time()
    asked = await run_of(office, caller, question_id)
    wanted = f"{asked.run_id} {body.rung}"
    with office.room():
        claimed = await claimed_id(office.app.store, caller.owner, key, wanted, "run")
        question = climbing(Question.from_json(asked.question), body)
        record = await office.app.desk.accept(question, caller.owner, claimed)
        # A purchase that was clicked goes on though the page is closed: it is paid for.
        _started(office, record, began, background=True)
    response.headers["Location"] = f"/v1/questions/{record.run_id}"
    return run_json(await office.app.store.get_run(record.run_id), office)


def climbing(question: Question, body: BuyBody) -> Question:
    """The same question, to be answered at this rung. Raises Contradiction past its own ceiling."""
    options = question.options
    if body.rung is Rung.LOCAL:
        raise Contradiction(
            "The rung `local` costs nothing and can't be bought: name a higher one."
        )
    if not options.privacy.allows(body.rung):
        raise Contradiction(
            f"The question was asked with the privacy ceiling `{options.privacy}`, so the rung "
            f"`{body.rung}` can't be bought for it. Ask anew with a higher ceiling."
        )
    wishes = replace(
        options, strategy=StrategyName.LADDER, rung=body.rung, stop_early=False, fresh=False
    )
    return _checked(replace(question, options=wishes))


async def run_of(office: Office, caller: Caller, question_id: str) -> RunRecord:
    """The caller's question. Raises NotFound, also for what belongs to others."""
    return await own_run(office.app.store, caller.owner, question_id)


async def answered(office: Office, request: Request, run_id: str, task: Work | None) -> None:
    """Wait for the end of a run, or until the client leaves. Raises what the run failed with."""
    if task is None:
        return
    async with office.followed(run_id):
        gone = asyncio.create_task(_client_left(request))
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
    if task.done() and not task.cancelled():
        task.result()


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _started(office: Office, record: RunRecord, began: float, *, background: bool) -> Work | None:
    """The work for a record; None for one that has its outcome, which a repeated key may bring.
    One that is younger than its request (`began`, Unix time) is new."""
    if record.status not in UNFINISHED:
        return None
    return office.start(record, background=background, is_new=record.created_at >= began)


async def question_of(app: App, owner: str, body: QuestionBase) -> Question:
    """What a body asks, with inline texts kept as documents of the owner. Raises NotFound."""
    asked = body.question.strip()
    question = Question(
        text=asked,
        document_ids=await _document_ids(app, owner, body),
        options=_options(app, body),
        follows=body.follows,
    )
    if body.follows is not None:
        text = following(question, await own_run(app.store, owner, body.follows))
        question = replace(question, text=text, asked=None if text == asked else asked)
    return _checked(question)


def _checked(question: Question) -> Question:
    """The question, unless its wishes exclude one another. Raises Contradiction."""
    try:
        question.options.check()
    except BadRequest as error:
        raise Contradiction(str(error)) from error
    return question


async def _document_ids(app: App, owner: str, body: QuestionBase) -> tuple[str, ...]:
    if body.collection is not None:
        ids = (await app.store.get_collection(body.collection, owner)).document_ids
        if not ids:
            raise Contradiction(
                f"The collection {body.collection} is empty: its documents are gone."
            )
        return ids
    found = []
    for item in body.documents or ():
        if isinstance(item, InlineDocument):
            text = item.text.encode(errors="replace")
            found.append((await app.add_document(text, item.name, owner)).document_id)
        else:
            found.append(item)
    return tuple(dict.fromkeys(found))


def _options(app: App, body: QuestionBase) -> Options:
    return Options(
        strategy=body.strategy,
        privacy=body.privacy,
        max_cost_usd=body.max_cost_usd,
        value_usd=body.value_usd,
        alpha=body.alpha,
        max_latency_s=body.max_latency_s,
        target=app.settings.target if body.target is None else body.target,
        redact=app.settings.redact if body.redact is None else body.redact,
        stop_early=body.stop_early,
        rung=body.rung,
        effort=body.effort,
        fresh=body.fresh,
    )


def run_json(record: RunRecord, office: Office) -> dict[str, Any]:
    """A run as clients see it. One that is unfinished and not worked on here was interrupted, or
    another process has it: asking the same question again takes it up."""
    status = record.status.value
    if record.status in UNFINISHED and record.run_id not in office.tasks:
        status = INTERRUPTED
    return {
        "id": record.run_id,
        "object": "question",
        "status": status,
        "question": record.question,
        "reply": record.reply,
        "error": record.error,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }
