"""Answers of the cloud kept by their request, so that no evaluation pays twice for the same one.

The key is the destination and every byte that is sent; who asks, in which run, does not count. A
kept answer goes the product's whole way (ceiling, egress record, ledger), where it costs nothing
and keeps the usage of the call that was paid: the ledger says what was spent, and what it would
have cost can still be told.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minions.cloud.model import (
    AttemptOutcome,
    AttemptSink,
    CloudAttempt,
    CloudClient,
    CloudRequest,
    CloudResponse,
    CloudUsage,
    DeltaSink,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedCloud:
    """A `CloudClient` that asks another one only for what it has not kept."""

    client: CloudClient
    folder: Path
    """One JSON file per answer; made where it is missing."""

    @property
    def base_url(self) -> str:
        return self.client.base_url

    async def complete(
        self,
        request: CloudRequest,
        *,
        on_attempt: AttemptSink,
        on_delta: DeltaSink | None = None,
    ) -> CloudResponse:
        """See `CloudClient`. An answer is on disk before it is returned. Plain chats are passed on:
        no evaluation asks them."""
        if request.conversation is not None:
            return await self.client.complete(request, on_attempt=on_attempt, on_delta=on_delta)
        path = self._path(request)
        kept = await asyncio.to_thread(_read, path)
        if kept is None:
            response = await self.client.complete(request, on_attempt=on_attempt, on_delta=on_delta)
            await asyncio.to_thread(_write, path, response)
            return response
        response = _as_answer_to(request, kept)
        on_attempt(response.attempts[0])
        if on_delta is not None:
            on_delta(response.text)
        return response

    async def close(self) -> None:
        await self.client.close()

    def _path(self, request: CloudRequest) -> Path:
        identity = [
            self.base_url,
            request.model,
            request.instructions,
            request.content,
            request.max_output_tokens,
            request.json_object,
            request.temperature,
        ]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.json"


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def _write(path: Path, response: CloudResponse) -> None:
    """Whole or not at all; of two writers at once either's answer stays."""
    kept = {
        "text": response.text,
        "finish_reason": response.finish_reason,
        "usage": asdict(response.usage),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{response.idempotency_key}.part")
    part.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
    part.replace(path)


def _as_answer_to(request: CloudRequest, kept: dict[str, Any]) -> CloudResponse:
    usage = CloudUsage(**kept["usage"])
    attempt = CloudAttempt(
        idempotency_key=request.idempotency_key,
        attempt=1,
        model=request.model,
        outcome=AttemptOutcome.CACHED,
        usage=usage,
        sent=False,
    )
    return CloudResponse(
        idempotency_key=request.idempotency_key,
        model=request.model,
        text=kept["text"],
        finish_reason=kept["finish_reason"],
        usage=usage,
        attempts=(attempt,),
        elapsed_s=0.0,
    )
