"""The JSON that an answer must be, and which tokens may open its value.

The prompt ends with `{"answer":`, so the grammar begins there. A grammar check of the whole
vocabulary costs tens of milliseconds at 200k tokens, a check of one token microseconds: `sampling`
therefore draws first and checks what it drew.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.errors import EngineUnavailable
from workers.llama.api import Grammar, LlamaModel, Logits
from workers.llama.schedule import Tokens
from workers.llama.tokenizer import LlamaTokenizer

PREFILL: Final = '{"answer":'

GBNF: Final = r"""
root     ::= " "? ( "null, \"citation\": null}" | answer ", \"citation\": " citation "}" )
answer   ::= "\"" char+ "\""
citation ::= "null" | "\"" char* "\""
char     ::= [^"\\\x7F\x00-\x1F] | "\\" ( ["\\/bfnrt] | "u" hex hex hex hex )
hex      ::= [0-9a-fA-F]
"""

_BEFORE_CITATION: Final = b'", "citation":'
"""No string can hold this: its quotes would have to be escaped."""
_PLAIN: Final = re.compile(r'[^"\\\x7F\x00-\x1F]+')
"""Text that is several `char` of the grammar without an escape."""
_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)
_LONGEST_ESCAPE: Final = 6
_BEGUN: Final = re.compile(
    rb"(?:[\xC2-\xDF]|[\xE0-\xEF][\x80-\xBF]?|[\xF0-\xF4][\x80-\xBF]{0,2})\Z"
)
"""The beginning of a character of two, three or four bytes, at the end of a text."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Opening:
    """The tokens that may come first in the value, by what they decide."""

    strings: Tokens
    """Open a string, alone or after a space: the worker answers."""
    nulls: Tokens
    """Begin `null`: the worker abstains."""
    spaces: Tokens
    """A bare space: nothing is decided yet."""

    @property
    def tokens(self) -> Tokens:
        """All of them, in order."""
        return np.sort(np.concatenate((self.strings, self.nulls, self.spaces)))

    def gap(self, row: Logits) -> float:
        """Distance in logits between the best token that answers and the best that abstains.

        This is the worker's margin: how clear it was that the excerpt holds the answer or not."""
        return abs(float(row[self.strings].max()) - float(row[self.nulls].max()))


class AnswerGrammar:
    """The grammar at its start, for one vocabulary; every generation gets a state of its own."""

    def __init__(self, model: LlamaModel, tokenizer: LlamaTokenizer) -> None:
        """Raises EngineUnavailable when the vocabulary has no token for `"` or for `null`."""
        self._start = model.new_grammar(GBNF)
        self._is_control = np.zeros(model.n_vocab, np.bool_)
        self._is_control[list(tokenizer.control_tokens)] = True
        self.encode = functools.lru_cache(tokenizer.encode)
        """Tokens of a piece of the JSON that can only be as it is."""
        self.quote = _quote_token(model)
        """The token that is `"` and nothing else: it closes a string."""
        self.at_start = self._opening(model, self._start)
        self.after_space = self._opening_after_space(model)
        self._bytes_of = functools.lru_cache(maxsize=None)(model.token_bytes)
        self._is_plain = functools.lru_cache(maxsize=None)(self._find_plain)
        self._narrow = {
            b"": self.at_start.tokens,
            b" ": self.after_space.tokens,
            _BEFORE_CITATION: self._citation_tokens(),
        }

    def start(self) -> AnswerGrammarState:
        """A new state at the start of the value."""
        return AnswerGrammarState(
            self._start.clone(), self._is_control, self._narrow, self._bytes_of, self._is_plain
        )

    def close(self) -> None:
        """Free the grammar; states that were started live on."""
        self._start.close()

    def _find_plain(self, token: int) -> bool:
        """Whether a token is whole characters that may stand in a string as they are."""
        if self._is_control[token]:
            return False
        try:
            return _PLAIN.fullmatch(self._bytes_of(token).decode()) is not None
        except UnicodeDecodeError:
            return False

    def _opening(self, model: LlamaModel, grammar: Grammar) -> Opening:
        vocabulary = np.arange(model.n_vocab, dtype=np.int32)
        allowed = vocabulary[grammar.allowed(vocabulary) & ~self._is_control]
        texts = {int(token): model.token_bytes(int(token)).lstrip(b" ") for token in allowed}
        opening = Opening(
            strings=_select(texts, b'"'), nulls=_select(texts, b"n"), spaces=_select(texts, b"")
        )
        if not len(opening.strings) or not len(opening.nulls):
            raise EngineUnavailable(
                "this model's vocabulary can't write a JSON string or null: use another model"
            )
        return opening

    def _opening_after_space(self, model: LlamaModel) -> Opening:
        if not len(self.at_start.spaces):
            return self.at_start
        grammar = self._start.clone()
        try:
            grammar.accept(int(self.at_start.spaces[0]))
            return self._opening(model, grammar)
        finally:
            grammar.close()

    def _citation_tokens(self) -> Tokens:
        """All that may open the citation, after an answer of one letter."""
        grammar = self._start.clone()
        try:
            for token in self.encode('"a' + _BEFORE_CITATION.decode()):
                grammar.accept(token)
            vocabulary = np.arange(len(self._is_control), dtype=np.int32)
            return vocabulary[grammar.allowed(vocabulary) & ~self._is_control]
        finally:
            grammar.close()


