"""Recorded MinionS runs beside our evidence packing, on the same worker outputs: dollars and gold.

Each run is real: a paid supervisor planned tasks, a local model did them, and the supervisor read
what came back. Here our code ranks and packs the very same worker answers, and one request of the
rung `evidence` is built and priced for every round in which the supervisor read. What was paid for
planning is left as it was. Profiles of relevance never saw the run's company.

No cloud model reads our packing here, so nothing is said of *its* accuracy but a projection, named
so: what share of our runs would be right if the supervisor were right as often as in the recorded
runs in which it was shown gold evidence, or was not. FinanceBench's text is for measuring only;
none of it leaves this module.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from eval.datasets.minions_runs import Replay, load_replays
from eval.evidence import left_out_profiles
from eval.statistics import UNKNOWN, Estimate, Resamples, resample_clusters
from minions.cloud.tokens import count_tokens, request_tokens
from minions.cloud_prompt import SourceSpan, build_request
from minions.errors import NotFound
from minions.evidence.relevance import Profile
from minions.evidence.selection import select_quotes
from minions.offers import EVIDENCE_TOKENS, EXPECTED_OUTPUT_TOKENS

MODEL = "gpt-4o"
"""The recorded supervisor."""
INPUT_USD, OUTPUT_USD = Decimal("2.5e-6"), Decimal("1e-5")
"""Its price per token when the runs were recorded, as in their own `cost_usd`."""
BUDGETS = (500, 1_000, 2_000, 4_000)
"""Tokens of packed quotes; `EVIDENCE_TOKENS`, what the product sends, is one of them."""
MIN_CITED_CHARS = 20
"""A citation from this length on is told apart from any other text of a prompt; below it, the
worker's answer is looked for instead."""
PLAN_MARK = "def prepare_jobs"
"""What a turn of the supervisor wrote when it planned: a program for the workers."""
RUNS, TURNS = "runs.jsonl", "supervisor_turns.jsonl.gz"
ACCURACY_NOTE = (
    "accuracy_recorded is gpt-4o's verdict on what these runs answered. No model was asked with "
    "our packing, so its accuracy is not known. accuracy_projected assumes that the supervisor is "
    "right as often as in the recorded runs that showed it gold evidence, or did not; it is no "
    "measurement. Our dollars are of one request per recorded round, with an answer of "
    f"{EXPECTED_OUTPUT_TOKENS} tokens; the recorded supervisor reasoned at length before its own."
)

_Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One call of the recorded supervisor."""

    round: int
    """Rounds of the workers before it."""
    prompt: str
    output: str

    @property
    def plans(self) -> bool:
        """Whether it planned work, rather than read what came back."""
        return self.round == 0 or PLAN_MARK in self.output


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRun:
    """One run as recorded, beside its worker answers."""

    replay: Replay
    correct: bool | None
    """The recorded verdict; None where there is none."""
    usd: Decimal
    """Of all its cloud calls."""
    planning_usd: Decimal
    """Of these, the calls that planned."""
    turns: tuple[Turn, ...]

    @property
    def readings(self) -> tuple[Turn, ...]:
        return tuple(turn for turn in self.turns if not turn.plans)

    @property
    def n_rounds(self) -> int:
        """Rounds whose answers the supervisor read, at least one."""
        return max([1, *(turn.round for turn in self.readings)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """Our packing of one run's worker answers."""

    gold: bool
    """A packed quote comes from a gold chunk."""
    reading_usd: Decimal
    """One request per round that was read in the recorded run."""
    prompt_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One way to show the supervisor what the workers found."""

    gold_shown: Estimate
    """Share of all runs in which a quote of a gold chunk was shown."""
    gold_shown_where_found: Estimate
    """Of the runs in which some worker answered from a gold chunk."""
    reading_usd: Estimate
    """Per question: the calls that read."""
    usd: Estimate
    """Per question: planning included, which is the same on both sides."""
    reading_of_recorded: Estimate
    """Dollars of reading as a share of the recorded."""
    usd_of_recorded: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedEvidence:
    """What the recorded runs say."""

    n_runs: int
    n_questions: int
    n_companies: int
    n_with_gold_answers: int
    configs: Mapping[str, int]
    accuracy_recorded: Estimate
    accuracy_when_gold_shown: Estimate
    """Of the recorded runs that showed gold evidence."""
    accuracy_otherwise: Estimate
    planning_usd: Estimate
    """Per question."""
    recorded: Side
    ours: Mapping[str, Side]
    """By token budget of the packed quotes."""
    default_budget: int
    accuracy_projected: Mapping[str, Estimate]
    """By budget. See `note`."""
    note: str


def load_recorded(folder: Path) -> list[RecordedRun]:
    """The runs of `folder`, or of `minions_runs` in it, that have worker answers and the
    supervisor's turns. Raises NotFound for a missing file and BadRequest for empty runs."""
    replays = load_replays(folder)
    inside = folder if (folder / RUNS).is_file() else folder / "minions_runs"
    facts = {_key(row): row for row in _rows(inside / RUNS)}
    turns: defaultdict[tuple[str, str], list[_Row]] = defaultdict(list)
    for row in _rows(inside / TURNS):
        turns[_key(row)].append(row)
    keyed = {(r.config, r.source.document.document_id): r for r in replays}
    return [
        _recorded(replay, facts[key], turns[key])
        for key, replay in keyed.items()
        if key in facts and key in turns
    ]


