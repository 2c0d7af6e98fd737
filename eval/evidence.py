"""Recorded MinionS runs replayed: does our evidence keep what the answer stands in?

Every worker call of a run goes through the product's own path: its quote is verified in its chunk,
the claims are ranked by relevance, and quotes are packed into a token budget. The evidence is
*kept* when at least one packed quote comes from a gold chunk, one that holds at least half of a
gold evidence text (`gold_overlap` >= 0.5). Rows as recorded:

    runs.jsonl            {config, financebench_id, question}
    chunks.jsonl.gz       {financebench_id, chunk_hash, chunk_id, text, gold_overlap: [share of each
                          gold evidence text that stands in the chunk]}
    worker_jobs.jsonl.gz  {config, financebench_id, round, job_id, task, chunk_hash, answer,
                          citation}

The supervisor's explanations and advice are not used: the product has nothing like them. The data
is read from its folder and never copied into the project.
"""

from __future__ import annotations

import gzip
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from eval.score import auroc, expected_calibration_error
from minions.cloud.tokens import count_tokens
from minions.documents.model import Chunk, Document, Page
from minions.errors import BadRequest, NotFound
from minions.evidence.anchors import Anchors
from minions.evidence.answers import answer_in_quote
from minions.evidence.features import NAMES, Features, features_of
from minions.evidence.lexicon import Lexicon
from minions.evidence.model import Claim
from minions.evidence.relevance import Profile
from minions.evidence.selection import SEPARATOR, select_quotes
from minions.evidence.verify import make_citation

BUDGETS = (500, 1_000, 2_000, 4_000)
"""Tokens (o200k) of packed quotes."""
GOLD_SHARE = 0.5
REGULARISATION = 0.02
"""Inverse strength C on standardised features: strong, for a few hundred positives."""
N_INNER_FOLDS = 5

_ABSTENTIONS = frozenset({"", "none", "null", "n/a"})
"""Recorded answers that stand for no answer; all others count, refusals in words included."""
_FILES = ("runs.jsonl", "chunks.jsonl.gz", "worker_jobs.jsonl.gz")

_Row = dict[str, Any]
_Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The document of one question as it was chunked, with its gold."""

    question: str
    group: str
    """Rows of one group are never on both sides of a fit: the company, or else the document."""
    document: Document
    chunks: Mapping[str, Chunk]
    lexicon: Lexicon
    gold: tuple[frozenset[str], ...]
    """For each gold evidence text the chunks that hold it; empty where none does."""

    @property
    def gold_chunks(self) -> frozenset[str]:
        return frozenset[str]().union(*self.gold)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """One recorded run of one question, as the product would see it."""

    source: Source
    claims: tuple[Claim, ...]
    """The answered calls; abstentions are left out."""
    tasks: Mapping[str, str]
    """By job id."""
    features: tuple[Features, ...]
    anchors: Anchors
    answers_tokens: int
    """Tokens of all answers with their citations, as recorded: what is sent without ranking."""

    @property
    def labels(self) -> list[bool]:
        """For each claim whether it comes from a gold chunk."""
        gold = self.source.gold_chunks
        return [claim.chunk_id in gold for claim in self.claims]


def load_replays(folder: Path) -> list[Replay]:
    """The runs of `folder`, or of `minions_runs` in it, that have recorded worker calls.

    Companies come from FinanceBench's `questions.jsonl` beside it, where there is one. Raises
    NotFound when a file is missing and BadRequest when no call is answered."""
    found = next((f for f in (folder, folder / "minions_runs") if (f / _FILES[0]).is_file()), None)
    if found is None:
        raise NotFound(f"There is no {folder / _FILES[0]}. Give the folder of the recorded runs.")
    companies = _companies(found)
    questions = {row["financebench_id"]: row["question"] for row in _rows(found / _FILES[0])}
    by_question: defaultdict[str, list[_Row]] = defaultdict(list)
    for row in _rows(found / _FILES[1]):
        by_question[row["financebench_id"]].append(row)
    sources = {
        key: _source(key, questions[key], companies.get(key), rows)
        for key, rows in by_question.items()
    }
    calls: defaultdict[tuple[str, str], list[_Row]] = defaultdict(list)
    for row in _rows(found / _FILES[2]):
        calls[row["financebench_id"], row["config"]].append(row)
    replays = [_replay(sources[key[0]], calls[key]) for key in sorted(calls)]
    if not any(replay.claims for replay in replays):
        raise BadRequest(f"No worker call in {found / _FILES[2]} is answered: nothing to rank.")
    return replays


def _rows(path: Path) -> Iterator[_Row]:
    """Rows of a JSON-lines file; with or without `.gz`, whichever is there."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    if plain.is_file():
        with plain.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
        return
    if not path.is_file():
        raise NotFound(f"There is no {path}. The folder of recorded runs holds {_FILES}.")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _companies(folder: Path) -> dict[str, str]:
    """Company by question id; empty where no list of questions lies beside the runs."""
    nearby = (folder, folder / "financebench", folder.parent / "financebench")
    listed = next((f for f in nearby if (f / "questions.jsonl").is_file()), None)
    if listed is None:
        return {}
    return {row["financebench_id"]: row["company"] for row in _rows(listed / "questions.jsonl")}