def _quote_token(model: LlamaModel) -> int:
    for token in range(model.n_vocab):
        if model.token_bytes(token) == b'"':
            return token
    raise EngineUnavailable(
        "this model's vocabulary has no token for a quotation mark: use another model"
    )


def _select(texts: dict[int, bytes], first: bytes) -> Tokens:
    """Tokens whose text begins with the byte `first`, or is empty if `first` is."""
    return np.array([token for token, text in texts.items() if text[:1] == first], np.int32)


class GrammarState:
    """Which tokens may come next in one answer.

    Control tokens never may: llama.cpp's grammar sees `<|end|>` as seven ordinary characters and
    would let it stand inside a string."""

    def __init__(self, grammar: Grammar, is_control: npt.NDArray[np.bool_]) -> None:
        self._grammar = grammar
        self._is_control = is_control

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        return not self._is_control[token] and self._grammar.allows(token)

    def keep_allowed(self, tokens: Tokens) -> Tokens:
        """Those of `tokens` that may come next, in their order."""
        return tokens[self._grammar.allowed(tokens) & ~self._is_control[tokens]]

    def accept(self, token: int) -> None:
        """Advance past `token`."""
        self._grammar.accept(token)

    def close(self) -> None:
        """Free the state. Safe to call twice."""
        self._grammar.close()


class AnswerGrammarState(GrammarState):
    """The state of an answer, which asks llama.cpp as little as possible.

    It remembers what may come where hardly anything may: outside strings, and within a character of
    several bytes, that depends on little, and asking about all of a large vocabulary takes tens of
    milliseconds each time.
    And inside a string plain text may always follow and leaves the grammar where it is: it loops
    over `char`. So the grammar is not even told of it."""

    def __init__(
        self,
        grammar: Grammar,
        is_control: npt.NDArray[np.bool_],
        narrow: dict[bytes, Tokens],
        bytes_of: Callable[[int], bytes],
        is_plain: Callable[[int], bool],
    ) -> None:
        """`narrow`: what may come after beginnings such as `""` and `" "`, within characters of
        several bytes, and after the key of the citation with such beginnings; each in order. All
        answers of a grammar share and fill it.
        `is_plain`: see `AnswerGrammar`."""
        super().__init__(grammar, is_control)
        self._narrow = narrow
        self._bytes_of = bytes_of
        self._is_plain = is_plain
        self._written = b""
        self._is_in_text = False
        """After at least one character of a string that is open, and not within an escape."""

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        return (self._is_in_text and self._is_plain(token)) or super().allows(token)

    def keep_allowed(self, tokens: Tokens) -> Tokens:
        """Those of `tokens` that may come next, in their order."""
        place = self._narrow_place()
        few = self._narrow.get(place) if place is not None else None
        if few is not None:
            return few if self._is_whole(tokens) else tokens[np.isin(tokens, few)]
        allowed = super().keep_allowed(tokens)
        if self._is_whole(tokens) and place is not None:
            self._narrow[place] = allowed
        return allowed

    def accept(self, token: int) -> None:
        """Advance past `token`."""
        is_plain = self._is_plain(token)
        is_passed_over = self._is_in_text and is_plain
        if not is_passed_over:
            super().accept(token)
        self._written += self._bytes_of(token)
        if self._written.endswith(_BEFORE_CITATION):
            self._written = _BEFORE_CITATION
        self._is_in_text = is_passed_over or (is_plain and self._is_string_open())

    def _narrow_place(self) -> bytes | None:
        """All that decides what may come next, where that is little: what is written before a
        string, or the beginning of a character within one. None within a string's text."""
        key, value = self._parts()
        if b'"' not in value:
            return self._written
        begun = _begun_character(value)
        return key + b'"' + begun if begun and self._is_string_open() else None

    def _parts(self) -> tuple[bytes, bytes]:
        """The key of the citation, where it is written, and all else."""
        value = self._written.removeprefix(_BEFORE_CITATION)
        return self._written[: len(self._written) - len(value)], value

    def _is_whole(self, tokens: Tokens) -> bool:
        """Whether these are the whole vocabulary, in order."""
        return len(tokens) == len(self._is_control)

    def _is_string_open(self) -> bool:
        """Whether the answer or the citation has begun and not ended, with no escape nearby."""
        value = self._parts()[1].lstrip(b" ")
        if value[:1] != b'"' or b"\\" in value[-_LONGEST_ESCAPE:]:
            return False
        return _ESCAPED.sub(b"", value).count(b'"') == 1


def _begun_character(text: bytes) -> bytes:
    """The first bytes of a UTF-8 character that `text` ends within; empty when it ends with one."""
    tail = _BEGUN.search(text)
    return tail.group() if tail else b""
