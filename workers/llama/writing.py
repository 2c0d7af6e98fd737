"""What a job writes after its prompt: which tokens the cache holds, and which are known ahead.

A `Writer` turns rows of logits into tokens; answers and chat turns are written by different ones.
A `Tail` keeps the writer and the cache in step. Tokens come in three kinds: chosen from logits;
forced, because only they can follow; and guessed, because the text so far stands in the chunk and
may go on as the chunk does. Forced and guessed tokens are computed together in one batch. A guess
is kept only where it is just the token that the writer chooses from the row before it, so that
guessing changes the speed and never the text.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from workers.llama.api import Logits
from workers.llama.schedule import Tokens

_FEWEST_GUESSES: Final = 4
_MOST_GUESSES: Final = 16
_CONTEXT: Final = 3
"""So many tokens in a row must stand in the chunk before the next ones are guessed from it."""


class Writer(Protocol):
    """One output, written token by token."""

    @property
    def is_over(self) -> bool:
        """Nothing more is to be written."""
        ...

    @property
    def n_tokens(self) -> int:
        """Tokens written so far, forced ones included."""
        ...

    def take(self, row: Logits) -> Sequence[int]:
        """Choose the next token from its logits, shape (vocabulary,); returns it, and after it the
        tokens that are forced to follow. Raises JobRejected when no token may come next."""
        ...

    def guesses(self, most: int) -> Sequence[int]:
        """Tokens that are likely to come next, at most so many."""
        ...

    def close(self) -> None:
        """Free what C holds of it. Safe to call twice."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Offer:
    """The tokens of one turn."""

    tokens: Sequence[int]
    first: int
    """Index of the first among the tokens after the prompt."""
    n_wanted: int
    """Rows of logits that are needed, of the last tokens: none while forced tokens are left over,
    else one for the last certain token and one for each guess."""


class Tail:
    """The tokens after a job's prompt."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.n_guessed = 0
        self.n_guessed_right = 0
        self._tokens: list[int] = []
        self._n_cached = 0
        self._guesses: Sequence[int] = ()
        self._offered = Offer(tokens=(), first=0, n_wanted=1)
        self._stride = _FEWEST_GUESSES

    @property
    def n_rows(self) -> int:
        """Rows that the next turn could fill."""
        return len(self._tokens) - self._n_cached + len(self._guesses)

    @property
    def n_cached(self) -> int:
        """Tokens whose cells are valid."""
        return self._n_cached

    def offer(self, n_rows: int) -> Offer:
        """The tokens for a turn of at most so many rows, at least one."""
        certain = self._tokens[self._n_cached : self._n_cached + n_rows]
        all_certain = self._n_cached + len(certain) == len(self._tokens)
        guesses = self._guesses[: n_rows - len(certain)] if all_certain else ()
        self._offered = Offer(
            tokens=[*certain, *guesses],
            first=self._n_cached,
            n_wanted=1 + len(guesses) if all_certain else 0,
        )
        return self._offered

    def take(self, rows: Logits) -> bool:
        """Write on from the rows of the last offer, shape (n_wanted, vocabulary); before any offer,
        from the one row of the prompt's end.

        Returns whether cells were computed that are wrong now: those after the first `n_cached`.
        Raises JobRejected as the writer does."""
        n_guesses = max(self._offered.n_wanted - 1, 0)
        guesses = self._offered.tokens[len(self._offered.tokens) - n_guesses :]
        self._n_cached += len(self._offered.tokens) - n_guesses
        n_right = self._write(rows, guesses)
        self._n_cached += n_right
        self._learn(n_guesses, n_right)
        return n_right < n_guesses

    def _write(self, rows: Logits, guesses: Sequence[int]) -> int:
        """Append tokens for as long as each is the one that was guessed; returns how many were."""
        for index, row in enumerate(rows):
            written = self.writer.take(row)
            self._tokens += written
            if self.writer.is_over or index == len(guesses) or written[0] != guesses[index]:
                return index
            if len(written) > 1:  # forced tokens take the place of the further guesses
                return index + 1
        return 0

    def _learn(self, n_guesses: int, n_right: int) -> None:
        """Guess more after a success, less after a failure."""
        self.n_guessed += n_guesses
        self.n_guessed_right += n_right
        if n_guesses:
            self._stride = 2 * self._stride if n_right == n_guesses else _FEWEST_GUESSES
            self._stride = min(self._stride, _MOST_GUESSES)
        self._guesses = () if self.writer.is_over else self.writer.guesses(self._stride)


class Lookup:
    """Guesses that a text goes on as it does in a chunk."""

    def __init__(self, chunk_tokens: Tokens) -> None:
        self._chunk = np.ascontiguousarray(chunk_tokens, np.int32)
        self._bytes = self._chunk.tobytes()

    def after(self, written: Sequence[int], most: int) -> Sequence[int]:
        """What follows in the chunk where it first holds the last three tokens of `written`."""
        if len(written) < _CONTEXT:
            return ()
        at = self._find(array.array("i", written[-_CONTEXT:]).tobytes())
        if at < 0:
            return ()
        begin = at + _CONTEXT
        found: list[int] = self._chunk[begin : begin + most].tolist()
        return found

    def _find(self, tokens: bytes) -> int:
        """Index of the first place of these tokens in the chunk, or -1. Bytes are searched many
        times as fast as arrays are compared; a place that begins within a token is none."""
        size = self._chunk.itemsize
        at = self._bytes.find(tokens)
        while at > 0 and at % size:
            at = self._bytes.find(tokens, at + 1)
        return at // size
