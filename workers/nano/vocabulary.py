"""A byte-level BPE that llama.cpp reads as `gpt2` with pre-tokenizer `gpt-4o`.

Merges that take in a leading space come last, so that "Marta" and " Marta" split into the same
pieces: what a reader must copy looks the same at the start of a JSON string and within a sentence.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

SPECIAL_TOKENS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
)
Merge = tuple[str, str]
SPACE_JOINS = (*'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"$(&|#-[“', '\\"')


def _byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in printable}
    hidden = [b for b in range(256) if b not in table]
    table.update({b: chr(256 + i) for i, b in enumerate(hidden)})
    return table


BYTE_CHARACTERS = _byte_characters()
SPACE = BYTE_CHARACTERS[ord(" ")]
NEWLINE = BYTE_CHARACTERS[ord("\n")]


def _as_bytes(text: str) -> str:
    return "".join(BYTE_CHARACTERS[b] for b in text.encode())


def _doublings(piece: str, times: int) -> list[Merge]:
    """Merges that turn runs of `piece` into tokens of 2, 4, ... 2**times of it."""
    return [(piece * 2**i, piece * 2**i) for i in range(times)]


def fixed_merges() -> list[Merge]:
    """Digits in pairs, JSON's punctuation, runs used as rulers and blanks, curly quotes."""
    digits = [(a, b) for a in "0123456789" for b in "0123456789"]
    json_marks = [("\\", '"'), ("{", '"'), ('"', ":"), ('"', ","), ('"', "}")]
    runs = [*_doublings(NEWLINE, 1), *_doublings("-", 4), *_doublings("*", 2)]
    runs += [*_doublings("_", 4), *_doublings(".", 4), *_doublings(SPACE, 4)]
    quotes: list[Merge] = []
    for mark in "“”‘’–—§":
        encoded = _as_bytes(mark)
        if len(encoded) == 3:
            quotes.append((encoded[0], encoded[1]))
            quotes.append((encoded[:2], encoded[2]))
        else:
            quotes.append((encoded[0], encoded[1]))
    return list(dict.fromkeys(digits + json_marks + runs + quotes))


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """Tokens in id order (the special ones last) and merges in rank order."""

    tokens: tuple[str, ...]
    merges: tuple[Merge, ...]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        record = {"tokens": self.tokens, "merges": [" ".join(m) for m in self.merges]}
        path.write_text(json.dumps(record, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote."""
        record = json.loads(path.read_text(encoding="utf-8"))
        merges = [tuple(m.split(" ")) for m in record["merges"]]
        return cls(tokens=tuple(record["tokens"]), merges=tuple((a, b) for a, b in merges))


class _PairCounts:
    """Adjacent pairs over a weighted word list, kept up to date while merging."""

    def __init__(self, words: Counter[str], pieces: dict[str, list[str]]) -> None:
        self.words, self.pieces = words, pieces
        self.counts: Counter[Merge] = Counter()
        self.where: dict[Merge, set[str]] = defaultdict(set)
        for word in words:
            self._add(word, 1)

    def _add(self, word: str, sign: int) -> None:
        sequence = self.pieces[word]
        for pair in itertools.pairwise(sequence):
            self.counts[pair] += sign * self.words[word]
            self.where[pair].add(word)

    def best(self) -> Merge:
        """The most frequent pair, ties broken by name."""
        return max(self.counts.items(), key=lambda item: (item[1], item[0]))[0]

    def apply(self, merge: Merge) -> None:
        """Merge everywhere."""
        for word in self.where.pop(merge, set()):
            self._add(word, -1)
            self.pieces[word] = merged(self.pieces[word], merge)
            self._add(word, 1)
        self.counts.pop(merge, None)


def merged(sequence: list[str], merge: Merge) -> list[str]:
    """`sequence` with every adjacent pair equal to `merge` joined, left to right."""
    out: list[str] = []
    i = 0
    while i < len(sequence):
        if tuple(sequence[i : i + 2]) == merge:
            out.append(merge[0] + merge[1])
            i += 2
        else:
            out.append(sequence[i])
            i += 1
    return out


def _letter_merges(
    words: Counter[str], start: list[Merge], n_new: int
) -> tuple[list[Merge], _PairCounts]:
    """BPE over runs of letters, continued from the merges in `start`."""
    counts = _PairCounts(words, {word: list(word) for word in words})
    for merge in start:
        counts.apply(merge)
    merges = list(start)
    for _ in range(n_new):
        merges.append(counts.best())
        counts.apply(merges[-1])
    return merges, counts


def _space_merges(
    counts: _PairCounts, texts: list[str], start: list[Merge], n_new: int
) -> list[Merge]:
    """A leading space joins the first piece of the words that most often follow one."""
    firsts: Counter[str] = Counter()
    for text in texts:
        for match in re.finditer(r" ([A-Za-z]+)", text):
            firsts[counts.pieces[match.group(1)][0]] += 1
    known = {b for _, b in start}
    single = [p for p in SPACE_JOINS if p not in known]
    new = [piece for piece, _ in firsts.most_common(n_new + len(known)) if piece not in known]
    wanted = dict.fromkeys([*new[:n_new], *(_as_bytes(p) for p in single)])
    return [*start, *((SPACE, piece) for piece in wanted)]


def train_vocabulary(
    texts: list[str], n_letter: int, n_space: int, base: Vocabulary | None = None
) -> Vocabulary:
    """Learn merges over `texts`; with `base`, keep its tokens' ids and add to them."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(re.findall(r"[A-Za-z]+", text))
    old = list(base.merges) if base else []
    letters = [m for m in old if (m[0] + m[1]).isalpha() and (m[0] + m[1]).isascii()]
    spaces = [m for m in old if m[0] == SPACE and m[1] != SPACE]
    letters, counts = _letter_merges(words, letters, n_letter)
    spaces = _space_merges(counts, texts, spaces, n_space)
    merges = list(dict.fromkeys([*fixed_merges(), *letters, *spaces]))
    kept = [t for t in base.tokens if not t.startswith("<|")] if base else []
    tokens = list(dict.fromkeys([*kept, *BYTE_CHARACTERS.values(), *(a + b for a, b in merges)]))
    n_padding = -(len(tokens) + len(SPECIAL_TOKENS)) % 64
    tokens += [f"<|reserved_{i}|>" for i in range(n_padding)]
    return Vocabulary(tokens=(*tokens, *SPECIAL_TOKENS), merges=tuple(merges))
