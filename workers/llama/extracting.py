"""An answer's grammar for models that extract: answer and citation are pieces of the excerpt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np

from workers.llama.schedule import Tokens
from workers.verbatim import Verbatim

METADATA_KEY: Final = "minions.extracts"
"""GGUF metadata that says `true` of a model trained to copy what it answers."""

_QUOTES_BEFORE: Final = (1, 0, 3, 0)
"""Quotes up to and with the one that opens a string: before the answer, in it, between answer and
citation (whose key has two), in the citation."""
_IN_STRING: Final = (1, 3)


class AnswerState(Protocol):
    """Which tokens may come next in one answer (`GrammarState`)."""

    def allows(self, token: int) -> bool: ...

    def keep_allowed(self, tokens: Tokens) -> Tokens: ...

    def accept(self, token: int) -> None: ...

    def close(self) -> None: ...


class ExtractingState:
    """What the grammar allows and the excerpt holds. Stages are numbered as in `_QUOTES_BEFORE`."""

    def __init__(
        self, grammar: AnswerState, source: Verbatim, bytes_of: Callable[[int], bytes]
    ) -> None:
        self._grammar, self._source, self._bytes_of = grammar, source, bytes_of
        self._stage, self._written = 0, b""

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        return self._grammar.allows(token) and self._after(token) is not None

    def keep_allowed(self, tokens: Tokens) -> Tokens:
        """Those of `tokens` that may come next, in their order."""
        by_grammar = self._grammar.keep_allowed(tokens)
        kept = [token for token in by_grammar.tolist() if self._after(token) is not None]
        return np.array(kept, dtype=tokens.dtype)

    def accept(self, token: int) -> None:
        """Advance past `token`, which must be allowed."""
        self._grammar.accept(token)
        self._stage, self._written = self._after(token) or (self._stage, self._written)

    def close(self) -> None:
        """Free the grammar's state. Safe to call twice."""
        self._grammar.close()

    def _after(self, token: int) -> tuple[int, bytes] | None:
        """Stage and its bytes after `token`; None when a string leaves the source."""
        stage, written, rest = self._stage, self._written, self._bytes_of(token)
        while rest and stage < len(_QUOTES_BEFORE):
            if stage in _IN_STRING:
                followed = self._source.follow(written, rest)
                if followed is None:
                    return None
                end, written = followed.closed_at, followed.inside
            else:
                end, written = _opening_quote(written, rest, _QUOTES_BEFORE[stage])
            if end < 0:
                return stage, written
            stage, written, rest = stage + 1, b"", rest[end + 1 :]
        return stage, written


def _opening_quote(written: bytes, rest: bytes, n_quotes: int) -> tuple[int, bytes]:
    """Index in `rest` of the stage's `n_quotes`-th quote, or -1; and the stage's bytes so far."""
    missing = n_quotes - written.count(b'"')
    position = -1
    for _ in range(missing):
        position = rest.find(b'"', position + 1)
        if position < 0:
            return -1, written + rest
    return position, written + rest[: position + 1]
