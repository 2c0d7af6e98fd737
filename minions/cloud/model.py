"""What crosses the seam to a cloud model, and the seam itself."""

from __future__ import annotations

import enum
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Protocol

from workers import Effort, Message, Tool, ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudUsage:
    """Tokens as the provider counts them, from its usage field; never estimated silently."""

    prompt_tokens: int = 0
    """All input tokens, cached ones included."""
    cached_tokens: int = 0
    """Part of `prompt_tokens` that was read from the provider's cache."""
    completion_tokens: int = 0
    """All output tokens, reasoning included."""
    reasoning_tokens: int = 0
    """Part of `completion_tokens`."""

    def __add__(self, other: CloudUsage) -> CloudUsage:
        return CloudUsage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """A plain chat as it goes to the cloud: all turns, and the tools of the client."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of a tool."""
    parallel_tool_calls: bool = True
    stop: tuple[str, ...] = ()
    effort: Effort | None = None
    """None leaves it to the model."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that a model reads of it."""
        said = [message.content for message in self.messages]
        calls = [call for message in self.messages for call in message.tool_calls]
        called = [f"{call.name} {call.arguments}" for call in calls]
        return (*said, *called, *(json.dumps(asdict(tool)) for tool in self.tools))


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudRequest:
    """One call: what is sent, byte for byte, and how long it may take."""

    model: str
    instructions: str
    """System message."""
    content: str
    """User message."""
    max_output_tokens: int
    json_object: bool = True
    """Ask the provider for a JSON object."""
    temperature: float | None = 0.0
    """None where the model refuses the parameter."""
    idempotency_key: str
    """Same key, same call: sent as `Idempotency-Key`, and the journal's key."""
    timeout_s: float = 120.0
    conversation: Conversation | None = None
    """Sent in place of `instructions` and `content`, which are then empty."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the call, as they are counted."""
        if self.conversation is not None:
            return self.conversation.texts
        return (self.instructions, self.content)

    @property
    def sent(self) -> bytes:
        """All text that leaves the machine with this call, as it is put on record."""
        return "\n\n".join(self.texts).encode(errors="surrogatepass")

    @property
    def n_bytes(self) -> int:
        """Bytes of text that leave the machine with this call."""
        return sum(len(text.encode(errors="surrogatepass")) for text in self.texts)


class AttemptOutcome(enum.StrEnum):
    """How one HTTP attempt ended."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    CUT_STREAM = "cut_stream"
    REFUSED_REQUEST = "refused_request"
    """4xx: wrong key, unknown model, too long; not tried again."""
    INVALID_RESPONSE = "invalid_response"
    """2xx with a body that is not what the API promises."""
    CANCELLED = "cancelled"
    """The caller left before the answer; the provider may bill what it had done by then."""
    CACHED = "cached"
    """No call was made: the answer to the very same request was kept from before. Costs nothing;
    its usage is that of the call that was paid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudAttempt:
    """One HTTP attempt, for the ledger: failed ones too."""

    idempotency_key: str
    attempt: int
    """From 1."""
    model: str
    outcome: AttemptOutcome
    usage: CloudUsage | None
    """None where the provider reported none (failed before a usage field)."""
    status_code: int | None = None
    request_id: str | None = None
    """The provider's own id, for disputes."""
    elapsed_s: float = 0.0
    error: str | None = None
    sent: bool = True
    """False where no connection was made, so that nothing can have been done or billed."""
    completion_id: str | None = None
    """The provider's id of the completion, where it told one: the same id is the same bill."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudResponse:
    """A finished answer of the cloud."""

    idempotency_key: str
    model: str
    text: str
    finish_reason: str
    """`stop`, `length`, `content_filter`, `refusal` or `tool_calls`."""
    usage: CloudUsage
    attempts: tuple[CloudAttempt, ...]
    elapsed_s: float
    tool_calls: tuple[ToolCall, ...] = ()
    """Tools that the client is to run."""


Permission = Callable[[], Awaitable[None]]
"""Asked before one more attempt; what it raises ends the call."""
AttemptSink = Callable[[CloudAttempt], Permission | None]
"""Receives every attempt as it ends, before anything is done with its result. What it returns is
awaited before the next attempt of the call, so that no attempt is made whose price is not covered.
"""
DeltaSink = Callable[[str], None]
"""Receives streamed pieces of text as they come."""


class CloudClient(Protocol):
    """One paid model endpoint. Raises the `CloudError` branch of `minions.errors`."""

    @property
    def base_url(self) -> str: ...

    async def complete(
        self,
        request: CloudRequest,
        *,
        on_attempt: AttemptSink,
        on_delta: DeltaSink | None = None,
    ) -> CloudResponse:
        """Make the call, with bounded retries. Every HTTP attempt goes to `on_attempt` exactly
        once, also when this raises or is cancelled; one that follows waits for the permission that
        came back. With `on_delta` the answer is streamed; pieces
        of an attempt that is later repeated are not taken back, so a listener must treat them as
        a preview of `CloudResponse.text`."""
        ...

    async def close(self) -> None: ...


class PriceBook(Protocol):
    """Exact prices in Decimal dollars."""

    @property
    def snapshot_id(self) -> str: ...

    def cost_usd(self, model: str, usage: CloudUsage) -> Decimal | None:
        """Dollars of this usage; None when the model's price is not known (Law 3)."""
        ...

    def context_tokens(self, model: str) -> int | None:
        """The model's context window; None when unknown."""
        ...
