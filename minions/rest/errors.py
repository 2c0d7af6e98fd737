"""Errors over HTTP: OpenAI's envelope everywhere, and never a secret or a stack in it.

{"error": {"message", "type", "param", "code"}}
"""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.status import HTTP_405_METHOD_NOT_ALLOWED

from minions.errors import BadRequest, MinionsError, Unauthorized
from minions.telemetry.logs import masked
from workers import WorkerError

log = structlog.get_logger(__name__)

CODES = {
    400: BadRequest.code,
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
}
"""Of errors that the framework raises itself."""


class ErrorFacts(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """Every error's body."""

    error: ErrorFacts


def _described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorBody, "description": MEANINGS[status]} for status in statuses}


def in_json(responses: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """The same for routes whose success is no JSON: the framework would describe their errors in
    the type of the success."""
    schema = {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}
    content = {"application/json": {"schema": schema}}
    return {
        status: {"description": response["description"], "content": content}
        for status, response in responses.items()
    }


MEANINGS = {
    400: "The request is not what the API takes; the message says where.",
    401: "No key, or one that is unknown or revoked.",
    402: "A cap on money forbids it, or a price is unknown.",
    403: "The key lacks a scope, or the privacy ceiling forbids it.",
    404: "There is no such thing, or it belongs to another key.",
    413: "Larger than the limit that the message names.",
    422: "The file can't be read, or nobody here can do what is asked.",
    429: "Too many requests or questions: come back after `Retry-After` seconds.",
    499: "The client left, or the question was cancelled.",
    500: "A defect of the service.",
    502: "The cloud refused, or broke its protocol.",
    503: "The service is stopping, or its store, worker or cloud can't be used.",
}
ERRORS = _described(400, 401, 403, 404, 422, 429, 503)
"""What any route may answer."""
MAY_FAIL = _described(402, 413, 499, 500, 502)
"""What routes that read or ask may answer besides."""


def envelope(
    status: int, message: str, code: str, *, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An error as OpenAI's clients expect it."""
    return JSONResponse(error_json(status, message, code), status_code=status, headers=headers)


def error_json(status: int, message: str, code: str) -> dict[str, Any]:
    """The body of an error. A message that quotes a library may quote a key: none gets out."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": masked(message), "type": kind, "param": None, "code": code}}


def add_errors(api: FastAPI) -> None:
    """Give every kind of failure its envelope."""

    @api.exception_handler(MinionsError)
    async def ours(_request: Request, error: MinionsError) -> JSONResponse:
        return envelope(error.status, str(error), error.code, headers=_headers(error))

    @api.exception_handler(WorkerError)
    async def worker(_request: Request, error: WorkerError) -> JSONResponse:
        return envelope(503, str(error), "worker_failed")

    @api.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return envelope(400, f"Invalid request: {wrong}", BadRequest.code)

    @api.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> JSONResponse:
        code = CODES.get(error.status_code, "http_error")
        headers = dict(error.headers or {})
        if error.status_code == HTTP_405_METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods(request))
        return envelope(error.status_code, str(error.detail), code, headers=headers)

    @api.exception_handler(Exception)
    async def defect(_request: Request, error: Exception) -> JSONResponse:
        log.error("defect", exc_info=error)
        message = f"A defect of the service ({type(error).__name__}). Its log has more."
        return envelope(500, message, MinionsError.code)


def _methods(request: Request) -> list[str]:
    """What may be done with this path, by any of its routes: the first one knows only its own."""
    path = request.url.path
    described = request.app.openapi()["paths"].items()
    found = [methods for template, methods in described if _fits(template, path)]
    return sorted({method.upper() for methods in found for method in methods})


def _fits(template: str, path: str) -> bool:
    regex, _, _ = compile_path(template)
    return regex.fullmatch(path) is not None


def _headers(error: MinionsError) -> dict[str, str] | None:
    """What a status demands beside the body."""
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    wait_s = getattr(error, "retry_after_s", None)
    return None if wait_s is None else {"Retry-After": str(max(1, round(wait_s)))}
