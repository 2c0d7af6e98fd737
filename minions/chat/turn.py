"""What a client says in one turn, and what it gets back."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from minions.question import Options, StrategyName
from minions.store.model import LOCAL_OWNER, LedgerEntry
from workers import Effort, Message, Role, Tool, ToolCall

DEFAULT_OUTPUT_TOKENS = 1024
"""Cap on an answer where the client states none."""


class Route(enum.StrEnum):
    """Who may answer; what a client chooses by the name of the model."""

    LADDER = "minions-ladder"
    """The local model, or the cloud where that pays off."""
    LOCAL = "minions-local"
    """The local model only: nothing leaves the machine."""
    CLOUD = "minions-cloud"
    """The cloud at once."""

    @property
    def strategy(self) -> StrategyName:
        """The same for a question of documents."""
        return StrategyName(self.value.removeprefix("minions-"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """The next turn of a conversation, as asked for."""

    messages: tuple[Message, ...]
    route: Route = Route.LADDER
    options: Options = field(default_factory=Options)
    owner: str = LOCAL_OWNER
    tools: tuple[Tool, ...] = ()
    """Run by the client, never here."""
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of a tool."""
    parallel_tool_calls: bool = True
    stop: tuple[str, ...] = ()
    effort: Effort | None = None
    """None leaves it to the model that answers."""
    temperature: float | None = None
    """None for greedy locally and the provider's own default in the cloud."""
    seed: int = 0
    """For drawing locally; the cloud's APIs promise nothing of it."""
    max_output_tokens: int = DEFAULT_OUTPUT_TOKENS

    @property
    def question(self) -> str:
        """What the user said last; empty where no user speaks."""
        said = (m.content for m in reversed(self.messages) if m.role is Role.USER)
        return next(said, "")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokensUsed:
    """Tokens of all model calls of a turn, local and cloud, failed ones too."""

    prompt: int = 0
    cached: int = 0
    """Of `prompt`: read from a cache of the provider, or shared with another local job."""
    completion: int = 0
    reasoning: int = 0
    """Of `completion`."""

    @staticmethod
    def of(entries: Iterable[LedgerEntry]) -> TokensUsed:
        """Sums over ledger rows."""
        rows = list(entries)
        return TokensUsed(
            prompt=sum(row.prompt_tokens for row in rows),
            cached=sum(row.cached_tokens for row in rows),
            completion=sum(row.completion_tokens for row in rows),
            reasoning=sum(row.reasoning_tokens for row in rows),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatReply:
    """A finished turn."""

    run_id: str | None
    """Its record in the store; None where no model was asked."""
    model: str
    """Who answered: the worker's or the cloud's name."""
    text: str
    finish_reason: str
    """`stop`, `length`, `tool_calls` or `content_filter`."""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: TokensUsed = field(default_factory=TokensUsed)
    reply: Mapping[str, Any] = field(default_factory=dict)
    """As `Reply.to_json`: receipt, rung, chances, citations; empty where no model was asked."""

    @property
    def citations(self) -> Sequence[Mapping[str, Any]]:
        """Verified places in the documents, as `citation_json`."""
        found: Sequence[Mapping[str, Any]] = self.reply.get("citations", ())
        return found

    def facts(self) -> dict[str, Any] | None:
        """What stands in the extra field `minions`: the reply without its text, if there is one."""
        if not self.reply:
            return None
        told = {name: value for name, value in self.reply.items() if name != "answer"}
        return {"question_id": self.run_id, "answered_by": self.model, **told}


_BESIDE = ("answered_by", "finish_reason", "tool_calls")
"""What the record of a turn has beside its `reply`, to give it again."""


def kept_json(reply: ChatReply) -> dict[str, Any]:
    """A reply as the record of its turn keeps it."""
    return {
        **reply.reply,
        "answered_by": reply.model,
        "finish_reason": reply.finish_reason,
        "tool_calls": [asdict(call) for call in reply.tool_calls],
    }


def kept_reply(run_id: str, kept: Mapping[str, Any], entries: Iterable[LedgerEntry]) -> ChatReply:
    """The reverse of `kept_json`; its usage is that of the turn's ledger rows."""
    return ChatReply(
        run_id=run_id,
        model=kept["answered_by"],
        text=kept["answer"] or "",
        finish_reason=kept["finish_reason"],
        tool_calls=tuple(ToolCall(**call) for call in kept["tool_calls"]),
        usage=TokensUsed.of(entries),
        reply={name: value for name, value in kept.items() if name not in _BESIDE},
    )
