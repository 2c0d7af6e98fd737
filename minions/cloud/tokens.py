"""Tokens of a cloud call, counted offline before it is bought.

Everything is counted with o200k_base, the vocabulary of OpenAI's models since gpt-4o. For models of
other vendors the count is an estimate; what was really used is always the provider's own number,
in `CloudUsage`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from minions.cloud.model import CloudRequest
from workers.vocabulary import o200k_base

_TOKENS_PER_MESSAGE = 3
_TOKENS_PER_ROLE = 1
_TOKENS_OF_REPLY_PRIMER = 3
_LONGEST_RUN = 10_000
_BLANK_RUN = re.compile(rf"\s{{{_LONGEST_RUN}}}")


def count_tokens(text: str) -> int:
    """Tokens of `text`. About 0.1 s for a megabyte.

    All models are counted with o200k_base: exact for OpenAI's models since gpt-4o, an estimate for
    all others, whose tokenizers are not published or not shipped here.
    """
    return len(encode(text))


def encode(text: str) -> list[int]:
    """Token ids of `text` as data: nothing in it becomes a control token."""
    encoding = o200k_base()
    return [token for piece in _pieces(text) for token in encoding.encode_ordinary(piece)]


def request_tokens(request: CloudRequest) -> int:
    """Prompt tokens of the whole request: both messages and the chat frame around them."""
    texts = (request.instructions, request.content)
    return sum(map(count_tokens, texts)) + framing_tokens(len(texts))


def framing_tokens(n_messages: int) -> int:
    """Tokens that the chat format adds to the messages' own text.

    Source: OpenAI's cookbook, "How to count tokens with tiktoken": 3 per message, its role's token,
    and 3 that prime the reply.
    """
    return n_messages * (_TOKENS_PER_MESSAGE + _TOKENS_PER_ROLE) + _TOKENS_OF_REPLY_PRIMER


def _pieces(text: str) -> Iterator[str]:
    """Cut inside runs of white space so long that tiktoken's regex engine overflows its stack.

    tiktoken 0.14 panics on a run of about a million blanks. Each cut may change the count by one.
    """
    start = 0
    for run in _BLANK_RUN.finditer(text):
        yield text[start : run.end()]
        start = run.end()
    yield text[start:]
