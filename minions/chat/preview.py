"""An answer while it is written: what a listener has heard, and how it ends as it was paid for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from minions.cloud.model import (
    AttemptSink,
    CloudAttempt,
    CloudClient,
    CloudRequest,
    CloudResponse,
    DeltaSink,
    Permission,
)

BEGUN_ANEW = "\n\n[The answer broke off here and was begun anew.]\n\n"


@dataclass(kw_only=True, slots=True)
class Preview:
    """Passes pieces on so that, joined, they are the answer: a second attempt repeats nothing that
    was heard, and one that goes another way is told as such."""

    say: Callable[[str], None]
    _heard: str = field(default="", init=False)
    _attempt: str = field(default="", init=False)

    def hear(self, piece: str) -> None:
        """The next piece of the attempt that runs."""
        self._attempt += piece
        if self._attempt.startswith(self._heard):
            self._pass_on(self._attempt)

    def begin_again(self) -> None:
        """The attempt has ended; what comes next is from the start."""
        self._attempt = ""

    def finish(self, text: str) -> str:
        """Say what is missing of the finished answer; returns all that was said."""
        if not text.startswith(self._heard):
            text = f"{self._heard}{BEGUN_ANEW}{text}"
        self._pass_on(text)
        return text

    def _pass_on(self, text: str) -> None:
        new = text[len(self._heard) :]
        if new:
            self._heard = text
            self.say(new)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewedCloud:
    """`CloudClient` that lets a `Preview` know when an attempt has ended."""

    client: CloudClient
    preview: Preview

    @property
    def base_url(self) -> str:
        return self.client.base_url

    async def complete(
        self,
        request: CloudRequest,
        *,
        on_attempt: AttemptSink,
        on_delta: DeltaSink | None = None,
    ) -> CloudResponse:
        """See `CloudClient`."""

        def attempt_ended(attempt: CloudAttempt) -> Permission | None:
            self.preview.begin_again()
            return on_attempt(attempt)

        return await self.client.complete(request, on_attempt=attempt_ended, on_delta=on_delta)

    async def close(self) -> None:
        """The client belongs to whoever made it."""
