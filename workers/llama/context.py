"""The KV cache and compute of one llama.cpp context: batches in, logits out, sequences forked, cut,
saved and restored.

Like `api`, it checks before each C call whatever would make llama.cpp end the process.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp
import numpy as np
import numpy.typing as npt

from workers.errors import EngineCrashed, EngineUnavailable
from workers.llama.api import LlamaModel, Logits, backend
from workers.llama.schedule import Tokens

State = npt.NDArray[np.uint8]
"""The cells of one sequence as llama.cpp serialises them."""

_NO_SLOT: Final = 1
_ABORTED: Final = 2
_KV_TYPES: Final = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}


class DecodeOutcome(enum.Enum):
    """What became of a batch that was not an error."""

    DONE = enum.auto()
    NO_SLOT = enum.auto()
    """The cache has no room for it; nothing was changed, so it may be tried again."""
    INTERRUPTED = enum.auto()
    """`LlamaContext.interrupt` was called meanwhile; nothing was changed."""


class _Interrupt:
    """A flag that llama.cpp asks between operations whether to give up.

    It asks hundreds of times per batch, so the answer must not come from Python: the callback is
    libc's `strlen` over a text that is empty (0, go on) until its first byte is set (1, stop)."""

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(b"", 2)
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p)
        self.callback = llama_cpp.ggml_abort_callback(strlen.value or 0)
        self.data = ctypes.cast(self._text, ctypes.c_void_p)

    def raise_it(self) -> None:
        self._text[0] = b"!"

    def lower(self) -> None:
        self._text[0] = b"\0"


class Batch:
    """Rows for one `llama_decode`, in numpy arrays that C reads in place.

    Row i is token `token[i]` at `position[i]` of the one sequence `sequence[i]`; where `wanted[i]`
    is 1 its logits are kept."""

    def __init__(self, capacity: int) -> None:
        self.n_rows = 0
        self.n_wanted = 0
        self.token = np.zeros(capacity, np.int32)
        self.position = np.zeros(capacity, np.int32)
        self.sequence = np.zeros(capacity, np.int32)
        self.wanted = np.zeros(capacity, np.int8)
        self._one_each = np.ones(capacity, np.int32)
        first, width = self.sequence.ctypes.data, self.sequence.itemsize
        self._sequence_at = (first + width * np.arange(capacity)).astype(np.uint64)
        self._struct = self._view()

    def clear(self) -> None:
        self.n_rows = self.n_wanted = 0

    def add(
        self,
        tokens: Sequence[int] | Tokens,
        *,
        first_position: int,
        sequence: int,
        wanted: bool | int,
    ) -> None:
        """Append consecutive tokens of one sequence; `wanted` asks for the logits of the last one,
        or of so many.

        Raises ValueError when they don't fit."""
        n_tokens = len(tokens)
        begin, end = self.n_rows, self.n_rows + n_tokens
        if end > len(self.token):
            raise ValueError(f"{end} rows for a batch of {len(self.token)}")
        n_wanted = min(int(wanted), n_tokens)
        if n_tokens == 1:  # most calls: slices would take three times as long
            self.token[begin], self.position[begin] = tokens[0], first_position
            self.sequence[begin], self.wanted[begin] = sequence, n_wanted
        else:
            self.token[begin:end] = tokens
            self.position[begin:end] = np.arange(first_position, first_position + n_tokens)
            self.sequence[begin:end] = sequence
            self.wanted[begin:end] = 0
            self.wanted[end - n_wanted : end] = 1
        self.n_wanted += n_wanted
        self.n_rows = end

    def c_struct(self) -> Any:
        """The `llama_batch` with the rows added so far."""
        self._struct.n_tokens = self.n_rows
        return self._struct

    def _view(self) -> Any:
        batch = llama_cpp.llama_batch()
        arrays: dict[str, npt.NDArray[Any]] = {
            "token": self.token,
            "pos": self.position,
            "n_seq_id": self._one_each,
            "seq_id": self._sequence_at,
            "logits": self.wanted,
        }
        for name, array in arrays.items():
            setattr(batch, name, ctypes.cast(array.ctypes.data, type(getattr(batch, name))))
        return batch


