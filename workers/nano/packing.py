"""From examples to tensors: one chunk, then a masked branch per question.

Every branch attends to the chunk and to itself only, and its positions go on from the chunk's end,
as in the engine, where jobs on one chunk share its KV cache. The pieces are tokenised one by one,
as the engine does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workers.nano.clause_questions import CLAUSE_NUMBERS
from workers.nano.examples import FORCED_START, Asked, Example, Stated, answer_text
from workers.nano.framing import closing_ids, opening_ids
from workers.nano.kernels import Tile
from workers.nano.tokenizer import NanoTokenizer
from workers.nano.vocabulary import SPACE

PADDING_BRANCH = -1
ABSTAIN = 3.6
ABSTAIN_FROM_CLAUSE = 1.2
ANSWER = 3.0
FIRST_OF_VALUE = 4.0
FIRST_OF_QUOTE = 2.0
FREE_TEXT = 1.0
FIXED_TEXT = 0.05
BRIEF_TOKENS = 5
FUNCTION_WORDS = (
    "a an and are as at by did does find for from give given has have how in is it its list lists "
    "me much of on one please report s set state tell text that the to was were what when where "
    "which while who whom will with according"
)
MAX_SKIP = 5
REACH = 120
MAX_MATCHES = 8
STRETCH = 96
SMALL_GAP = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Pointing:
    """One attention row to supervise: position `row` should look at [start, end), best at `first`.

    start < 0: it should look at the sink (nothing in the chunk answers).
    first < 0: no single best position.
    """

    row: int
    start: int
    end: int
    first: int = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """One attention row that should look at any of `keys` (token indices), or at the sink."""

    row: int
    keys: tuple[int, ...]


@dataclass(kw_only=True, slots=True)
class Sequenced:
    """One training sequence. All lists have one entry per token.

    parent: index of the token whose output predicts this one. weight: its share in the loss.
    copies: (row, chunk token that the row must write next). asked_clauses: (row, category number)
    of clause questions. chunk_clauses: (first token, end, category number) of every clause in the
    chunk; None where the chunk is no contract. finds: question tokens and the same words in the
    chunk. For made-up chunks also, of values and questions: entities and rests, where they are
    named and described; same_entity and same_attribute, which values fit half of the question.
    """

    ids: list[int]
    positions: list[int]
    branches: list[int]
    weights: list[float]
    parents: list[int]
    decisions: list[int] = field(default_factory=list)
    answers: list[Pointing] = field(default_factory=list)
    reads: list[Pointing] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)
    asked_clauses: list[tuple[int, int]] = field(default_factory=list)
    chunk_clauses: list[tuple[int, int, int]] | None = None
    finds: list[Aim] = field(default_factory=list)
    entities: list[Aim] = field(default_factory=list)
    rests: list[Aim] = field(default_factory=list)
    same_entity: list[Aim] = field(default_factory=list)
    same_attribute: list[Aim] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenisedPrefix:
    """The template's opening and the chunk; offsets are the chunk's characters per token."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    n_opening: int

    def tokens_of(self, span: tuple[int, int]) -> tuple[int, int]:
        """Half-open token range that covers a character span of the chunk."""
        inside = [
            i for i, (a, b) in enumerate(self.offsets) if b > span[0] and a < span[1] and b > a
        ]
        if not inside:
            return self.n_opening, self.n_opening + 1
        return self.n_opening + inside[0], self.n_opening + inside[-1] + 1


