"""One answer in JSON while it is being written, token by token."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from workers.jobs import WEIGHED_TOKENS, Sampling
from workers.llama.api import Logits
from workers.llama.extracting import AnswerState, ExtractingState, Extraction
from workers.llama.grammar import PREFILL, AnswerGrammar
from workers.llama.row import Row
from workers.llama.sampling import Sampler
from workers.llama.writing import Lookup

_STRING: Final = rb'"(?:[^"\\]|\\.)*"'
_NULL: Final = re.compile(rb" ?null")
_ANSWER: Final = re.compile(rb" ?" + _STRING, re.DOTALL)
_MIDDLE: Final = b', "citation":'
"""All that can stand between an answer and its citation."""
_CITATION: Final = re.compile(rb" (?:null|" + _STRING + rb")\}?", re.DOTALL)

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
    """The JSON of one answer so far: a `Writer`.

    What can only follow is forced: once the answer's string is closed, the citation's key; once
    the citation is closed, the brace, which need not even be computed."""

    def __init__(
        self,
        *,
        sampling: Sampling,
        grammar: AnswerGrammar,
        bytes_of: Callable[[int], bytes],
        lookup: Lookup | None = None,
        extraction: Extraction | None = None,
    ) -> None:
        """`lookup` guesses the rest of quotes that have begun. `extraction`: what answer and
        citation have to be pieces of; without it, or where its source is blank, they are free."""
        self._cap = sampling.max_output_tokens
        self._answer_cap = int(self._cap * _ANSWER_SHARE)
        self._sampler = Sampler(sampling)
        self._grammar = grammar
        self._state: AnswerState = grammar.start()
        if extraction is not None and not extraction.source.is_blank:
            self._state = ExtractingState(self._state, extraction)
        self._bytes_of = bytes_of
        self._lookup = lookup
        self._written = bytearray()
        self._tokens: list[int] = []
        self._log_probabilities: list[float] = []
        self._answer_end: int | None = None
        """Bytes up to the end of the answer's string, once it is closed."""
        self.margin: float | None = None
        """See `JobResult.margin`; known from the token on that decides between a string and null,
        which is the first that is not a bare space."""
        self.abstained = False
        """The value is `null`; decoding stops there."""
        self.is_complete = False
        """The JSON object is closed, or the value is `null`."""
        self.was_cut = False
        """A string ran on or repeated itself, and was closed here instead of by the model."""

    @property
    def n_tokens(self) -> int:
        return len(self._tokens)

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
        """Mean log-probability of the value's first eight tokens (of the answer string, or `null`),
        in nats."""
        if not self._log_probabilities:
            return None
        return sum(self._log_probabilities) / len(self._log_probabilities)

    def take(self, row: Logits) -> Sequence[int]:
        """See `Writer.take`."""
        is_weighed = self._answer_end is None and len(self._log_probabilities) < WEIGHED_TOKENS
        ranked = Row(row)
        if self._runs_on() and self._state.allows(self._grammar.quote):
            token, self.was_cut = self._grammar.quote, True
        else:
            token = self._sampler.choose(ranked, self._state)
        if is_weighed:
            self._weigh(ranked, token)
        self._append(token)
        if not self._is_within_answer(token):
            self._note_end()
        forced = self._forced()
        for follower in forced:
            self._append(follower)
        return [token, *forced]

    def guesses(self, most: int) -> Sequence[int]:
        """How the chunk goes on where it says what was written last."""
        if self._lookup is None or self.abstained:
            return ()
        return self._lookup.after(self._tokens, min(most, self._cap - self.n_tokens - 1))

    def close(self) -> None:
        """Free the grammar's state. Safe to call twice."""
        self._state.close()

    def _runs_on(self) -> bool:
        """Whether the string that is being written has to be closed by force."""
        if self.margin is None or self.abstained:
            return False
        if self._answer_end is None and self.n_tokens >= self._answer_cap:
            return True
        return self.n_tokens % _LONGEST_PERIOD == 0 and is_looping(self._tokens)

    def _weigh(self, row: Row, token: int) -> None:
        """Note how sure the model is of one of the value's first tokens."""
        self._log_probabilities.append(row.log_probability(token))
        if self.margin is None:
            opening = self._grammar.after_space if self._written else self._grammar.at_start
            if token not in opening.spaces:
                self.margin = opening.gap(row.logits)
        elif self._has_opened():
            self.margin = min(self.margin, row.lead(token))

    def _append(self, token: int) -> None:
        self._state.accept(token)
        self._written += self._bytes_of(token)
        self._tokens.append(token)

    def _is_within_answer(self, token: int) -> bool:
        """Whether `token` has certainly not ended the answer: its string had begun before."""
        if not self._has_opened() or self._answer_end is not None:
            return False
        return b'"' not in self._bytes_of(token)

    def _has_opened(self) -> bool:
        """Whether the value is a string."""
        return self._written[:2].lstrip(b" ").startswith(b'"')

    def _note_end(self) -> None:
        """See whether the answer, or the whole object, has just been closed."""
        if self._answer_end is None:
            self.abstained = _NULL.match(self._written) is not None
            answer = _ANSWER.match(self._written)
            self._answer_end = answer.end() if answer else None
        if self.abstained:
            self.is_complete = True
        elif self._answer_end is not None:
            self._note_citation_end(self._answer_end + len(_MIDDLE))

    def _note_citation_end(self, begin: int) -> None:
        citation = self._written[begin:]
        if citation.endswith((b'"', b"l", b"}")) and _CITATION.fullmatch(citation):
            self.is_complete = True
            if not citation.endswith(b"}"):
                self._written += b"}"

    def _forced(self) -> Sequence[int]:
        """The rest of what stands between an answer that was just closed and its citation."""
        if self._answer_end is None or self.is_over:
            return ()
        begun = bytes(self._written[self._answer_end :])
        if len(begun) >= len(_MIDDLE) or not _MIDDLE.startswith(begun):
            return ()
        return self._grammar.encode(_MIDDLE[len(begun) :].decode())[: self._cap - self.n_tokens]
