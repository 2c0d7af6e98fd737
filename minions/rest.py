"""The REST face, first form: documents in, questions asked, replies fetched.

Errors use OpenAI's envelope everywhere: {"error": {"message", "type", "code"}}.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from fastapi import FastAPI, File, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from minions.app import App, open_app
from minions.documents import Document
from minions.errors import BadRequest, DocumentTooLarge, MinionsError
from minions.question import Options, Question, StrategyName
from minions.settings import Settings
from minions.store.model import RunRecord, RunStatus
from router import Rung


class InlineDocument(BaseModel):
    """A text given in the request itself."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, examples=["notes.txt"])
    text: str = Field(min_length=1)


class QuestionBody(BaseModel):
    """One question."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"question": "Which law governs?", "documents": ["doc_…"], "wait": True}]
        },
    )
    question: str = Field(min_length=1)
    documents: list[str | InlineDocument] = Field(min_length=1, description="Ids or inline texts.")
    strategy: StrategyName = StrategyName.LADDER
    privacy: Rung = Rung.DOCUMENT
    max_cost_usd: Decimal | None = Field(default=None, ge=0)
    target: float | None = Field(default=None, ge=0, le=1)
    value_usd: Decimal | None = Field(
        default=None, ge=0, description="What a right answer is worth; buys what pays off."
    )
    alpha: float | None = Field(
        default=None, gt=0, lt=1, description="Accepted loss against the cloud alone."
    )
    max_latency_s: float | None = Field(default=None, ge=0)
    redact: bool | None = Field(default=None, description="Hide personal data from the cloud.")
    wait: bool = Field(default=False, description="Answer in this response instead of 202.")


@dataclass(kw_only=True)
class Office:
    """The app and the questions that are being worked on in this process."""

    app: App
    tasks: dict[str, asyncio.Task[Any]] = field(default_factory=dict)

    def start(self, record: RunRecord) -> asyncio.Task[Any]:
        """Work on a run, once however often it is asked for."""
        task = self.tasks.get(record.run_id)
        if task is None:
            task = asyncio.create_task(self.app.desk.work(record))
            self.tasks[record.run_id] = task
            task.add_done_callback(lambda done: self._ended(record.run_id, done))
        return task

    def _ended(self, run_id: str, task: asyncio.Task[Any]) -> None:
        del self.tasks[run_id]
        if not task.cancelled():
            task.exception()  # its outcome is in the store; here it is only marked as seen

    async def close(self) -> None:
        """Stop what runs. The runs stay unfinished in the store; asking again resumes them."""
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application. Opens store and cloud at start, loads the worker at first need."""

    @contextlib.asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with open_app(settings) as app:
            office = Office(app=app)
            api.state.office = office
            try:
                yield
            finally:
                await office.close()

    api = FastAPI(title="Minions", version="0.1.0", lifespan=lifespan)
    # A page elsewhere must not reach this service through a name that it points at loopback.
    api.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    _add_errors(api)
    _add_documents(api)
    _add_questions(api)
    _add_health(api)
    return api


def office_of(request: Request) -> Office:
    office: Office = request.app.state.office
    return office


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(MinionsError)
    async def ours(_request: Request, error: MinionsError) -> JSONResponse:
        return envelope(error.status, str(error), error.code)

    @api.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return envelope(400, f"Invalid request: {wrong}", BadRequest.code)


def envelope(status: int, message: str, code: str) -> JSONResponse:
    """An error as OpenAI's clients expect it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status)


def _add_documents(api: FastAPI) -> None:
    @api.post("/v1/documents", status_code=201, tags=["documents"])
    async def upload(request: Request, file: UploadFile = File()) -> dict[str, Any]:  # noqa: B008
        """Upload a file (multipart field `file`). The same bytes are one document."""
        office = office_of(request)
        limit = office.app.limits.max_bytes
        data = await file.read(limit + 1)
        if len(data) > limit:
            raise DocumentTooLarge(
                f"{file.filename} is over the limit of {limit:,} bytes. Split the file."
            )
        return document_json(await office.app.add_document(data, file.filename or "document"))

    @api.get("/v1/documents/{document_id}", tags=["documents"])
    async def get_document(request: Request, document_id: str) -> dict[str, Any]:
        """What is known of a document."""
        return document_json(await office_of(request).app.store.get_document(document_id))


def document_json(document: Document) -> dict[str, Any]:
    """A document without its text."""
    return {
        "id": document.document_id,
        "object": "document",
        "name": document.name,
        "media_type": document.media_type,
        "bytes": document.n_bytes,
        "pages": len(document.pages),
        "characters": len(document.text),
        "warnings": list(document.warnings),
    }


def _add_questions(api: FastAPI) -> None:
    @api.post("/v1/questions", status_code=202, tags=["questions"])
    async def ask(request: Request, response: Response, body: QuestionBody) -> dict[str, Any]:
        """Ask. 202 with an id to fetch, or, with `wait`, 200 with the reply."""
        office = office_of(request)
        record = await office.app.desk.accept(await _question(office.app, body))
        task = office.start(record)
        response.headers["Location"] = f"/v1/questions/{record.run_id}"
        if body.wait:
            await asyncio.shield(task)
            response.status_code = 200
        return run_json(await office.app.store.get_run(record.run_id), office)

    @api.get("/v1/questions/{question_id}", tags=["questions"])
    async def get_question(request: Request, question_id: str) -> dict[str, Any]:
        """State of a question, with its reply once it is finished."""
        office = office_of(request)
        return run_json(await office.app.store.get_run(question_id), office)


async def _question(app: App, body: QuestionBody) -> Question:
    ids = []
    for item in body.documents:
        if isinstance(item, str):
            ids.append(item)
        else:
            document = await app.add_document(item.text.encode(), item.name)
            ids.append(document.document_id)
    options = Options(
        strategy=body.strategy,
        privacy=body.privacy,
        max_cost_usd=body.max_cost_usd,
        value_usd=body.value_usd,
        alpha=body.alpha,
        max_latency_s=body.max_latency_s,
        target=app.settings.target if body.target is None else body.target,
        redact=app.settings.redact if body.redact is None else body.redact,
    )
    return Question(
        text=body.question.strip(), document_ids=tuple(dict.fromkeys(ids)), options=options
    )


def run_json(record: RunRecord, office: Office) -> dict[str, Any]:
    """A run as clients see it. One that is unfinished but not worked on here was interrupted:
    asking the same question again takes it up."""
    status = record.status.value
    unfinished = record.status in (RunStatus.QUEUED, RunStatus.RUNNING)
    if unfinished and record.run_id not in office.tasks:
        status = "interrupted"
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


def _add_health(api: FastAPI) -> None:
    @api.get("/healthz", tags=["health"])
    async def alive() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @api.get("/readyz", tags=["health"])
    async def ready(request: Request) -> dict[str, str]:
        """The store answers, so questions can be accepted."""
        await office_of(request).app.store.list_runs(limit=1)
        return {"status": "ready"}
