"""Tokens are counted offline, fast, and without special tokens."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.cloud.tokens import count_tokens, encode, framing_tokens, request_tokens
from tests.cloud import cloud_request
from workers.vocabulary import o200k_base


def test_known_counts() -> None:
    assert count_tokens("hello world") == 2
    assert count_tokens("") == 0
    assert framing_tokens(2) == 11


def test_a_request_counts_both_messages_and_the_frame() -> None:
    request = cloud_request("hello world", instructions="hello world")
    assert request_tokens(request) == 2 + 2 + 11


def test_control_tokens_in_a_document_are_text() -> None:
    assert count_tokens("<|endoftext|>") > 1


@given(st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_tokens_decode_to_the_text(text: str) -> None:
    assert o200k_base().decode(encode(text)) == text


@pytest.mark.parametrize(
    "text",
    ["The quick brown fox. " * 50_000, " " * 1_100_000, "a" * 1_000_000, "\t \n" * 350_000],
    ids=["prose", "blanks", "one word", "mixed blanks"],
)
def test_a_megabyte_of_anything_is_counted(text: str) -> None:
    count_tokens("the first use loads the vocabulary")
    started = time.monotonic()
    assert 0 < count_tokens(text) <= len(text)
    assert time.monotonic() - started < 5.0
