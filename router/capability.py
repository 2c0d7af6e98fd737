"""Requests that reading chunk by chunk can't answer, recognised before any work. Pure.

A worker reads text and finds answers in it. It sees no picture, draws none, and a request for new
text (a translation, a letter, code) has no answer that stands in a chunk. The rules look at how a
request *begins*, in English, and at the pages that it names; whatever they don't know goes the
usual way, so that an ordinary question is not turned away.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass


class Capability(enum.StrEnum):
    """What a request needs beyond reading."""

    VISION = "vision"
    """To look at a picture or a scanned page."""
    DRAWING = "drawing"
    """To make a picture, a diagram or a chart."""
    TRANSLATION = "translation"
    """To put the text into another language."""
    WRITING = "writing"
    """To write new text or code."""

    @property
    def by_text_model(self) -> bool:
        """Whether a model that gets text and gives text can do it."""
        return self in (Capability.TRANSLATION, Capability.WRITING)


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentFacts:
    """What the rules need to know of a document."""

    name: str
    n_pages: int
    textless_pages: frozenset[int]
    """Numbers (from 1) of the pages without any text: blank or scanned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What a request needs, and what shows it."""

    capability: Capability
    reason: str
    """A clause for people: `it asks to ...`."""


def needed_capability(question: str, documents: Sequence[DocumentFacts]) -> Need | None:
    """What this question needs beyond reading; None when reading may do."""
    text = " ".join(question.split())
    for capability, pattern, reason in _RULES:
        if pattern.search(text):
            return Need(capability=capability, reason=reason)
    return _unreadable_pages(text, documents)


def _unreadable_pages(question: str, documents: Sequence[DocumentFacts]) -> Need | None:
    """A need to see when every page that is named has no text, in each document that has it."""
    named = _pages_named(question)
    for number in sorted(named):
        having = [document for document in documents if number <= document.n_pages]
        if not having or any(number not in document.textless_pages for document in having):
            return None
    if not named:
        return None
    pages = ", ".join(map(str, sorted(named)))
    names = ", ".join(document.name for document in documents)
    return Need(
        capability=Capability.VISION,
        reason=f"it asks about page {pages} of {names}, which has no text layer",
    )


def _pages_named(question: str) -> set[int]:
    """The page numbers in a question; ranges count with both ends."""
    return {int(n) for match in _PAGES.finditer(question) for n in _NUMBER.findall(match[0])}


_PAGES = re.compile(r"\bpages?\s+\d{1,5}(?:\s*(?:,|-|–|and|or|to|through)\s*\d{1,5}\b)*", re.I)
_NUMBER = re.compile(r"\d{1,5}")

_POLITE = (
    r"^(?:(?:please|kindly|hey|hi|now|then|also|and|can|could|would|will|you|me|"
    r"i(?:'d| would) like|i (?:want|need)|help|to)[\s,]+)*"
)
_PICTURE = r"(?:image|picture|photo(?:graph)?|logo|drawing|illustration|screenshot|handwriting)s?"
_KNOWN_PICTURE = (
    r"(?:the|this|that|these|those|each|every|all)\s+"
    r"(?:(?:first|second|third|last|next|attached|cover|front|embedded|following)\s+)?" + _PICTURE
)
_END = r"(?=\s*(?:[.?!,;:]|$|(?:on|in|at|of|from|above|below|shown|attached)\b))"
_CHART = (
    r"(?:image|picture|photo|drawing|diagram|chart|bar\s?chart|pie\s?chart|flow\s?chart|graph|"
    r"plot|infographic|logo|illustration|sketch|mind\s?map)s?\b(?! of accounts)"
)
_OF_A_CHART = (
    r"(?:(?:me|us|a|an|the|some|new|simple|nice|small|bar|pie|line|colou?r(?:ed|ful)?)\s+)+"
)
_LANGUAGES = (
    "english|german|french|spanish|italian|portuguese|dutch|danish|swedish|norwegian|finnish|"
    "polish|czech|slovak|hungarian|romanian|bulgarian|greek|turkish|russian|ukrainian|arabic|"
    "hebrew|hindi|bengali|urdu|chinese|mandarin|cantonese|japanese|korean|vietnamese|thai|"
    "indonesian|malay|latin|plain english|simple english"
)
_TEXT_KIND = (
    r"(?:poem|story|essay|song|haiku|limerick|letter|e-?mail|blog post|article|press release|"
    r"speech|tweet|joke|memo|proposal|presentation|contract|reply|cover letter|sonnet|novel)s?\b"
)
_CODE_KIND = (
    r"(?:function|script|program|code|class|sql query|query|regex|regular expression|macro|"
    r"unit tests?|test suite|app|web ?page|website)\b"
    r"(?!\s+(?:action|overview|summary|manager|name|of (?:conduct|ethics)))"
)


def _rule(
    capability: Capability, pattern: str, reason: str
) -> tuple[Capability, re.Pattern[str], str]:
    return capability, re.compile(_POLITE + pattern, re.IGNORECASE), reason


_RULES = (
    _rule(
        Capability.DRAWING,
        r"(?:draw|sketch|plot|paint|visuali[sz]e)\s+(?:me\s+)?(?:a|an|the|this|its|their|how)\s+"
        r"(?!.*\b(?:conclusion|distinction|comparison|inference|parallel|lesson|line between))",
        "it asks for a drawing",
    ),
    _rule(
        Capability.DRAWING,
        r"(?:generate|create|make|produce|design|draw|give)\s+" + _OF_A_CHART + _CHART,
        "it asks to make a picture or chart",
    ),
    _rule(
        Capability.VISION,
        r"(?:describe|look at|transcribe|caption|read)\s+(?:what (?:is|you see) (?:in|on)\s+)?"
        + _KNOWN_PICTURE
        + _END,
        "it asks to look at a picture",
    ),
    _rule(
        Capability.VISION,
        r"what (?:does|do) " + _KNOWN_PICTURE + r"\b.{0,40}\b(?:show|depict|look like)\b",
        "it asks what a picture shows",
    ),
    _rule(
        Capability.VISION,
        r"what (?:is|are|do you see|can (?:you|i) see|can be seen)\s+"
        r"(?:(?:shown|seen|visible|depicted|pictured)\s+)?(?:in|on)\s+" + _KNOWN_PICTURE + _END,
        "it asks what a picture shows",
    ),
    _rule(
        Capability.VISION,
        r"what colou?rs? (?:is|are|does|do|has|have) " + _KNOWN_PICTURE + r"\b",
        "it asks for the colour of a picture",
    ),
    _rule(
        Capability.TRANSLATION,
        rf"translate\b.{{0,200}}\b(?:in)?to\s+(?:{_LANGUAGES})\b",
        "it asks for a translation",
    ),
    _rule(
        Capability.WRITING,
        r"(?:write|compose|draft|create|generate)\s+(?:me\s+|us\s+)?(?:a|an)\s+"
        r"(?:[\w-]+\s+){0,3}?" + _TEXT_KIND,
        "it asks to write a new text",
    ),
    _rule(
        Capability.WRITING,
        r"(?:write|implement|code|create|generate)\s+(?:me\s+|us\s+)?(?:(?:a|an|some|the)\s+)?"
        r"(?:(?:[\w+#.-]+)\s+){0,2}?" + _CODE_KIND,
        "it asks to write code",
    ),
    _rule(
        Capability.WRITING,
        r"(?:rewrite|paraphrase|proofread|rephrase)\s+(?:the|this|my|all|each)\b",
        "it asks to rewrite a text",
    ),
)
