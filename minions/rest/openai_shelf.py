"""Responses that clients may come back to by id: the newest of this process, in memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from minions.chat.conversation import Said
from minions.errors import NotFound

MAX_RESPONSES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelved:
    """A finished response and the conversation that led to it, its answer included."""

    body: dict[str, Any]
    said: tuple[Said, ...]
    """Without instructions: they are not carried over. Files are kept by their ids only."""


@dataclass(kw_only=True, slots=True)
class ResponseShelf:
    """Keeps the newest responses; the one that was put there first goes first."""

    max_responses: int = MAX_RESPONSES
    _kept: OrderedDict[tuple[str, str], Shelved] = field(default_factory=OrderedDict, init=False)

    def put(self, owner: str, response_id: str, shelved: Shelved) -> None:
        """Keep a response for its owner."""
        self._kept[owner, response_id] = shelved
        while len(self._kept) > self.max_responses:
            self._kept.popitem(last=False)

    def get(self, owner: str, response_id: str) -> Shelved:
        """Raises NotFound for what is not there, or belongs to others."""
        found = self._kept.get((owner, response_id))
        if found is None:
            raise NotFound(
                f"There is no response {response_id} here: it was not stored, was deleted, or is "
                f"older than the newest {self.max_responses} since the service started. Send the "
                "whole conversation instead."
            )
        return found

    def delete(self, owner: str, response_id: str) -> None:
        """Forget a response. Raises NotFound."""
        self.get(owner, response_id)
        del self._kept[owner, response_id]
