"""Dataclasses to JSON and back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from minions.cloud.model import AttemptOutcome, CloudAttempt, CloudResponse, CloudUsage
from minions.documents.model import Page
from minions.store.codec import from_plain, to_plain

ATTEMPT = CloudAttempt(
    idempotency_key="k",
    attempt=1,
    model="m",
    outcome=AttemptOutcome.OK,
    usage=CloudUsage(prompt_tokens=2**60),
    status_code=200,
    elapsed_s=math.inf,
)
RESPONSE = CloudResponse(
    idempotency_key="k",
    model="m",
    text="a\ud800\0",
    finish_reason="stop",
    usage=CloudUsage(),
    attempts=(ATTEMPT, ATTEMPT),
    elapsed_s=0.1 + 0.2,
)


def test_nested_values_survive_strict_json() -> None:
    text = json.dumps(to_plain(RESPONSE), allow_nan=False)
    assert from_plain(CloudResponse, json.loads(text)) == RESPONSE


def test_a_later_field_gets_its_default_and_a_dropped_one_is_ignored() -> None:
    plain: dict[str, Any] = to_plain(ATTEMPT)
    del plain["status_code"]
    plain["dropped_since"] = 1
    assert from_plain(CloudAttempt, plain).status_code is None


def test_what_does_not_fit_raises() -> None:
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'end'"):
        from_plain(Page, {"number": 1, "start": 0})
    with pytest.raises(ValueError, match="'lost' is not a valid AttemptOutcome"):
        from_plain(CloudAttempt, to_plain(ATTEMPT) | {"outcome": "lost"})
