"""Personal data hidden on the way out, and put back on the way in.

What has a form of its own is found: e-mail addresses, phone numbers, IBANs, payment cards, US
social security and taxpayer numbers, IP addresses. What has none (names of people, postal
addresses, dates of birth) would need a model and is *not* found; the user lists such words as
`redact_terms`.

The numbers are judged by libraries that know the rules: `phonenumbers` (Google's libphonenumber),
`python-stdnum` (IBAN registry, Luhn, SSN, ITIN) and the standard `ipaddress`.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import phonenumbers
from stdnum import iban, luhn, numdb
from stdnum.us import itin, ssn

from minions.cloud.model import CloudRequest, Conversation
from workers import Message, Role

PLACEHOLDER = re.compile(r"\[[A-Z]+_[1-9]\d*\]")
DEFAULT_REGION = "US"
"""Whose phone numbers are known without a country code."""
NOTE = (
    "Values in square brackets such as [EMAIL_1] stand for hidden ones: copy them exactly as they "
    "are, brackets included."
)
"""For the model, wherever something was hidden."""

_AT = re.compile("@")
_LOCAL_PART = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+\Z")
_DOMAIN = re.compile(r"(?:[\w-]{1,63}\.)+[\w-]{1,62}\w")
_MAX_LOCAL_CHARS = 64
_IBAN_HEAD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[\s-]?[A-Za-z0-9])")
_IBAN_REST = re.compile(r"(?:[\s-]?[A-Za-z0-9]){11,30}")
_CARD_BEGINS = re.compile(r"(?<!\d)(?=(?:[3-6]|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d)")
"""What issuers begin with."""
_CARD_FORMS = (
    re.compile(r"\d{13,19}(?!\d)"),
    re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}\1\d{1,3}(?!\d)"),
    re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?!\d)"),
    re.compile(r"3\d{3}([ -])\d{6}\1\d{4,5}(?!\d)"),
)
_US_NUMBER = re.compile(r"(?<![\d-])\d{3}([-\u2011\u2013])\d{2}\1\d{4}(?![\d-])")
_IP_V4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_IP_V6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_SHORTEST_IP_V6 = 4
_MAX_SHORT_PARTS = 2
"""Of four. With more single digits, as in `10.2.3.1`, it is taken for a section of a contract."""
_PHONE_BEGINS = re.compile(
    r"(?<![\d+])(?:\+\d|\(\d{3}\)\s?\d{3}[-.\s]\d{4}(?!\d)|\d{3}([-.])\d{3}\1\d{4}(?!\d))"
)
"""`+` and a digit, or grouped as in North America."""
_PHONE_RUN = re.compile(r"[+(]?\d[\d \u00a0().\-\u2010-\u2013/]{5,24}")
_SHORTEST_BARE_PHONE = 10
"""Digits. A shorter run without any sign of being a phone number is taken for an amount."""

Places = Iterator[tuple[int, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Redacted:
    """Texts as they may leave, and what was taken out of them.

    Law: `restore` of each text gives the original back."""

    texts: tuple[str, ...]
    originals: Mapping[str, str]
    """What each placeholder stands for. Never leaves this machine."""

    @property
    def counts(self) -> dict[str, int]:
        """Distinct values hidden, by kind: `{"EMAIL": 2}`."""
        return dict(sorted(Counter(map(kind_of, self.originals)).items()))

    def restore(self, text: str, *, in_json: bool = False) -> str:
        """Put the values back. `in_json`: `text` is JSON, so that a value must be escaped."""

        def original(match: re.Match[str]) -> str:
            value = self.originals.get(match[0])
            if value is None:
                return match[0]
            return json.dumps(value, ensure_ascii=False)[1:-1] if in_json else value

        return PLACEHOLDER.sub(original, text)


class Redactor(Protocol):
    """The seam: another one may know more kinds."""

    def redact(self, texts: Sequence[str]) -> Redacted:
        """Hide what is personal. The same value has the same placeholder in all `texts`, and no
        placeholder is used that stands in one of them already."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PatternRedactor:
    """Finds what has a form of its own, and the user's own terms. No model, no network.

    About a second for a megabyte."""

    terms: tuple[str, ...] = ()
    """Words and phrases to hide, whatever their case; whole words only."""
    region: str = DEFAULT_REGION

    def redact(self, texts: Sequence[str]) -> Redacted:
        """See `Redactor`."""
        names = _Names(texts)
        hidden = tuple(self._hide(text, names) for text in texts)
        return Redacted(texts=hidden, originals=names.originals)

    def _hide(self, text: str, names: _Names) -> str:
        pieces, at = [], 0
        for start, end, kind in _merged(self._findings(text)):
            pieces += [text[at:start], names.of(kind, text[start:end])]
            at = end
        return "".join([*pieces, text[at:]])

    def _findings(self, text: str) -> Iterator[tuple[int, int, str]]:
        finders: dict[str, Callable[[str], Places]] = {
            "TERM": lambda whole: _terms(whole, self.terms),
            "EMAIL": _emails,
            "IBAN": _ibans,
            "CARD": _cards,
            "SSN": _us_numbers,
            "IP": _ip_addresses,
        }
        found = [(*place, kind) for kind, find in finders.items() for place in find(text)]
        yield from found
        # Digits of another finding right after a phone number would hide it from the library.
        others = _masked(text, found)
        yield from ((start, end, "PHONE") for start, end in _phones(others, self.region))


