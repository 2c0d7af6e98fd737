"""What the simulated provider remembers: the calls it billed and the prefixes it has seen."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from minions.cloud.model import CloudUsage

_SHORTEST_PREFIX = 1024
_STEP = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One finished piece of work, from which any number of replies can be written."""

    number: int
    """From 1, in the order of billing."""
    created: int
    """Unix time."""
    model: str
    text: str
    finish_reason: str
    """`stop`, `length`, `refusal` or `tool_calls`."""
    usage: CloudUsage
    tool: str | None = None
    """The tool that is called, without arguments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BilledCall:
    """A line of the provider's invoice."""

    completion: Completion
    api: str
    idempotency_key: str | None
    prompt_digest: str
    """SHA-256 of what was asked: a key belongs to one prompt."""
    n_replays: int = 0
    """How often the key came again and was answered from the record."""


class Ledger:
    """Billed calls in order; keys point into them."""

    def __init__(self) -> None:
        self._calls: list[BilledCall] = []
        self._index_by_key: dict[str, int] = {}

    @property
    def calls(self) -> tuple[BilledCall, ...]:
        return tuple(self._calls)

    def bill(self, call: BilledCall) -> None:
        if call.idempotency_key is not None:
            self._index_by_key[call.idempotency_key] = len(self._calls)
        self._calls.append(call)

    def replay(self, key: str | None) -> BilledCall | None:
        """The call that this key was billed for, noting that it came again; None if none was."""
        index = self._index_by_key.get(key) if key is not None else None
        if index is None:
            return None
        call = self._calls[index]
        self._calls[index] = replace(call, n_replays=call.n_replays + 1)
        return call


class PrefixCache:
    """Which prompts' beginnings were seen, as OpenAI's prompt cache counts them.

    Hits are at least 1024 tokens and grow in steps of 128
    (https://platform.openai.com/docs/guides/prompt-caching). Nothing is ever evicted here.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def take(self, tokens: Sequence[int]) -> int:
        """Tokens of the longest known prefix; all prefixes of `tokens` are known afterwards."""
        digests = list(_prefix_digests(tokens))
        n_known = next(
            (i for i, digest in enumerate(digests) if digest not in self._seen), len(digests)
        )
        self._seen.update(digests)
        return _SHORTEST_PREFIX + (n_known - 1) * _STEP if n_known else 0


def _prefix_digests(tokens: Sequence[int]) -> Iterator[bytes]:
    """A digest of each cacheable prefix, the shortest first."""
    packed = array("I", tokens)
    running = hashlib.sha256(packed[:_SHORTEST_PREFIX].tobytes())
    for end in range(_SHORTEST_PREFIX, len(packed) + 1, _STEP):
        if end > _SHORTEST_PREFIX:
            running.update(packed[end - _STEP : end].tobytes())
        yield running.digest()
