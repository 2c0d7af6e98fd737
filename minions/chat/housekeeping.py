"""What chat pages ask for themselves (titles, tags, follow-ups), answered without a model.

Open WebUI and its kin send several of these beside every chat, each with the chat's last messages
in a prompt of a known form: a task, the JSON that is wanted, and the history in a tag. Rules answer
them well enough: no run, no model, no cent.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable

from minions.chat.wrapping import without_notes

MAX_TITLE_WORDS = 6
MAX_TAGS = 3
MIN_TAG_CHARS = 5
FALLBACK_TITLE = "New chat"
FALLBACK_TAG = "General"

_TASK = re.compile(r"\s*#{2,4} Task:", re.IGNORECASE)
_HISTORY = re.compile(r"<chat_history>(.*)</chat_history>", re.DOTALL)
_WANTED = re.compile(r'"(title|tags|follow_ups|queries|text|prompt)"\s*:')
_BARE_TITLE = re.compile(r"Task:\s*Generate a concise[^\n]{0,40}title", re.IGNORECASE)
_TURN = re.compile(r"^(USER|ASSISTANT|SYSTEM):\s*", re.MULTILINE)
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_TAG_STOP_WORDS = frozenset(
    _WORD.findall(
        "about after again being could does from give have into please should tell than that "
        "their there these this those what when where which will with would your"
    )
)


def housekeeping_reply(message: str) -> str | None:
    """What to answer to a chat page's own request; None for anything a person may have asked."""
    history = _HISTORY.search(message)
    if history is None or not _TASK.match(message):
        return None
    instructions = message[: history.start()]
    said = _said_by_user(history.group(1))
    wanted = _WANTED.search(instructions)
    if wanted is not None:
        key = wanted.group(1)
        return json.dumps({key: _VALUES[key](said)}, ensure_ascii=False)
    return _title(said) if _BARE_TITLE.search(instructions) else None


def _said_by_user(history: str) -> list[str]:
    """The user's messages of a history, in order."""
    _, *turns = _TURN.split(history)
    roles, texts = turns[::2], turns[1::2]
    said = [text for role, text in zip(roles, texts, strict=True) if role == "USER"]
    return [without_notes(text).strip() for text in said]


def _title(said: list[str]) -> str:
    """The first words that the user said."""
    first = said[0].splitlines()[0] if said and said[0] else ""
    words = first.split()
    title = " ".join(words[:MAX_TITLE_WORDS]).strip(" .,:;!?\"'`#*")
    return title or FALLBACK_TITLE


def _tags(said: list[str]) -> list[str]:
    """The words that the user says most, the longer first among equals."""
    words = (word.lower() for text in said for word in _WORD.findall(text))
    counted = Counter(w for w in words if len(w) >= MIN_TAG_CHARS and w not in _TAG_STOP_WORDS)
    best = sorted(counted, key=lambda word: (-counted[word], -len(word), word))[:MAX_TAGS]
    return [word.capitalize() for word in best] or [FALLBACK_TAG]


_VALUES: dict[str, Callable[[list[str]], object]] = {
    "title": _title,
    "tags": _tags,
    "follow_ups": lambda _: [],
    "queries": lambda _: [],
    "text": lambda _: "",
    "prompt": lambda said: said[-1] if said else "",
}
"""By the key that is asked for. No follow-up or search at all is better than a made-up one."""