class LlamaContext:
    """The KV cache and the compute buffers of one engine, over a loaded model.

    The cache is unified and keeps full-size sliding-window layers: only so can sequences share a
    prefix without copying it, and be rolled back safely. One sequence beyond `n_sequences` is its
    own, to save a part of another."""

    def __init__(
        self,
        model: LlamaModel,
        *,
        n_ctx: int,
        n_sequences: int,
        n_batch: int,
        n_threads: int,
        kv_type: str,
        n_outputs: int | None = None,
    ) -> None:
        """`n_outputs`: most rows of a batch whose logits are kept; None for one per sequence.

        Raises EngineUnavailable when llama.cpp can't build it (mostly: memory)."""
        self._model = model
        self._interrupt = _Interrupt()
        self.n_sequences = n_sequences
        self.n_batch = n_batch
        self.n_outputs = max(n_outputs or 0, n_sequences + 1)  # llama.cpp wants one per sequence
        self.kv_type = kv_type
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = n_ctx, n_sequences + 1
        params.n_batch = params.n_ubatch = n_batch
        params.n_outputs_max = self.n_outputs
        params.n_threads = params.n_threads_batch = n_threads
        params.type_k = params.type_v = _KV_TYPES[kv_type]
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
        params.kv_unified = params.swa_full = params.no_perf = True
        params.abort_callback = self._interrupt.callback
        params.abort_callback_data = self._interrupt.data
        log = backend()
        log.clear()
        self._context: Any = llama_cpp.llama_init_from_model(model.handle, params)
        if not self._context:
            raise EngineUnavailable(
                f"llama.cpp can't make a context of {n_ctx} cells ({kv_type}): {log}"
            )
        self._memory: Any = llama_cpp.llama_get_memory(self._context)
        self.n_ctx = int(llama_cpp.llama_n_ctx(self._context))

    def decode(self, batch: Batch) -> DecodeOutcome:
        """Compute the rows of `batch`. Raises EngineCrashed when llama.cpp fails."""
        self._check_batch(batch)
        code = llama_cpp.llama_decode(self._open(), batch.c_struct())
        if code == _NO_SLOT:
            return DecodeOutcome.NO_SLOT
        if code == _ABORTED:
            self._interrupt.lower()
            return DecodeOutcome.INTERRUPTED
        if code != 0:
            raise EngineCrashed(f"llama_decode gave {code}: {backend()}")
        return DecodeOutcome.DONE

    def interrupt(self) -> None:
        """Let the batch that is being computed, or else the next one, end unfinished. The only
        method that other threads may call; on a GPU the batch runs to its end."""
        self._interrupt.raise_it()

    def logits(self, n_rows: int) -> Logits:
        """The wanted rows of the last batch, in its order; shape (n_rows, vocabulary).

        A view of llama.cpp's memory, to be read until the next `decode`. It is not marked as
        read-only: numpy would copy every row to find its largest entry."""
        if n_rows == 0:
            return np.empty((0, self._model.n_vocab), np.float32)
        pointer = llama_cpp.llama_get_logits(self._open())
        if not pointer:
            raise EngineCrashed("llama.cpp kept no logits of the last batch")
        return np.ctypeslib.as_array(pointer, shape=(n_rows, self._model.n_vocab))

    def fork(self, *, parent: int, child: int) -> None:
        """Let sequence `child` share all of `parent`'s cells."""
        self._check_sequence(parent)
        self._check_sequence(child)
        llama_cpp.llama_memory_seq_cp(self._open_memory(), parent, child, -1, -1)

    def clear(self, sequence: int) -> None:
        """Forget a sequence; cells that nobody else shares become free."""
        self._check_sequence(sequence)
        llama_cpp.llama_memory_seq_rm(self._open_memory(), sequence, -1, -1)

    def cut(self, sequence: int, first_position: int) -> None:
        """Forget a sequence's tokens from a position on."""
        self._check_sequence(sequence)
        if not llama_cpp.llama_memory_seq_rm(self._open_memory(), sequence, first_position, -1):
            raise EngineCrashed(f"llama.cpp can't cut sequence {sequence} at {first_position}")

    def save(self, sequence: int, first_position: int) -> State:
        """The tokens of a sequence from a position on, for `restore` into any context that has the
        same model, kind of cache and llama.cpp."""
        self._check_sequence(sequence)
        memory, spare = self._open_memory(), self.n_sequences
        llama_cpp.llama_memory_seq_cp(memory, sequence, spare, first_position, -1)
        size = llama_cpp.llama_state_seq_get_size(self._context, spare)
        state = np.empty(size, np.uint8)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        n_bytes = llama_cpp.llama_state_seq_get_data(self._context, pointer, size, spare)
        llama_cpp.llama_memory_seq_rm(memory, spare, -1, -1)
        if n_bytes != size:
            raise EngineCrashed(f"llama.cpp saved {n_bytes} of {size} bytes of a sequence")
        return state

    def restore(self, sequence: int, state: State) -> bool:
        """Let a sequence hold what was saved, and nothing else. False, and the sequence is empty,
        when llama.cpp has no room or the state is of another kind of cache."""
        self._check_sequence(sequence)
        pointer = np.ascontiguousarray(state).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        n = llama_cpp.llama_state_seq_set_data(self._open(), pointer, len(state), sequence)
        if n != len(state):
            self.clear(sequence)
        return int(n) == len(state)

    def close(self) -> None:
        """Free the cache. Safe to call twice."""
        if self._context:
            llama_cpp.llama_free(self._context)
        self._context = self._memory = None

    def _open(self) -> Any:
        if not self._context:
            raise EngineCrashed("the engine was closed: build a new one")
        return self._context

    def _open_memory(self) -> Any:
        return self._memory if self._open() else None

    def _check_sequence(self, sequence: int) -> None:
        if not 0 <= sequence < self.n_sequences:
            raise ValueError(f"sequence {sequence} is not one of {self.n_sequences}")

    def _check_batch(self, batch: Batch) -> None:
        """What llama.cpp would answer with an abort of the process."""
        rows = slice(0, batch.n_rows)
        if not 0 < batch.n_rows <= self.n_batch:
            raise ValueError(f"{batch.n_rows} rows, the context takes 1 to {self.n_batch}")
        if batch.n_wanted > self.n_outputs:
            raise ValueError(f"{batch.n_wanted} rows of logits, at most {self.n_outputs}")
        if not 0 <= batch.token[rows].min() <= batch.token[rows].max() < self._model.n_vocab:
            raise ValueError(f"a token is outside the vocabulary of {self._model.n_vocab}")
        if not 0 <= batch.sequence[rows].min() <= batch.sequence[rows].max() < self.n_sequences:
            raise ValueError(f"a sequence is not one of {self.n_sequences}")
