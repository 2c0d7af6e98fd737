"""The strategy `minions` (MinionS of arXiv 2502.15964): plan, execute over chunks, aggregate.

The supervisor sees the question and, after each round, verified quotes and the workers' answers to
its tasks; it answers, or plans another round. What it must remember it writes on its scratchpad.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from minions.arithmetic import ArithmeticRefused, round_half_up
from minions.cloud_prompt import SourceSpan
from minions.errors import BudgetExceeded, CloudError, CloudProtocolError, MinionsError
from minions.events import RungChosen
from minions.model_json import Unusable
from minions.named_values import NamedValue, plain, value_for, work_out
from minions.planning import Plan, TaskSpec, Verdict, default_plan, parse_plan, parse_verdict
from minions.question import Reply
from minions.strategies.errands import Findings, Logbook, run_plan
from minions.strategies.exhibits import Exhibit, exhibit
from minions.strategies.ladder import judge, local_standing
from minions.strategies.session import Session, Standing
from minions.strategies.supervisor import (
    EVIDENCE_TOKENS,
    MAX_ROUNDS,
    Call,
    affordable_rounds,
    attribute,
    conclusion,
    consult,
    document_list,
    guard,
    prepare_call,
    supervisor_prompt,
)
from router import Rung
from workers import WorkerPool

PLACES = 6
"""Decimal places of a computed result as the supervisor is shown it."""


async def ask_minions(session: Session, pool: WorkerPool, max_rounds: int = MAX_ROUNDS) -> Reply:
    """Answer by plans and rounds. Raises before anything leaves when a wish forbids it."""
    session.refuse_when_closed(prepare_call(session, plan_call(session)))
    rounds = affordable_rounds(session, max_rounds, other_calls=1)
    session.observe(RungChosen(rung=Rung.EVIDENCE, reason="strategy `minions`"))
    project = _Project(session=session, pool=pool, rounds=rounds)
    standing = await project.run()
    return await session.reply(
        standing,
        reason=f"strategy `minions`: {project.n_done} of at most {rounds} rounds",
        coverage=project.logbook.coverage,
        jobs=project.logbook.counts,
        rungs=(),
        document_rung=session.document_rung(),
    )


def plan_call(session: Session) -> Call:
    """The request for the first round's plan."""
    prompt = supervisor_prompt("plan")
    content = prompt.fill(
        "frame",
        question=guard(session.question.text),
        documents=document_list(prompt, session.documents),
    )
    return Call(prompt=prompt, step="plan", content=content)


