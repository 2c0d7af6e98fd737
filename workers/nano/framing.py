"""The ids around chunk and question that the chat template gives; needs no PyTorch."""

from __future__ import annotations

from typing import Protocol


class PromptEncoder(Protocol):
    """A tokenizer that knows the special tokens."""

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text."""

    def special(self, *names: str) -> list[int]:
        """Ids of `<|name|>` tokens."""


def opening_ids(tokenizer: PromptEncoder) -> list[int]:
    """`<|start|>user<|message|>`."""
    return [*tokenizer.special("start"), *tokenizer.encode("user"), *tokenizer.special("message")]


def closing_ids(tokenizer: PromptEncoder) -> list[int]:
    """`<|end|><|start|>assistant<|channel|>final<|message|>`."""
    return [
        *tokenizer.special("end", "start"),
        *tokenizer.encode("assistant"),
        *tokenizer.special("channel"),
        *tokenizer.encode("final"),
        *tokenizer.special("message"),
    ]
