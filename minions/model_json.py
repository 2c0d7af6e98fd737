"""JSON that a model wrote: repaired where it is broken, refused in words where it can't be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import json_repair
from pydantic import ValidationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Unusable:
    """A reply of the supervisor that can't be used, and why, in words that it is told."""

    reason: str


def read_object(text: str) -> dict[str, Any] | Unusable:
    """The JSON object in a model's text; broken JSON is repaired."""
    try:
        data = json_repair.loads(text)
    except (RecursionError, ValueError):
        return Unusable(reason="the JSON can't be read")
    if not isinstance(data, dict):
        return Unusable(reason=f"no JSON object: {excerpt(text)}")
    return data


def wrong_fields(error: ValidationError) -> str:
    """What a schema found wrong, field by field, on one line."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'reply'}: {item['msg']}"
        for item in error.errors()[:5]
    )


def excerpt(text: str) -> str:
    """The start of a text on one line, for messages."""
    return repr(re.sub(r"\s+", " ", text)[:120])
