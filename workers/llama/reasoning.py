"""Reasoning before an answer: the analysis channel, its cap, and what comes after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workers.jobs import Sampling
from workers.llama.api import Logits
from workers.llama.row import Row
from workers.llama.sampling import Mask, Sampler
from workers.llama.writing import Writer


class Analysis:
    """Free text until the token that ends it, or until the cap, where it is closed by force."""

    def __init__(
        self,
        *,
        sampling: Sampling,
        cap: int,
        end_token: int,
        mask: Mask,
        bytes_of: Callable[[int], bytes],
    ) -> None:
        """`mask` bars all control tokens but `end_token`; `cap` counts tokens without that one."""
        self._sampler = Sampler(sampling)
        self._cap = cap
        self._end_token = end_token
        self._mask = mask
        self._bytes_of = bytes_of
        self._written = bytearray()
        self.n_tokens = 0
        self.is_closed = False
        self.was_cut = False

    @property
    def text(self) -> str:
        """The reasoning; a character cut at the end is left out."""
        return self._written.decode("utf-8", "ignore")

    def take(self, row: Logits) -> Sequence[int]:
        """Choose the next token; when that closes the analysis, its end token is among the tokens
        returned, and the last of them."""
        self.n_tokens += 1
        token = self._sampler.choose(Row(row), self._mask)
        if token == self._end_token:
            self.is_closed = True
            return [token]
        self._written += self._bytes_of(token)
        if self.n_tokens < self._cap:
            return [token]
        self.n_tokens += 1
        self.is_closed = self.was_cut = True
        return [token, self._end_token]


class Reasoned:
    """First an analysis, then another writer: itself a `Writer`."""

    def __init__(self, *, analysis: Analysis, bridge: Sequence[int], then: Writer) -> None:
        """`bridge` leads from the analysis to `then`, without the token that ends the analysis."""
        self.analysis = analysis
        self.then = then
        self._bridge = bridge

    @property
    def is_over(self) -> bool:
        return self.then.is_over

    @property
    def n_tokens(self) -> int:
        n_bridge = len(self._bridge) if self.analysis.is_closed else 0
        return self.analysis.n_tokens + n_bridge + self.then.n_tokens

    def take(self, row: Logits) -> Sequence[int]:
        if self.analysis.is_closed:
            return self.then.take(row)
        written = self.analysis.take(row)
        return [*written, *self._bridge] if self.analysis.is_closed else written

    def guesses(self, most: int) -> Sequence[int]:
        return self.then.guesses(most) if self.analysis.is_closed else ()

    def close(self) -> None:
        self.then.close()