def _key(row: _Row) -> tuple[str, str]:
    return row["config"], row["financebench_id"]


def _rows(path: Path) -> Iterator[_Row]:
    if not path.is_file():
        raise NotFound(f"There is no {path}. Give the folder of the recorded MinionS runs.")
    data = path.read_bytes()
    whole = gzip.decompress(data) if path.suffix == ".gz" else data
    return map(json.loads, filter(None, whole.decode().split("\n")))


def _recorded(replay: Replay, facts: _Row, turns: Sequence[_Row]) -> RecordedRun:
    """A turn without output was no call: an error that was told to the supervisor with the next."""
    ordered = tuple(
        Turn(round=row["after_worker_round"], prompt=row["prompt"], output=row["output"])
        for row in sorted(turns, key=lambda row: row["step"])
        if row["output"] is not None
    )
    planning = sum((_usd_of(turn) for turn in ordered if turn.plans), Decimal(0))
    tokens = facts["remote_input_tokens"], facts["remote_output_tokens"]
    usd = tokens[0] * INPUT_USD + tokens[1] * OUTPUT_USD
    return RecordedRun(
        replay=replay,
        correct=facts["is_correct"],
        usd=usd,
        planning_usd=min(planning, usd),
        turns=ordered,
    )


def _usd_of(turn: Turn) -> Decimal:
    """Of the turn's own text: what a conversation carries along is counted to the reading."""
    return count_tokens(turn.prompt) * INPUT_USD + count_tokens(turn.output) * OUTPUT_USD


def shows_gold(run: RecordedRun) -> bool:
    """Whether the recorded supervisor was shown an answer that comes from a gold chunk: its
    citation stands in a prompt that it read, or, where that is short, its answer does."""
    read = " ".join(" ".join(turn.prompt.split()) for turn in run.readings)
    gold = run.replay.source.gold_chunks
    return any(
        _stands(claim.citation.quote if claim.citation else "", claim.answer, read)
        for claim in run.replay.claims
        if claim.chunk_id in gold
    )


def _stands(cited: str, answer: str, read: str) -> bool:
    text = " ".join(cited.split())
    sought = text if len(text) >= MIN_CITED_CHARS else " ".join(answer.split())
    return bool(sought) and sought in read


def pack(run: RecordedRun, profile: Profile, budget: int) -> Packed:
    """Rank the worker answers with the product's own code, pack them, and price the request."""
    replay, source = run.replay, run.replay.source
    chances = [profile.probability(features) for features in replay.features]
    ranked = sorted(zip(replay.claims, chances, strict=True), key=lambda pair: -pair[1])
    documents = {source.document.document_id: source.document}
    quotes = select_quotes(ranked, documents, budget, count_tokens, replay.anchors)
    places = (quote.citation for quote in quotes)
    spans = (SourceSpan(document_id=p.document_id, start=p.start, end=p.end) for p in places)
    request = build_request(
        source.question,
        tuple(sorted(spans)),
        documents,
        model=MODEL,
        max_output_tokens=EXPECTED_OUTPUT_TOKENS,
        run_id="recorded",
    )
    prompt_tokens = request_tokens(request)
    each = prompt_tokens * INPUT_USD + EXPECTED_OUTPUT_TOKENS * OUTPUT_USD
    return Packed(
        gold=any(quote.claim.chunk_id in source.gold_chunks for quote in quotes),
        reading_usd=run.n_rounds * each,
        prompt_tokens=prompt_tokens,
    )


