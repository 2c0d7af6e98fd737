"""Plain questions that a weak and a strong model both answered, each answer scored.

RouteLLM's recorded answers (arXiv 2406.18665; MMLU, GSM8K, MT-Bench) and a part of RouterArena,
licence Apache-2.0. Read from a folder that holds any of the four files; never copied into the
project. Rows look like this (long texts cut):

    routellm_mmlu.jsonl.gz: {"item_id": "mmlu::abstract_algebra::0", "domain": "abstract_algebra",
        "prompt": "Find the degree for the given field extension ...\\nA. 0\\nB. 4\\nC. 2\\nD. 6\\n
        Answer:", "weak_model": "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "strong_model": "gpt-4-1106-preview", "weak_correct": true, "strong_correct": true,
        "contaminated": false}
    routellm_gsm8k.jsonl.gz: the same without "domain", and {"weak_response": " A robe takes ...
        #### 3", "strong_response": "The robe takes ...", "gold": "3"}
    routellm_mtbench.jsonl: {"item_id": "mtbench::81", "category": "writing", "turns": ["Compose
        ...", "Rewrite ..."], "scores": {"gpt-4-1106-preview": [10, 10],
        "mistralai/Mixtral-8x7B-Instruct-v0.1": [10.0, 9.0]}, "contaminated": true}
    routerarena_sub10.jsonl.gz: {"item_id": "routerarena::AIME_106", "source": "AIME", "prompt":
        "Please solve ...", "models": {"claude-3-haiku-20240307": {"answer": "To solve ...",
        "score": 0.0, "cost_usd": 0.00017, ...}, "gemini-2.0-flash-001": {...}}, "gold": "49"}
"""

from __future__ import annotations

import functools
import gzip
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from eval.datasets.files import home_of
from minions.cloud.model import CloudUsage
from minions.cloud.prices import GenaiPrices
from minions.cloud.tokens import count_tokens
from minions.errors import BadRequest, NotFound

LETTER_TOKENS = 1
"""Output of an MMLU answer, whose text is not on record: its prompt asks for one letter."""
MTBENCH_TOP = 10.0
MTBENCH_MODELS = ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")
ROUTERARENA_MODELS = ("claude-3-haiku-20240307", "gemini-2.0-flash-001")
"""Weak, strong. Here the better one is also the cheaper: for ranking, not for cost."""
LISTED_AS = {
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "openrouter/mistralai/mixtral-8x7b-instruct",
    "gpt-4-1106-preview": "openai/gpt-4-1106-preview",
}
"""Names of the models in the price list. Mixtral there costs what the paper reckons with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duel:
    """One question and what both models made of it."""

    item_id: str
    set_name: str
    """`mmlu`, `gsm8k`, `mtbench` or `routerarena`."""
    topic: str
    """What the set says that it is about: a second label to learn from. It is not known when a
    question is asked, so nothing reads it then."""
    question: str
    weak_model: str
    strong_model: str
    weak_score: float
    """0..1; where answers are right or wrong, 0 or 1."""
    strong_score: float
    draft: str | None
    """The weak model's answer; None when its text is not on record."""
    weak_usd: Decimal | None
    """Dollars of the weak answer if it is paid for; None when unknown."""
    strong_usd: Decimal | None
    contaminated: bool
    """RouteLLM found it in its training data, and leaves it out of its figures."""

    @property
    def gain(self) -> float:
        """What the strong model scores more, -1..1."""
        return self.strong_score - self.weak_score

    @property
    def group(self) -> str:
        """The question's words alone: rows that differ in nothing else are the same question."""
        return " ".join(re.findall(r"\w+", self.question.lower()))


def load_duels(folder: Path) -> list[Duel]:
    """All rows of the files that `folder` holds. Raises NotFound when it holds none, and BadRequest
    for a row that lacks a column."""
    folder = home_of(folder, tuple(_FILES))
    present = [name for name in _FILES if (folder / name).is_file()]
    if not present:
        raise NotFound(f"There is none of {', '.join(_FILES)} in {folder}. Give their folder.")
    return [duel for name in present for duel in _read(folder / name, _FILES[name])]


