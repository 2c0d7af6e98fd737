"""An answer's grammar for models that extract: answer and citation are pieces of the excerpt, and
the citation overlaps the answer: a quote from elsewhere says nothing of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from workers.llama.schedule import Tokens
from workers.verbatim import Span, Verbatim

METADATA_KEY: Final = "minions.extracts"
"""GGUF metadata that says `true` of a model trained to copy what it answers."""

_QUOTES_BEFORE: Final = (1, 0, 3, 0)
"""Quotes up to and with the one that opens a string: before the answer, in it, between answer and
citation (whose key has two), in the citation."""
_IN_ANSWER: Final = 1
_IN_CITATION: Final = 3
_QUOTE: Final = 0x22


class AnswerState(Protocol):
    """Which tokens may come next in one answer (`GrammarState`)."""

    def allows(self, token: int) -> bool: ...

    def keep_allowed(self, tokens: Tokens) -> Tokens: ...

    def accept(self, token: int) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """How far an answer's JSON is written. Stages are numbered as in `_QUOTES_BEFORE`."""

    stage: int = 0
    written: bytes = b""
    """Of the stage."""
    touching: tuple[Span, ...] = ()
    """Where the answer stands in the excerpt, once it is closed."""


class TokenTexts:
    """The texts of a vocabulary, to find those that a source goes on with."""

    def __init__(self, bytes_of: Callable[[int], bytes], n_vocab: int) -> None:
        self.bytes_of, self.n_vocab = bytes_of, n_vocab
        self.longest = 0
        self._whole: defaultdict[bytes, list[int]] = defaultdict(list)
        """Tokens by their text, and by what they have before a quote."""
        self._begun: set[bytes] = set()
        """All that a key of `_whole` begins with."""
        for token in range(n_vocab):
            self._add(token, bytes_of(token))

    def _add(self, token: int, text: bytes) -> None:
        quotes = (index for index, byte in enumerate(text) if byte == _QUOTE)
        for size in (*quotes, len(text)):
            self._whole[text[:size]].append(token)
        self._begun.update(text[:size] for size in range(len(text) + 1))
        self.longest = max(self.longest, len(text))

    def beginning(self, continuations: Iterable[bytes]) -> Tokens:
        """The tokens that any of these begins with; of a token with quotes, it is enough that one
        begins with what stands before a quote."""
        found: set[int] = set()
        for text in continuations:
            for size in range(len(text) + 1):
                if text[:size] not in self._begun:
                    break
                found.update(self._whole.get(text[:size], ()))
        return np.fromiter(found, np.int32, len(found))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Extraction:
    """What an answer's strings are held to, and the vocabulary that they are written in."""

    source: Verbatim
    texts: TokenTexts


class ExtractingState:
    """What the grammar allows and the excerpt holds."""

    def __init__(self, grammar: AnswerState, extraction: Extraction) -> None:
        self._grammar, self._source = grammar, extraction.source
        self._texts = extraction.texts
        self._at = _Place()

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        return self._grammar.allows(token) and self._after(token) is not None

    def keep_allowed(self, tokens: Tokens) -> Tokens:
        """Those of `tokens` that may come next, in their order."""
        by_grammar = self._grammar.keep_allowed(self._that_may_follow(tokens))
        kept = [token for token in by_grammar.tolist() if self._after(token) is not None]
        return np.array(kept, dtype=tokens.dtype)

    def accept(self, token: int) -> None:
        """Advance past `token`, which must be allowed."""
        self._grammar.accept(token)
        self._at = self._after(token) or self._at

    def close(self) -> None:
        """Free the grammar's state. Safe to call twice."""
        self._grammar.close()

    def _that_may_follow(self, tokens: Tokens) -> Tokens:
        """All of `tokens` that `_after` lets through inside a string, and a few others. Found from
        the few ways that the source goes on, since asking about each token of a vocabulary takes
        as long as computing several."""
        at = self._at
        if at.stage not in (_IN_ANSWER, _IN_CITATION):
            return tokens
        ways = self._source.continuations(at.written, self._texts.longest, at.touching)
        may_follow = np.zeros(self._texts.n_vocab, np.bool_)
        may_follow[self._texts.beginning(ways)] = True
        return tokens[may_follow[tokens]]

    def _after(self, token: int) -> _Place | None:
        """Where `token` leads; None when a string leaves the source."""
        at, rest = self._at, self._texts.bytes_of(token)
        while rest and at.stage < len(_QUOTES_BEFORE):
            if at.stage in (_IN_ANSWER, _IN_CITATION):
                followed = self._source.follow(at.written, rest, at.touching)
                if followed is None:
                    return None
                end, written = followed.closed_at, followed.inside
            else:
                end, written = _opening_quote(at.written, rest, _QUOTES_BEFORE[at.stage])
            if end < 0:
                return replace(at, written=written)
            is_answer = at.stage == _IN_ANSWER
            touching = tuple(self._source.spans(written)) if is_answer else at.touching
            at, rest = _Place(stage=at.stage + 1, touching=touching), rest[end + 1 :]
        return at


def _opening_quote(written: bytes, rest: bytes, n_quotes: int) -> tuple[int, bytes]:
    """Index in `rest` of the stage's `n_quotes`-th quote, or -1; and the stage's bytes so far."""
    missing = n_quotes - written.count(b'"')
    position = -1
    for _ in range(missing):
        position = rest.find(b'"', position + 1)
        if position < 0:
            return -1, written + rest
    return position, written + rest[: position + 1]