def _source(key: str, question: str, company: str | None, rows: list[_Row]) -> Source:
    rows = sorted(rows, key=lambda row: row["chunk_id"])
    ends = list(accumulate(len(row["text"]) for row in rows))
    text = "".join(row["text"] for row in rows)
    chunks = {
        row["chunk_hash"]: _chunk(key, index, row, end)
        for index, (row, end) in enumerate(zip(rows, ends, strict=True))
    }
    return Source(
        question=question,
        group=company or f"document {rows[0]['chunk_hash']}",
        document=Document(
            document_id=key,
            sha256="",
            name=key,
            media_type="text/plain",
            n_bytes=len(text.encode()),
            text=text,
            pages=(Page(number=1, start=0, end=len(text)),),
        ),
        chunks=chunks,
        lexicon=Lexicon({chunk_id: chunk.text for chunk_id, chunk in chunks.items()}),
        gold=_gold(rows),
    )


def _chunk(document_id: str, index: int, row: _Row, end: int) -> Chunk:
    return Chunk(
        chunk_id=row["chunk_hash"],
        document_id=document_id,
        index=index,
        start=end - len(row["text"]),
        end=end,
        text=row["text"],
        first_page=1,
        last_page=1,
        n_tokens=0,
    )


def _gold(rows: Sequence[_Row]) -> tuple[frozenset[str], ...]:
    n_texts = max(len(row["gold_overlap"]) for row in rows)
    return tuple(
        frozenset(row["chunk_hash"] for row in rows if row["gold_overlap"][n] >= GOLD_SHARE)
        for n in range(n_texts)
    )


def _replay(source: Source, calls: Iterable[_Row]) -> Replay:
    answered = [row for row in calls if row["answer"].strip().lower() not in _ABSTENTIONS]
    named = {f"{row['round']}.{row['job_id']}": row for row in answered}
    tasks = {job_id: row["task"] for job_id, row in named.items()}
    claims = tuple(_claim(job_id, row, source) for job_id, row in named.items())
    sent = (json.dumps([row["answer"], row["citation"]]) for row in answered)
    return Replay(
        source=source,
        claims=claims,
        tasks=tasks,
        features=tuple(features_of(claims, source.chunks, source.question, tasks, source.lexicon)),
        anchors=Anchors(
            source.question,
            source.chunks,
            {source.document.document_id: source.document},
            source.lexicon,
            tasks,
        ),
        answers_tokens=sum(map(count_tokens, sent)),
    )


def _claim(job_id: str, row: _Row, source: Source) -> Claim:
    citation = make_citation(row["citation"], source.chunks[row["chunk_hash"]], source.document)
    return Claim(
        job_id=job_id,
        chunk_id=row["chunk_hash"],
        answer=row["answer"],
        citation=citation,
        answer_in_quote=citation is not None and answer_in_quote(row["answer"], citation.quote),
        margin=None,
        logprob=None,
    )


def fit_profile(replays: Sequence[Replay]) -> Profile:
    """Regularised logistic regression on the claims, calibrated by Platt scaling on scores of
    groups that were left out. Raises BadRequest when there are too few groups or labels."""
    rows = _matrix(replays)
    labels = np.array([label for replay in replays for label in replay.labels])
    groups = np.array([replay.source.group for replay in replays for _ in replay.claims])
    n_groups = len(set(groups[labels]))
    if n_groups < 2 or labels.all():
        raise BadRequest(
            f"{labels.sum()} of {len(labels)} answers come from gold evidence, of {n_groups} "
            "companies or documents: fitting needs both kinds, and gold of two or more."
        )
    left_out = np.zeros(len(labels))
    folds = GroupKFold(n_splits=min(N_INNER_FOLDS, n_groups))
    for inside, outside in folds.split(rows, labels, groups):
        weights, bias = _fit_weights(rows[inside], labels[inside])
        left_out[outside] = rows[outside] @ weights + bias
    platt = LogisticRegression(C=np.inf).fit(left_out[:, None], labels)
    weights, bias = _fit_weights(rows, labels)
    return Profile(
        weights=dict(zip(NAMES, weights.tolist(), strict=True)),
        bias=bias,
        slope=float(platt.coef_[0, 0]),
        offset=float(platt.intercept_[0]),
        calibrated=True,
        source=f"{len(replays)} runs with {len(labels)} answers, {labels.sum()} from gold evidence",
    )


def _matrix(replays: Iterable[Replay]) -> _Matrix:
    """Shape (claims of all replays, features)."""
    return np.array(
        [[getattr(f, name) for name in NAMES] for replay in replays for f in replay.features]
    )


