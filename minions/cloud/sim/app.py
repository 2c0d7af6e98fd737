"""The simulated provider over HTTP: OpenAI's routes, and `/sim/...` to direct it."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import itertools
import json
from collections.abc import Iterator
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from minions.cloud.sim import wire
from minions.cloud.sim.ledger import BilledCall, Completion
from minions.cloud.sim.plan import Fault, FaultKind, SimPlan
from minions.cloud.sim.provider import ApiError, SimProvider
from minions.cloud.sim.wire import ChatBody, Prompt, ResponsesBody

_EVENT_STREAM = "text/event-stream"
_POLL_S = 0.05
_NOT_JSON = "<html><body>502 Bad Gateway</body></html>"


class CutResponse(Response):
    """Sends its body and then closes the connection as if there were more."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [item for item in self.raw_headers if item[0] != b"content-length"]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})


def create_app(plan: SimPlan) -> FastAPI:
    """One simulated provider with its own memory."""
    provider = SimProvider(plan)
    app = FastAPI(title="minions cloud-sim", dependencies=[Depends(_Door(plan.api_key))])
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_body)
    _add_openai_routes(app, provider)
    _add_control_routes(app, provider)
    return app


def _add_openai_routes(app: FastAPI, provider: SimProvider) -> None:
    numbers = itertools.count(1)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        data = [{"id": name, "object": "model", "owned_by": "sim"} for name in provider.models]
        return {"object": "list", "data": data}

    @app.post("/v1/chat/completions")
    async def chat(http: Request, body: ChatBody) -> Response:
        return await _answer(provider, http, body.prompt(), f"req_sim_{next(numbers)}")

    @app.post("/v1/responses")
    async def responses(http: Request, body: ResponsesBody) -> Response:
        return await _answer(provider, http, body.prompt(), f"req_sim_{next(numbers)}")


def _add_control_routes(app: FastAPI, provider: SimProvider) -> None:
    @app.post("/sim/faults")
    async def faults(queued: list[Fault]) -> dict[str, int]:
        return {"n_queued": provider.faults.extend(queued)}

    @app.get("/sim/ledger")
    async def ledger() -> dict[str, Any]:
        return {"calls": [_ledger_line(call) for call in provider.ledger.calls]}

    @app.post("/sim/reset")
    async def reset() -> dict[str, bool]:
        provider.reset()
        return {"reset": True}


async def _answer(
    provider: SimProvider, http: Request, prompt: Prompt, request_id: str
) -> Response:
    """One request, with the fault that is its turn."""
    fault = provider.faults.next()
    response = await _before_work(http, prompt, fault)
    if response is None:
        await asyncio.sleep(provider.plan.latency_s)
        key = http.headers.get("idempotency-key")
        done, replayed = await provider.complete(prompt, key, fault)
        response = _deliver(prompt, done, fault)
        response.headers["x-sim-replayed"] = str(replayed).lower()
    response.headers["x-request-id"] = request_id
    return response


async def _before_work(http: Request, prompt: Prompt, fault: Fault | None) -> Response | None:
    """The reply to a request that fails before anything is done for it; None to go on."""
    kind = fault.kind if fault else None
    if fault and kind is FaultKind.RATE_LIMIT:
        return _rate_limited(fault)
    if kind is FaultKind.SERVER_ERROR:
        return _error_response(500, "The server had an error.", code="server_error")
    if kind is FaultKind.DROP_CONNECTION:
        return CutResponse(media_type=_EVENT_STREAM if prompt.stream else "application/json")
    if kind is FaultKind.TIMEOUT:
        await _client_left(http)
        return Response(status_code=499)
    if fault and fault.delay_s is not None:
        await asyncio.sleep(fault.delay_s)
    return None


async def _client_left(http: Request) -> None:
    # ASGI tells of a client's leaving only to whoever asks: there is no event to wait for.
    while not await http.is_disconnected():  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)


def _rate_limited(fault: Fault) -> Response:
    response = _error_response(429, "Rate limit reached.", code="rate_limit_exceeded")
    if fault.retry_after_s is not None:
        response.headers["retry-after"] = str(fault.retry_after_s)
    if fault.retry_after_ms is not None:
        response.headers["retry-after-ms"] = str(fault.retry_after_ms)
    return response


def _deliver(prompt: Prompt, done: Completion, fault: Fault | None) -> Response:
    """Write the completion in the API and the form that were asked for, or botch that."""
    kind = fault.kind if fault else None
    if kind is FaultKind.INVALID_JSON:
        return Response(_NOT_JSON, media_type="text/html")
    with_usage = kind is not FaultKind.NO_USAGE
    if prompt.stream:
        events = list(_events(prompt, done, with_usage=with_usage and prompt.include_usage))
        if kind is FaultKind.CUT_STREAM:
            return CutResponse("".join(events[: len(events) // 2]), media_type=_EVENT_STREAM)
        return StreamingResponse(iter(events), media_type=_EVENT_STREAM)
    body = _body(prompt, done, with_usage=with_usage)
    if kind is FaultKind.CUT_STREAM:
        text = json.dumps(body)
        return CutResponse(text[: len(text) // 2], media_type="application/json")
    return JSONResponse(body)


def _body(prompt: Prompt, done: Completion, *, with_usage: bool) -> dict[str, Any]:
    write = wire.chat_body if prompt.api == "chat" else wire.responses_body
    return write(done, with_usage=with_usage)


def _events(prompt: Prompt, done: Completion, *, with_usage: bool) -> Iterator[str]:
    write = wire.chat_events if prompt.api == "chat" else wire.responses_events
    return write(done, with_usage=with_usage)


def _ledger_line(call: BilledCall) -> dict[str, Any]:
    done = call.completion
    return {
        "idempotency_key": call.idempotency_key,
        "api": call.api,
        "model": done.model,
        "finish_reason": done.finish_reason,
        "usage": dataclasses.asdict(done.usage),
        "n_replays": call.n_replays,
    }


class _Door:
    """Dependency of every route: lets in who holds the key."""

    def __init__(self, api_key: str | None) -> None:
        self._expected = None if api_key is None else f"Bearer {api_key}"

    def __call__(self, http: Request) -> None:
        given = http.headers.get("authorization", "")
        if self._expected is None or hmac.compare_digest(given.encode(), self._expected.encode()):
            return
        # The key is quoted back on purpose: there are servers that do, and clients must cope.
        shown = given.removeprefix("Bearer ")
        raise ApiError(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


async def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError), "registered for this type only"
    return _error_response(error.status, error.message, code=error.code, param=error.param)


async def _on_invalid_body(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for this type only"
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:])
    return _error_response(400, f"Invalid argument {param}: {first['msg']}", param=param)


def _error_response(
    status: int, message: str, *, code: str | None = None, param: str | None = None
) -> JSONResponse:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "code": code, "param": param}
    return JSONResponse({"error": error}, status_code=status)