def redact_request(redactor: Redactor, request: CloudRequest) -> tuple[CloudRequest, Redacted]:
    """The request as it may leave, and what was hidden in it; itself when that is nothing.

    Its idempotency key covers the bytes that are sent: another redaction is another call."""
    if request.conversation is not None:
        return _redact_conversation(redactor, request, request.conversation)
    redacted = redactor.redact((request.instructions, request.content))
    if not redacted.originals:
        return request, redacted
    instructions, content = redacted.texts
    instructions = f"{instructions}\n\n{NOTE}"
    identity = json.dumps([request.idempotency_key, instructions, content])
    key = f"call_{hashlib.sha256(identity.encode()).hexdigest()[:40]}"
    changed = replace(request, instructions=instructions, content=content, idempotency_key=key)
    return changed, redacted


def _redact_conversation(
    redactor: Redactor, request: CloudRequest, asked: Conversation
) -> tuple[CloudRequest, Redacted]:
    """The same for a chat: what was said and what tools were called with. The client's own
    descriptions of its tools stay as they are."""
    calls = [call for message in asked.messages for call in message.tool_calls]
    said = [message.content for message in asked.messages]
    redacted = redactor.redact((*said, *(call.arguments for call in calls)))
    if not redacted.originals:
        return request, redacted
    contents, arguments = iter(redacted.texts), iter(redacted.texts[len(said) :])
    turns = [
        replace(
            message,
            content=next(contents),
            tool_calls=tuple(replace(c, arguments=next(arguments)) for c in message.tool_calls),
        )
        for message in asked.messages
    ]
    hidden = replace(asked, messages=(Message(role=Role.SYSTEM, content=NOTE), *turns))
    identity = json.dumps([request.idempotency_key, *hidden.texts])
    key = f"call_{hashlib.sha256(identity.encode()).hexdigest()[:40]}"
    return replace(request, conversation=hidden, idempotency_key=key), redacted