class Packer:
    """Tokenises examples; `separators` are tried at random so that none is learned by heart."""

    def __init__(self, tokenizer: NanoTokenizer) -> None:
        self.tokenizer = tokenizer
        self.opening = opening_ids(tokenizer)
        self.closing = closing_ids(tokenizer)
        self.forced = tokenizer.encode(FORCED_START)
        tokens = tokenizer.vocabulary.tokens
        self._bare_tokens = [token.removeprefix(SPACE) for token in tokens]
        self._lowered = [token.lower() for token in self._bare_tokens]
        function_words = set(FUNCTION_WORDS.split())
        self._tells = [t.isalnum() and t not in function_words for t in self._lowered]
        self._starts_word = [token.startswith(SPACE) for token in tokens]

    def prefix(self, text: str) -> TokenisedPrefix:
        """Template opening + chunk."""
        ids, offsets = self.tokenizer.encode_with_offsets(text)
        return TokenisedPrefix(
            ids=[*self.opening, *ids], offsets=offsets, n_opening=len(self.opening)
        )

    def question_ids(self, separator: str, question: str) -> list[int]:
        """Separator + task + the template's closing + the forced start of the JSON."""
        encode = self.tokenizer.encode
        return [*encode(separator), *encode(question), *self.closing, *self.forced]

    def pack(
        self, example: Example, separators: Sequence[str], brief: Collection[int] = ()
    ) -> Sequenced:
        """One sequence with a branch per question; `separators[i]` stands before question i.

        brief: questions whose answers stop after their first tokens. What is hard about an answer
        is its beginning, so that more questions fit into as many tokens.
        """
        prefix = self.prefix(example.text)
        n = len(prefix.ids)
        sequence = Sequenced(
            ids=list(prefix.ids),
            positions=list(range(n)),
            branches=[0] * n,
            weights=[0.0] * n,
            parents=[max(0, i - 1) for i in range(n)],
        )
        if example.clauses is not None:
            sequence.chunk_clauses = [
                (*prefix.tokens_of(span), CLAUSE_NUMBERS[clause])
                for clause, span in example.clauses
            ]
        aim_values(sequence, prefix, example, self._telling)
        for index, asked in enumerate(example.asked):
            self._add_branch(sequence, prefix, example, asked, (index + 1, separators[index]))
            if index in brief:
                n_kept = BRIEF_TOKENS if asked.answerable else 1
                cut(sequence, sequence.decisions[-1] + n_kept)
        return sequence

    def _add_branch(
        self,
        sequence: Sequenced,
        prefix: TokenisedPrefix,
        example: Example,
        asked: Asked,
        numbered: tuple[int, str],
    ) -> None:
        n, start = len(prefix.ids), len(sequence.ids)
        question = self.question_ids(numbered[1], asked.question)
        answer, weights, marks = self._answer(example, asked)
        branch = [*question, *answer]
        sequence.ids += branch
        sequence.positions += range(n, n + len(branch))
        sequence.branches += [numbered[0]] * len(branch)
        sequence.parents += [n - 1, *range(start, start + len(branch) - 1)]
        sequence.weights += [0.0] * len(question) + weights
        decision = start + len(question)
        sequence.decisions.append(decision)
        if asked.clause in CLAUSE_NUMBERS:
            sequence.asked_clauses.append((decision - 1, CLAUSE_NUMBERS[asked.clause]))
        self._supervise(sequence, prefix, asked, decision, marks)
        self._align(sequence, prefix, asked, decision, marks)
        n_fixed = len(self.closing) + len(self.forced)
        question_span = (start, decision - n_fixed)
        self._find(sequence, prefix, question_span)
        if asked.about is not None:
            named = self._named(asked, (start, question_span[1]), numbered[1])
            aim_question(sequence, prefix, example, asked, (decision - 1, *named))
        for row in (decision - 1, decision + len(answer) // 2):
            sequence.reads.append(Pointing(row=row, start=question_span[0], end=question_span[1]))

    def _find(
        self, sequence: Sequenced, prefix: TokenisedPrefix, question: tuple[int, int]
    ) -> None:
        """Words of the question and where the chunk has them; inside words the token before counts.

        Left out: what stands in the chunk too often to tell anything.
        """
        places = self._places_of(prefix)
        lowered = self._lowered
        for row in range(question[0] + 1, question[1]):
            token, before = sequence.ids[row], sequence.ids[row - 1]
            if not lowered[token].isalnum():
                continue
            keys = places.get(lowered[token], [])
            if not self._starts_word[token]:
                if not lowered[before].isalnum():
                    continue  # a first word is split otherwise than inside a sentence
                keys = [k for k in keys if lowered[prefix.ids[k - 1]] == lowered[before]]
            if len(keys) <= MAX_MATCHES:
                sequence.finds.append(Aim(row=row, keys=tuple(keys)))

    def _places_of(self, prefix: TokenisedPrefix) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for index in range(prefix.n_opening, len(prefix.ids)):
            places.setdefault(self._lowered[prefix.ids[index]], []).append(index)
        return places

    def _named(
        self, asked: Asked, question: tuple[int, int], separator: str
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token indices of the question that name the entity, and others that tell something."""
        first = question[0] + len(self.tokenizer.encode(separator))
        _, offsets = self.tokenizer.encode_with_offsets(asked.question)
        low, high = asked.about[1] if asked.about else (0, 0)
        inside = {first + i for i, (a, b) in enumerate(offsets) if b > low and a < high}
        rest = [i - first for i in range(first, question[1]) if i not in inside]
        told = self._telling(self.tokenizer.encode(asked.question), rest)
        return tuple(sorted(inside)), tuple(first + i for i in told)

    def _telling(self, ids: Sequence[int], places: Sequence[int]) -> list[int]:
        """Those of `places` in `ids` that are neither marks nor function words; all if none is."""
        return [i for i in places if self._tells[ids[i]]] or list(places)

    def _answer(
        self, example: Example, asked: Asked
    ) -> tuple[list[int], list[float], tuple[int, int]]:
        """Answer ids with <|return|>, loss weights, and (value's end, quote's first) offsets."""
        encode, done = self.tokenizer.encode, self.tokenizer.special("return")
        value, quote = example.value(asked), example.quote(asked)
        ids = encode(answer_text(value, quote)) + done
        weights = [FIXED_TEXT] * len(ids)
        weights[0] = ANSWER
        if value is None:
            weights[0] = ABSTAIN_FROM_CLAUSE if asked.clause else ABSTAIN
            return ids, weights, (0, 0)
        middle = '", "citation": "'
        json_value = answer_text(value, None).rsplit('", "citation"', 1)[0]
        value_end = len(encode(json_value))
        quote_first = len(encode(json_value + middle))
        weights[1] = FIRST_OF_VALUE
        for i in range(2, value_end + 1):
            weights[i] = FREE_TEXT
        for i in range(quote_first, len(ids) - 1):
            weights[i] = FIRST_OF_QUOTE if i < quote_first + 2 else FREE_TEXT
        return ids, weights, (value_end, quote_first)

    def _align(
        self,
        sequence: Sequenced,
        prefix: TokenisedPrefix,
        asked: Asked,
        decision: int,
        marks: tuple[int, int],
    ) -> None:
        """For every copied token of value and quote, where in the chunk it stands."""
        if asked.value_span is None or asked.quote_span is None:
            return
        bare = self._bare_tokens
        parts = (
            (decision + 1, decision + marks[0], asked.value_span),
            (decision + marks[1], len(sequence.ids) - 1, asked.quote_span),
        )
        for first, end, span in parts:
            source, limit = prefix.tokens_of(span)
            for row in range(first, end):
                wanted = bare[sequence.ids[row]]
                reach = range(source, min(limit, source + MAX_SKIP))
                found = next((i for i in reach if bare[prefix.ids[i]] == wanted), None)
                if found is not None:
                    sequence.copies.append((row - 1, found))
                    source = found + 1

    @staticmethod
    def _supervise(
        sequence: Sequenced,
        prefix: TokenisedPrefix,
        asked: Asked,
        decision: int,
        marks: tuple[int, int],
    ) -> None:
        """Where the answering rows should look: value, quote, or the sink."""
        if asked.value_span is None or asked.quote_span is None:
            sequence.answers += [Pointing(row=decision - 1, start=-1, end=-1)] * 2
            return
        value = prefix.tokens_of(asked.value_span)
        quote = prefix.tokens_of(asked.quote_span)
        both = (min(value[0], quote[0]), max(value[1], quote[1]))
        rows = (decision - 1, decision - 1, decision, decision)
        for row in rows:
            sequence.answers.append(Pointing(row=row, start=both[0], end=both[1], first=value[0]))
        first_of_quote = decision + marks[1] - 1
        sequence.answers.append(
            Pointing(row=first_of_quote, start=quote[0], end=quote[1], first=quote[0])
        )
        near = max(both[0], value[0] - REACH)
        sequence.reads.append(Pointing(row=value[0], start=near, end=value[0] + 1, first=near))
        for row in range(both[0] + 2, min(both[1], both[0] + REACH), 5):
            sequence.reads.append(Pointing(row=row, start=both[0], end=row + 1, first=both[0]))


def cut(sequence: Sequenced, end: int) -> None:
    """Drop all tokens from `end` on, and what they were told."""
    for values in (sequence.ids, sequence.positions, sequence.branches, sequence.parents):
        del values[end:]
    del sequence.weights[end:]
    sequence.answers = [p for p in sequence.answers if p.row < end]
    sequence.reads = [p for p in sequence.reads if p.row < end]
    sequence.copies = [(row, key) for row, key in sequence.copies if row < end]


def aim_values(
    sequence: Sequenced,
    prefix: TokenisedPrefix,
    example: Example,
    telling: Callable[[Sequence[int], Sequence[int]], list[int]],
) -> None:
    """The anchors of stated facts: where their entity is named, and what is said of it.

    telling: picks, from token ids and places in them, the places that tell something.
    """
    for fact in example.facts:
        entity = range(*prefix.tokens_of(fact.entity))
        value = range(*prefix.tokens_of(fact.value))
        piece = range(*prefix.tokens_of(fact.piece))
        rest = telling(prefix.ids, [i for i in piece if i not in entity and i not in value])
        for row in anchors(prefix, fact):
            for aims, wanted in ((sequence.entities, entity), (sequence.rests, rest)):
                seen = tuple(i for i in wanted if i <= row)
                if seen:
                    aims.append(Aim(row=row, keys=seen))


def anchors(prefix: TokenisedPrefix, fact: Stated) -> tuple[int, ...]:
    """The tokens that stand for a fact: its value's first, and its statement's last.

    Only the last sees all of the statement; the value may come before what it is about.
    """
    both = {prefix.tokens_of(fact.value)[0], prefix.tokens_of(fact.piece)[1] - 1}
    return tuple(sorted(both))


def aim_question(
    sequence: Sequenced,
    prefix: TokenisedPrefix,
    example: Example,
    asked: Asked,
    named: tuple[int, tuple[int, ...], tuple[int, ...]],
) -> None:
    """named: the deciding row, the question's tokens for the entity, and its other tokens."""
    row, entity_tokens, rest = named
    assert asked.about is not None
    entity, attribute, _ = asked.about[0]
    sequence.entities.append(Aim(row=row, keys=entity_tokens))
    sequence.rests.append(Aim(row=row, keys=rest))
    anchored = [(fact.key, i) for fact in example.facts for i in anchors(prefix, fact)]
    of_entity = tuple(i for key, i in anchored if key[0] == entity)
    of_attribute = tuple(i for key, i in anchored if key[1] == attribute)
    sequence.same_entity.append(Aim(row=row, keys=of_entity))
    sequence.same_attribute.append(Aim(row=row, keys=of_attribute))


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Padded tensors, all B,T; masks: (sliding, full), each B,1,T,T of 0 and -inf.

    tiles: the masks again, as the parts that are not empty.
    """

    ids: Tensor
    positions: Tensor
    branches: Tensor
    weights: Tensor
    parents: Tensor
    masks: tuple[Tensor, Tensor]
    tiles: tuple[tuple[Tile, ...], tuple[Tile, ...]]
    sequences: tuple[Sequenced, ...]


def build_masks(branches: Tensor, positions: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """branches B,T: 0 chunk, >0 question, -1 padding. Returns (sliding, full) B,1,T,T."""
    branches, positions = branches.to(torch.int16), positions.to(torch.int16)
    index = torch.arange(branches.shape[1], dtype=torch.int16)
    self_only = index[:, None] == index[None, :]
    key, query = branches[:, None, :], branches[:, :, None]
    seen = (index[:, None] >= index[None, :]) & ((key == 0) | (key == query))
    seen = (seen & (key != PADDING_BRANCH)) | self_only
    near = seen & ((positions[:, :, None] - positions[:, None, :]) < window)
    blocked = torch.zeros(seen.shape)
    return (
        blocked.masked_fill(~near, float("-inf")).unsqueeze(1),
        blocked.masked_fill(~seen, float("-inf")).unsqueeze(1),
    )


def tiles_of(mask: Tensor, sequences: Sequence[Sequenced]) -> tuple[Tile, ...]:
    """mask: B,1,T,T. What every stretch of queries sees, as runs of keys."""
    tiles = []
    for index, sequence in enumerate(sequences):
        seen = torch.isfinite(mask[index, 0])
        for first, end in stretches(sequence.branches):
            for low, high in _runs(seen[first:end].any(0).nonzero()[:, 0].tolist()):
                part = mask[index : index + 1, :, first:end, low:high]
                inside = seen[first:end, low:high]
                blind = ~inside.any(-1)
                tile = Tile(
                    sequence=index, first=first, end=end, low=low, high=high,
                    mask=None if bool(inside.all()) else part,
                    blind=blind[None, None] if bool(blind.any()) else None,
                )  # fmt: skip
                tiles.append(tile)
    return tuple(tiles)


def stretches(branches: Sequence[int]) -> list[tuple[int, int]]:
    """Queries to compute together: pieces of the chunk, and some branches each."""
    starts, begun = [0], 0
    for index in range(1, len(branches)):
        is_border = branches[index] == 0 or branches[index] != branches[index - 1]
        if branches[index] != 0 and branches[index - 1] == 0:
            begun = STRETCH  # questions never share a stretch with the chunk
        begun += 1
        if is_border and begun > STRETCH:
            starts.append(index)
            begun = 0
    return list(itertools.pairwise([*starts, len(branches)]))


def _runs(keys: Sequence[int]) -> list[tuple[int, int]]:
    """Half-open runs of rising `keys`; small gaps are passed over."""
    runs: list[tuple[int, int]] = []
    for key in keys:
        if runs and key - runs[-1][1] < SMALL_GAP:
            runs[-1] = (runs[-1][0], key + 1)
        else:
            runs.append((key, key + 1))
    return runs


def _padded(rows: list[list[int]] | list[list[float]], value: float, dtype: torch.dtype) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=dtype)


def make_batch(sequences: Sequence[Sequenced], window: int) -> Batch:
    """Pad to the longest and build the masks."""
    branches = _padded([s.branches for s in sequences], PADDING_BRANCH, torch.long)
    positions = _padded([s.positions for s in sequences], 0, torch.long)
    sliding, full = build_masks(branches, positions, window)
    return Batch(
        ids=_padded([s.ids for s in sequences], 0, torch.long),
        positions=positions,
        branches=branches,
        weights=_padded([s.weights for s in sequences], 0.0, torch.float),
        parents=_padded([s.parents for s in sequences], 0, torch.long),
        masks=(sliding, full),
        tiles=(tiles_of(sliding, sequences), tiles_of(full, sequences)),
        sequences=tuple(sequences),
    )
