"""How many cards a load needs: documents arrive, questions follow, chunks queue, cards read.

A discrete-event simulation of the pool itself, seeded: runs are served in turn, one chunk at a
time, every card holds at most twice its slots, and takes the next chunk in turn as soon as it has
room. Service times come from measured rates and are fixed per chunk. What the cloud is asked adds
its own time and dollars. Nothing here is a promise for a load that was not described: the figures
are those of this arrival pattern, and `eval.capacity_check` shows how far a real pool agrees.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

import numpy as np

DAY_S = 86_400.0
HOUR_S = 3_600.0
MAX_EVENTS = 400_000
"""Chunks simulated; beyond it several are taken as one, which the outcome says."""
MAX_IN_ENGINE = 2
"""Jobs a card holds, per slot: as `InlinePool`."""
MAX_CARDS = 32
"""Searched for the fewest that are enough."""
QUANTILES = (0.5, 0.9, 0.95, 0.99)


class Arrivals(StrEnum):
    """When documents come."""

    STEADY = "steady"
    """Evenly over the day, at random (Poisson)."""
    OFFICE = "office"
    """From 8 to 18 o'clock, with two peaks and a lunch break (Poisson with a changing rate)."""
    NIGHTLY = "nightly"
    """All at once at midnight."""


OFFICE_HOURS = (0,) * 8 + (2, 4, 5, 4, 2, 3, 5, 5, 4, 2) + (0,) * 6
"""Weight of each hour of the day."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What is asked of the house."""

    documents_per_day: float
    pages_per_document: float
    questions_per_document: float
    """Of which the first comes with the document."""
    arrivals: Arrivals = Arrivals.OFFICE
    think_s: float = 120.0
    """Mean time between a document's questions."""
    tokens_per_page: float = 600.0
    chunk_tokens: int = 1_500
    output_tokens: float = 60.0
    """Generated per chunk, abstentions included."""
    overhead_tokens: float = 60.0
    """Prefilled per chunk beside its text: the question and its frame."""
    reuse: float = 0.0
    """Share of a chunk's text that a follow-up question need not prefill again, 0..1."""

    @property
    def chunks(self) -> int:
        """Per document."""
        tokens = self.pages_per_document * self.tokens_per_page
        return max(1, math.ceil(tokens / self.chunk_tokens))

    @property
    def questions_per_day(self) -> float:
        return self.documents_per_day * self.questions_per_document


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One worker as measured."""

    name: str
    prefill_tokens_per_s: float
    """With all slots busy."""
    decode_tokens_per_s: float
    """Over all slots together."""
    slots: int = 1
    """Chunks read at the same time, each so much slower: 1 takes the card as one fast reader."""
    watts: float = 0.0
    """While it reads."""
    idle_watts: float = 0.0
    usd: float = 0.0
    """Its price."""

    def service_s(self, load: Load, *, follow_up: bool) -> float:
        """Seconds of one chunk in one slot."""
        tokens_of_text = load.pages_per_document * load.tokens_per_page / load.chunks
        fresh = tokens_of_text * (1 - load.reuse) if follow_up else tokens_of_text
        prefill = (fresh + load.overhead_tokens) / self.prefill_tokens_per_s
        return self.slots * (prefill + load.output_tokens / self.decode_tokens_per_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudShare:
    """What the ladder buys, on average."""

    share: float = 0.0
    """Of the questions."""
    usd_per_question: float | None = 0.0
    """Over all questions; None when unknown."""
    latency_s: float = 5.0
    """Of a call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One question on its way."""

    at_s: float
    n_chunks: int
    follow_up: bool
    cloud_s: float = 0.0
    """Time of the cloud call after reading; 0 without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """What became of the questions, in the order asked."""

    latency_s: tuple[float, ...]
    """From asking to the answer."""
    busy_s: tuple[float, ...]
    """By card: seconds of reading, over its slots together."""
    end_s: float
    """When the last question was answered."""


@dataclass(slots=True, eq=False)
class _Run:
    """A question in the queue."""

    number: int
    asked: Asked
    waiting: int
    unread: int


@dataclass(slots=True)
class _Reader:
    """A card at work: what it holds, and what of that is being read."""

    card: Card
    free_slots: int
    queue: deque[_Run] = field(default_factory=deque)
    busy_s: float = 0.0

    @property
    def has_room(self) -> bool:
        held = len(self.queue) + self.card.slots - self.free_slots
        return held < MAX_IN_ENGINE * self.card.slots


