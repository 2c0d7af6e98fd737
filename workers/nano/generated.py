"""Documents made up at random, with questions: seeded, in many genres, nothing to memorise.

A document states facts (entity, attribute, period, value) about a few entities in sentences, lists
or tables. Questions ask for stated facts, or for near misses: another entity, an attribute stated
only for others, another period.
"""

from __future__ import annotations

import functools
import random
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.nano.documents import quote_within
from workers.nano.examples import Asked, Example, FactKey, Stated
from workers.nano.pools import Pools, sample

GENRES_FILE = Path(__file__).with_name("genres.toml")
UNSEEN_GENRES = ("standard", "hard")
TRAINED_NAMES = ("train", "plain")
AS_STATED = ("standard", "plain")
NEAR_ENTITY = 0.4
"""Share of the near misses that ask about a thing that the document does not name."""
OF_ANOTHER = 0.6
"""Share of the near misses by attribute that ask for one which the document states of others."""
TRAINED_NEAR_ENTITY, TRAINED_OF_ANOTHER = 0.2, 0.8
"""The same where nano is trained: absent things are learned long before absent attributes."""
FREE_GENRE_SHARE = 0.6
FREE_GENRE_SHARE_WITH_WORDS = 0.8
KINDS_OF_ENTITY = ("company", "product", "place", "project", "person")
ADJECTIVES = (
    "net gross peak average minimum total annual nominal backup primary initial final standard "
    "maximum current target base median adjusted projected internal external daily monthly weekly "
    "lead senior regional local remote core spare outer inner upper lower front rear main secondary"
)
NOUNS = (
    "margin torque spread voltage budget capacity headcount yield depth width height weight length "
    "speed output pressure rating score rate ratio volume cost price fee premium threshold limit "
    "quota balance reserve turnover density range radius diameter latency bandwidth code tariff "
    "surcharge allowance grade index bridge engine report garden contract tower cargo archive pump "
    "museum library licence pipeline survey vessel sample recipe stage roof permit fund audit"
)
VERBS = (
    "approved|approve inspected|inspect designed|design repaired|repair signed|sign "
    "reviewed|review opened|open closed|close tested|test cleaned|clean painted|paint "
    "measured|measure sold|sell bought|buy rented|rent moved|move delivered|deliver "
    "shipped|ship insured|insure launched|launch cancelled|cancel financed|finance "
    "guarded|guard managed|manage leased|lease restored|restore listed|list handled|handle "
    "ran|run built|build filed|file stored|store scanned|scan heated|heat cooled|cool "
    "loaded|load cleared|clear docked|dock served|serve planned|plan rebuilt|rebuild"
)
# What anything can do, said and asked: {b} the verb, {B} its base form, {n} a noun phrase.
FREE_PATTERNS = (
    ("person", "{v} {b} the {n} of {e}", "Who {b} the {n} of {e}?"),
    ("person", "The {n} of {e} was {b} by {v}", "By whom was the {n} of {e} {b}?"),
    ("person", "The {n} of {e} was {b} by {v}", "Who {b} the {n} of {e}?"),
    ("person", "{v} will {B} the {n} for {e}", "Who will {B} the {n} for {e}?"),
    ("person", "{v} is the one who {b} the {n} in {e}", "Who {b} the {n} in {e}?"),
    ("company", "{e} had its {n} {b} by {v}", "Which company {b} the {n} of {e}?"),
    ("company", "{v} {b} the {n} for {e}", "Which firm {b} the {n} for {e}?"),
    ("date", "The {n} of {e} was {b} on {v}", "When was the {n} of {e} {b}?"),
    ("date", "{e} will {B} its {n} on {v}", "When will {e} {B} its {n}?"),
    ("date", "On {v}, {e} {b} the {n}", "When did {e} {B} the {n}?"),
    ("place", "{e} {b} its {n} in {v}", "Where did {e} {B} its {n}?"),
    ("place", "The {n} of {e} is being {b} at {v}", "Where is the {n} of {e} being {b}?"),
    ("money", "{e} {b} the {n} for {v}", "For how much did {e} {B} the {n}?"),
    ("money", "{e} spent {v} when it {b} the {n}", "How much did {e} spend when it {b} the {n}?"),
    ("money", "The {n} in {e} is {b} at {v}", "At what price is the {n} in {e} {b}?"),
    ("count", "{e} {b} {v} {n}s", "How many {n}s did {e} {B}?"),
    ("quantity:kg", "The {n} of {e} weighs {v}", "How much does the {n} of {e} weigh?"),
    ("quantity:square metres", "The {n} in {e} offers {v}", "How large is the {n} in {e}?"),
    ("percent", "{e} {b} {v} of its {n}s", "What share of its {n}s did {e} {B}?"),
    ("percent", "The {n} of {e} was {v} full", "How full was the {n} of {e}?"),
    ("duration", "{e} {b} the {n} for {v}", "For how long did {e} {B} the {n}?"),
    ("duration", "The {n} of {e} took {v}", "How long did the {n} of {e} take?"),
    ("reason", "{e} {b} the {n} because of {v}", "Why did {e} {B} the {n}?"),
    ("code", "The {n} of {e} is kept under {v}", "Under which number is the {n} of {e} kept?"),
)
ASKS = (
    "What is the {n} of {e}?", "What is the {n} for {e}?", "What was {e}'s {n}?",
    "State the {n} of {e}.", "Give the {n} for {e}.", "{N} of {e}?", "Find {e}'s {n}.",
    "According to the text, what is the {n} of {e}?", "Tell me the {n} of {e}.", "{e}: {n}?",
    "Which {n} is given for {e}?", "Please report the {n} of {e}.",
)  # fmt: skip
ASKS_PERIOD = (
    "What was the {n} of {e} {p}?", "What was {e}'s {n} {p}?", "State the {n} of {e} {p}.",
    "{P}, what was the {n} of {e}?", "{N} of {e} {p}?", "Find {e}'s {n} {p}.",
    "According to the text, what was the {n} of {e} {p}?", "Give the {n} for {e} {p}.",
)  # fmt: skip
SAYS = (
    "The {n} of {e} is {v}", "{e} has a {n} of {v}", "For {e}, the {n} is {v}", "{e}'s {n} is {v}",
    "{v} is the {n} of {e}", "{e} lists its {n} as {v}", "The {n} for {e} was set at {v}",
)  # fmt: skip
SAYS_PERIOD = (
    "The {n} of {e} was {v} {p}", "{e} reported {n} of {v} {p}", "{P}, {e}'s {n} was {v}",
    "{e} had a {n} of {v} {p}", "{P}, the {n} of {e} stood at {v}", "{e}'s {n} came to {v} {p}",
)  # fmt: skip
FILLERS = (
    "The {a} {b} will be {c} at the next {d}.", "Several {a} {b}s were {c} during the {d}.",
    "No {a} {d} was {c} this time.", "Members {c} the {a} {b} without comment.",
    "Further details of the {b} appear in the {d}.", "See the {a} {d} for more on the {b}.",
    "The {d} remains {a} and is {c} each year.",
)  # fmt: skip
FILLER_WORDS = {
    "a": "annual revised general early formal public joint new routine brief draft minor",
    "b": "policy plan schedule report review process statement survey update summary",
    "c": "discussed approved reviewed noted delayed published updated shared checked",
    "d": "meeting appendix session audit committee quarter section hearing period",
}
HEADERS = ("{e}", "## {e}", "Record for {e}", "{e} -- details")
TITLES = ("Notes on the {b}", "Summary of the {a} {b}", "Report: {b}", "Re: {b}", "{a} {b}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribute:
    """Something that can be said of an entity. `says` and `asks` are its own templates."""

    names: tuple[str, ...]
    value: str
    says: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    periods: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Genre:
    """A kind of document: what it is about and what it says."""

    name: str
    entity: str
    held_out: bool
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One statement; `attribute` is an index into the genre's."""

    entity: str
    attribute: int
    period: str | None
    value: str

    @property
    def key(self) -> FactKey:
        """What a question names."""
        return self.entity, self.attribute, self.period


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A sentence, line or row of the document and the facts in it.

    pieces: per fact, the half-open character span of its statement in `text`.
    """

    text: str
    facts: tuple[Fact, ...] = ()
    pieces: tuple[tuple[int, int], ...] = ()


@functools.cache
def load_genres() -> tuple[Genre, ...]:
    """The genres of `genres.toml`."""
    raw: dict[str, Any] = tomllib.loads(GENRES_FILE.read_text(encoding="utf-8"))
    return tuple(
        Genre(
            name=name,
            entity=entry["entity"],
            held_out=entry["held_out"],
            attributes=tuple(_attribute(a) for a in entry["attributes"]),
        )
        for name, entry in raw.items()
    )


def _attribute(entry: dict[str, Any]) -> Attribute:
    return Attribute(
        names=tuple(entry["names"]),
        value=entry["value"],
        says=tuple(entry.get("says", ())),
        asks=tuple(entry.get("asks", ())),
        periods=entry.get("periods", False),
    )


def capitalised(text: str) -> str:
    """First letter upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


class DocumentWriter:
    """Writes one document; everything is drawn from the seed."""

    def __init__(
        self, seed: int, split: str, fillers: Sequence[str] = (), words: Sequence[str] = ()
    ) -> None:
        """split: `train`, `plain`, `test` (unseen entity names), `standard` or `hard` (genres too).

        `standard` and `plain`: one or two entities; questions name attributes as the document does.
        The others: up to five; each may put it in its own words, so that both can have no word in
        common.
        fillers: sentences to put between the facts. words: to name attributes by.
        """
        self.rng = random.Random(seed)
        self.pools = Pools(self.rng, held_out=split not in TRAINED_NAMES)
        self.fillers, self.words = fillers, words
        self.plain = split in AS_STATED
        trained = split in TRAINED_NAMES
        self.near_entity = TRAINED_NEAR_ENTITY if trained else NEAR_ENTITY
        self.of_another = TRAINED_OF_ANOTHER if trained else OF_ANOTHER
        self.genre = self._genre(split)
        self.listed = False

    def _genre(self, split: str) -> Genre:
        unseen = split in UNSEEN_GENRES
        genres = [g for g in load_genres() if g.held_out == unseen]
        free_share = FREE_GENRE_SHARE_WITH_WORDS if self.words else FREE_GENRE_SHARE
        if unseen or self.rng.random() > free_share:
            return self.rng.choice(genres)
        attributes = tuple(self._free_attribute() for _ in range(12))
        entity = self.rng.choice(KINDS_OF_ENTITY)
        return Genre(name="free", entity=entity, held_out=False, attributes=attributes)

    def _free_attribute(self) -> Attribute:
        """A noun phrase nobody has seen together, or something done to it."""
        noun = self._noun_phrase()
        if self.rng.random() < 0.5:
            return Attribute(names=(noun,), value="any", periods=self.rng.random() < 0.3)
        kind, says, asks = self.rng.choice(FREE_PATTERNS)
        past, base = self.pools.pick(VERBS).split("|")
        noun = noun if self.rng.random() < 0.5 else noun.split()[-1]

        def fill(template: str) -> str:
            return template.replace("{b}", past).replace("{B}", base).replace("{n}", noun)

        return Attribute(names=(noun,), value=kind, says=(fill(says),), asks=(fill(asks),))

    def _noun_phrase(self) -> str:
        if self.words and self.rng.random() < 0.6:
            drawn = [self.rng.choice(self.words) for _ in range(self.rng.choice((1, 2, 2, 2, 3)))]
            return self.rng.choice((" ", " ", " ", " of ")).join(drawn)
        first = self.pools.pick(ADJECTIVES) if self.rng.random() < 0.75 else self.pools.word(2)
        return f"{first} {self.pools.pick(NOUNS)}"

    def plan(self) -> list[Fact]:
        """Which facts the document may state, entity by entity."""
        counts = (1, 1, 2, 2) if self.plain else (1, 1, 2, 2, 3, 3, 4, 5)
        n_entities = self.rng.choice(counts)
        entities = [self.pools.entity(self.genre.entity) for _ in range(n_entities)]
        periods = list(dict.fromkeys(self.pools.period() for _ in range(self.rng.randint(1, 3))))
        facts = []
        for entity in entities:
            indices = list(range(len(self.genre.attributes)))
            self.rng.shuffle(indices)
            for index in indices[: self.rng.randint(2, 7)]:
                attribute = self.genre.attributes[index]
                shown: Sequence[str | None] = (
                    periods[: self.rng.randint(1, len(periods))] if attribute.periods else (None,)
                )
                for period in shown:
                    value = self.pools.value(attribute.value)
                    facts.append(Fact(entity=entity, attribute=index, period=period, value=value))
        return facts

    def _filled(self, template: str, fact: Fact) -> str:
        names = self.genre.attributes[fact.attribute].names
        name = names[0] if self.plain else self.rng.choice(names)
        period = fact.period or ""
        text = template.format(
            e=fact.entity,
            n=name,
            N=capitalised(name),
            p=period,
            P=capitalised(period),
            v=fact.value,
        )
        return re.sub(r" +([?.])", r"\1", re.sub(r"  +", " ", text)).strip()

    def statement(self, fact: Fact) -> str:
        """The fact as a sentence without its full stop."""
        attribute = self.genre.attributes[fact.attribute]
        plain: tuple[str, ...] = SAYS_PERIOD if attribute.periods else SAYS
        if self.genre.name == "free" and attribute.says:
            plain = attribute.says
        own = attribute.says and not self.plain and self.rng.random() < 0.55
        return self._filled(self.rng.choice(attribute.says if own else plain), fact)

    def question(self, fact: Fact) -> str:
        """A question whose answer the fact's value is."""
        attribute = self.genre.attributes[fact.attribute]
        plain: tuple[str, ...] = ASKS_PERIOD if attribute.periods else ASKS
        if self.genre.name == "free" and attribute.asks and not self.listed:
            plain = attribute.asks
        as_stated = self.plain or self.listed
        own = attribute.asks and not as_stated and self.rng.random() < 0.5
        return capitalised(self._filled(self.rng.choice(attribute.asks if own else plain), fact))

    def filler(self) -> str:
        """A sentence that answers nothing."""
        if self.fillers and self.rng.random() < 0.6:
            return self.rng.choice(self.fillers)
        words = {k: self.pools.pick(v) for k, v in FILLER_WORDS.items()}
        return self.rng.choice(FILLERS).format(**words)

    def sentences(self, facts: Sequence[Fact], n_words: int) -> list[Unit]:
        """Prose up to about `n_words`; now and then two facts share a sentence."""
        units: list[Unit] = []
        queue, written = list(facts), 0
        while queue and written < n_words:
            parts = [queue.pop(0)]
            text = self.statement(parts[0])
            pieces = [(0, len(text))]
            if queue and self.rng.random() < 0.15:
                parts.append(queue.pop(0))
                second = self.statement(parts[1])
                if second.startswith(("The ", "In ", "For ", "On ")):
                    second = second[0].lower() + second[1:]
                text += self.rng.choice((", and ", "; ", ", while "))
                pieces.append((len(text), len(text) + len(second)))
                text += second
            text = capitalised(text) + "."
            units.append(Unit(text=text, facts=tuple(parts), pieces=tuple(pieces)))
            written += len(text.split())
        while written < n_words and self.rng.random() < 0.93:
            units.insert(self.rng.randint(0, len(units)), Unit(text=self.filler()))
            written += len(units[-1].text.split())
        return units

    def lines(self, facts: Sequence[Fact], n_words: int) -> list[Unit]:
        """`Attribute: value` lines under a header per entity."""
        units: list[Unit] = []
        header, written, entity = self.rng.choice(HEADERS), 0, ""
        for fact in sorted(facts, key=lambda f: f.entity):
            if written > n_words:
                break
            if fact.entity != entity:
                entity = fact.entity
                units.append(Unit(text=header.format(e=entity)))
            units.append(_whole(self._filled("{N} {p}: {v}", fact).replace(" :", ":"), fact))
            written += len(units[-1].text.split())
        return units

    def rows(self, facts: Sequence[Fact], n_words: int) -> list[Unit]:
        """Rows `entity | attribute | value`."""
        units: list[Unit] = []
        written = 0
        for fact in facts:
            if written > n_words:
                break
            units.append(_whole(self._filled("{e} | {n} {p} | {v}", fact), fact))
            written += len(units[-1].text.split())
        return units

    def layout(self, n_words: int) -> tuple[str, list[tuple[Unit, int]]]:
        """The text and every unit with its place in it."""
        facts = self.plan()
        form = self.rng.random()
        if self.rng.random() < 0.5:
            self.rng.shuffle(facts)
        self.listed = form < 0.3
        makers = (self.lines, self.rows, self.sentences)
        units = makers[0 if form < 0.2 else 1 if form < 0.3 else 2](facts, n_words)
        if form >= 0.3 and self.rng.random() < 0.3:
            words = {k: self.pools.pick(v) for k, v in FILLER_WORDS.items()}
            units.insert(0, Unit(text=capitalised(self.rng.choice(TITLES).format(**words))))
        joins = (
            ("\n",)
            if form < 0.3
            else self.rng.choice((("\n",), (" ",), (" ", " ", "\n\n"), ("\n\n",)))
        )
        text, placed = "", []
        for unit in units:
            placed.append((unit, len(text)))
            text += unit.text + self.rng.choice(joins)
        return text.rstrip(), placed

    def near_miss(self, stated: Sequence[Fact]) -> Fact | None:
        """Something close to a stated fact that the document does not state."""
        fact = self.rng.choice(list(stated))
        draw = self.rng.random()
        if draw < self.near_entity:
            entity = self.pools.entity(self.genre.entity)
            return Fact(entity=entity, attribute=fact.attribute, period=fact.period, value="")
        if draw < 0.8 or fact.period is None:
            return self._other_attribute(fact, stated)
        period = self.pools.period()
        years = {(f.period or "").split()[-1] for f in stated if f.period}
        if period.split()[-1] in years:
            return None
        return Fact(entity=fact.entity, attribute=fact.attribute, period=period, value="")

    def _other_attribute(self, fact: Fact, stated: Sequence[Fact]) -> Fact | None:
        own = {f.attribute for f in stated if f.entity == fact.entity}
        others = [f for f in stated if f.attribute not in own]
        if others and self.rng.random() < self.of_another:
            other = self.rng.choice(others)
            return Fact(
                entity=fact.entity, attribute=other.attribute, period=other.period, value=""
            )
        free = [i for i in range(len(self.genre.attributes)) if i not in own]
        if not free:
            return None
        index = self.rng.choice(free)
        period = self.pools.period() if self.genre.attributes[index].periods else None
        return Fact(entity=fact.entity, attribute=index, period=period, value="")

    def write(
        self, n_words: int, n_questions: int, absent_share: float, again: bool = False
    ) -> Example:
        """The document and its questions; again: ask about stated facts more than once."""
        text, placed = self.layout(n_words)
        located = stated_facts(text, placed)
        stated = [fact for fact, _ in located]
        facts = tuple(place for _, place in located)
        self.rng.shuffle(located)
        asked: list[Asked] = []
        unasked: list[tuple[Fact, Stated]] = list(located)
        for _ in range(n_questions):
            if again and not unasked:
                unasked = list(located)
            if unasked and self.rng.random() >= absent_share:
                asked.append(self._present(text, *unasked.pop()))
            elif stated:
                missed = self.near_miss(stated)
                if missed is not None:
                    question = self.question(missed)
                    asked.append(Asked(question=question, about=_about(question, missed)))
        source = f"generated:{self.genre.name}"
        return Example(text=text, asked=tuple(asked), source=source, facts=facts)

    def _present(self, text: str, fact: Fact, place: Stated) -> Asked:
        question = self.question(fact)
        return Asked(
            question=question,
            value_span=place.value,
            quote_span=quote_within(text, place.value, place.piece),
            about=_about(question, fact),
        )


def _whole(text: str, fact: Fact) -> Unit:
    """A unit that states one fact and nothing else."""
    return Unit(text=text, facts=(fact,), pieces=((0, len(text)),))


def _about(question: str, fact: Fact) -> tuple[FactKey, tuple[int, int]]:
    start = max(0, question.find(fact.entity))
    return fact.key, (start, start + len(fact.entity))


def stated_facts(text: str, placed: Sequence[tuple[Unit, int]]) -> list[tuple[Fact, Stated]]:
    """Every fact of a document and where its parts stand in `text`."""
    found = []
    for unit, start in placed:
        for fact, (low, high) in zip(unit.facts, unit.pieces, strict=True):
            piece = (start + low, start + high)
            own = text.find(fact.entity, *piece)
            named = own if own >= 0 else text.rfind(fact.entity, 0, piece[0])
            entity = (named, named + len(fact.entity))
            value = _value_in(text, fact, piece, entity)
            found.append((fact, Stated(key=fact.key, entity=entity, piece=piece, value=value)))
    return found


def _value_in(
    text: str, fact: Fact, piece: tuple[int, int], entity: tuple[int, int]
) -> tuple[int, int]:
    """Where the value stands: as whole words, not inside the entity's name ("5" in "Unit 5")."""
    pattern = rf"(?<!\w){re.escape(fact.value)}(?!\w)"
    spans = [
        (piece[0] + m.start(), piece[0] + m.end())
        for m in re.finditer(pattern, text[slice(*piece)], re.IGNORECASE)
    ]
    outside = [s for s in spans if s[1] <= entity[0] or s[0] >= entity[1]]
    return (outside or spans)[-1]


def generated_example(
    seed: int,
    split: str = "train",
    target_words: int = 120,
    n_questions: int = 6,
    absent_share: float = 0.4,
    fillers: Sequence[str] = (),
    words: Sequence[str] = (),
    again: bool = False,
) -> Example:
    """One document with its questions; the same arguments give the same document."""
    writer = DocumentWriter(seed, split, fillers, words)
    return writer.write(target_words, n_questions, absent_share, again)


def sentences_from(texts: Sequence[str], rng: random.Random, n: int) -> list[str]:
    """Sentences of real text to put between the facts."""
    found = [
        " ".join(s.split())
        for text in sample(rng, texts, 60)
        for s in re.findall(r"[A-Z][^.!?]{30,160}\.(?=\s)", text)
    ]
    return sample(rng, found, n)