def _read(path: Path, make: Callable[[dict[str, Any]], Duel]) -> Iterator[Duel]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield make(json.loads(line))
            except (KeyError, TypeError, ValueError) as error:
                raise BadRequest(
                    f"Line {number} of {path} is no row of this set "
                    f"({type(error).__name__}: {error}). Compare it with eval/datasets/routing.py."
                ) from None


def _mmlu(row: dict[str, Any]) -> Duel:
    return _routellm("mmlu", row, None, (LETTER_TOKENS, LETTER_TOKENS))


def _gsm8k(row: dict[str, Any]) -> Duel:
    answers = row["weak_response"], row["strong_response"]
    weak_tokens, strong_tokens = map(count_tokens, answers)
    return _routellm("gsm8k", row, answers[0], (weak_tokens, strong_tokens))


def _routellm(
    set_name: str,
    row: dict[str, Any],
    draft: str | None,
    output_tokens: tuple[int, int],
) -> Duel:
    prompt_tokens = count_tokens(row["prompt"])
    weak_usd, strong_usd = (
        _usd(row[side], prompt_tokens, n)
        for side, n in zip(("weak_model", "strong_model"), output_tokens, strict=True)
    )
    return Duel(
        item_id=row["item_id"],
        set_name=set_name,
        topic=f"{set_name}/{row.get('domain', '')}",
        question=row["prompt"],
        weak_model=row["weak_model"],
        strong_model=row["strong_model"],
        weak_score=float(row["weak_correct"]),
        strong_score=float(row["strong_correct"]),
        draft=draft,
        weak_usd=weak_usd,
        strong_usd=strong_usd,
        contaminated=row["contaminated"],
    )


def _usd(model: str, prompt_tokens: int, output_tokens: int) -> Decimal | None:
    usage = CloudUsage(prompt_tokens=prompt_tokens, completion_tokens=output_tokens)
    return _prices().cost_usd(LISTED_AS.get(model, model), usage)


@functools.cache
def _prices() -> GenaiPrices:
    return GenaiPrices()


def _mtbench(row: dict[str, Any]) -> Duel:
    """Two turns as one question, their marks averaged. No answer is on record: prices unknown."""
    weak, strong = (row["scores"][model] for model in MTBENCH_MODELS)
    return Duel(
        item_id=row["item_id"],
        set_name="mtbench",
        topic=f"mtbench/{row['category']}",
        question="\n".join(row["turns"]),
        weak_model=MTBENCH_MODELS[0],
        strong_model=MTBENCH_MODELS[1],
        weak_score=sum(weak) / len(weak) / MTBENCH_TOP,
        strong_score=sum(strong) / len(strong) / MTBENCH_TOP,
        draft=None,
        weak_usd=None,
        strong_usd=None,
        contaminated=row["contaminated"],
    )


def _routerarena(row: dict[str, Any]) -> Duel:
    weak, strong = (row["models"][model] for model in ROUTERARENA_MODELS)
    return Duel(
        item_id=row["item_id"],
        set_name="routerarena",
        topic=f"routerarena/{row['source']}",
        question=row["prompt"],
        weak_model=ROUTERARENA_MODELS[0],
        strong_model=ROUTERARENA_MODELS[1],
        weak_score=float(weak["score"]),
        strong_score=float(strong["score"]),
        draft=weak["answer"],
        weak_usd=Decimal(str(weak["cost_usd"])),
        strong_usd=Decimal(str(strong["cost_usd"])),
        contaminated=False,
    )


_FILES: dict[str, Callable[[dict[str, Any]], Duel]] = {
    "routellm_mmlu.jsonl.gz": _mmlu,
    "routellm_gsm8k.jsonl.gz": _gsm8k,
    "routellm_mtbench.jsonl": _mtbench,
    "routerarena_sub10.jsonl.gz": _routerarena,
}
