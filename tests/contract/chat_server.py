"""A real HTTP server that speaks the OpenAI chat API and answers from a script, for tests.

What it does to a request depends on a marker in its text:

    SERVER-ERROR   HTTP 500                    NOT-JSON     prose instead of JSON
    SLOW           no answer until the client  NOT-OPENAI   a web page with status 200
                   goes                        CUT          half of the JSON, finish_reason length
    NO-USAGE       no token counts             SHORT-READ   counts a tenth of the prompt's tokens
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from workers.chat import ChatJob, Message, Role, Tool, cut_at_stop
from workers.chat_wire import call_body
from workers.jobs import Job, Sampling
from workers.prompt import worker_prompt
from workers.scripted import KeywordReader, QuotingPartner, Script, ScriptedReply, ScriptedTurn
from workers.vocabulary import TiktokenTokenizer


@dataclass(kw_only=True)
class ChatServer:
    """The server's behaviour and what it saw."""

    script: Script = field(default_factory=KeywordReader)
    accepts_extras: bool = True
    """Whether response_format and logprobs are accepted, else HTTP 400."""
    model: str = "served-model"
    max_model_len: int | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    n_disconnected: int = 0
    """Slow requests whose client went away."""
    base_url: str = ""

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        text = "\n".join(message["content"] or "" for message in body["messages"])
        if "SERVER-ERROR" in text:
            return JSONResponse({"error": {"message": "out of memory"}}, status_code=500)
        if "NOT-OPENAI" in text:
            return HTMLResponse("<html>Welcome</html>")
        if not self.accepts_extras and "response_format" in body:
            return JSONResponse({"error": {"message": "unknown field"}}, status_code=400)
        if "SLOW" in text:
            await self._wait_for_disconnect(request)
        if body.get("stream"):
            return StreamingResponse(self._turn(body, text), media_type="text/event-stream")
        return JSONResponse(self._completion(body, text))

    def _turn(self, body: dict[str, Any], text: str) -> Iterator[str]:
        """A streamed turn of a conversation, as `QuotingPartner` answers it."""
        job = chat_job(body)
        turn = QuotingPartner()(job)
        pieces = ScriptedTurn(text=cut_at_stop(turn.text, job.stop)).pieces
        said = pieces[: job.sampling.max_output_tokens]
        yield self._event({"role": "assistant", "content": ""})
        for piece in said:
            yield self._event({"content": piece})
        for index, call in enumerate(turn.tool_calls):
            yield self._event({"tool_calls": [{"index": index, **call_body(call)}]})
        if "CUT" in text:
            return
        reason = "tool_calls" if turn.tool_calls else "stop"
        yield self._event({}, finish_reason="length" if len(said) < len(pieces) else reason)
        if "NO-USAGE" not in text:
            usage = _usage(body, "".join(said) or "{}", text)
            usage["prompt_tokens"] += len(json.dumps(body.get("tools", []))) // 4
            yield self._event(None, usage=usage)
        yield "data: [DONE]\n\n"

    def _event(self, delta: dict[str, Any] | None, **fields: Any) -> str:
        usage = fields.pop("usage", None)
        choices = [] if delta is None else [{"index": 0, "delta": delta, **fields}]
        head = {"id": "chat-1", "object": "chat.completion.chunk", "created": 0}
        event = {**head, "model": self.model, "choices": choices, "usage": usage}
        return f"data: {json.dumps(event)}\n\n"

    async def _wait_for_disconnect(self, request: Request) -> None:
        for _ in range(1000):
            if await request.is_disconnected():
                self.n_disconnected += 1
                return
            await asyncio.sleep(0.01)

    def _completion(self, body: dict[str, Any], text: str) -> dict[str, Any]:
        content = self._content(text)
        finish = "length" if "CUT" in text else "stop"
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": finish,
            "message": {"role": "assistant", "content": content},
        }
        if body.get("logprobs"):
            choice["logprobs"] = {"content": _token_logprobs(content)}
        completion = {
            "id": "chat-1",
            "object": "chat.completion",
            "created": 0,
            "model": self.model,
            "choices": [choice],
        }
        if "NO-USAGE" not in text:
            completion["usage"] = _usage(body, content, text)
        return completion

    def _content(self, text: str) -> str:
        if "NOT-JSON" in text:
            return "I believe that the fee is high."
        text = text.removeprefix(f"{worker_prompt().instructions}\n")
        chunk, _, task = text.rpartition(worker_prompt().between)
        reply = self.script(Job(job_id="", chunk_id="", chunk_text=chunk, task=task))
        content = _as_json(reply)
        return content[: len(content) // 3] if "CUT" in text else content

    def models(self) -> dict[str, Any]:
        about = {"id": self.model, "object": "model", "created": 0, "owned_by": "test"}
        if self.max_model_len is not None:
            about["max_model_len"] = self.max_model_len
        return {"object": "list", "data": [about]}


def chat_job(body: dict[str, Any]) -> ChatJob:
    """The conversation of a request."""
    choice = body.get("tool_choice", "auto")
    return ChatJob(
        job_id="",
        messages=tuple(_message(message) for message in body["messages"]),
        tools=tuple(Tool(name=tool["function"]["name"]) for tool in body.get("tools", [])),
        tool_choice=choice if isinstance(choice, str) else choice["function"]["name"],
        stop=tuple(body.get("stop", ())),
        sampling=Sampling(max_output_tokens=body["max_tokens"]),
    )


def _message(body: dict[str, Any]) -> Message:
    return Message(role=Role(body["role"]), content=body["content"] or "")


def _as_json(reply: ScriptedReply) -> str:
    return json.dumps({"answer": reply.answer, "citation": reply.citation}, ensure_ascii=False)


def _token_logprobs(content: str) -> list[dict[str, Any]]:
    """Tokens of one character; the best candidate is two nats ahead of the second."""
    return [
        {
            "token": char,
            "logprob": -0.25,
            "top_logprobs": [
                {"token": char, "logprob": -0.25},
                {"token": f"{char}?", "logprob": -2.25},
            ],
        }
        for char in content
    ]


def _usage(body: dict[str, Any], content: str, text: str) -> dict[str, int]:
    tokenizer = TiktokenTokenizer()
    prompt = sum(tokenizer.count(message["content"] or "") for message in body["messages"])
    prompt = prompt // 10 if "SHORT-READ" in text else prompt
    output = tokenizer.count(content)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
    }


def _app(server: ChatServer) -> FastAPI:
    app = FastAPI()
    app.add_api_route("/v1/chat/completions", server.complete, methods=["POST"])
    app.add_api_route("/v1/models", server.models, methods=["GET"])
    return app


@contextmanager
def serving(server: ChatServer) -> Iterator[ChatServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    config = uvicorn.Config(_app(server), log_level="critical", timeout_graceful_shutdown=1)
    http = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread = threading.Thread(target=http.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not http.started:
            time.sleep(0.005)
        try:
            yield server
        finally:
            http.should_exit = True
            thread.join()


def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
