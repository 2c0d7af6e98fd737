"""Judge a nano GGUF through llama.cpp: `python -m workers.nano.evaluate --help`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from workers.nano.contracts import load_contracts, read_rows
from workers.nano.documents import Document, chunk_spans
from workers.nano.examples import Example
from workers.nano.generated import generated_example
from workers.nano.reader import NanoReader, Reading
from workers.nano.scoring import abstention, auroc, best_f1, exact, verified

CHUNK_TOKENS = 512
GENERATED_SEED = 9 * 10**9
CORRECT_F1 = 0.5
GENERATED_SETS = {
    "generated": "standard",
    "generated_hard": "hard",
    "generated_known_genres": "test",
}
MIN_WORDS = 40
MAX_WORDS = {"standard": 100, "test": 200, "hard": 200}
BIASES = (-4.0, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5)
Figures = dict[str, float]
Report = dict[str, Figures | list[Figures]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClauseResult:
    """One clause question of one contract.

    golds: accepted answers, empty when the contract has none. opening and margin (see `Reading`):
    of the best chunk, which has the highest opening of all, whether or not that is positive.
    """

    doc_id: str
    category: str
    golds: tuple[str, ...]
    value: str | None
    quote: str | None
    opening: float
    margin: float
    is_verified: bool

    @property
    def correct(self) -> bool:
        """Right abstention, or an answer with token F1 of at least one half."""
        if not self.golds:
            return self.value is None
        return best_f1(self.value, self.golds) >= CORRECT_F1


def accepted_answers(row: dict[str, object]) -> tuple[str, ...]:
    """The data set's short answer (unless Yes or No), every clause, and all clauses together."""
    evidence = [str(e["text"]) for e in row["evidence"]]  # type: ignore[attr-defined]
    if not evidence:
        return ()
    short = str(row["answer"])
    golds = [*evidence, " ".join(evidence)]
    return tuple(golds if short in ("Yes", "No", "") else [short, *golds])


def read_contract(reader: NanoReader, document: Document, chunk_tokens: int) -> list[list[Reading]]:
    """All clause questions of all chunks: one list per chunk, one reading per question."""
    questions = [q.wordings[0] for q in document.questions]
    spans = chunk_spans(document, chunk_tokens)
    return [reader.read(document.text[slice(*span)], questions) for span in spans]


def clause_results(
    document: Document, readings: list[list[Reading]], rows: dict[str, dict[str, object]]
) -> list[ClauseResult]:
    """Per question: the chunk with the best opening answers."""
    results = []
    for index, question in enumerate(document.questions):
        best = max((chunk[index] for chunk in readings), key=lambda r: r.opening)
        row = rows[f"{document.doc_id}::{question.key}"]
        results.append(
            ClauseResult(
                doc_id=document.doc_id,
                category=question.key,
                golds=accepted_answers(row),
                value=best.value,
                quote=best.quote,
                opening=best.opening,
                margin=best.margin,
                is_verified=verified(best.quote, document.text),
            )
        )
    return results


def contract_figures(results: Sequence[ClauseResult]) -> Figures:
    """The figures of the clause questions; AUROCs rank the margin against correctness, and the
    opening against whether there is an answer."""
    answerable = [r for r in results if r.golds]
    answered = [r for r in results if r.value is not None]
    told = abstention([r.value is None for r in results], [not r.golds for r in results])
    return {
        "n_questions": len(results),
        "n_answerable": len(answerable),
        "answer_f1": float(np.mean([best_f1(r.value, r.golds) for r in answerable])),
        "answer_f1_when_answered": float(
            np.mean([best_f1(r.value, r.golds) for r in answerable if r.value is not None] or [0])
        ),
        "citation_verified": float(np.mean([r.is_verified for r in answered] or [False])),
        "abstention_f1": told.f1,
        "abstention_precision": told.precision,
        "abstention_recall": told.recall,
        "auroc_answered": auroc([r.margin for r in answered], [r.correct for r in answered]),
        "auroc_answerable": auroc([r.opening for r in results], [bool(r.golds) for r in results]),
        "auroc_confidence": auroc([abs(r.margin) for r in results], [r.correct for r in results]),
    }


def at_bias(results: Sequence[ClauseResult], bias: float) -> Figures:
    """answer_f1 (of what was decoded) and abstention F1 were `bias` added to every opening."""
    said_null = [r.opening + bias <= 0 for r in results]
    told = abstention(said_null, [not r.golds for r in results])
    f1 = [
        0.0 if null else best_f1(r.value, r.golds)
        for r, null in zip(results, said_null, strict=True)
        if r.golds
    ]
    return {"bias": bias, "answer_f1": float(np.mean(f1)), "abstention_f1": told.f1}


