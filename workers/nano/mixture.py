"""The training mixture: example number i of a seed is always the same, so that runs resume."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.nano.contracts import load_contracts
from workers.nano.documents import (
    Document,
    DocumentQuestion,
    Span,
    ask_in_window,
    clip,
    overlap_share,
    random_window,
    window_around,
)
from workers.nano.examples import Asked, Example
from workers.nano.generated import generated_example, sentences_from
from workers.nano.lookups import lookup_questions
from workers.nano.packing import Packer, Sequenced
from workers.nano.papers import load_papers, load_tables
from workers.nano.tokenizer import NanoTokenizer

SEPARATORS = (
    "\n\nQuestion: ", "\n\nQuestion: ", "\n\nQuestion: ", "\n\nQuestion: ", "\n\n", "\n\nTask: ",
    "\n\nQ: ", "\n\n---\nQuestion: ", "\nQuestion: ", "\n\nTask:\n",
)  # fmt: skip
PREFIXES = ("Please answer: ", "From the text: ", "According to the excerpt, ", "Find out: ")
CUAD_BRANCHES = 8
RARE_CLAUSE_FLOOR = 6.0
N_FILLERS = 4000
GENERATED_QUESTIONS = 12
PLAIN_SHARE = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """How often each source is drawn (they need not sum to 1) and the chunk sizes in tokens.

    brief: share of the questions whose answers stop after their first tokens.
    """

    contracts: float = 0.5
    papers: float = 0.08
    tables: float = 0.05
    lookups: float = 0.12
    generated: float = 0.25
    min_tokens: int = 80
    max_tokens: int = 540
    max_generated_words: int = 220
    brief: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """All real training documents (validation ones are never loaded here)."""

    contracts: tuple[Document, ...]
    papers: tuple[Document, ...]
    tables: tuple[Document, ...]

    @classmethod
    def load(cls, data: Path, tokenizer: NanoTokenizer) -> Corpus:
        """Read the training side of the split from the data folder."""
        raw, collapsed = (
            load_contracts(data / "cuad", tokenizer, validation=False, collapsed=c)
            for c in (False, True)
        )
        return cls(
            contracts=(*raw, *collapsed),
            papers=tuple(load_papers(data / "covidqa", tokenizer, validation=False)),
            tables=tuple(load_tables(data / "tatqa", tokenizer, validation=False)),
        )


class Mixture:
    """Draws examples. `example(seed)` depends on nothing but its argument and the settings."""

    def __init__(self, corpus: Corpus, shares: Shares) -> None:
        self.corpus, self.shares = corpus, shares
        self._places = self._index_places(corpus.contracts)
        texts = [d.text for d in (*corpus.contracts, *corpus.papers)]
        self._fillers = sentences_from(texts, random.Random(0), N_FILLERS)
        self._words = sorted({w for s in self._fillers for w in re.findall(r"\b[a-z]{4,12}\b", s)})
        self._keys = list(self._places)
        counts = [len(self._places[k]) for k in self._keys]
        self._focus_weights = [c**0.8 for c in counts]
        self._ask_weights = {
            k: c + RARE_CLAUSE_FLOOR for k, c in zip(self._keys, counts, strict=True)
        }

    @staticmethod
    def _index_places(documents: Sequence[Document]) -> dict[str, list[tuple[Document, Span]]]:
        """For every clause category, where it stands in which document."""
        places: dict[str, list[tuple[Document, Span]]] = {}
        for document in documents:
            for question in document.questions:
                found = [(document, place.value) for place in question.places]
                places.setdefault(question.key, []).extend(found)
        return places

    def example(self, seed: int) -> Example:
        """The example of this seed; retries with derived seeds when a draw gives no question."""
        for attempt in range(20):
            rng = random.Random(seed * 1000 + attempt)
            drawn = self._draw(rng, seed * 1000 + attempt)
            if drawn.asked:
                return drawn
        return drawn

    def _draw(self, rng: random.Random, seed: int) -> Example:
        s = self.shares
        kinds = (s.contracts, s.papers, s.tables, s.lookups, s.generated)
        kind = rng.choices(range(5), kinds)[0]
        if kind == 0:
            return self._contract(rng)
        if kind == 1:
            return self._document(rng, self.corpus.papers, "paper")
        if kind == 2:
            return self._document(rng, self.corpus.tables, "table")
        if kind == 3:
            return self._lookup(rng)
        n_words = int(rng.uniform(25, s.max_generated_words))
        return generated_example(
            seed,
            split="plain" if rng.random() < PLAIN_SHARE else "train",
            target_words=n_words,
            n_questions=GENERATED_QUESTIONS,
            fillers=self._fillers,
            words=self._words,
            again=True,
        )

    def _n_tokens(self, rng: random.Random) -> int:
        low, high = self.shares.min_tokens, self.shares.max_tokens
        return int(low + (high - low) * rng.random() ** 0.9)

    def _contract(self, rng: random.Random) -> Example:
        """A window of a contract (mostly around some clause) and questions of many categories."""
        n_tokens = self._n_tokens(rng)
        if rng.random() < 0.8:
            key = rng.choices(self._keys, self._focus_weights)[0]
            document, place = rng.choice(self._places[key])
            window = window_around(document, place, rng, n_tokens)
        else:
            document = rng.choice(self.corpus.contracts)
            window = random_window(document, rng, n_tokens)
        asked = self._clauses(document, window, rng)
        clauses = tuple(
            (question.key, clip(place.value, window))
            for question in document.questions
            for place in question.places
            if overlap_share(place.value, window) > 0
        )
        text = document.text[slice(*window)]
        return Example(text=text, asked=asked, source="contract", clauses=clauses)

    def _clauses(self, document: Document, window: Span, rng: random.Random) -> tuple[Asked, ...]:
        """Every clause that is there (at most 6) and, weighted by frequency, some that are not."""
        present: list[tuple[str, Asked]] = []
        absent: list[tuple[str, Asked]] = []
        for question in document.questions:
            asked = ask_in_window(question, _worded(question, rng), window)
            if asked is not None:
                (present if asked.answerable else absent).append((question.key, asked))
        rng.shuffle(present)
        n_absent = max(2, CUAD_BRANCHES - len(present))
        absent.sort(key=lambda item: rng.random() ** (1 / self._ask_weights[item[0]]), reverse=True)
        chosen = [a for _, a in present[:6]] + [a for _, a in absent[:n_absent]]
        rng.shuffle(chosen)
        return tuple(chosen)

    def _document(self, rng: random.Random, documents: Sequence[Document], source: str) -> Example:
        """A window around one question's place; other questions of it, and of others, as absent."""
        document = rng.choice(
            [d for d in (rng.choice(documents) for _ in range(4)) if d.questions] or documents
        )
        if not document.questions:
            return Example(text=document.text[:10], asked=(), source=source)
        focus = rng.choice(document.questions)
        window = window_around(document, rng.choice(focus.places).value, rng, self._n_tokens(rng))
        answers = [
            a for q in document.questions if (a := ask_in_window(q, _worded(q, rng), window))
        ]
        present = [a for a in answers if a.answerable]
        absent = [a for a in answers if not a.answerable]
        foreign = [q for q in rng.choice(documents).questions if q not in document.questions]
        absent = rng.sample(absent, min(2, len(absent)))
        absent += [Asked(question=_worded(q, rng)) for q in foreign[:2]]
        asked = rng.sample(present, min(4, len(present))) + absent
        return Example(text=document.text[slice(*window)], asked=tuple(asked), source=source)

    def _lookup(self, rng: random.Random) -> Example:
        """Blanks, terms and sentences over a window of real text; absent ones from elsewhere."""
        documents = (*self.corpus.contracts, *self.corpus.papers)
        document, other = rng.choice(documents), rng.choice(documents)
        window = random_window(document, rng, self._n_tokens(rng))
        text = document.text[slice(*window)]
        elsewhere = other.text[slice(*random_window(other, rng, 400))]
        asked = lookup_questions(text, rng, 4)
        absent = [
            Asked(question=a.question)
            for a in lookup_questions(elsewhere, rng, 3)
            if elsewhere[slice(*(a.value_span or (0, 0)))] not in text
        ]
        return Example(text=text, asked=(*asked, *absent), source="lookup")


def _worded(question: DocumentQuestion, rng: random.Random) -> str:
    """The data set's own wording half of the time; sometimes lower case, prefixed, unmarked."""
    own = len(question.wordings) == 1 or rng.random() < 0.55
    text = question.wordings[0] if own else rng.choice(question.wordings[1:])
    return reword(text, rng)


def reword(text: str, rng: random.Random) -> str:
    """Small changes that must not matter."""
    draw = rng.random()
    if draw < 0.03:
        return text.lower()
    if draw < 0.06:
        return rng.choice(PREFIXES) + text
    if draw < 0.09:
        return re.sub(r"[?.]$", "", text)
    return text


def sequence_of(mixture: Mixture, packer: Packer, seed: int) -> Sequenced:
    """Draw and pack the example of `seed`."""
    example = mixture.example(seed)
    rng = random.Random(seed)
    separators = [rng.choice(SEPARATORS) for _ in example.asked]
    brief = [i for i in range(len(separators)) if rng.random() < mixture.shares.brief]
    return packer.pack(example, separators, brief)
