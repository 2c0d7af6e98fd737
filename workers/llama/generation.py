"""One answer while it is being written, token by token."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from workers.jobs import Sampling
from workers.llama.api import Logits
from workers.llama.grammar import PREFILL, AnswerGrammar
from workers.llama.sampling import Sampler, log_probability

_STRING: Final = rb'"(?:[^"\\]|\\.)*"'
_NULL: Final = re.compile(rb" ?null")
_ANSWER: Final = re.compile(rb" ?" + _STRING, re.DOTALL)
_OBJECT: Final = re.compile(
    rb" ?" + _STRING + rb', "citation": (?:null|' + _STRING + rb")\}", re.DOTALL
)


_ANSWER_SHARE: Final = 0.75
"""Share of a job's output tokens that its answer may take; the rest is for the citation."""
_LONGEST_PERIOD: Final = 8
_LOOP_TOKENS: Final = 32


def is_looping(tokens: Sequence[int]) -> bool:
    """Whether the last 32 tokens repeat a pattern of at most 8: small models fall into such loops
    and would go on to their cap."""
    if len(tokens) < _LOOP_TOKENS + _LONGEST_PERIOD:
        return False
    last = tokens[-_LOOP_TOKENS:]
    return any(
        last == tokens[-_LOOP_TOKENS - period : -period] for period in range(1, _LONGEST_PERIOD + 1)
    )


class Generation:
    """The output of one job so far. `take` is called with one row of logits per step."""

    def __init__(
        self,
        *,
        sampling: Sampling,
        grammar: AnswerGrammar,
        bytes_of: Callable[[int], bytes],
    ) -> None:
        self._cap = sampling.max_output_tokens
        self._answer_cap = int(self._cap * _ANSWER_SHARE)
        self._sampler = Sampler(sampling)
        self._grammar = grammar
        self._state = grammar.start()
        self._bytes_of = bytes_of
        self._written = bytearray()
        self._tokens: list[int] = []
        self._log_probabilities: list[float] = []
        self._answer_closed = False
        self.n_tokens = 0
        self.last_token = -1
        self.margin: float | None = None
        """See `Opening.gap`; measured at the token that decides between a string and null, which
        is the first that is not a bare space."""
        self.abstained = False
        """The value is `null`; decoding stops there."""
        self.is_complete = False
        """The JSON object is closed, or the value is `null`."""
        self.was_cut = False
        """A string ran on or repeated itself, and was closed here instead of by the model."""

    @property
    def is_over(self) -> bool:
        """Nothing more is to be decoded: complete, or at the cap."""
        return self.is_complete or self.n_tokens >= self._cap

    @property
    def text(self) -> str:
        """The final channel from its prefilled start on; a character cut at the end is left out."""
        return PREFILL + self._written.decode("utf-8", "ignore")

    @property
    def logprob(self) -> float | None:
        """Mean log-probability of the value's tokens (the answer string, or `null`), in nats."""
        if not self._log_probabilities:
            return None
        return sum(self._log_probabilities) / len(self._log_probabilities)

    def take(self, row: Logits) -> None:
        """Choose the next token from its logits, shape (vocabulary,), and append it.

        Raises JobRejected when no token of the vocabulary continues the JSON."""
        if self._runs_on() and self._state.allows(self._grammar.quote):
            token, self.was_cut = self._grammar.quote, True
        else:
            token = self._sampler.choose(row, self._state)
        if self.margin is None:
            self._note_margin(row, token)
        if not self._answer_closed:
            self._log_probabilities.append(log_probability(row, token))
        self._state.accept(token)
        self._append(token)

    def close(self) -> None:
        """Free the grammar's state. Safe to call twice."""
        self._state.close()

    def _runs_on(self) -> bool:
        """Whether the string that is being written has to be closed by force."""
        if self.margin is None or self.abstained:
            return False
        if not self._answer_closed and self.n_tokens >= self._answer_cap:
            return True
        return self.n_tokens % _LONGEST_PERIOD == 0 and is_looping(self._tokens)

    def _note_margin(self, row: Logits, token: int) -> None:
        opening = self._grammar.after_space if self._written else self._grammar.at_start
        if token not in opening.spaces:
            self.margin = opening.gap(row)

    def _append(self, token: int) -> None:
        piece = self._bytes_of(token)
        self._written += piece
        self._tokens.append(token)
        self.n_tokens += 1
        self.last_token = token
        if not self._answer_closed:
            self.abstained = _NULL.match(self._written) is not None
            self._answer_closed = self.abstained or _ANSWER.match(self._written) is not None
        closes = b"}" in piece and _OBJECT.fullmatch(self._written) is not None
        self.is_complete = self.abstained or closes
