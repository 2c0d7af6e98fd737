"""What a worker's JSON says: the answer and its citation, or that the answer is not there.

Pure: text in, `ParsedAnswer` out. Servers decorate their JSON (code fences, prose, single quotes,
numbers for strings) and token caps cut it; both are read here and nowhere else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import json_repair

_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
"""Numbers stay as they were written: an answer of `4.50` is not `4.5`."""

_CLOSED_VALUE = re.compile(
    r"""["']answer["']\s*:\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|null\b|[^\s"',}]+\s*[,}])""",
    re.DOTALL,
)
"""An `answer` key whose value ended before the text did."""

_BARE_NONE = re.compile(r"""(["'](?:answer|citation)["']\s*:\s*)(?:None|nil|undefined)\b""")
_WRITTEN_NULLS = frozenset({"", "null"})
_ESCAPE_CUT = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedAnswer:
    """The content of one worker reply."""

    answer: str | None
    """Not empty; None exactly when abstained."""
    citation: str | None
    """The quote as the model wrote it; None when missing, null, blank or when abstained."""
    abstained: bool
    """The model says that the excerpt does not hold the answer."""


def parse_answer(text: str, *, complete: bool = True) -> ParsedAnswer:
    """Read a reply such as `{"answer": "4.5%", "citation": "the rate is 4.5%"}`.

    `complete` is False when the output cap cut the text: then a citation is kept as far as it
    goes, but an answer whose own string was cut is refused, because half an answer is a wrong one.

    Raises ValueError, with the start of the text, when no answer can be taken from it.
    """
    closed = _CLOSED_VALUE.search(text)
    if not complete and not closed:
        raise ValueError(f"the output cap fell inside the answer: {_excerpt(text)}")
    reply = None if complete or closed is None else _closed_by_hand(text, closed.end())
    reply = reply or _first_object(text)
    if "answer" not in reply:
        raise ValueError(f'the reply has no "answer" key: {_excerpt(text)}')
    answer = _as_text(reply["answer"])
    if answer is None:
        return ParsedAnswer(answer=None, citation=None, abstained=True)
    return ParsedAnswer(answer=answer, citation=_as_text(reply.get("citation")), abstained=False)


def _closed_by_hand(text: str, answer_end: int) -> dict[str, object] | None:
    """A cut reply as the strict JSON that it began: with its citation as far as it goes, else with
    the answer alone. None when it was no strict JSON. Repair comes after this: it mends escapes
    that were right."""
    start = max(text.find("{"), 0)
    for whole in (f'{_ESCAPE_CUT.sub("", text)}"}}', f"{text}}}", f"{text[:answer_end]}}}"):
        try:
            found: object = _DECODER.raw_decode(whole, start)[0]
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None


def _first_object(text: str) -> dict[str, object]:
    """The first JSON object of `text`: strictly if it can be, repaired if not."""
    start = text.find("{")
    if start < 0:
        raise ValueError(f"the reply holds no JSON object: {_excerpt(text)}")
    try:
        found: object = _DECODER.raw_decode(text, start)[0]
    except json.JSONDecodeError:
        found = _repaired(text[start:])
    except RecursionError:
        raise ValueError(f"the reply's JSON is nested too deeply: {_excerpt(text)}") from None
    if not isinstance(found, dict):
        raise ValueError(f"the reply's JSON is not an object: {_excerpt(text)}")
    return found


def _repaired(text: str) -> object:
    """The object that `text` was most likely meant to be."""
    mended = _BARE_NONE.sub(r"\1null", _ESCAPE_CUT.sub("", text))
    try:
        found: object = json_repair.loads(mended, skip_json_loads=True)
    except RecursionError:
        raise ValueError(f"the reply's JSON is nested too deeply: {_excerpt(text)}") from None
    return found


def _as_text(value: object) -> str | None:
    """A JSON value as the text of an answer or a citation; None for all that means null."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        parts = [part for part in map(_as_text, value) if part is not None]
        return "; ".join(parts) or None
    if isinstance(value, dict):
        raise ValueError(f"expected a string, got an object: {_excerpt(str(value))}")
    text = _without_surrogates(str(value))
    return None if text.strip().lower() in _WRITTEN_NULLS else text


def _without_surrogates(text: str) -> str:
    """Escaped pairs as one character each; a lone half, which nobody could store, is replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _excerpt(text: str) -> str:
    """The start of `text`, for a message."""
    return repr(text if len(text) <= 120 else text[:120] + "…")
