"""The supervisor's side of the paper's strategies: prompts, paid calls, and usable replies.

Every call goes through the session's Purchaser, at the rung `evidence`: the question, what the
supervisor itself said, the workers' answers and verified quotes, and never more of a document.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib import resources
from typing import TypeVar

from minions.cloud.model import CloudRequest, CloudResponse
from minions.cloud.tokens import count_tokens
from minions.cloud_prompt import SourceSpan
from minions.documents.model import Document
from minions.errors import BudgetExceeded
from minions.evidence.model import Citation
from minions.model_json import Unusable
from minions.offers import PreparedRung, quote
from minions.strategies.ladder import verify_citations
from minions.strategies.session import Session, Standing
from router import Rung, closed_because, p_cloud_answer

PROMPTS = ("plan", "aggregate", "chat")
EVIDENCE_TOKENS = 4000
"""Quotes and answers shown in one call, together."""
FRAME_TOKENS = 2500
"""What a call holds beside them: instructions, tasks, notes. An upper bound for common plans."""
MAX_ROUNDS = 3

_FIELD = re.compile(r"\{(\w+)\}")
_TAG = re.compile(
    r"<(?=/?(?:source|question|documents|found|notes|message|worker-reply|task|computed"
    r"|not-computed|nothing-found|rejected|(?:plan|aggregate|chat)-request)\b)",
    re.IGNORECASE,
)
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisorPrompt:
    """One prompt file."""

    name: str
    parts: Mapping[str, str]
    version: str
    """First 12 hex digits of the file's SHA-256."""

    def fill(self, part: str, **values: str) -> str:
        """A part with its fields filled in, in one pass: a value that looks like a field stays as
        it is. Raises KeyError for a field without value."""
        return _FIELD.sub(lambda match: values[match[1]], self.parts[part])


@functools.cache
def supervisor_prompt(name: str) -> SupervisorPrompt:
    """Load `prompts/{name}.toml`."""
    raw = resources.files("minions").joinpath(f"prompts/{name}.toml").read_bytes()
    return SupervisorPrompt(
        name=name,
        parts={key: text.strip() for key, text in tomllib.loads(raw.decode()).items()},
        version=hashlib.sha256(raw).hexdigest()[:12],
    )


def supervisor_version() -> str:
    """Versions of all prompts of the supervisor, for a run's fingerprint."""
    return "-".join(supervisor_prompt(name).version for name in PROMPTS)


def guard(text: str) -> str:
    """Text that can't open or close a frame: whatever is quoted is data."""
    return _TAG.sub(r"<\\", text)


def attribute(text: str) -> str:
    """Text for the inside of an attribute: one line, no quotation marks."""
    return " ".join(guard(text).replace('"', "'").split())


