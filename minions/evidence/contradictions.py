"""Verified answers that can't both be right: the same words around different numbers or dates."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from minions.evidence.answers import Wording, wording_of
from minions.evidence.model import AnswerGroup, Claim, Evidence
from minions.evidence.values import same_quantity

MAX_ALIKE = 50
"""Groups of one shape that are compared, best first: bounds what a long list of figures costs."""

_YEAR = re.compile(r"\b(?:19|20)\d\d\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contradiction:
    """Two groups of claims that give different values for the same task."""

    stronger: AnswerGroup
    """The one that ranks first."""
    weaker: AnswerGroup


def contradictions(
    evidence: Evidence, tasks: Mapping[str, str] | None = None
) -> list[Contradiction]:
    """Pairs of groups that contradict each other, strongest first.

    Conservative. Both must have a verified quote that holds their answer; their words must be equal
    but for the values, and the values differ by more than spelling, unit or scale; and where both
    speak of years, in answer or quotes, they must share one, since figures of two years are no
    contradiction. With `tasks` (by job id) both must answer one task; without it all jobs did.
    """
    alike: defaultdict[Hashable, list[tuple[AnswerGroup, Wording]]] = defaultdict(list)
    for group in evidence.groups:
        wording = wording_of(group.answer)
        if any(claim.answer_in_quote for claim in group.claims) and _has_values(wording):
            alike[wording.tokens].append((group, wording))
    order = {id(group): rank for rank, group in enumerate(evidence.groups)}
    found = [
        Contradiction(stronger=one, weaker=other)
        for rivals in alike.values()
        for (one, ours), (other, theirs) in itertools.combinations(rivals[:MAX_ALIKE], 2)
        if _differ(ours, theirs) and _same_matter(one, other, tasks or {})
    ]
    return sorted(found, key=lambda pair: (order[id(pair.stronger)], order[id(pair.weaker)]))


def _has_values(wording: Wording) -> bool:
    return bool(wording.quantities or wording.dates)


def _differ(one: Wording, other: Wording) -> bool:
    """Whether values in the same places differ; the words are equal already."""
    quantities = zip(one.quantities, other.quantities, strict=True)
    dates = zip(one.dates, other.dates, strict=True)
    return any(not same_quantity(a, b) for a, b in quantities) or any(
        not (a.includes(b) or b.includes(a)) for a, b in dates
    )


def _same_matter(one: AnswerGroup, other: AnswerGroup, tasks: Mapping[str, str]) -> bool:
    """Whether some task was answered by both, and the years that they speak of meet."""
    shared = _tasks_of(one, tasks) & _tasks_of(other, tasks)
    ours, theirs = _years_of(one), _years_of(other)
    return bool(shared) and (not ours or not theirs or bool(ours & theirs))


def _tasks_of(group: AnswerGroup, tasks: Mapping[str, str]) -> frozenset[str]:
    return frozenset(tasks.get(claim.job_id, "") for claim in group.claims)


def _years_of(group: AnswerGroup) -> frozenset[str]:
    return frozenset(year for claim in group.claims for year in _YEAR.findall(_spoken(claim)))


def _spoken(claim: Claim) -> str:
    return f"{claim.answer}\n{claim.citation.quote if claim.citation else ''}"
