"""Writers and the cache in step: forced tokens, guesses, and what is thrown away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.llama.api import Logits
from workers.llama.writing import Lookup, Tail

N_VOCAB = 10
FORCED = {3: [4, 5], 7: [8]}
"""After such a token only these can follow."""


class Copyist:
    """Writes a text; each row of logits says which token of it comes next."""

    def __init__(self, text: Sequence[int], guesses: Sequence[Sequence[int]]) -> None:
        self.text = list(text)
        self.written: list[int] = []
        self._guesses = iter(guesses)

    @property
    def n_tokens(self) -> int:
        return len(self.written)

    @property
    def is_over(self) -> bool:
        return len(self.written) >= len(self.text)

    def take(self, row: Logits) -> Sequence[int]:
        token = int(row.argmax())
        added = [token, *FORCED.get(token, [])]
        self.written += added
        return added

    def guesses(self, most: int) -> Sequence[int]:
        return list(next(self._guesses, ()))[:most]

    def close(self) -> None:
        """Nothing is held."""


class Model:
    """Says what follows a text by the text alone, as a real one does by its cache."""

    def __init__(self, text: Sequence[int]) -> None:
        self.text = list(text)
        self.cells: list[int] = []

    def row(self) -> Logits:
        """Of the last cell: the next token, if all cells are right; else rubbish."""
        row = np.zeros(N_VOCAB, np.float32)
        n = len(self.cells)
        right = self.cells == self.text[:n] and n < len(self.text)
        row[self.text[n] if right else 0] = 1.0
        return row


def run(text: Sequence[int], guesses: Sequence[Sequence[int]], n_rows: int) -> tuple[Tail, int]:
    """Write `text` through a tail; returns it and the number of batches."""
    writer, model = Copyist(text, guesses), Model(text)
    tail = Tail(writer)
    tail.take(model.row()[None])
    n_batches = 0
    while not writer.is_over:
        offer = tail.offer(min(n_rows, tail.n_rows))
        n_batches += 1
        assert offer.first == len(model.cells)
        rows = []
        for index, token in enumerate(offer.tokens):
            model.cells.append(int(token))
            if index >= len(offer.tokens) - offer.n_wanted:
                rows.append(model.row())
        is_ahead = tail.take(np.array(rows, np.float32).reshape(-1, N_VOCAB))
        assert is_ahead == (tail.n_cached < len(model.cells)) or writer.is_over
        del model.cells[tail.n_cached :]
        assert n_batches < 500
    assert writer.written[: len(text)] == list(text)
    return tail, n_batches


def text_with_forced(tokens: Sequence[int]) -> list[int]:
    """A text in which every forced token stands where it must."""
    text: list[int] = []
    for token in tokens:
        text += [token, *FORCED.get(token, [])]
    return text


TOKENS = st.lists(st.integers(1, N_VOCAB - 1), min_size=1, max_size=30)
GUESSES = st.lists(st.lists(st.integers(1, N_VOCAB - 1), max_size=16), max_size=40)


@given(tokens=TOKENS, guesses=GUESSES, n_rows=st.integers(1, 20))
def test_guesses_never_change_the_text(
    tokens: list[int], guesses: list[list[int]], n_rows: int
) -> None:
    run(text_with_forced(tokens), guesses, n_rows)


def test_right_guesses_save_batches() -> None:
    text = [1, 2, 6, 9, 1, 2, 6, 9, 1, 2, 6, 9]
    _, plain = run(text, [], 16)
    tail, guessed = run(text, [text[1:5], [], text[7:10]], 16)
    assert (plain, guessed) == (11, 4)
    assert (tail.n_guessed, tail.n_guessed_right) == (7, 7)


def test_forced_tokens_are_computed_in_one_batch() -> None:
    _, n_batches = run([3, 4, 5, 7, 8, 1], [], 16)
    assert n_batches == 2
    _, n_batches = run([3, 4, 5, 7, 8, 1], [], 1)
    assert n_batches == 5


def test_the_chunk_tells_how_a_quote_goes_on() -> None:
    lookup = Lookup(np.arange(100, dtype=np.int32))
    assert lookup.after([41, 42, 43], 4) == [44, 45, 46, 47]
    assert list(lookup.after([7, 97, 98, 99], 4)) == []
    assert lookup.after([96, 97, 98], 4) == [99]
    assert lookup.after([41, 43, 42], 4) == ()
    assert lookup.after([42, 43], 4) == ()
    assert Lookup(np.zeros(2, np.int32)).after([0, 0, 0], 4) == ()


def test_a_place_within_a_token_is_not_the_chunks() -> None:
    """The bytes of 1, 2, 3 also stand in the chunk a byte later than a token begins."""
    shifted = [0x0100, 0x0200, 0x0300, 0, 9]
    lookup = Lookup(np.array([*shifted, 1, 2, 3, 4], np.int32))
    assert lookup.after([1, 2, 3], 4) == [4]
    assert Lookup(np.array(shifted, np.int32)).after([1, 2, 3], 4) == ()
