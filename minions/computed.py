"""Arithmetic on this machine: the values of a computation looked up one by one, then worked out.

A default plan without any planner: one sub-question per value and year, put to the chunks that name
the year; the numbers parsed from verified quotes; the formula evaluated and shown. Without a
verified quote for every value there is no result: a guessed operand makes a wrong answer that looks
exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from minions.arithmetic import ArithmeticRefused, round_half_up
from minions.computation import Computation, Form, Operand, computation_of
from minions.documents.model import Chunk
from minions.evidence import gather_evidence
from minions.evidence.model import Evidence
from minions.named_values import NamedValue, Worked, plain, value_for, work_out
from minions.reading import Reading, plan_jobs
from minions.signals import signals_of
from minions.strategies.session import SAMPLING, Session, Standing, job_facts
from router import Rung, p_local
from workers import Effort, Job, WorkerPool

_PLACES = {Form.NUMBER: 3, Form.PERCENT: 1, Form.AMOUNT: 2}


async def computed_draft(session: Session, pool: WorkerPool, reading: Reading) -> Standing | None:
    """The answer to a question that asks for a computation, worked out from cited values.

    None when the question asks for none, or when a value is missing: then a warning says which, and
    the draft stays what the workers made of the question itself."""
    computation = computation_of(session.question.text)
    if computation is None:
        return None
    with session.trace.step("compute", formula=computation.formula) as facts:
        findings = await _look_up(session, pool, reading, computation.operands, facts)
        values = _values(computation.operands, findings)
        facts["values"] = {name: str(value.amount) for name, value in values.items()}
        worked = _work_out(computation, values)
        if isinstance(worked, ArithmeticRefused):
            facts["refused"] = worked.reason
            session.warnings.append(f"Nothing was computed: {worked.reason}.")
            return None
        answer = answer_text(computation, values, worked)
        facts["answer"] = answer
    return Standing(
        answer=answer,
        citations=tuple(dict.fromkeys(value.citation for value in values.values())),
        rung=Rung.LOCAL,
        p_correct=_chance(session.question.text, findings, reading),
    )


async def _look_up(
    session: Session,
    pool: WorkerPool,
    reading: Reading,
    operands: Sequence[Operand],
    facts: dict[str, Any],
) -> dict[str, Evidence]:
    """What the workers find for each operand, by its name."""
    effort = session.question.options.effort
    errands = {operand.name: _jobs(operand, pool, reading.chunks, effort) for operand in operands}
    jobs = {job.job_id: job for errand in errands.values() for job in errand}
    done = await session.job_run(pool).run(list(jobs.values()), reading.chunks)
    by_id = {result.job_id: result for result in done}
    facts["jobs"] = [job_facts(result) for result in done]
    session.side_jobs += replace(reading, results=done, n_skipped=0).counts
    return {
        name: gather_evidence(
            [by_id[job.job_id] for job in errand], reading.chunks, reading.documents
        )
        for name, errand in errands.items()
    }


def _jobs(
    operand: Operand, pool: WorkerPool, chunks: Mapping[str, Chunk], effort: Effort
) -> list[Job]:
    """One job per chunk that names the operand's year: in the others a number may be any year's."""
    naming = [chunk for chunk in chunks.values() if str(operand.year) in chunk.text]
    return plan_jobs(naming, operand.question, pool.info, SAMPLING, effort)


def _values(operands: Sequence[Operand], findings: Mapping[str, Evidence]) -> dict[str, NamedValue]:
    found = (
        value_for(o.name, findings[o.name], year=o.year, magnitude=o.is_outflow) for o in operands
    )
    return {value.name: value for value in found if value is not None}


def _work_out(
    computation: Computation, values: Mapping[str, NamedValue]
) -> Worked | ArithmeticRefused:
    missing = [o for o in computation.operands if o.name not in values]
    if missing:
        listed = ", ".join(f"{o.measure} in {o.year}" for o in missing)
        return ArithmeticRefused(reason=f"no number with a verified quote was found for {listed}")
    twin = _one_place_for_two(computation.operands, values)
    if twin is not None:
        return ArithmeticRefused(reason=f"{twin} was read from one place for two years")
    return work_out(computation.formula, values)


def _one_place_for_two(operands: Sequence[Operand], values: Mapping[str, NamedValue]) -> str | None:
    """The measure whose very same number, in the same quote, was given for two of its years."""
    seen: set[tuple[str, str, int, int, Decimal]] = set()
    for operand in operands:
        value = values[operand.name]
        cited = value.citation
        place = (operand.measure, cited.document_id, cited.start, cited.end, value.amount)
        if place in seen:
            return operand.measure
        seen.add(place)
    return None


def _chance(question: str, findings: Mapping[str, Evidence], reading: Reading) -> float:
    """All values must be right at once. Their errors are taken as independent, which is on the safe
    side: a reader that finds one column of a table tends to find its neighbours."""
    return math.prod(
        p_local(signals_of(question, evidence, reading)) for evidence in findings.values()
    )


def answer_text(computation: Computation, values: Mapping[str, NamedValue], worked: Worked) -> str:
    """The result, the formula with its numbers, and which number is what."""
    used = "; ".join(
        f"{o.measure} {o.year}: {_amount(values[o.name])}" for o in computation.operands
    )
    return f"{_result(computation, worked)} = {worked.shown} ({used})"


def _result(computation: Computation, worked: Worked) -> str:
    places = _PLACES[computation.form] if computation.places is None else computation.places
    number = worked.result * 100 if computation.form is Form.PERCENT else worked.result
    text = plain(round_half_up(number, places))
    if computation.form is Form.PERCENT:
        return f"{text}%"
    if computation.form is Form.NUMBER:
        return text
    return _with_unit(text, worked.unit, worked.scale_name)


def _amount(value: NamedValue) -> str:
    return _with_unit(plain(value.value), value.unit, value.scale_name)


def _with_unit(number: str, unit: str, scale_name: str) -> str:
    """`$1,577 million`, `-$12`, `5%`."""
    sign, digits = ("-", number[1:]) if number.startswith("-") else ("", number)
    scaled = f"{digits} {scale_name}".rstrip()
    if unit in ("%", "bp"):
        return f"{sign}{scaled}{'%' if unit == '%' else ' bp'}"
    return f"{sign}{unit}{scaled}"
