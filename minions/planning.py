"""Plans and verdicts of the supervisor: JSON against a schema, never code (Law 4).

A plan is tasks for the workers: each has a name, an instruction and, when not everything is to be
read, the documents or sections that are; with a chunk size for all of them, samples per task, and a
formula over the named values. What does not fit the schema is an `Unusable`, with the reason that
the supervisor is told.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from minions.arithmetic import FUNCTIONS, ArithmeticRefused, check_formula
from minions.model_json import Unusable, read_object, wrong_fields

MAX_TASKS = 16
MAX_SAMPLES = 16
"""More are harmful (ablations of arXiv 2502.15964)."""
MIN_CHUNK_TOKENS = 128
MAX_CHUNK_TOKENS = 16_000
MAX_INSTRUCTION_CHARS = 1_000
DEFAULT_TASK = "question"


class TaskSpec(BaseModel):
    """One instruction for the workers."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)
    """What its value is called in the formula."""
    instruction: str = Field(min_length=3, max_length=MAX_INSTRUCTION_CHARS)
    documents: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(), max_length=100)
    """Numbers of the documents to be read, as listed to the supervisor; empty for all."""
    sections: tuple[Annotated[str, Field(min_length=3, max_length=80)], ...] = Field(
        default=(), max_length=8
    )
    """Only chunks that hold one of these phrases are read; empty for all."""
    samples: int = Field(default=1, ge=1, le=MAX_SAMPLES)

    @model_validator(mode="after")
    def _is_no_function(self) -> Self:
        if self.name in FUNCTIONS:
            raise ValueError(f"a task can't be named like the function `{self.name}`")
        if not self.instruction.strip():
            raise ValueError("the instruction is blank")
        return self


class Plan(BaseModel):
    """One round of work."""

    model_config = ConfigDict(frozen=True)

    tasks: tuple[TaskSpec, ...] = Field(min_length=1, max_length=MAX_TASKS)
    chunk_tokens: int | None = Field(default=None, ge=MIN_CHUNK_TOKENS, le=MAX_CHUNK_TOKENS)
    """Chunk size of the round, one for all tasks so that they share what is prefilled; None for the
    configured one."""
    formula: str | None = None
    """Over the names of tasks, of this round or earlier ones."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [task.name for task in self.tasks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two tasks are named `{twice}`")
        return self


class _VerdictFields(BaseModel):
    """The part of a verdict that is not a plan."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    decision: Literal["answer", "more"]
    answer: str | None = None
    citations: tuple[str, ...] | None = None
    scratchpad: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the supervisor concluded from a round."""

    answer: str | None
    citations: tuple[str, ...]
    scratchpad: str
    plan: Plan | None
    """Tasks of another round; None when it answered."""


def default_plan(question: str) -> Plan:
    """What is done without a usable plan: the question itself as the only task."""
    # Without validation: the user's own question may be as long as they like.
    task = TaskSpec.model_construct(name=DEFAULT_TASK, instruction=question)
    return Plan.model_construct(tasks=(task,))


def parse_plan(text: str, *, n_documents: int, known: Set[str] = frozenset()) -> Plan | Unusable:
    """The plan in the supervisor's text. `known` are the names that earlier rounds gave values."""
    data = read_object(text)
    return data if isinstance(data, Unusable) else plan_of(data, n_documents, known)


def plan_of(data: dict[str, Any], n_documents: int, known: Set[str]) -> Plan | Unusable:
    """The plan in a JSON object; other keys are left alone."""
    try:
        plan = Plan.model_validate(data)
    except ValidationError as error:
        return Unusable(reason=wrong_fields(error))
    beyond = next((n for task in plan.tasks for n in task.documents if n > n_documents), None)
    if beyond is not None:
        return Unusable(reason=f"there is no document {beyond}: they are numbered 1-{n_documents}")
    return _checked_formula(plan, known)


def parse_verdict(
    text: str, *, is_last: bool, n_documents: int, known: Set[str]
) -> Verdict | Unusable:
    """The verdict in the supervisor's text. In the last round whatever it says is its answer."""
    data = read_object(text)
    if isinstance(data, Unusable):
        return data
    try:
        fields = _VerdictFields.model_validate(data)
    except ValidationError as error:
        return Unusable(reason=wrong_fields(error))
    wants_more = fields.decision == "more" and not is_last
    plan = plan_of(data, n_documents, known) if wants_more else None
    if isinstance(plan, Unusable):
        return plan
    return Verdict(
        answer=(fields.answer or "").strip() or None,
        citations=fields.citations or (),
        scratchpad=fields.scratchpad or "",
        plan=plan,
    )


def _checked_formula(plan: Plan, known: Set[str]) -> Plan | Unusable:
    if plan.formula is None or not plan.formula.strip():
        return plan.model_copy(update={"formula": None})
    names = check_formula(plan.formula)
    if isinstance(names, ArithmeticRefused):
        return Unusable(reason=f"the formula {names.reason}")
    unknown = sorted(names - known - {task.name for task in plan.tasks})
    if unknown:
        return Unusable(reason=f"the formula uses `{unknown[0]}`, which is no task's name")
    return plan
