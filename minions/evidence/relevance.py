"""How likely each worker's answer is to come from where the question's evidence stands.

A logistic score over `features`, made a probability by Platt scaling. The weights are numbers in a
profile: a JSON file fitted on labelled runs (see `eval.evidence`), or `DEFAULT_PROFILE`, which was
set by reasoning and is not calibrated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from minions.documents.model import Chunk
from minions.errors import BadRequest, NotFound
from minions.evidence.features import NAMES, Features, features_of
from minions.evidence.model import Claim


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """Weights of the score. p = sigmoid(slope * (bias + sum of weight * feature) + offset)."""

    weights: Mapping[str, float]
    """By name of the feature, for features as they are (no scaling is left to do)."""
    bias: float
    slope: float = 1.0
    """Platt scaling: from score to log-odds (Platt 1999)."""
    offset: float = 0.0
    calibrated: bool = False
    """False: the probability orders claims and means no more."""
    source: str = ""
    """What it was fitted on, in words."""

    def probability(self, features: Features) -> float:
        """Chance that the claim comes from the evidence, 0..1."""
        gains = (weight * getattr(features, name) for name, weight in self.weights.items())
        log_odds = self.slope * (self.bias + math.fsum(gains)) + self.offset
        # Between the bounds exp can't overflow, and no claim is certain.
        return 1 / (1 + math.exp(-min(30.0, max(-30.0, log_odds))))


DEFAULT_PROFILE = Profile(
    weights={
        "question_rank": -0.3,
        "question_standing": 0.3,
        "task_rank": -0.3,
        "task_standing": 0.3,
        "task_phrases": 0.6,
        "task_words": 0.5,
        "task_in_quote": 0.8,
        "answer_in_chunk": 0.5,
        "verified": 0.7,
        "answer_in_quote": 0.7,
        "numbers_in_chunk": 0.7,
        "declines": -1.5,
        "years_in_chunk": 0.4,
        "agreement": 0.4,
        "task_answered": -0.3,
        "chunk_tasks": 0.5,
        "chunk_firm_claims": 0.4,
        "figures_wanted": 5.0,
        "margin": 1.0,
    },
    bias=-2.5,
    source="set by reasoning, fitted on nothing",
)
"""For when there are no labelled runs. A chunk that ranks first weighs about as much as one that
ranks twentieth does with a quote that holds its answer; an answer that declines needs all of that
to come back; a chunk full of figures (one word in five) gains one point where figures are asked
for. Features without a reason to weigh either way (position, bare counts) weigh nothing."""


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile as JSON numbers, readable and comparable."""
    path.write_text(json.dumps(asdict(profile), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_profile(path: Path) -> Profile:
    """Read a profile. Raises NotFound without a file, BadRequest when it is no profile or was
    fitted on features that this version does not compute: it is refused, not guessed at."""
    if not path.is_file():
        raise NotFound(
            f"There is no relevance profile {path}: fit one with `minions eval evidence`."
        )
    try:
        profile = TypeAdapter(Profile).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise BadRequest(
            f"{path} is no relevance profile: {place}: {first['msg']}. Fit it again."
        ) from None
    unknown = sorted(profile.weights.keys() - set(NAMES))
    if unknown:
        raise BadRequest(
            f"{path} weighs {', '.join(unknown)}, which this version does not compute: it is "
            "stale. Fit it again."
        )
    return profile


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredClaim:
    """A claim with what is known of it and what the profile makes of that."""

    claim: Claim
    features: Features
    probability: float

    def to_json(self, chunk: Chunk) -> dict[str, Any]:
        """As a trace keeps it: a profile can be fitted on it once the gold evidence is known."""
        citation = self.claim.citation
        return {
            "job_id": self.claim.job_id,
            "document_id": chunk.document_id,
            "chunk": [chunk.start, chunk.end],
            "quote": None if citation is None else [citation.start, citation.end],
            "features": {name: round(value, 6) for name, value in asdict(self.features).items()},
        }


def score_claims(
    claims: Sequence[Claim],
    chunks: Mapping[str, Chunk],
    question: str,
    profile: Profile = DEFAULT_PROFILE,
    tasks: Mapping[str, str] | None = None,
) -> list[ScoredClaim]:
    """The claims with features and probabilities, best first; equals stay in their order.

    `chunks` are all chunks that were read, by id, in reading order. `tasks` gives each job's task
    by job id; without it every job was asked the question itself.
    """
    found = features_of(claims, chunks, question, tasks)
    scored = [
        ScoredClaim(claim=claim, features=features, probability=profile.probability(features))
        for claim, features in zip(claims, found, strict=True)
    ]
    return sorted(scored, key=lambda one: -one.probability)


def rank_claims(
    claims: Sequence[Claim],
    chunks: Mapping[str, Chunk],
    question: str,
    profile: Profile = DEFAULT_PROFILE,
    tasks: Mapping[str, str] | None = None,
) -> list[tuple[Claim, float]]:
    """As `score_claims`, without the features."""
    scored = score_claims(claims, chunks, question, profile, tasks)
    return [(one.claim, one.probability) for one in scored]
