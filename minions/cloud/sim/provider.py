"""The simulated provider itself: from a prompt to a billed completion, without HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import replace

from minions.cloud.model import CloudUsage
from minions.cloud.sim.answer import answer_text
from minions.cloud.sim.ledger import BilledCall, Completion, Ledger, PrefixCache
from minions.cloud.sim.plan import SIM_MODEL, Fault, FaultKind, FaultQueue, SimPlan
from minions.cloud.sim.wire import Prompt
from minions.cloud.tokens import encode, framing_tokens
from minions.cloud.wire import refuses_temperature
from workers.chat import cut_at_stop
from workers.vocabulary import o200k_base

_PROSE = "Well, having read all of this, I would say that it depends on how you look at it."
_REFUSAL = "I'm sorry, but I can't help with that."


class ApiError(Exception):
    """A request that is answered with OpenAI's error envelope."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


class SimProvider:
    """State of one server. Work is done one prompt at a time, in a thread."""

    def __init__(self, plan: SimPlan) -> None:
        self.plan = plan
        self.faults = FaultQueue(plan)
        self.ledger = Ledger()
        self._prefixes = PrefixCache()
        self._working = asyncio.Lock()

    @property
    def models(self) -> tuple[str, ...]:
        return self.plan.models or (SIM_MODEL,)

    def reset(self) -> None:
        """Forget all calls and prefixes; the faults are those of the plan again."""
        self.faults.reset()
        self.ledger = Ledger()
        self._prefixes = PrefixCache()

    async def complete(
        self, prompt: Prompt, key: str | None, fault: Fault | None
    ) -> tuple[Completion, bool]:
        """The completion, and whether it was replayed. Raises ApiError on a bad request.

        A replayed one is given as it was recorded, whatever `fault` says about its content.
        """
        self._check(prompt)
        async with self._working:
            digest = _digest(prompt)
            if known := self.ledger.replay(key if self.plan.replays else None):
                _check_same(known, digest)
                return known.completion, True
            done = await asyncio.to_thread(self._work, prompt, fault)
            self.ledger.bill(
                BilledCall(
                    completion=done, api=prompt.api, idempotency_key=key, prompt_digest=digest
                )
            )
            return done, False

    def _check(self, prompt: Prompt) -> None:
        if self.plan.models and prompt.model not in self.plan.models:
            raise ApiError(
                404, f"The model `{prompt.model}` does not exist.", code="model_not_found"
            )
        if prompt.temperature is not None and refuses_temperature(prompt.model):
            raise _unsupported("temperature", prompt.model)
        if prompt.limit_name == "max_tokens" and refuses_temperature(prompt.model):
            raise _unsupported("max_tokens", prompt.model)
        is_new = prompt.limit_name == "max_completion_tokens"
        if is_new and not self.plan.knows_max_completion_tokens:
            raise _unsupported("max_completion_tokens", prompt.model)
        if prompt.json_object and not any("json" in m.text.lower() for m in prompt.messages):
            raise ApiError(
                400,
                "The messages must contain the word 'json' to use json_object.",
                param="messages",
            )

    def _work(self, prompt: Prompt, fault: Fault | None) -> Completion:
        texts = [*prompt.tools, *(message.text for message in prompt.messages)]
        tokens = [token for text in texts for token in encode(text)]
        n_prompt = len(tokens) + framing_tokens(len(texts))
        self._check_length(prompt, n_prompt)
        text, finish_reason = _answer(prompt, fault)
        output = encode(text)
        if prompt.max_output_tokens is not None and len(output) > prompt.max_output_tokens:
            output = output[: prompt.max_output_tokens]
            text, finish_reason = o200k_base().decode(output), "length"
        usage = CloudUsage(
            prompt_tokens=n_prompt,
            cached_tokens=self._prefixes.take(tokens),
            completion_tokens=len(output),
        )
        return Completion(
            number=len(self.ledger.calls) + 1,
            created=int(time.time()),
            model=prompt.model,
            text=text,
            finish_reason=finish_reason,
            usage=usage,
            tool=prompt.tool if finish_reason == "tool_calls" else None,
        )

    def _check_length(self, prompt: Prompt, n_prompt: int) -> None:
        needed = n_prompt + (prompt.max_output_tokens or 0)
        if needed > self.plan.context_tokens:
            raise ApiError(
                400,
                f"This model's context is {self.plan.context_tokens} tokens; the messages and the "
                f"completion come to {needed}.",
                code="context_length_exceeded",
                param="messages",
            )


def _answer(prompt: Prompt, fault: Fault | None) -> tuple[str, str]:
    """Text and finish_reason, as the fault has it."""
    kind = fault.kind if fault else None
    if kind is FaultKind.REFUSAL:
        return _REFUSAL, "refusal"
    if kind is FaultKind.BAD_ANSWER:
        return _PROSE, "stop"
    if prompt.tool is not None:
        return "", "tool_calls"
    text = cut_at_stop(answer_text(prompt), prompt.stop)
    if kind is FaultKind.LENGTH:
        return text[: len(text) // 2], "length"
    return text, "stop"


def _digest(prompt: Prompt) -> str:
    """Of what the answer depends on: how it is delivered may differ between attempts."""
    asked = replace(prompt, stream=False, include_usage=False, limit_name=None)
    return hashlib.sha256(repr(asked).encode(errors="surrogatepass")).hexdigest()


def _check_same(known: BilledCall, digest: str) -> None:
    if known.prompt_digest != digest:
        raise ApiError(
            400,
            "This Idempotency-Key was used for a different request.",
            code="idempotency_key_in_use",
        )


def _unsupported(name: str, model: str) -> ApiError:
    return ApiError(
        400,
        f"Unsupported parameter: {json.dumps(name)} is not supported with {model}.",
        code="unsupported_parameter",
        param=name,
    )