@dataclass(kw_only=True)
class _Project:
    """One question on its way through the rounds."""

    session: Session
    pool: WorkerPool
    rounds: int
    n_done: int = 0
    notes: str = ""
    values: dict[str, NamedValue] = field(default_factory=dict)
    """By task name, of all rounds."""
    spans: tuple[SourceSpan, ...] = ()
    """All that the supervisor was shown."""
    local: Standing | None = None
    """The workers' own answer to the question, should the supervisor fail."""
    logbook: Logbook = field(init=False)

    def __post_init__(self) -> None:
        self.logbook = Logbook(documents=self.session.documents)

    async def run(self) -> Standing:
        """Rounds until the supervisor answers; the last one must."""
        plan = await self._first_plan()
        for number in range(1, self.rounds + 1):
            findings = await run_plan(self.session, self.pool, plan)
            self._note(findings)
            self.n_done = number
            try:
                verdict = await self._aggregate(findings, number)
            except (CloudError, BudgetExceeded) as error:
                return self._without_supervisor(error)
            if verdict.plan is None:
                return conclusion(self.session, verdict.answer, verdict.citations, self.spans)
            plan, self.notes = verdict.plan, verdict.scratchpad
        raise AssertionError("the last round always ends in an answer")

    async def _first_plan(self) -> Plan:
        n_documents = len(self.session.documents)
        try:
            plan = await consult(
                self.session,
                plan_call(self.session),
                lambda text: parse_plan(text, n_documents=n_documents),
            )
        except CloudError as error:
            plan = Unusable(reason=str(error))
        return self._or_default(plan)

    def _or_default(self, plan: Plan | Unusable) -> Plan:
        if isinstance(plan, Plan):
            return plan
        self.session.warnings.append(
            f"The cloud made no usable plan ({plan.reason}): the question itself was the only task."
        )
        with self.session.trace.step("default plan", reason=plan.reason):
            return default_plan(self.session.question.text)

    def _note(self, findings: Findings) -> None:
        """Keep what a round found: named values, counts, and the draft for the question itself."""
        self.logbook.add(findings.reading)
        for name, evidence in findings.by_task.items():
            value = value_for(name, evidence)
            if value is not None:
                self.values[name] = value
        question = " ".join(self.session.question.text.split())
        for task in findings.plan.tasks:
            if " ".join(task.instruction.split()) == question:
                evidence = findings.by_task[task.name]
                self.local = local_standing(
                    evidence, judge(self.session, evidence, findings.reading)
                )

    async def _aggregate(self, findings: Findings, number: int) -> Verdict:
        """The supervisor's verdict. Raises the CloudError branch when there is none to be had."""
        # Ranking what many chunks said takes a while: not on the event loop.
        call = await asyncio.to_thread(self._aggregate_call, findings, number)
        self.spans += call.spans
        verdict = await consult(
            self.session,
            call,
            lambda text: parse_verdict(
                text,
                is_last=number == self.rounds,
                n_documents=len(self.session.documents),
                known=frozenset(self.values),
            ),
        )
        if isinstance(verdict, Verdict):
            return verdict
        if self.local is None and number < self.rounds:  # the question itself was not asked yet
            plan = self._or_default(verdict)
            return Verdict(answer=None, citations=(), scratchpad=self.notes, plan=plan)
        raise CloudProtocolError(f"The cloud's conclusion can't be used: {verdict.reason}")

    def _aggregate_call(self, findings: Findings, number: int) -> Call:
        prompt = supervisor_prompt("aggregate")
        found, spans = self._found(findings)
        content = prompt.fill(
            "frame",
            round=str(number),
            rounds=str(self.rounds),
            last="yes" if number == self.rounds else "no",
            question=guard(self.session.question.text),
            documents=document_list(prompt, self.session.documents),
            notes=guard(self.notes),
            found=found,
            computed=self._computed(findings.plan),
            closing=prompt.parts["last" if number == self.rounds else "more"],
        )
        return Call(prompt=prompt, step=f"aggregate-{number}", content=content, spans=spans)

    def _found(self, findings: Findings) -> tuple[str, tuple[SourceSpan, ...]]:
        """Every task with what was found; the budget in equal shares, unused ones passed on."""
        prompt = supervisor_prompt("aggregate")
        blocks: list[str] = []
        spans: list[SourceSpan] = []
        left = EVIDENCE_TOKENS
        tasks = findings.plan.tasks
        for n_before, task in enumerate(tasks):
            shown = exhibit(
                prompt,
                task.instruction,
                findings.by_task[task.name],
                self.session,
                findings.reading,
                budget_tokens=left // (len(tasks) - n_before),
                shown=spans,
            )
            left = max(0, left - shown.n_tokens)
            spans += shown.spans
            blocks.append(_task_block(task, shown))
        return "\n".join(blocks), tuple(spans)

    def _computed(self, plan: Plan) -> str:
        """The plan's formula worked out over the values found, or why it was not."""
        if plan.formula is None:
            return ""
        prompt = supervisor_prompt("aggregate")
        with self.session.trace.step("compute", formula=plan.formula) as facts:
            worked = work_out(plan.formula, self.values)
            if isinstance(worked, ArithmeticRefused):
                facts["refused"] = worked.reason
                return prompt.fill("not_computed", formula=plan.formula, reason=worked.reason)
            facts["result"] = str(worked.result)
        return prompt.fill(
            "computed",
            result=plain(round_half_up(worked.result, PLACES)),
            shown=worked.shown,
            unit=" ".join(filter(None, (worked.unit, worked.scale_name))) or "as they stand",
        )

    def _without_supervisor(self, error: MinionsError) -> Standing:
        """The workers' own answer to the question, if they were asked it; else the error."""
        if self.local is None or self.local.answer is None:
            raise error
        self.session.warnings.append(f"The cloud could not conclude: {error}")
        return self.local


def _task_block(task: TaskSpec, shown: Exhibit) -> str:
    return supervisor_prompt("aggregate").fill(
        "task",
        name=task.name,
        instruction=attribute(task.instruction),
        answers=shown.answers,
        sources=shown.sources,
    )
