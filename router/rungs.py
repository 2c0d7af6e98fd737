"""The ladder: what the cloud may see, from nothing to everything."""

from __future__ import annotations

import enum


class Rung(enum.StrEnum):
    """A step of the ladder. Comparison follows the ladder: a higher rung shows the cloud more."""

    LOCAL = "local"
    """The cloud sees nothing."""
    EVIDENCE = "evidence"
    """The question and the verified quotes."""
    PASSAGES = "passages"
    """The question and the chunks around the best evidence."""
    DOCUMENT = "document"
    """The question and the whole document."""

    @property
    def height(self) -> int:
        """0 for `local` up to 3 for `document`."""
        return _ORDER.index(self)

    def allows(self, other: Rung) -> bool:
        """Whether `other` may be used under this rung as the privacy ceiling."""
        return other.height <= self.height

    @property
    def above(self) -> tuple[Rung, ...]:
        """The rungs higher than this one, lowest first."""
        return _ORDER[self.height + 1 :]


_ORDER = (Rung.LOCAL, Rung.EVIDENCE, Rung.PASSAGES, Rung.DOCUMENT)