class Simulation:
    """Questions through cards. One use."""

    def __init__(self, cards: Sequence[Card], service_s: Sequence[tuple[float, float]]) -> None:
        """`service_s`: by card, seconds of a chunk of a first question and of a follow-up."""
        self._readers = [_Reader(card=card, free_slots=card.slots) for card in cards]
        self._service_s = service_s
        self._waiting: deque[_Run] = deque()
        self._events: list[tuple[float, int, int, _Run]] = []
        """(time, tie-breaker, card or -1 for an arrival, run)."""
        self._ticket = itertools.count()

    def serve(self, questions: Sequence[Asked]) -> Served:
        """Run to the last answer."""
        for number, asked in enumerate(questions):
            run = _Run(number=number, asked=asked, waiting=asked.n_chunks, unread=asked.n_chunks)
            self._at(asked.at_s, -1, run)
        latency, now = [0.0] * len(questions), 0.0
        while self._events:
            now, _, reader, run = heapq.heappop(self._events)
            if reader < 0:
                self._waiting.append(run)
            elif self._ended(reader, run):
                latency[run.number] = now + run.asked.cloud_s - run.asked.at_s
            self._hand_out(now)
        busy = tuple(reader.busy_s for reader in self._readers)
        return Served(latency_s=tuple(latency), busy_s=busy, end_s=now)

    def _at(self, when: float, reader: int, run: _Run) -> None:
        heapq.heappush(self._events, (when, next(self._ticket), reader, run))

    def _ended(self, reader: int, run: _Run) -> bool:
        """A chunk is read; whether it was its question's last."""
        self._readers[reader].free_slots += 1
        run.unread -= 1
        return run.unread == 0

    def _hand_out(self, now: float) -> None:
        """Chunks in turn to cards with room, then from each card's queue into its free slots."""
        while self._waiting:
            roomy = [i for i, reader in enumerate(self._readers) if reader.has_room]
            if not roomy:
                break
            chosen = max(roomy, key=lambda i: self._readers[i].free_slots)
            self._readers[chosen].queue.append(self._next_chunk())
            self._start(chosen, now)
        for number in range(len(self._readers)):
            self._start(number, now)

    def _next_chunk(self) -> _Run:
        run = self._waiting.popleft()
        run.waiting -= 1
        if run.waiting:
            self._waiting.append(run)
        return run

    def _start(self, number: int, now: float) -> None:
        reader = self._readers[number]
        while reader.queue and reader.free_slots:
            run = reader.queue.popleft()
            reader.free_slots -= 1
            service = self._service_s[number][run.asked.follow_up]
            reader.busy_s += service
            self._at(now + service, number, run)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a load comes to on these cards."""

    cards: tuple[Card, ...]
    offered: float
    """Work that comes in over what the cards can do; from 1 on the queue grows for ever."""
    utilisation: float
    """Share of the cards' time in which they read, over the simulated days."""
    peak: float
    """Work that comes in during the busiest hour, over what the cards can do in it."""
    n_questions: int
    """Simulated."""
    latency_s: dict[float, float] | None
    """By quantile; None where the queue grows for ever: then there is none."""
    mean_latency_s: float | None
    electricity_usd_per_day: Decimal | None
    """None without a price of power."""
    cards_usd_per_day: Decimal
    """Amortised."""
    cloud_usd_per_day: Decimal | None
    """None when unknown."""
    chunks_per_event: int
    """Above 1: so many chunks were simulated as one."""

    @property
    def usd_per_day(self) -> Decimal | None:
        """None as soon as a part is unknown."""
        if self.electricity_usd_per_day is None or self.cloud_usd_per_day is None:
            return None
        return self.electricity_usd_per_day + self.cards_usd_per_day + self.cloud_usd_per_day


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """What running the cards costs."""

    usd_per_kwh: float | None = None
    card_years: float = 3.0
    """Over which a card's price is spread."""


def plan(
    load: Load,
    cards: Sequence[Card],
    *,
    cloud: CloudShare | None = None,
    costs: Costs | None = None,
    days: int = 3,
    seed: int = 0,
) -> Plan:
    """Simulate `days` days after one to warm up. Raises ValueError without cards."""
    if not cards:
        raise ValueError("No card is given: there is nobody to read.")
    cloud, costs = cloud or CloudShare(), costs or Costs()
    service = [
        (card.service_s(load, follow_up=False), card.service_s(load, follow_up=True))
        for card in cards
    ]
    offered = _offered(load, cards, service)
    grain = max(1, math.ceil(load.questions_per_day * load.chunks * (days + 1) / MAX_EVENTS))
    questions = list(ask(load, cloud, days=days + 1, seed=seed))
    served = Simulation(cards, [(a * grain, b * grain) for a, b in service]).serve(
        [_coarser(asked, grain) for asked in questions]
    )
    counted = [s for s, q in zip(served.latency_s, questions, strict=True) if q.at_s >= DAY_S]
    stable = offered < 1 and bool(counted)
    span = max(served.end_s, (days + 1) * DAY_S)
    busy = [spent / card.slots for spent, card in zip(served.busy_s, cards, strict=True)]
    return Plan(
        cards=tuple(cards),
        offered=offered,
        utilisation=sum(busy) / (span * len(cards)),
        peak=offered * _peak_factor(load.arrivals),
        n_questions=len(counted),
        latency_s=dict(zip(QUANTILES, _quantiles(counted), strict=True)) if stable else None,
        mean_latency_s=float(np.mean(counted)) if stable else None,
        electricity_usd_per_day=_electricity(cards, busy, span, costs),
        cards_usd_per_day=_usd(sum(card.usd for card in cards) / (costs.card_years * 365)),
        cloud_usd_per_day=None
        if cloud.usd_per_question is None
        else _usd(cloud.usd_per_question * load.questions_per_day),
        chunks_per_event=grain,
    )