def _fit_weights(rows: _Matrix, labels: npt.NDArray[np.bool_]) -> tuple[_Matrix, float]:
    """Weights and bias for features as they are; the regularisation sees them standardised."""
    scaler = StandardScaler().fit(rows)
    model = LogisticRegression(C=REGULARISATION, max_iter=2_000)
    model.fit(scaler.transform(rows), labels)
    weights = model.coef_[0] / scaler.scale_
    return weights, float(model.intercept_[0] - weights @ scaler.mean_)


def left_out_profiles(fit: Sequence[Replay]) -> Callable[[Replay], Profile]:
    """For each replay the profile fitted without its group. Scoring the very folder that was
    fitted on is thereby cross-validated by company; for new companies it is one profile."""
    known = {replay.source.group for replay in fit}

    @cache
    def without(group: str | None) -> Profile:
        return fit_profile([replay for replay in fit if replay.source.group != group])

    return lambda replay: without(replay.source.group if replay.source.group in known else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceScore:
    """How evidence did on recorded runs. Shares are over runs, each a question asked once."""

    gold_kept: dict[str, float]
    """By budget in tokens: share of the runs with an answer from a gold chunk in which a packed
    quote comes from one."""
    auroc: float
    """Of the relevance score for "this answer comes from a gold chunk", over all answers."""
    all_answers_tokens: float
    """Mean tokens per run of sending all answers with their citations, which keeps all gold."""
    gold_kept_of_all_runs: dict[str, float]
    """The same over all runs; those without a gold answer are never kept."""
    all_parts_kept: dict[str, float]
    """Share of the runs in which every gold evidence text that some answer came from is packed."""
    calibration_error: float
    """Expected calibration error of the probabilities, ten bins."""
    n_runs: int
    n_runs_with_gold_answers: int
    n_questions: int
    n_answers: int
    n_gold_answers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """One run, ranked and packed."""

    chances: tuple[float, ...]
    """By claim."""
    has_gold: bool
    """Some answer comes from a gold chunk."""
    kept: Mapping[int, bool]
    """By budget in tokens."""
    all_parts_kept: Mapping[int, bool]


def score_replays(
    replays: Sequence[Replay], profile_of: Callable[[Replay], Profile]
) -> EvidenceScore:
    """Rank and pack every run with the profile that is given for it. Raises BadRequest when no
    answer, or every answer, comes from a gold chunk: there is nothing to tell apart then."""
    labels = [label for replay in replays for label in replay.labels]
    if all(labels) or not any(labels):
        raise BadRequest(
            f"{sum(labels)} of {len(labels)} answers come from gold chunks: scoring needs both."
        )
    outcomes = [_outcome(replay, profile_of(replay)) for replay in replays]
    with_gold = [outcome for outcome in outcomes if outcome.has_gold]
    chances = [chance for outcome in outcomes for chance in outcome.chances]
    return EvidenceScore(
        gold_kept=_shares([outcome.kept for outcome in with_gold]),
        auroc=auroc(chances, labels),
        all_answers_tokens=statistics.fmean(replay.answers_tokens for replay in replays),
        gold_kept_of_all_runs=_shares([outcome.kept for outcome in outcomes]),
        all_parts_kept=_shares([outcome.all_parts_kept for outcome in with_gold]),
        calibration_error=expected_calibration_error(chances, labels),
        n_runs=len(replays),
        n_runs_with_gold_answers=len(with_gold),
        n_questions=len({replay.source.document.document_id for replay in replays}),
        n_answers=len(labels),
        n_gold_answers=sum(labels),
    )


def _outcome(replay: Replay, profile: Profile) -> _Outcome:
    chances = tuple(profile.probability(features) for features in replay.features)
    answered = {claim.chunk_id for claim in replay.claims}
    # Gold that no worker reported is not the packing's to keep.
    parts = [part for part in replay.source.gold if part & answered]
    sent = {budget: _sent_chunks(replay, chances, budget) for budget in BUDGETS}
    return _Outcome(
        chances=chances,
        has_gold=bool(parts),
        kept={b: any(part & chunks for part in parts) for b, chunks in sent.items()},
        all_parts_kept={b: all(part & chunks for part in parts) for b, chunks in sent.items()},
    )


def _sent_chunks(replay: Replay, chances: Sequence[float], budget: int) -> frozenset[str]:
    """The chunks that the packed quotes come from. Raises AssertionError over budget."""
    source = replay.source
    ranked = sorted(zip(replay.claims, chances, strict=True), key=lambda pair: -pair[1])
    packed = select_quotes(
        ranked,
        {source.document.document_id: source.document},
        budget,
        count_tokens,
        replay.anchors,
    )
    n_tokens = count_tokens(SEPARATOR.join(quote.citation.quote for quote in packed))
    assert n_tokens <= budget, f"{n_tokens} tokens packed into {budget}"
    return frozenset(quote.claim.chunk_id for quote in packed)


def _shares(by_run: Sequence[Mapping[int, bool]]) -> dict[str, float]:
    return {str(b): statistics.fmean(run[b] for run in by_run) for b in BUDGETS}
