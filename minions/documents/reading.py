"""What every reader takes and gives: its limits, its pages, and the checks they share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from minions.errors import DocumentTooLarge

_NOT_UTF8 = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadLimits:
    """Bounds on one file. Passing any of them is an error that names the count and the limit."""

    max_bytes: int = 100 * 1024**2
    """Size of the file itself."""
    max_unpacked_bytes: int = 512 * 1024**2
    """Size of all parts of a packed file (DOCX) after unpacking, as its directory states them."""
    max_pages: int = 5_000
    max_chars: int = 20_000_000
    timeout_s: float = 120.0
    """Wall clock of the reading process, which may also use no more CPU time than this."""
    memory_bytes: int = 2 * 1024**3
    """Address space of the reading process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extract:
    """What a reader found: page texts which, joined as they are, make the document's text."""

    pages: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def has_text(self) -> bool:
        """Whether anything but whitespace was found."""
        return any(page.strip() for page in self.pages)


def clean(text: str) -> str:
    """`text` without NUL and lone surrogates, which neither UTF-8 nor SQLite can hold."""
    return _NOT_UTF8.sub("", text)


def check_pages(name: str, n_pages: int, limits: ReadLimits) -> None:
    """Raise `DocumentTooLarge` when there are more pages than allowed."""
    if n_pages > limits.max_pages:
        raise DocumentTooLarge(
            f"{name} has {n_pages:,} pages; the limit is {limits.max_pages:,}. "
            "Split the file, or raise the limit (max_pages)."
        )


def check_chars(name: str, n_chars: int, limits: ReadLimits, *, where: str = "") -> None:
    """Raise `DocumentTooLarge` when the text is longer than allowed.

    `where` says how far reading had come, for readers that stop before they know the whole count.
    """
    if n_chars > limits.max_chars:
        raise DocumentTooLarge(
            f"{name} has {n_chars:,} characters{where}; the limit is {limits.max_chars:,}. "
            "Split the file, or raise the limit (max_chars)."
        )


def number_list(numbers: Iterable[int]) -> str:
    """Ascending numbers as a person writes them: `3, 7-9`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
