"""Read chunks with a nano GGUF through llama.cpp, for evaluation.

A small driver of its own, so that nano can be judged without the product's engine: one chunk is
prefilled once, its questions branch off it and are decoded greedily together. The JSON's fixed
parts are fed, as a grammar would force them; both strings are held to pieces of the chunk if the
file says that its model extracts, the quote to one that overlaps the value, as in the engine.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from workers.jobs import WEIGHED_TOKENS
from workers.llama.extracting import METADATA_KEY
from workers.llama.row import Row
from workers.nano.examples import FORCED_START
from workers.nano.framing import closing_ids, opening_ids
from workers.verbatim import Span, Verbatim

N_CONTEXT = 16384
N_SEQUENCES = 64
SEPARATOR = "\n\nQuestion: "
MIDDLE = '", "citation": "'
MAX_ANSWER_TOKENS = 260


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What nano said about one question; both texts are None when it abstained.

    opening: logit of the opening quote minus logit of `null` at the first decoded token.
    margin: as `workers.jobs.JobResult` has it, but below 0 for an abstention.
    truncated: a string was still open when the token limit was reached.
    """

    value: str | None
    quote: str | None
    opening: float
    margin: float
    truncated: bool = False


@dataclass(slots=True)
class _Branch:
    """One question being decoded."""

    sequence: int
    position: int
    opening: float
    margin: float
    pieces: list[list[int]]
    pending: list[int]
    inside: bytes = b""
    touching: tuple[Span, ...] = ()
    n_decoded: int = 0
    open: bool = True


def closing_quote(text: str) -> int:
    """Index of the first unescaped double quote in `text`, or -1."""
    escaped = False
    for index, character in enumerate(text):
        if character == '"' and not escaped:
            return index
        escaped = character == "\\" and not escaped
    return -1


def unescaped(inner: str) -> str:
    """A JSON string's inside as text; what is not valid JSON is taken literally."""
    try:
        return str(json.loads(f'"{inner}"', strict=False))
    except json.JSONDecodeError:
        return inner


def _ignore(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """llama.cpp's chatter goes nowhere; failures are raised."""
    del level, text, data


_NO_LOG = llama_cpp.llama_log_callback(_ignore)  # kept alive: llama.cpp keeps the pointer


class LlamaTokenizer:
    """The tokenizer inside a GGUF, as llama.cpp runs it."""

    def __init__(self, model: object) -> None:
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self.n_tokens = int(llama_cpp.llama_vocab_n_tokens(self._vocab))

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        """Ids of `text`."""
        raw = text.encode()
        room = len(raw) + 8
        ids = (llama_cpp.llama_token * room)()
        n = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), ids, room, False, parse_special)
        return list(ids[:n])

    def special(self, *names: str) -> list[int]:
        """Ids of `<|name|>` tokens."""
        return [self.encode(f"<|{name}|>", parse_special=True)[0] for name in names]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special tokens by name, broken UTF-8 as U+FFFD."""
        return b"".join(self.bytes_of(token) for token in ids).decode(errors="replace")

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token stands for; a special token's name."""
        room = ctypes.create_string_buffer(256)
        n = llama_cpp.llama_token_to_piece(self._vocab, token, room, 256, 0, True)
        return room.raw[:n]


