"""The bodies of requests, as pydantic models."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from minions.question import StrategyName
from router import Rung
from workers import Effort

MAX_QUESTION_CHARS = 20_000
MAX_DOCUMENTS = 100
"""Of one question or collection."""
MAX_INLINE_CHARS = 10_000_000
MAX_USD = Decimal("999999.999999999")
AN_ID = "doc_0123456789abcdef01234567"

EXAMPLES = [
    {"question": "Which law governs?", "documents": [AN_ID]},
    {
        "question": "What does each pump cost?",
        "documents": [{"name": "offer.txt", "text": "Each pump costs $4,250."}],
        "privacy": "local",
    },
]

DocumentId = Annotated[str, Field(min_length=1, max_length=200)]
BILLIONTH = Decimal("1e-9")
DOLLARS_IN_TEXT = r"^[0-9]{1,6}(\.[0-9]{1,9})?$"


def _plain_dollars(value: object) -> object:
    """Text is taken where it is a plain amount: other ways to write a number are not needed."""
    if isinstance(value, str) and not re.fullmatch(DOLLARS_IN_TEXT.strip("^$"), value, re.ASCII):
        raise ValueError('dollars are a number, or a text such as "0.05"')
    return value


Dollars = Annotated[
    Decimal,
    BeforeValidator(_plain_dollars),
    Field(ge=0, le=MAX_USD, allow_inf_nan=False),
    AfterValidator(lambda usd: usd.quantize(BILLIONTH)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": float(MAX_USD)},
                {"type": "string", "pattern": DOLLARS_IN_TEXT},
            ]
        }
    ),
]
"""The ledger counts in billionths of a dollar, so smaller parts are rounded."""


def _described(schema: dict[str, Any]) -> None:
    """Show examples, and say what `_has_one_source` asks for, in the words of JSON Schema."""
    nothing, something = {"type": "null"}, {"not": {"type": "null"}}
    schema["examples"] = EXAMPLES
    schema["oneOf"] = [
        {
            "required": [given],
            "properties": {given: something, absent: nothing},
        }
        for given, absent in (("documents", "collection"), ("collection", "documents"))
    ]


class InlineDocument(BaseModel):
    """A text given in the request itself."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=255, examples=["notes.txt"])
    text: str = Field(min_length=1, max_length=MAX_INLINE_CHARS)


class QuestionBase(BaseModel):
    """What is asked, of what, and under which wishes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_described)
    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARS, pattern=r"\S")
    documents: list[DocumentId | InlineDocument] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_DOCUMENTS,
        description="Ids or inline texts.",
    )
    collection: DocumentId | None = Field(
        default=None, description="Instead of documents: all of this collection."
    )
    strategy: StrategyName = Field(default=StrategyName.LADDER, description="How to answer.")
    privacy: Rung = Field(
        default=Rung.DOCUMENT, description="The most that the cloud may ever see."
    )
    max_cost_usd: Dollars | None = Field(
        default=None, description="Hard cap on what the cloud may cost."
    )
    target: float | None = Field(
        default=None, ge=0, le=1, description="P(correct) that is good enough."
    )
    value_usd: Dollars | None = Field(
        default=None, description="What a right answer is worth; buys what pays off."
    )
    alpha: float | None = Field(
        default=None, gt=0, lt=1, description="Accepted loss against the cloud alone."
    )
    max_latency_s: float | None = Field(
        default=None, ge=0, le=86_400, description="Buy nothing that would answer later."
    )
    redact: bool | None = Field(default=None, description="Hide personal data from the cloud.")
    stop_early: bool = Field(
        default=False, description="Stop reading once the answer is certain enough by `target`."
    )
    rung: Rung | None = Field(
        default=None, description="Buy exactly this rung; `local` buys nothing."
    )
    effort: Effort = Field(default=Effort.NONE, description="How long the workers reason.")
    fresh: bool = Field(default=False, description="Read again what was read before.")
    follows: str | None = Field(
        default=None,
        max_length=200,
        description="Id of the question that this one goes on from. Where it leans on that one "
        '("and who pays?"), what was asked and answered there comes along.',
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.documents is None) == (self.collection is None):
            raise ValueError("give either documents (at least one) or a collection")
        return self


class QuestionBody(QuestionBase):
    """One question."""

    wait: bool = Field(default=False, description="Answer in this response instead of 202.")
    background: bool = Field(
        default=False, description="Go on though the client leaves its stream or its connection."
    )


class EstimateBody(QuestionBase):
    """A question whose price is asked. The same fields as a question's."""


class BuyBody(BaseModel):
    """A rung to climb to now."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"rung": "passages"}]}
    )
    rung: Rung = Field(description="evidence, passages or document.")


class CollectionBody(BaseModel):
    """A new collection."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "Supply contracts", "documents": [AN_ID]}]},
    )
    name: str = Field(min_length=1, max_length=255)
    documents: list[DocumentId] = Field(min_length=1, max_length=MAX_DOCUMENTS)