def evaluate_contracts(
    reader: NanoReader, folder: Path, *, max_chunks: int, chunk_tokens: int = CHUNK_TOKENS
) -> list[ClauseResult]:
    """Every validation contract of at most `max_chunks` chunks, read whole."""
    rows = {r["item_id"]: r for r in read_rows(folder / "questions.jsonl.gz")}
    results: list[ClauseResult] = []
    documents = load_contracts(folder, reader.tokenizer, validation=True, collapsed=False)
    for document in documents:
        if len(chunk_spans(document, chunk_tokens)) <= max_chunks:
            readings = read_contract(reader, document, chunk_tokens)
            results += clause_results(document, readings, rows)
    return results


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedResult:
    """One question about one generated chunk."""

    gold: str | None
    value: str | None
    margin: float
    is_verified: bool

    @property
    def correct(self) -> bool:
        """Exact answer or right abstention."""
        return self.value is None if self.gold is None else exact(self.value, self.gold)


def read_example(reader: NanoReader, example: Example) -> list[AskedResult]:
    """Ask an example's questions."""
    readings = reader.read(example.text, [a.question for a in example.asked])
    return [
        AskedResult(
            gold=example.value(asked),
            value=reading.value,
            margin=reading.margin,
            is_verified=verified(reading.quote, example.text),
        )
        for asked, reading in zip(example.asked, readings, strict=True)
    ]


def generated_figures(results: Sequence[AskedResult]) -> Figures:
    """Exact answers over answerable questions, verified quotes over answers, abstention."""
    answerable = [r for r in results if r.gold is not None]
    answered = [r for r in results if r.value is not None]
    told = abstention([r.value is None for r in results], [r.gold is None for r in results])
    return {
        "n_questions": len(results),
        "n_answerable": len(answerable),
        "exact_answer": float(np.mean([r.correct for r in answerable])),
        "citation_verified": float(np.mean([r.is_verified for r in answered] or [False])),
        "abstention_f1": told.f1,
        "abstention_precision": told.precision,
        "abstention_recall": told.recall,
        "auroc_answered": auroc([r.margin for r in answered], [r.correct for r in answered]),
        "auroc_confidence": auroc([abs(r.margin) for r in results], [r.correct for r in results]),
    }


def evaluate_generated(reader: NanoReader, n: int, split: str) -> list[AskedResult]:
    """`n` generated documents of 40 to `MAX_WORDS` words; split as in `DocumentWriter`."""
    results: list[AskedResult] = []
    for index in range(n):
        words = MIN_WORDS + index * 37 % (MAX_WORDS[split] - MIN_WORDS)
        example = generated_example(GENERATED_SEED + index, split, words, 4)
        results += read_example(reader, example)
    return results


def nano_figures(reader: NanoReader, n_generated: int, clauses: Sequence[ClauseResult]) -> Report:
    """`generated` and `generated_hard`: held-out genres and names, the `standard` and `hard` split.

    `generated_known_genres`: held-out names only, as hard as `hard`. `cuad` is there when clause
    results are given, and how it would fare with other thresholds.
    """
    report: Report = {
        name: generated_figures(evaluate_generated(reader, n_generated, split))
        for name, split in GENERATED_SETS.items()
    }
    if clauses:
        report["cuad"] = contract_figures(clauses)
        report["cuad_at_bias"] = [at_bias(clauses, bias) for bias in BIASES]
    return report


def _save_results(results: Sequence[ClauseResult], path: Path) -> None:
    path.write_text("\n".join(json.dumps(asdict(r)) for r in results) + "\n", encoding="utf-8")


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--cuad", type=Path, help="folder of the contracts; left out without it")
    parser.add_argument("--max-chunks", type=int, default=10**6, help="skip longer contracts")
    parser.add_argument("--generated", type=int, default=60, help="documents per generated set")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, help="write every clause result here (JSON lines)")
    args = parser.parse_args()
    reader = NanoReader(args.gguf, args.threads)
    clauses = evaluate_contracts(reader, args.cuad, max_chunks=args.max_chunks) if args.cuad else []
    if args.results:
        _save_results(clauses, args.results)
    report = nano_figures(reader, args.generated, clauses)
    print(json.dumps(report, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
