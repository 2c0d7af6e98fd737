"""What `ScriptedEngine` says in a conversation: scripts, and the partner that only quotes.

A chat script is a function `ChatJob -> ScriptedTurn`. The default, `QuotingPartner`, is as honest
as the default reader: it can only quote what was said, and calls a tool only where it must.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from workers.chat import ChatJob, Message, Role, ToolCall
from workers.scripted_reader import Fault, best_sentence

NOTHING_FITS = "Nothing that was said here answers that."
_PIECE = re.compile(r"\S*\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScriptedTurn:
    """What one chat job does."""

    text: str = ""
    """Streamed a word a step."""
    tool_calls: tuple[ToolCall, ...] = ()
    analysis: str = ""
    logprob: float = -0.1
    """As `ChatResult.logprob`, in nats."""
    fault: Fault | None = None
    """What happens instead of the end, after the text was streamed."""

    @property
    def pieces(self) -> list[str]:
        """The text in the pieces in which it is streamed: words with the space after them."""
        return [piece for piece in _PIECE.findall(self.text) if piece]


ChatScript = Callable[[ChatJob], ScriptedTurn]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotingPartner:
    """Answers the last user message with the sentence said before it that fits best; a tool's
    result is passed on as it came; a tool is called only where `tool_choice` demands one."""

    threshold: float = 0.5
    """Share of the message's content words that a sentence must hold, 0 to 1."""

    def __call__(self, job: ChatJob) -> ScriptedTurn:
        last = job.messages[-1]
        if last.role is Role.TOOL:
            return ScriptedTurn(text=last.content)
        name = demanded_tool(job)
        if name is not None:
            call = ToolCall(call_id=f"call_{len(job.messages)}", name=name, arguments="{}")
            return ScriptedTurn(tool_calls=(call,))
        return ScriptedTurn(text=self._quote(job.messages))

    def _quote(self, messages: tuple[Message, ...]) -> str:
        users = [i for i, message in enumerate(messages) if message.role is Role.USER]
        if not users:
            return NOTHING_FITS
        said = "\n\n".join(message.content for message in messages[: users[-1]])
        sentence, overlap = best_sentence(said, messages[users[-1]].content)
        return sentence if overlap >= self.threshold else NOTHING_FITS


def demanded_tool(job: ChatJob) -> str | None:
    """The tool that `tool_choice` demands; None where the model is free."""
    if not job.tools or job.tool_choice in ("auto", "none"):
        return None
    return job.tools[0].name if job.tool_choice == "required" else job.tool_choice


def prompt_texts(job: ChatJob) -> list[str]:
    """All that a model would read of the job, for counting."""
    tools = [json.dumps([t.name, t.description, dict(t.parameters)]) for t in job.tools]
    calls = [call.name + call.arguments for m in job.messages for call in m.tool_calls]
    return [*tools, *calls, *(f"{m.role} {m.content}" for m in job.messages)]