def compare(runs: Sequence[RecordedRun], *, seed: int = 0) -> RecordedEvidence:
    """The figures, with intervals by company."""
    profile_of = left_out_profiles([run.replay for run in runs])
    draws = resample_clusters([run.replay.source.group for run in runs], seed=seed)
    shown = [shows_gold(run) for run in runs]
    packed = {b: [pack(r, profile_of(r.replay), b) for r in runs] for b in BUDGETS}
    correct = [bool(run.correct) for run in runs]
    side = _sides(runs, draws)
    return RecordedEvidence(
        n_runs=len(runs),
        n_questions=len({run.replay.source.document.document_id for run in runs}),
        n_companies=draws.n_clusters,
        n_with_gold_answers=sum(map(_found_gold, runs)),
        configs={c: sum(r.replay.config == c for r in runs) for c in _configs(runs)},
        accuracy_recorded=draws.mean(correct),
        accuracy_when_gold_shown=draws.ratio(_both(shown, correct), shown),
        accuracy_otherwise=draws.ratio(_both(_not(shown), correct), _not(shown)),
        planning_usd=draws.mean([float(run.planning_usd) for run in runs]),
        recorded=side(shown, [run.usd - run.planning_usd for run in runs]),
        ours={
            str(b): side([p.gold for p in found], [p.reading_usd for p in found])
            for b, found in packed.items()
        },
        default_budget=EVIDENCE_TOKENS,
        accuracy_projected={
            str(b): _projected(draws, shown, correct, [p.gold for p in found])
            for b, found in packed.items()
        },
        note=ACCURACY_NOTE,
    )


def _configs(runs: Sequence[RecordedRun]) -> list[str]:
    return sorted({run.replay.config for run in runs})


def _found_gold(run: RecordedRun) -> bool:
    gold = run.replay.source.gold_chunks
    return any(claim.chunk_id in gold for claim in run.replay.claims)


def _both(one: Sequence[bool], other: Sequence[bool]) -> list[float]:
    return [float(a and b) for a, b in zip(one, other, strict=True)]


def _not(flags: Sequence[bool]) -> list[bool]:
    return [not flag for flag in flags]


def _sides(
    runs: Sequence[RecordedRun], draws: Resamples
) -> Callable[[Sequence[bool], Sequence[Decimal]], Side]:
    """How a side is summed up, given what it showed and what its reading cost."""
    planning = [float(run.planning_usd) for run in runs]
    all_usd = [float(run.usd) for run in runs]
    reading_usd = [whole - part for whole, part in zip(all_usd, planning, strict=True)]
    found = [_found_gold(run) for run in runs]

    def side(shown: Sequence[bool], reading: Sequence[Decimal]) -> Side:
        spent = [float(usd) for usd in reading]
        whole = [read + plan for read, plan in zip(spent, planning, strict=True)]
        return Side(
            gold_shown=draws.mean(shown),
            gold_shown_where_found=draws.ratio(_both(shown, found), found),
            reading_usd=draws.mean(spent),
            usd=draws.mean(whole),
            reading_of_recorded=draws.ratio(spent, reading_usd),
            usd_of_recorded=draws.ratio(whole, all_usd),
        )

    return side


def _projected(
    draws: Resamples, shown: Sequence[bool], correct: Sequence[bool], ours: Sequence[bool]
) -> Estimate:
    """Share right if being shown gold did for ours what it did in the recorded runs. Both rates are
    drawn anew in every resample."""
    weights = [float(flag) for flag in shown], [float(flag) for flag in correct]

    def projected(counts: Any) -> float:
        seen, right, kept = (counts * column for column in (*weights, ours))
        n, n_seen = counts.sum(), seen.sum()
        if not 0 < n_seen < n:
            return float("nan")
        with_gold = (seen * weights[1]).sum() / n_seen
        without = (right.sum() - (seen * weights[1]).sum()) / (n - n_seen)
        return float((kept.sum() * with_gold + (n - kept.sum()) * without) / n)

    return draws.statistic(projected) if len(ours) else UNKNOWN