def document_list(prompt: SupervisorPrompt, documents: Mapping[str, Document]) -> str:
    """Names and sizes of the documents, numbered from 1; nothing of their text."""
    return "\n".join(
        prompt.fill(
            "document",
            number=str(number),
            name=attribute(document.name),
            pages=str(len(document.pages)),
            characters=f"{len(document.text):,}",
        )
        for number, document in enumerate(documents.values(), 1)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One thing that the supervisor is asked."""

    prompt: SupervisorPrompt
    step: str
    """Which call of the run it is: `plan`, `aggregate-2`. Part of the idempotency key."""
    content: str
    spans: tuple[SourceSpan, ...] = ()
    """Pieces of documents in the content."""

    def again(self, text: str, reason: str) -> Call:
        """The call that asks for a usable reply instead of `text`."""
        note = self.prompt.fill("rejected", text=guard(text), reason=guard(reason))
        return replace(self, step=f"{self.step}-repair", content=f"{self.content}\n\n{note}")


def prepare_call(session: Session, call: Call) -> PreparedRung:
    """The exact request of a call, with its price."""
    request = _request(call, session.terms.model, session.terms.max_output_tokens, session.run_id)
    p_correct = p_cloud_answer(Rung.EVIDENCE, abstained=False, verified=True)
    return quote(Rung.EVIDENCE, request, call.spans, session.terms, p_correct)


def _request(call: Call, model: str, max_output_tokens: int, run_id: str) -> CloudRequest:
    """The idempotency key covers the run, the step and every byte that is sent: a run that is taken
    up again makes the same requests, and finds them in its journal."""
    instructions = call.prompt.parts["instructions"]
    identity = [run_id, call.step, model, max_output_tokens, instructions, call.content]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return CloudRequest(
        model=model,
        instructions=instructions,
        content=call.content,
        max_output_tokens=max_output_tokens,
        idempotency_key=f"call_{digest[:40]}",
    )


async def consult(
    session: Session, call: Call, parse: Callable[[str], Parsed | Unusable]
) -> Parsed | Unusable:
    """Buy the call and read its reply. One that can't be used is asked for once more, with what was
    wrong; after that it stays unusable.

    Raises BudgetExceeded or CeilingExceeded before anything is sent, and the CloudError branch."""
    response = await _buy(session, call)
    parsed = _read(response, parse)
    if not isinstance(parsed, Unusable) or _refused(response):
        return parsed
    repair = call.again(response.text, parsed.reason)
    if _closed(session, repair):
        return parsed
    session.warnings.append(f"The cloud's `{call.step}` was repaired once: {parsed.reason}.")
    return _read(await _buy(session, repair), parse)


async def _buy(session: Session, call: Call) -> CloudResponse:
    with session.trace.step("cloud", rung=Rung.EVIDENCE.value, step=call.step) as facts:
        prepared = prepare_call(session, call)
        facts["prompt_version"] = call.prompt.version
        facts["prompt_tokens"] = prepared.offer.prompt_tokens
        _stay_within_cap(session, prepared)
        response = await session.purchaser.buy(prepared)
        facts["call_key"] = response.idempotency_key
        facts["n_attempts"] = len(response.attempts)
        facts["text"] = response.text
    return response


def _stay_within_cap(session: Session, prepared: PreparedRung) -> None:
    why = closed_because(prepared.offer, session.wishes, session.budget.spent_usd)
    if why is not None:
        raise BudgetExceeded(f"The next call of the supervisor was not made: {why}.")


def _closed(session: Session, call: Call) -> bool:
    offer = prepare_call(session, call).offer
    return closed_because(offer, session.wishes, session.budget.spent_usd) is not None


def _refused(response: CloudResponse) -> bool:
    return response.finish_reason in ("content_filter", "refusal")


def _read(response: CloudResponse, parse: Callable[[str], Parsed | Unusable]) -> Parsed | Unusable:
    if _refused(response):
        return Unusable(reason="the cloud refused")
    return parse(response.text)


def affordable_rounds(session: Session, wanted: int, other_calls: int) -> int:
    """How many rounds the cap pays for at the worst price, at most `wanted`, beside `other_calls`.

    Told from the question's cap alone, not from what was spent so far, so that a run that is taken
    up again asks the same. Raises BudgetExceeded when there is no money for a single round."""
    cap = session.question.options.max_cost_usd
    prompt_tokens = FRAME_TOKENS + EVIDENCE_TOKENS + count_tokens(session.question.text)
    worst = session.terms.price_usd(prompt_tokens, session.terms.max_output_tokens)
    if cap is None or worst is None:
        return wanted
    rounds = int(cap / worst) - other_calls if worst else wanted
    if rounds < 1:
        raise BudgetExceeded(_too_little(session, cap, worst * (1 + other_calls)))
    return min(wanted, rounds)


def _too_little(session: Session, cap: Decimal, least: Decimal) -> str:
    return (
        f"Strategy `{session.question.options.strategy}` may cost ${least:.6f} for a single round, "
        f"and the cap is ${cap}. Nothing was sent. Raise --max-cost-usd or use --strategy ladder."
    )


def conclusion(
    session: Session, answer: str | None, quotes: tuple[str, ...], spans: tuple[SourceSpan, ...]
) -> Standing:
    """The supervisor's answer with those of its quotes that stand in what it was shown."""
    citations: tuple[Citation, ...] = ()
    if answer is not None:
        citations = verify_citations(quotes, spans, session.documents)
    return Standing(
        answer=answer,
        citations=citations,
        rung=Rung.EVIDENCE,
        p_correct=p_cloud_answer(Rung.EVIDENCE, abstained=answer is None, verified=bool(citations)),
    )
