"""An LLM as judge of answers, beside the rules: bought through the product's own door to the cloud.

Ceiling, budget, egress record, journal and ledger hold for a verdict as for any answer; its cost
is kept apart from that of the answer it judges. What the judge writes is checked against a schema;
what can't be read is `unscored`, never a number.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from eval.costs import item_costs
from minions.asking import Desk
from minions.budget import Budget
from minions.cloud.model import CloudRequest
from minions.errors import CloudError, NotFound
from minions.events import ignore_events
from minions.model_json import Unusable, read_object, wrong_fields
from minions.offers import PreparedRung, quote
from minions.purchase import Purchaser
from minions.question import Options, Question, as_number
from minions.store.model import RunRecord, RunStatus
from router import Rung

CORRECT, WRONG, UNSCORED = "correct", "wrong", "unscored"
MAX_OUTPUT_TOKENS = 200
MAX_ASKS = 2
"""Times that a verdict is asked for until one can be read."""
OWNER = "evaluation"
"""Whose questions, documents and verdicts these are: apart from the user's own."""
_TAGS = ("question", "reference", "candidate")


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgePrompt:
    """The parts of the judge's prompt."""

    parts: Mapping[str, str]
    version: str
    """First 12 hex digits of the file's SHA-256."""


@functools.cache
def judge_prompt() -> JudgePrompt:
    """Load `prompts/judge.toml`."""
    raw = resources.files("eval").joinpath("prompts/judge.toml").read_bytes()
    parts = {name: text.strip() for name, text in tomllib.loads(raw.decode()).items()}
    return JudgePrompt(parts=parts, version=hashlib.sha256(raw).hexdigest()[:12])


class _VerdictFields(BaseModel):
    """The judge's JSON."""

    verdict: Literal["correct", "wrong"]
    reason: str = Field(default="", max_length=2000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the judge said of one answer."""

    verdict: str
    """`correct`, `wrong` or `unscored`."""
    reason: str
    """The judge's own, or why there is no verdict."""
    model: str
    prompt_version: str
    usd: float | None = None
    """Of the verdict, a kept one at the price of buying it; None when unknown."""
    paid_usd: float | None = None

    @property
    def score(self) -> float | None:
        """1 for correct, 0 for wrong; None for unscored."""
        return {CORRECT: 1.0, WRONG: 0.0}.get(self.verdict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def judge_content(question: str, golds: Sequence[str], answer: str) -> str:
    """What the judge is sent beside its instructions. No text can close its frame."""
    parts = judge_prompt().parts
    blocks = [parts["question"].replace("{question}", _guard(question))]
    blocks += [parts["reference"].replace("{text}", _guard(gold)) for gold in golds]
    blocks.append(parts["candidate"].replace("{text}", _guard(answer)))
    return "\n\n".join(blocks)


def _again(reason: str) -> str:
    return judge_prompt().parts["again"].replace("{reason}", _guard(reason))


def _guard(text: str) -> str:
    for tag in _TAGS:
        text = text.replace(f"</{tag}", f"<\\/{tag}").replace(f"<{tag}", f"<\\{tag}")
    return text


def parse_verdict(text: str) -> tuple[str, str]:
    """(verdict, reason) of the judge's text; `unscored` with what was wrong when it can't be
    read."""
    data = read_object(text)
    if isinstance(data, Unusable):
        return UNSCORED, data.reason
    try:
        fields = _VerdictFields.model_validate(data)
    except ValidationError as error:
        return UNSCORED, wrong_fields(error)
    return fields.verdict, fields.reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """Buys verdicts of one model."""

    desk: Desk
    """Of the evaluation: its client, its budget, its store."""
    model: str

    async def verdict(
        self, run_id: str, question: str, golds: Sequence[str], answer: str
    ) -> Verdict:
        """The verdict on one answer, bought now or earlier under the same `run_id`. A call that
        failed leaves it unscored."""
        content = judge_content(question, golds, answer)
        await self._open_run(run_id)
        try:
            verdict, reason = await self._asked(run_id, content)
        except CloudError as error:
            verdict, reason = UNSCORED, str(error)
        ledger = await self.desk.store.ledger(run_id)
        costs = item_costs(ledger, self.desk.terms.prices)
        found = Verdict(
            verdict=verdict,
            reason=reason,
            model=self.model,
            prompt_version=judge_prompt().version,
            usd=as_number(costs.cloud_usd),
            paid_usd=as_number(costs.paid_usd),
        )
        await self.desk.store.update_run(run_id, RunStatus.FINISHED, reply=found.to_json())
        return found

    async def _asked(self, run_id: str, content: str) -> tuple[str, str]:
        """(verdict, reason). What can't be read is asked for once more, with what was wrong."""
        purchaser = self._purchaser(run_id)
        for _ in range(MAX_ASKS):
            request = self._request(run_id, content)
            response = await purchaser.buy(self._prepared(request))
            verdict, reason = parse_verdict(response.text)
            if verdict != UNSCORED:
                break
            content = f"{content}\n\n{_again(reason)}"
        return verdict, reason

    def _request(self, run_id: str, content: str) -> CloudRequest:
        instructions = judge_prompt().parts["instructions"]
        identity = json.dumps([run_id, self.model, instructions, content])
        return CloudRequest(
            model=self.model,
            instructions=instructions,
            content=content,
            max_output_tokens=MAX_OUTPUT_TOKENS,
            idempotency_key=f"call_{hashlib.sha256(identity.encode()).hexdigest()[:40]}",
        )

    def _prepared(self, request: CloudRequest) -> PreparedRung:
        """Nothing of a document leaves but what the answer and the golds say of it."""
        terms = replace(
            self.desk.terms, model=self.model, max_output_tokens=request.max_output_tokens
        )
        return quote(Rung.EVIDENCE, request, (), terms, 0.0)

    def _purchaser(self, run_id: str) -> Purchaser:
        if self.desk.client is None:
            raise ValueError("a judge needs a cloud")
        return Purchaser(
            run_id=run_id,
            ceiling=Rung.EVIDENCE,
            budget=Budget(cap_usd=None),
            client=self.desk.client,
            prices=self.desk.terms.prices,
            store=self.desk.store,
            observe=ignore_events,
            day=self.desk.day,
        )

    async def _open_run(self, run_id: str) -> None:
        """A run of its own, under which journal, ledger and egress record stand."""
        try:
            await self.desk.store.get_run(run_id)
        except NotFound:
            await self.desk.store.open_run(_judged_run(run_id))


def _judged_run(run_id: str) -> RunRecord:
    now = time.time()
    question = Question(text="Judge an answer.", document_ids=(), options=Options())
    return RunRecord(
        run_id=run_id,
        fingerprint=hashlib.sha256(run_id.encode()).hexdigest(),
        status=RunStatus.QUEUED,
        question=question.to_json(),
        reply=None,
        error=None,
        created_at=now,
        updated_at=now,
        owner=OWNER,
    )
