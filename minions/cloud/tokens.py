"""Tokens of a cloud call, counted offline before it is bought.

Everything is counted with o200k_base, the vocabulary of OpenAI's models since gpt-4o. For models of
other vendors the count is an estimate; what was really used is always the provider's own number,
in `CloudUsage`.
"""

from __future__ import annotations

from minions.cloud.model import CloudRequest
from workers.vocabulary import encode_ordinary, o200k_base

_TOKENS_PER_MESSAGE = 3
_TOKENS_PER_ROLE = 1
_TOKENS_OF_REPLY_PRIMER = 3


def count_tokens(text: str) -> int:
    """Tokens of `text`. About 0.1 s for a megabyte.

    All models are counted with o200k_base: exact for OpenAI's models since gpt-4o, an estimate for
    all others, whose tokenizers are not published or not shipped here.
    """
    return len(encode(text))


def encode(text: str) -> list[int]:
    """Token ids of `text` as data: nothing in it becomes a control token."""
    return encode_ordinary(o200k_base(), text)


def request_tokens(request: CloudRequest) -> int:
    """Prompt tokens of the whole request: its texts and the chat frame around each."""
    texts = request.texts
    return sum(map(count_tokens, texts)) + framing_tokens(len(texts))


def framing_tokens(n_messages: int) -> int:
    """Tokens that the chat format adds to the messages' own text.

    Source: OpenAI's cookbook, "How to count tokens with tiktoken": 3 per message, its role's token,
    and 3 that prime the reply.
    """
    return n_messages * (_TOKENS_PER_MESSAGE + _TOKENS_PER_ROLE) + _TOKENS_OF_REPLY_PRIMER