class _Names:
    """Hands out placeholders: one per value, none that the texts hold already."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.originals: dict[str, str] = {}
        self._taken = {name for text in texts for name in PLACEHOLDER.findall(text)}
        self._by_value: dict[tuple[str, str], str] = {}
        self._numbers: Counter[str] = Counter()

    def of(self, kind: str, value: str) -> str:
        name = self._by_value.get((kind, value))
        if name is None:
            name = self._by_value[kind, value] = self._new(kind)
            self.originals[name] = value
        return name

    def _new(self, kind: str) -> str:
        while True:
            self._numbers[kind] += 1
            name = f"[{kind}_{self._numbers[kind]}]"
            if name not in self._taken:
                return name


def kind_of(placeholder: str) -> str:
    """`EMAIL` of `[EMAIL_3]`."""
    return placeholder[1:].partition("_")[0]


def _merged(findings: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """In reading order; those that overlap become one, under the kind of the first."""
    merged: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(findings, key=lambda found: (found[0], -found[1])):
        if merged and start < merged[-1][1]:
            first, last, first_kind = merged[-1]
            merged[-1] = (first, max(last, end), first_kind)
        else:
            merged.append((start, end, kind))
    return merged


def _masked(text: str, findings: Sequence[tuple[int, int, str]]) -> str:
    """The text with line ends where something was found; every place stays where it is."""
    pieces, at = [], 0
    for start, end, _ in _merged(findings):
        pieces += [text[at:start], "\n" * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


def _terms(text: str, terms: Sequence[str]) -> Places:
    """Longest first, so that a full name wins over its parts. Any white space fits a space."""
    by_length = sorted(filter(None, map(str.split, terms)), key=lambda words: -len(" ".join(words)))
    if not by_length:
        return
    phrases = "|".join(r"\s+".join(map(re.escape, words)) for words in by_length)
    for match in re.finditer(rf"(?<!\w)(?:{phrases})(?!\w)", text, re.IGNORECASE):
        yield match.span()


def _emails(text: str) -> Places:
    """From each @ outwards: linear, whatever the text."""
    for at in _AT.finditer(text):
        window = max(0, at.start() - _MAX_LOCAL_CHARS)
        local = _LOCAL_PART.search(text[window : at.start()])
        domain = _DOMAIN.match(text, at.end())
        if local and domain:
            yield window + local.start(), domain.end()


def _ibans(text: str) -> Places:
    """The words that follow may look like more of it: the registry tells where it ends."""
    for head in _IBAN_HEAD.finditer(text):
        n_chars = _iban_length(head[0][:2].upper())
        rest = _IBAN_REST.match(text, head.end())
        if rest is None or n_chars is None:
            continue
        spots = [i for i in range(head.start(), rest.end()) if text[i].isalnum()][:n_chars]
        if iban.is_valid("".join(text[i] for i in spots)):
            yield head.start(), spots[-1] + 1


@functools.cache
def _iban_length(country: str) -> int | None:
    """Characters of that country's IBANs, from the registry's structure such as `8!n10!n`; None
    where there are none."""
    structure = numdb.get("iban").info(country)[0][1].get("bban")
    if structure is None:
        return None
    return len(country) + 2 + sum(int(n) for n in re.findall(r"(\d+)!", structure))


def _cards(text: str) -> Places:
    for begin in _CARD_BEGINS.finditer(text):
        forms = (form.match(text, begin.start()) for form in _CARD_FORMS)
        for match in filter(None, forms):
            if luhn.is_valid(re.sub(r"\D", "", match[0])):
                yield match.span()
                break


def _us_numbers(text: str) -> Places:
    for match in _US_NUMBER.finditer(text):
        number = match[0].replace(match[1], "-")
        if ssn.is_valid(number) or itin.is_valid(number):
            yield match.span()


def _ip_addresses(text: str) -> Places:
    for match in _IP_V4.finditer(text):
        n_short = sum(len(part) == 1 for part in match[0].split("."))
        if n_short <= _MAX_SHORT_PARTS and _is_ip(match[0]):
            yield match.span()
    for match in _IP_V6.finditer(text):
        if sum(map(str.isalnum, match[0])) >= _SHORTEST_IP_V6 and _is_ip(match[0]):
            yield match.span()


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _phones(text: str, region: str) -> Places:
    """Numbers that exist and are grouped as their country writes them: columns of figures are not
    taken for phone numbers. And those that look like one from their first character, which the
    library passes over when a figure follows."""
    matcher = phonenumbers.PhoneNumberMatcher(
        text,
        region,
        leniency=phonenumbers.Leniency.STRICT_GROUPING,
        max_tries=len(text) + 1,
    )
    for match in matcher:
        if not match.raw_string.isdigit() or len(match.raw_string) >= _SHORTEST_BARE_PHONE:
            yield match.start, match.end
    for start in _PHONE_BEGINS.finditer(text):
        end = _phone_end(text, start.start(), region)
        if end is not None:
            yield start.start(), end


def _phone_end(text: str, start: int, region: str) -> int | None:
    """Where the longest number that begins at `start` ends; None when there is none."""
    run = _PHONE_RUN.match(text, start)
    ends = [match.end() for match in re.finditer(r"\d+", run[0])] if run else []
    for end in reversed(ends):
        try:
            number = phonenumbers.parse(text[start : start + end], region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return start + end
    return None
