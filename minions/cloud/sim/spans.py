"""Which kind of answer a question wants, and the stretch of a sentence that is one."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.?"
)
_DATE = (
    rf"{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+(?:19|20)\d\d"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\s+(?:day\s+of\s+)?{_MONTH},?\s+(?:19|20)\d\d"
    r"|\d{1,2}[/.-]\d{1,2}[/.-](?:19|20)?\d\d\b|(?:19|20)\d\d-\d\d-\d\d"
)
_MONEY = (
    r"(?:US\s?\$|\$|€|£|USD|EUR|RMB)\s?\d[\d,]*(?:\.\d+)?(?:\s?(?:thousand|million|billion))?"
    r"|\d[\d,]*(?:\.\d+)?\s(?:thousand |million |billion )?(?:dollars|euros|pounds)"
)
_AMOUNT = r"\(?\d[\d,]*(?:\.\d+)?\)?\s?%?"
_DURATION = (
    r"(?:[a-z]+(?:-[a-z]+)?\s+)?\(?\d+\)?[\s-]*(?:calendar\s|business\s|working\s|consecutive\s)?"
    r"(?:day|week|month|year)\(?s?\)?"
)
_LAW = (
    r"(?i:laws?\s+of\s+(?:the\s+)?(?:(?:State|Commonwealth|Province)\s+of\s+(?:the\s+)?)?)"
    r"([A-Z][A-Za-z’']+(?:\s+(?:of\s+)?(?:the\s+)?[A-Z][a-z’']+){0,3})"
)
_COMPANY = (
    r"(?:[A-Z][\w&.'’-]*,?\s+){1,6}(?:Inc|INC|Corp|CORP|Corporation|CORPORATION|LLC|L\.L\.C|Ltd|LTD"
    r"|Limited|LIMITED|Company|COMPANY|LP|L\.P|N\.A|Co|CO|GmbH|AG|Bank|BANK)\b\.?"
)
_TITLE = r"(?:[A-Z][A-Za-z&,’'-]*\s+){0,7}(?:AGREEMENT|Agreement|CONTRACT|AMENDMENT|LEASE|PLAN)\b"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerType:
    """A kind of answer: how it is asked for, and how it looks."""

    name: str
    asked: re.Pattern[str]
    looks: re.Pattern[str]
    joins_all: bool = False
    """Whether all such stretches of a sentence together are the answer."""
    begins_document: bool = False
    """Whether it stands at a document's beginning, as titles and parties do."""

    def extract(self, sentence: str) -> str | None:
        """The stretch of `sentence` that is such an answer; None when there is none."""
        found = [match.group(match.lastindex or 0) for match in self.looks.finditer(sentence)]
        if not found:
            return None
        return "; ".join(dict.fromkeys(found)) if self.joins_all else found[0].strip(" (),")


def _kind(name: str, asked: str, looks: str, **flags: bool) -> AnswerType:
    return AnswerType(
        name=name, asked=re.compile(asked, re.IGNORECASE), looks=re.compile(looks), **flags
    )


_TYPES = (
    _kind("title", r"\b(?:name|title) of (?:the|this) (?:\w+ )?(?:contract|agreement|document)",
          _TITLE, begins_document=True),
    _kind("parties", r"\bpart(?:y|ies)\b.*\b(?:sign|contract|agreement|between)|^between whom"
          r"|^who (?:is|are) .*\bpart(?:y|ies)\b", _COMPANY, joins_all=True, begins_document=True),
    _kind("signing date", r"\bdate of (?:the|this) (?:contract|agreement)"
          r"|\bwhen was .*\b(?:signed|dated|made|entered)", _DATE, begins_document=True),
    _kind("law", r"\blaws?\b.*\b(?:govern|appl)|\bgovern\w* (?:by|law)|\bjurisdiction\b", _LAW),
    _kind("date", r"^\W*(?:when|the date|(?:on|by|as of|from)? ?(?:what|which) (?:date|day|year))"
          r"|\bwhat is the .{0,30}\bdate\b|\bdated\b", _DATE),
    _kind("duration", r"\bhow long\b|\bwhat is the .{0,40}\b(?:period|term|duration|deadline)\b"
          r"|\bhow many (?:days|weeks|months|years)\b", _DURATION),
    _kind("money", r"\bhow much\b|\b(?:price|fee|cost|salary|rent)\b.*\?|\bin (?:USD|dollars)"
          r"|\bUSD\b|\bdollar amount\b", _MONEY),
    _kind("number", r"\bhow many\b|\bwhat (?:percent|share|number|ratio|amount|is the amount)"
          r"|\bpercentage\b|\bmargin\b", _AMOUNT),
)  # fmt: skip


def answer_type(question: str) -> AnswerType | None:
    """The kind of answer that `question` wants; None when a sentence is as good as any."""
    return next((kind for kind in _TYPES if kind.asked.search(question)), None)
