"""What `ScriptedEngine` reads with: scripts of jobs, the keyword reader, a tokenizer of words."""

from __future__ import annotations

import enum
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from workers.jobs import Job

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\s?\w{1,16}|\s?[^\w\s]|\s+")
# Ends at a full stop before white space, at an empty line, or after 300 characters.
_SENTENCE = re.compile(r"\S(?:[^.!?\n]|[.!?](?=\S)|\n(?!\s*\n)){0,300}[.!?]*")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and any are as at be been by did do does for from had has have how i in is it "
        "its many much no of on or shall should that the their there this to under was were "
        "what when where which who whom whose why will with would you your"
    )
)


class Fault(enum.StrEnum):
    """What a script can do to a job instead of answering it."""

    FAIL = "fail"
    """The job alone ends FAILED."""
    CRASH = "crash"
    """The engine dies: `step()` raises EngineCrashed."""
    HANG = "hang"
    """The job never ends by itself, only by cancel or deadline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScriptedReply:
    """What one job does."""

    answer: str | None = None
    """None abstains."""
    citation: str | None = None
    """A quote of the chunk, as a model would write it (nothing checks it here)."""
    margin: float = 1.0
    """As `JobResult.margin`, in logits."""
    logprob: float = -0.1
    """As `JobResult.logprob`, in nats; only an answer carries it."""
    steps: int = 1
    """Service time: engine steps from admission to the end, at least 1."""
    fault: Fault | None = None
    """What happens at the end of the service time instead of a reply."""


Script = Callable[[Job], ScriptedReply]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeywordReader:
    """Answers with the chunk's sentence that holds most of the task's words; abstains below."""

    threshold: float = 0.5
    """Share of the task's content words that a sentence must hold, 0 to 1."""
    steps: int = 1
    """Service time of every job, in steps."""

    def __call__(self, job: Job) -> ScriptedReply:
        sentence, overlap = best_sentence(job.chunk_text, job.task)
        found = overlap >= self.threshold and sentence != ""
        return ScriptedReply(
            answer=sentence if found else None,
            citation=sentence if found else None,
            margin=10 * abs(overlap - self.threshold),
            logprob=math.log(max(overlap, 1e-3)),
            steps=self.steps,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One row of a `RuleTable`."""

    contains: str
    """Applies to jobs whose chunk or task holds this text; the empty text applies to all."""
    reply: ScriptedReply


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleTable:
    """A script as a table: the first rule that applies decides; without one, `otherwise` does."""

    rules: tuple[Rule, ...]
    otherwise: Script = KeywordReader()

    def __call__(self, job: Job) -> ScriptedReply:
        for rule in self.rules:
            if rule.contains in job.chunk_text or rule.contains in job.task:
                return rule.reply
        return self.otherwise(job)


def best_sentence(text: str, task: str) -> tuple[str, float]:
    """The sentence of `text` with the largest share of the task's content words, and that share.

    The first wins a tie. ("", 0.0) when there is no sentence or the task has no content word.
    """
    wanted = _content_words(task)
    best, best_overlap = "", 0.0
    for match in _SENTENCE.finditer(text):
        overlap = len(wanted & _content_words(match.group())) / max(len(wanted), 1)
        if overlap > best_overlap:
            best, best_overlap = match.group().rstrip(), overlap
    return best, best_overlap


def _content_words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.casefold()) if word not in _STOP_WORDS}


class WordTokenizer:
    """Words (in pieces of 16 characters), punctuation and runs of white space, each with the space
    before it. Every character belongs to a token, so text that is not empty counts at least 1."""

    def encode(self, text: str) -> list[int]:
        """One id per token, the same in every process; different tokens may share an id."""
        return [zlib.crc32(t.encode("utf-8", "surrogatepass")) for t in _TOKEN.findall(text)]

    def count(self, text: str) -> int:
        """Number of tokens."""
        return sum(1 for _ in _TOKEN.finditer(text))
