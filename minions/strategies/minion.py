"""The strategy `minion` (Minion of arXiv 2502.15964): the supervisor chats with the worker.

The supervisor never sees the document. It asks one message at a time; the workers answer it from
every chunk, with verified quotes; after at most so many messages it must answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from minions.cloud_prompt import SourceSpan
from minions.errors import BudgetExceeded, CloudError, CloudProtocolError, MinionsError
from minions.events import RungChosen
from minions.model_json import Unusable, read_object, wrong_fields
from minions.planning import MAX_INSTRUCTION_CHARS, default_plan
from minions.question import Reply
from minions.strategies.errands import Logbook, run_plan
from minions.strategies.exhibits import exhibit
from minions.strategies.ladder import judge, local_standing
from minions.strategies.session import Session, Standing
from minions.strategies.supervisor import (
    EVIDENCE_TOKENS,
    MAX_ROUNDS,
    Call,
    affordable_rounds,
    conclusion,
    consult,
    document_list,
    guard,
    prepare_call,
    supervisor_prompt,
)
from router import Rung
from workers import WorkerPool


class _SaidFields(BaseModel):
    """The supervisor's JSON: a message, or an answer."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    message: str | None = Field(default=None, max_length=MAX_INSTRUCTION_CHARS)
    answer: str | None = None
    citations: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What the supervisor said in a turn."""

    message: str | None
    """For the worker; None when it answered."""
    answer: str | None
    citations: tuple[str, ...]


def parse_said(text: str, *, must_answer: bool) -> Said | Unusable:
    """The supervisor's turn. Where an answer is due, a message counts as an abstention."""
    data = read_object(text)
    if isinstance(data, Unusable):
        return data
    if "message" not in data and "answer" not in data:
        return Unusable(reason="the object has neither `message` nor `answer`")
    try:
        fields = _SaidFields.model_validate(data)
    except ValidationError as error:
        return Unusable(reason=wrong_fields(error))
    message = (fields.message or "").strip()
    if message and not must_answer:
        return Said(message=message, answer=None, citations=())
    answer = (fields.answer or "").strip()
    return Said(message=None, answer=answer or None, citations=fields.citations or ())


async def ask_minion(session: Session, pool: WorkerPool, max_rounds: int = MAX_ROUNDS) -> Reply:
    """Answer by a chat. Raises before anything leaves when a wish forbids it."""
    chat = _Chat(session=session, pool=pool, rounds=max_rounds)
    session.refuse_when_closed(prepare_call(session, chat.call()))
    chat.rounds = affordable_rounds(session, max_rounds, other_calls=1)
    session.observe(RungChosen(rung=Rung.EVIDENCE, reason="strategy `minion`"))
    standing = await chat.run()
    return await session.reply(
        standing,
        reason=f"strategy `minion`: {len(chat.turns)} of at most {chat.rounds} messages",
        coverage=chat.logbook.coverage,
        jobs=chat.logbook.counts,
        rungs=(),
        document_rung=session.document_rung(),
    )


@dataclass(kw_only=True)
class _Chat:
    """One question on its way through the messages."""

    session: Session
    pool: WorkerPool
    rounds: int
    turns: list[str] = field(default_factory=list)
    """Message and reply of each turn, as the supervisor is shown them."""
    spans: list[SourceSpan] = field(default_factory=list)
    local: Standing | None = None
    """The workers' own answer to the question, should the supervisor fail."""
    logbook: Logbook = field(init=False)

    def __post_init__(self) -> None:
        self.logbook = Logbook(documents=self.session.documents)

    async def run(self) -> Standing:
        """Messages until the supervisor answers; after the last one it must."""
        while True:
            try:
                said = await self._listen()
            except (CloudError, BudgetExceeded) as error:
                return self._without_supervisor(error)
            if said.message is None and self.turns:
                return conclusion(self.session, said.answer, said.citations, tuple(self.spans))
            await self._do(self._message(said))

    def _message(self, said: Said) -> str:
        """What the worker is asked. An answer before anything was read is a guess from memory: the
        question itself is asked then."""
        if said.message is not None:
            return said.message
        self.session.warnings.append(
            "The cloud answered before it had seen any evidence: the question was read first."
        )
        return self.session.question.text

    async def _listen(self) -> Said:
        """The supervisor's turn. Raises the CloudError branch when there is none to be had."""
        said = await consult(
            self.session,
            self.call(),
            lambda text: parse_said(text, must_answer=self._is_last),
        )
        if isinstance(said, Said):
            return said
        if not self.turns:
            return Said(message=self.session.question.text, answer=None, citations=())
        raise CloudProtocolError(f"The cloud's reply can't be used: {said.reason}")

    @property
    def _is_last(self) -> bool:
        return len(self.turns) >= self.rounds

    def call(self) -> Call:
        """The request for the supervisor's next turn, with the whole chat so far."""
        prompt = supervisor_prompt("chat")
        closing = "last" if self._is_last else ("more" if self.turns else "first")
        content = prompt.fill(
            "frame",
            round=str(len(self.turns) + 1),
            rounds=str(self.rounds),
            last="yes" if self._is_last else "no",
            question=guard(self.session.question.text),
            documents=document_list(prompt, self.session.documents),
            turns="\n".join(self.turns),
            closing=prompt.parts[closing],
        )
        step = f"chat-{len(self.turns) + 1}"
        return Call(prompt=prompt, step=step, content=content, spans=tuple(self.spans))

    async def _do(self, message: str) -> None:
        """Put a message to every chunk; keep the best answers and quotes as the worker's reply."""
        prompt = supervisor_prompt("chat")
        findings = await run_plan(self.session, self.pool, default_plan(message))
        (evidence,) = findings.by_task.values()
        self.logbook.add(findings.reading)
        if " ".join(message.split()) == " ".join(self.session.question.text.split()):
            self.local = local_standing(evidence, judge(self.session, evidence, findings.reading))
        shown = await asyncio.to_thread(
            exhibit,
            prompt,
            message,
            evidence,
            self.session,
            findings.reading,
            budget_tokens=EVIDENCE_TOKENS // self.rounds,
            shown=self.spans,
        )
        self.spans += shown.spans
        self.turns.append(
            prompt.fill(
                "turn", message=guard(message), answers=shown.answers, sources=shown.sources
            )
        )

    def _without_supervisor(self, error: MinionsError) -> Standing:
        """The workers' own answer to the question, if they were asked it; else the error."""
        if self.local is None or self.local.answer is None:
            raise error
        self.session.warnings.append(f"The cloud could not conclude: {error}")
        return self.local