class NanoReader:
    """Owns one llama.cpp context. Not thread-safe. Call `close` when done."""

    def __init__(self, gguf: Path, n_threads: int = 1) -> None:
        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(_NO_LOG, ctypes.c_void_p(0))
        self._model = llama_cpp.llama_model_load_from_file(
            str(gguf).encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise FileNotFoundError(f"{gguf}: llama.cpp could not load it")
        self.tokenizer = LlamaTokenizer(self._model)
        self._context = llama_cpp.llama_init_from_model(self._model, self._parameters(n_threads))
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(N_CONTEXT, 0, 1)
        self._quote = self.tokenizer.encode(' "')[0]
        self._null = self.tokenizer.encode(" null")[0]
        self._opening = opening_ids(self.tokenizer)
        self._closing = [*closing_ids(self.tokenizer), *self.tokenizer.encode(FORCED_START)]
        self._separator = self.tokenizer.encode(SEPARATOR)
        self._middle = self.tokenizer.encode(MIDDLE)
        self._extracts = self._metadata(METADATA_KEY) == "true"

    def _metadata(self, key: str) -> str:
        room = ctypes.create_string_buffer(256)
        n = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), room, len(room))
        return room.value.decode() if n >= 0 else ""

    @staticmethod
    def _parameters(n_threads: int) -> llama_cpp.llama_context_params:
        parameters: llama_cpp.llama_context_params = llama_cpp.llama_context_default_params()
        parameters.n_ctx = N_CONTEXT
        parameters.n_batch = N_CONTEXT
        parameters.n_ubatch = 1024
        parameters.n_seq_max = N_SEQUENCES
        parameters.n_outputs_max = N_SEQUENCES * 2
        parameters.n_threads = parameters.n_threads_batch = n_threads
        parameters.kv_unified = True
        parameters.swa_full = True
        return parameters

    def close(self) -> None:
        """Free the context and the model."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def read(self, chunk: str, questions: Sequence[str]) -> list[Reading]:
        """Ask all questions of one chunk; at most `N_SEQUENCES - 1` at a time."""
        step = N_SEQUENCES - 1
        prefix = [*self._opening, *self.tokenizer.encode(chunk)]
        source = Verbatim(chunk) if self._extracts else None
        readings: list[Reading] = []
        for first in range(0, len(questions), step):
            readings += self._read_some(prefix, questions[first : first + step], source)
        return readings

    def _read_some(
        self, prefix: list[int], questions: Sequence[str], source: Verbatim | None
    ) -> list[Reading]:
        llama_cpp.llama_memory_clear(self._memory, True)
        self._decode([(t, i, 0, False) for i, t in enumerate(prefix)])
        branches = self._ask(prefix, questions)
        active = [b for b in branches if b.open]
        while active:
            self._advance(active, source)
            active = [b for b in active if b.open]
        return [self._reading(b, source) for b in branches]

    def _ask(self, prefix: list[int], questions: Sequence[str]) -> list[_Branch]:
        """Fork the chunk, feed every question, decide between null and a value."""
        branches = []
        for index, question in enumerate(questions):
            llama_cpp.llama_memory_seq_cp(self._memory, 0, index + 1, -1, -1)
            ids = [*self._separator, *self.tokenizer.encode(question), *self._closing]
            rows = [(t, len(prefix) + i, index + 1, i == len(ids) - 1) for i, t in enumerate(ids)]
            logits = self._decode(rows)[-1]
            opening = float(logits[self._quote] - logits[self._null])
            branches.append(
                _Branch(
                    sequence=index + 1,
                    position=len(prefix) + len(ids),
                    opening=opening,
                    margin=opening,
                    pieces=[[]],
                    pending=[self._quote],
                    open=opening > 0,
                )
            )
        return branches

    def _advance(self, active: list[_Branch], source: Verbatim | None) -> None:
        """Feed each branch's pending tokens in one batch and pick what follows."""
        rows = []
        for branch in active:
            for i, token in enumerate(branch.pending):
                last = i == len(branch.pending) - 1
                rows.append((token, branch.position + i, branch.sequence, last))
            branch.position += len(branch.pending)
        for branch, logits in zip(active, self._decode(rows), strict=True):
            token = int(logits.argmax())
            if source is not None and not source.is_blank:
                token = self._held(branch, logits, source)
            if len(branch.pieces) == 1 and branch.n_decoded < WEIGHED_TOKENS - 1:
                branch.margin = min(branch.margin, Row(logits).lead(token))
            self._take(branch, token)

    def _held(self, branch: _Branch, logits: NDArray[np.float32], source: Verbatim) -> int:
        """The best token that keeps the open string a piece of the source; it is not empty."""
        for token in np.argsort(-logits):
            piece = self.tokenizer.bytes_of(int(token))
            followed = source.follow(branch.inside, piece, branch.touching)
            if followed is not None and followed.inside:
                is_open = followed.closed_at < 0
                branch.inside = followed.inside if is_open else b""
                branch.touching = (
                    branch.touching if is_open else tuple(source.spans(followed.inside))
                )
                return int(token)
        raise RuntimeError("no token continues the source: the vocabulary lacks single bytes")

    def _take(self, branch: _Branch, token: int) -> None:
        """Add a token to the open string; a closing quote ends the value or the whole answer."""
        text = self.tokenizer.decode([*branch.pieces[-1], token])
        before = len(self.tokenizer.decode(branch.pieces[-1]))
        branch.pieces[-1].append(token)
        branch.pending = [token]
        branch.n_decoded += 1
        ended = closing_quote(text) >= 0 or text[before:].startswith("<|")
        if ended and len(branch.pieces) == 1:
            branch.pending = list(self._middle)
            branch.pieces.append([])
        elif ended or branch.n_decoded >= MAX_ANSWER_TOKENS:
            branch.open = False

    @staticmethod
    def _bears_out(source: Verbatim | None, value: str, quote: str) -> bool:
        return source is None or source.is_blank or source.share_a_place(value, quote)

    def _reading(self, branch: _Branch, source: Verbatim | None) -> Reading:
        if branch.opening <= 0:
            return Reading(value=None, quote=None, opening=branch.opening, margin=branch.opening)
        texts = [self.tokenizer.decode(ids) for ids in branch.pieces]
        ends = [closing_quote(t) for t in texts]
        strings = [unescaped(t[:e] if e >= 0 else t) for t, e in zip(texts, ends, strict=True)]
        quote = strings[1] if len(strings) > 1 else ""
        if not self._bears_out(source, strings[0], quote):
            quote = ""
        return Reading(
            value=strings[0],
            quote=quote,
            opening=branch.opening,
            margin=branch.margin,
            truncated=min(ends) < 0,
        )

    def _decode(self, rows: Sequence[tuple[int, int, int, bool]]) -> list[NDArray[np.float32]]:
        """rows: (token, position, sequence, wants logits). Returns logits of those that want."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wants) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wants
        status = llama_cpp.llama_decode(self._context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status} for {len(rows)} tokens")
        return [self._logits(i) for i, row in enumerate(rows) if row[3]]

    def _logits(self, row: int) -> NDArray[np.float32]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        address = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(address, shape=(self.tokenizer.n_tokens,)).copy()
