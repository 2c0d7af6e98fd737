"""How well the shipped model reads, over the product's own path: chunks, pool, llama.cpp, evidence.

Two sets: documents made up at random in genres and with names that were never trained on, and,
where their folder is given, real CUAD contracts, every chunk asked every clause question. A
question's answer is the likeliest of its chunks' answers; no answer anywhere is an abstention.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.datasets import cuad
from eval.items import Item, draw_documents
from eval.score import abstention_f1, auroc, exact_match, token_f1
from minions.chunking import chunk_document
from minions.documents import Document, read_document
from minions.errors import NotFound
from minions.evidence import find_quote
from workers import Job, JobResult, JobStatus, Sampling, WorkerPool
from workers.nano.generated import generated_example
from workers.nano.splits import training_contracts

GENERATED_SEED = 9 * 10**9
MIN_WORDS = 40
MAX_WORDS = {"standard": 100, "hard": 200}
QUESTIONS_PER_DOCUMENT = 4
CORRECT_F1 = 0.5
SAMPLING = Sampling(max_output_tokens=256)
Figures = dict[str, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One question and what came of it."""

    golds: tuple[str, ...]
    """Empty when there is nothing to find."""
    answer: str | None
    margin: float
    """Of the likeliest answer, in logits; without one minus that of the closest abstention."""
    verified: bool
    """The answer's quote stands in its chunk."""

    @property
    def f1(self) -> float:
        return token_f1(self.answer, self.golds) if self.answer and self.golds else 0.0


async def generated_figures(pool: WorkerPool, n_documents: int, split: str) -> Figures:
    """Exact answers, verified quotes, abstention, on documents of held-out genres and names.

    split: `standard` (40 to 100 words about one or two things, asked as stated) or `hard` (40 to
    200 words about up to five, asked in other words too).
    """
    outcomes: list[Outcome] = []
    for index in range(n_documents):
        n_words = MIN_WORDS + index * 37 % (MAX_WORDS[split] - MIN_WORDS)
        example = generated_example(GENERATED_SEED + index, split, n_words, QUESTIONS_PER_DOCUMENT)
        tasks = [asked.question for asked in example.asked]
        golds = [example.value(asked) for asked in example.asked]
        jobs = _jobs([(f"generated-{index}", example.text)], tasks)
        for outcome in await _outcomes(pool, jobs, [(g,) if g else () for g in golds]):
            outcomes.append(outcome)
    answerable = [o for o in outcomes if o.golds]
    answered = [o for o in outcomes if o.answer is not None]
    exact = [bool(o.answer) and exact_match(str(o.answer), o.golds) for o in answerable]
    return {
        "n_questions": len(outcomes),
        "exact_answer": _mean(exact),
        "citation_verified": _mean([o.verified for o in answered]),
        "abstention_f1": _abstention(outcomes),
        "auroc": _auroc(answered, lambda o: bool(o.golds) and exact_match(str(o.answer), o.golds)),
    }


async def cuad_figures(
    pool: WorkerPool,
    folder: Path,
    n_contracts: int | None,
    chunk_tokens: int,
    on_contract: Callable[[str, int], None],
) -> Figures:
    """Clause questions of contracts that nano was not trained on; NotFound where there are none.

    `on_contract` is told of each contract with its chunks.
    `answer_f1` is the mean token-F1 over answerable questions; a wrong abstention counts 0."""
    outcomes: list[Outcome] = []
    async for name, n_chunks, of_contract in _read_contracts(
        pool, held_out_items(folder, n_contracts), chunk_tokens
    ):
        outcomes += of_contract
        on_contract(name, n_chunks)
    answerable = [o for o in outcomes if o.golds]
    answered = [o for o in outcomes if o.answer is not None]
    return {
        "n_questions": len(outcomes),
        "n_answerable": len(answerable),
        "answer_f1": _mean([o.f1 for o in answerable]),
        "abstention_f1": _abstention(outcomes),
        "citation_verified": _mean([o.verified for o in answered]),
        "auroc": _auroc(answered, lambda o: o.f1 >= CORRECT_F1),
    }


def held_out_items(folder: Path, n_contracts: int | None, seed: int = 0) -> list[Item]:
    """The questions of `n_contracts` contracts (all by default) that nano was not trained on."""
    trained = {f"{doc_id}.txt" for doc_id in training_contracts()}
    items = [item for item in cuad.load(folder) if item.document_name not in trained]
    if not items:
        raise NotFound(
            f"Every contract in {folder} was trained on: its figures would say nothing. Give a "
            "folder with other contracts."
        )
    return draw_documents(items, n_contracts, seed)


async def _read_contracts(
    pool: WorkerPool, items: Sequence[Item], chunk_tokens: int
) -> AsyncIterator[tuple[str, int, list[Outcome]]]:
    for name, group in itertools.groupby(items, key=lambda item: item.document_name):
        asked = list(group)
        document: Document = await read_document(asked[0].document_text.encode(), name)
        chunks = chunk_document(document, pool.tokenizer, chunk_tokens)
        jobs = _jobs(
            [(chunk.chunk_id, chunk.text) for chunk in chunks], [item.question for item in asked]
        )
        outcomes = await _outcomes(pool, jobs, [item.gold_answers for item in asked])
        yield name, len(chunks), outcomes


def _jobs(chunks: Iterable[tuple[str, str]], tasks: Sequence[str]) -> list[Job]:
    """Each chunk asked each task; the id ends in the task's number."""
    return [
        Job(
            job_id=f"{chunk_id}:{number}",
            chunk_id=chunk_id,
            chunk_text=text,
            task=task,
            sampling=SAMPLING,
        )
        for chunk_id, text in chunks
        for number, task in enumerate(tasks)
    ]


async def _outcomes(
    pool: WorkerPool, jobs: Sequence[Job], golds: Sequence[tuple[str, ...]]
) -> list[Outcome]:
    texts = {job.chunk_id: job.chunk_text for job in jobs}
    by_task: dict[int, list[JobResult]] = defaultdict(list)
    async for result in pool.run(jobs):
        by_task[int(result.job_id.rpartition(":")[2])].append(result)
    return [_outcome(by_task[number], texts, golds[number]) for number in range(len(golds))]


def _outcome(
    results: Sequence[JobResult], texts: dict[str, str], golds: tuple[str, ...]
) -> Outcome:
    answered = [r for r in results if r.status is JobStatus.ANSWERED]
    if not answered:
        closest = min((r.margin or 0.0 for r in results), default=0.0)
        return Outcome(golds=golds, answer=None, margin=-closest, verified=False)
    best = max(answered, key=_likelihood)
    quote = best.citation
    return Outcome(
        golds=golds,
        answer=best.answer,
        margin=best.margin or 0.0,
        verified=quote is not None and find_quote(quote, texts[best.chunk_id]) is not None,
    )


def _likelihood(result: JobResult) -> float:
    return -math.inf if result.logprob is None else result.logprob


def _abstention(outcomes: Sequence[Outcome]) -> float:
    return abstention_f1([o.answer is None for o in outcomes], [not o.golds for o in outcomes])


def _auroc(outcomes: Sequence[Outcome], is_right: Callable[[Outcome], bool]) -> float | None:
    """Of the margin among answers; None when all are right or all wrong."""
    labels = [is_right(outcome) for outcome in outcomes]
    if all(labels) or not any(labels):
        return None
    return auroc([outcome.margin for outcome in outcomes], labels)


def _mean(values: Sequence[float | bool]) -> float | None:
    return sum(values) / len(values) if values else None