def fewest_cards(
    load: Load,
    card: Card,
    max_latency_s: float,
    *,
    cloud: CloudShare | None = None,
    most: int = MAX_CARDS,
    quantile: float = 0.95,
) -> int | None:
    """The least number of such cards with that share of answers within `max_latency_s`; None when
    `most` are too few. More cards never answer later, so the search halves."""

    def enough(n: int) -> bool:
        found = plan(load, [card] * n, cloud=cloud, days=1).latency_s
        return found is not None and found[quantile] <= max_latency_s

    if not enough(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def ask(load: Load, cloud: CloudShare, *, days: int, seed: int = 0) -> Iterator[Asked]:
    """The questions of these days, by time."""
    draw = random.Random(seed)
    asked = [
        Asked(
            at_s=at,
            n_chunks=load.chunks,
            follow_up=follow_up,
            cloud_s=cloud.latency_s if draw.random() < cloud.share else 0.0,
        )
        for document_at in _document_times(load, days, draw)
        for at, follow_up in _question_times(load, document_at, draw)
    ]
    return iter(sorted(asked, key=lambda one: one.at_s))


def _document_times(load: Load, days: int, draw: random.Random) -> Iterator[float]:
    for day in range(days):
        if load.arrivals is Arrivals.NIGHTLY:
            yield from [day * DAY_S] * round(load.documents_per_day)
        else:
            for hour, share in enumerate(_hour_shares(load.arrivals)):
                yield from _poisson(
                    day * DAY_S + hour * HOUR_S, load.documents_per_day * share, draw
                )


def _hour_shares(arrivals: Arrivals) -> list[float]:
    """Share of a day's documents that come in each hour."""
    if arrivals is Arrivals.STEADY:
        return [1 / 24] * 24
    if arrivals is Arrivals.NIGHTLY:
        return [1.0] + [0.0] * 23
    return [weight / sum(OFFICE_HOURS) for weight in OFFICE_HOURS]


def _peak_factor(arrivals: Arrivals) -> float:
    return max(_hour_shares(arrivals)) * 24


def _poisson(start_s: float, expected: float, draw: random.Random) -> Iterator[float]:
    """Times within an hour, `expected` of them on average."""
    at = draw.expovariate(expected) if expected else math.inf
    while at < 1:
        yield start_s + at * HOUR_S
        at += draw.expovariate(expected)


def _question_times(
    load: Load, document_at: float, draw: random.Random
) -> Iterator[tuple[float, bool]]:
    """A whole number of questions with the wanted mean, the first with the document."""
    whole = math.floor(load.questions_per_document)
    n = whole + (draw.random() < load.questions_per_document - whole)
    at = document_at
    for number in range(n):
        yield at, number > 0
        at += draw.expovariate(1 / load.think_s) if load.think_s else 0.0


def _coarser(asked: Asked, grain: int) -> Asked:
    if grain == 1:
        return asked
    return Asked(
        at_s=asked.at_s,
        n_chunks=max(1, round(asked.n_chunks / grain)),
        follow_up=asked.follow_up,
        cloud_s=asked.cloud_s,
    )


def _offered(load: Load, cards: Sequence[Card], service: Sequence[tuple[float, float]]) -> float:
    """Chunks that come per second over chunks that can be read per second."""
    first = min(1.0, 1 / load.questions_per_document) if load.questions_per_document else 0.0
    mean_s = [first * fresh + (1 - first) * again for fresh, again in service]
    capacity = sum(card.slots / s for card, s in zip(cards, mean_s, strict=True))
    return load.questions_per_day * load.chunks / DAY_S / capacity


def _quantiles(latencies: Sequence[float]) -> list[float]:
    return [float(value) for value in np.quantile(latencies, QUANTILES)]


def _electricity(
    cards: Sequence[Card], busy: Sequence[float], span_s: float, costs: Costs
) -> Decimal | None:
    if costs.usd_per_kwh is None:
        return None
    joules = sum(
        card.watts * spent + card.idle_watts * max(span_s - spent, 0.0)
        for card, spent in zip(cards, busy, strict=True)
    )
    return _usd(joules / 3.6e6 * costs.usd_per_kwh / (span_s / DAY_S))


def _usd(amount: float) -> Decimal:
    return Decimal(amount).quantize(Decimal("0.000001"))
