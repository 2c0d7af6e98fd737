"""The wall around llama.cpp: models, vocabularies and grammars. Its C functions are called here and
in `context`, nowhere else.

A broken precondition in llama.cpp is a GGML_ASSERT, which ends the process. So every call here
checks its arguments first and raises a Python error instead. Written for llama-cpp-python 0.3.36
(llama.cpp 0c1e57098), whose low-level names it uses.
"""

from __future__ import annotations

import ctypes
import functools
from collections import deque
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np
import numpy.typing as npt
from llama_cpp import _ggml

from workers.errors import EngineCrashed, EngineUnavailable, ModelCorrupt
from workers.gguf_file import check_gguf
from workers.llama.schedule import Tokens

Logits = npt.NDArray[np.float32]
"""Shape (rows, vocabulary), or (vocabulary,) for one row."""

_LOG_WARNING: Final = 3
_LOG_CONTINUED: Final = 5
_TOKEN_IS_NOT_TEXT: Final = (
    llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
    | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
    | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
)
_TOKEN_DATA: Final = np.dtype(
    [("id", np.int32), ("logit", np.float32), ("p", np.float32)], align=True
)
_REJECTED: Final = -1e30
"""llama.cpp sets the logit of a rejected token to minus infinity."""


class _Override(ctypes.Structure):
    """`struct llama_model_tensor_buft_override`: tensors of these names into this memory."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def _experts_to_cpu(n_layers: int) -> Any:
    """The overrides that put the experts of the first layers into main memory; None for none.

    The list ends with an empty entry; llama.cpp reads it while it loads."""
    if n_layers < 1:
        return None
    lib = _ggml.libggml
    lib.ggml_backend_cpu_buffer_type.restype = ctypes.c_void_p
    layers = "|".join(map(str, range(n_layers)))
    pattern = rf"blk\.({layers})\.ffn_(up|down|gate|gate_up)_(ch|)exps".encode()
    return (_Override * 2)(_Override(pattern, lib.ggml_backend_cpu_buffer_type()), _Override())


class _Log:
    """Keeps llama.cpp's last warnings, for error messages, and lets nothing reach stderr."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=6)
        self.offload_report: str | None = None
        self._callback = llama_cpp.llama_log_callback(self._note)  # C holds it: never collected
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _note(self, level: int, text: bytes, _user_data: object) -> None:
        if _LOG_WARNING <= level < _LOG_CONTINUED and text.strip(b". \n"):
            self._lines.append(text.decode("utf-8", "replace").strip())
        elif b"layers to GPU" in text:
            self.offload_report = text.decode("utf-8", "replace").partition(": ")[2].strip()

    def clear(self) -> None:
        self._lines.clear()

    def __str__(self) -> str:
        return "; ".join(self._lines) or "no reason given"


@functools.cache
def backend() -> _Log:
    """Start llama.cpp once in this process."""
    log = _Log()
    llama_cpp.llama_backend_init()
    return log


def llama_version() -> str:
    """Of llama-cpp-python, which pins its llama.cpp."""
    return str(llama_cpp.__version__)


def can_offload() -> bool:
    """Whether this build of llama.cpp can put layers on a GPU."""
    return bool(llama_cpp.llama_supports_gpu_offload())


def free_gpu_bytes() -> int:
    """Free memory of all GPUs that llama.cpp sees; 0 where there is none."""
    backend()
    return sum(free for kind, free in _devices() if kind in _GPU_KINDS)


_GPU_KINDS: Final = (1, 2)
"""GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU of ggml-backend.h."""


def _devices() -> list[tuple[int, int]]:
    """(kind, free bytes) of each ggml device, the CPU included."""
    lib = _ggml.libggml
    lib.ggml_backend_dev_count.restype = ctypes.c_size_t
    lib.ggml_backend_dev_get.restype = ctypes.c_void_p
    lib.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    lib.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    pointer = ctypes.POINTER(ctypes.c_size_t)
    lib.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, pointer, pointer]
    lib.ggml_backend_dev_memory.restype = None
    found = []
    for index in range(lib.ggml_backend_dev_count()):
        device, free, total = lib.ggml_backend_dev_get(index), ctypes.c_size_t(), ctypes.c_size_t()
        lib.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        found.append((int(lib.ggml_backend_dev_type(device)), free.value))
    return found


class LlamaModel:
    """Weights, vocabulary and metadata of one GGUF file."""

    def __init__(
        self,
        path: Path,
        *,
        n_gpu_layers: int = 0,
        n_cpu_expert_layers: int = 0,
        vocab_only: bool = False,
    ) -> None:
        """Load `path`, the experts of its first `n_cpu_expert_layers` into main memory.

        Raises ModelNotFound, ModelCorrupt (cut, not a GGUF) or EngineUnavailable
        (an architecture that this llama.cpp does not know)."""
        check_gguf(path)
        log = backend()
        log.clear()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        params.vocab_only = vocab_only
        if n_gpu_layers == 0:
            # llama.cpp rearranges weights for the CPU, so a mapped file would be there twice.
            params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
        overrides = _experts_to_cpu(n_cpu_expert_layers)
        params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
        self._model: Any = llama_cpp.llama_model_load_from_file(bytes(path), params)
        if not self._model:
            raise _load_error(path, str(log))
        self._vocab: Any = llama_cpp.llama_model_get_vocab(self._model)
        self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(self._vocab))

    @property
    def handle(self) -> Any:
        """The C pointer, for `LlamaContext` and the grammar; raises EngineCrashed once closed."""
        if not self._model:
            raise EngineCrashed("the model was closed: load it again")
        return self._model

    @property
    def architecture(self) -> str:
        """`gpt-oss`, `llama`, `qwen3`, …"""
        return self.metadata("general.architecture") or "unknown"

    @property
    def quantisation(self) -> str:
        """As llama.cpp names the file's type, e.g. `MXFP4 MoE`; `unknown` when not stated."""
        if self.metadata("general.file_type") is None:
            return "unknown"
        name = llama_cpp.llama_ftype_name(llama_cpp.llama_model_ftype(self.handle))
        return name.decode() if name else "unknown"

    @property
    def n_ctx_train(self) -> int:
        """Longest context that the model was made for, in tokens."""
        return int(llama_cpp.llama_model_n_ctx_train(self.handle))

    @property
    def offload_report(self) -> str | None:
        """What llama.cpp said of the layers that it put on a GPU, e.g. "offloaded 25/25 layers to
        GPU"; None when it has no GPU to speak of."""
        return backend().offload_report

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of the file."""
        template = llama_cpp.llama_model_chat_template(self.handle, None)
        return template.decode() if template else None

    @property
    def bos_token(self) -> int | None:
        """The token that must begin every prompt; None when the model wants none."""
        if not llama_cpp.llama_vocab_get_add_bos(self._vocab):
            return None
        return _token_or_none(llama_cpp.llama_vocab_bos(self._vocab))

    def special_text(self, name: str) -> str:
        """Text of the `bos` or `eos` token, as chat templates ask for it; empty when unset."""
        token = {"bos": llama_cpp.llama_vocab_bos, "eos": llama_cpp.llama_vocab_eos}[name]
        token_id = _token_or_none(token(self._vocab))
        return "" if token_id is None else self.token_bytes(token_id).decode("utf-8", "replace")

    def metadata(self, key: str) -> str | None:
        """A single value of the file's header; None when it is absent or a list."""
        buffer = ctypes.create_string_buffer(512)
        length = llama_cpp.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    def tokenize(self, text: bytes, *, parse_special: bool) -> list[int]:
        """llama.cpp's own tokenizer, without BOS and EOS.

        Even without `parse_special` it turns tokens of the kind "user defined", such as gpt-oss's
        `<|start|>`, into their ids; and std::regex overflows the stack on runs of some ten
        thousand letters or spaces. `LlamaTokenizer` guards against both."""
        size = len(text) + 8
        buffer = (ctypes.c_int32 * size)()
        n = llama_cpp.llama_tokenize(
            self._open_vocab(), text, len(text), buffer, size, False, parse_special
        )
        if n < 0:
            raise EngineCrashed(f"llama_tokenize gave {n} for {len(text)} bytes")
        return buffer[:n]

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for, control tokens included."""
        self._check_token(token)
        buffer = ctypes.create_string_buffer(512)
        n = llama_cpp.llama_token_to_piece(self._open_vocab(), token, buffer, len(buffer), 0, True)
        return buffer.raw[:n] if n >= 0 else b""

    def ends_generation(self, token: int) -> bool:
        """Whether a model says with this token that it is done."""
        self._check_token(token)
        return bool(llama_cpp.llama_vocab_is_eog(self._open_vocab(), token))

    def special_tokens(self) -> dict[int, bytes]:
        """Every token that is not ordinary text, with its bytes: control, unknown, user defined."""
        vocab = self._open_vocab()
        attribute = llama_cpp.llama_vocab_get_attr
        return {
            token: self.token_bytes(token)
            for token in range(self.n_vocab)
            if attribute(vocab, token) & _TOKEN_IS_NOT_TEXT
        }

    def new_grammar(self, gbnf: str) -> Grammar:
        """llama.cpp's grammar sampler over this vocabulary. Raises ValueError on bad GBNF."""
        pointer = llama_cpp.llama_sampler_init_grammar(self._open_vocab(), gbnf.encode(), b"root")
        if not pointer:
            raise ValueError(f"llama.cpp can't parse the grammar: {backend()}")
        return Grammar(pointer, self.n_vocab)

    def close(self) -> None:
        """Free the weights. Contexts and grammars of this model must be closed before."""
        if self._model:
            llama_cpp.llama_model_free(self._model)
        self._model = self._vocab = None

    def _open_vocab(self) -> Any:
        return self._vocab if self.handle else None

    def _check_token(self, token: int) -> None:
        if not 0 <= token < self.n_vocab:
            raise ValueError(f"token {token} is outside the vocabulary of {self.n_vocab}")


def _token_or_none(token: int) -> int | None:
    """llama.cpp's -1 means that a vocabulary has no such token."""
    return token if token >= 0 else None


def _load_error(path: Path, reason: str) -> ModelCorrupt | EngineUnavailable:
    """Tell a broken file from one that is only too new."""
    if "unknown model architecture" in reason:
        return EngineUnavailable(f"llama.cpp can't run {path} ({reason}): update llama-cpp-python")
    return ModelCorrupt(
        f"llama.cpp can't load {path}: {reason}. The file is cut or damaged: download it again."
    )


class Grammar:
    """A state of llama.cpp's grammar sampler: which tokens may come next."""

    def __init__(self, pointer: Any, n_vocab: int) -> None:
        self._pointer = pointer
        self._n_vocab = n_vocab
        self._one: Any = llama_cpp.llama_token_data()
        self._one_array = llama_cpp.llama_token_data_array(ctypes.pointer(self._one), 1, -1, False)
        self._last_allowed: int | None = None
        """What `accept` need not check again."""

    def clone(self) -> Grammar:
        """An independent grammar in the same state (some microseconds)."""
        return Grammar(llama_cpp.llama_sampler_clone(self._open()), self._n_vocab)

    def allows(self, token: int) -> bool:
        """Whether one token may come next (some microseconds)."""
        self._one.id, self._one.logit = token, 0.0
        llama_cpp.llama_sampler_apply(self._open(), ctypes.byref(self._one_array))
        is_allowed = bool(self._one.logit > _REJECTED)
        self._last_allowed = token if is_allowed else None
        return is_allowed

    def allowed(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        """For each of `tokens` whether it may come next; 0.1 to 0.3 us a token."""
        data = np.zeros(len(tokens), _TOKEN_DATA)
        data["id"] = tokens
        array = _token_array(data)
        llama_cpp.llama_sampler_apply(self._open(), ctypes.byref(array))
        mask: npt.NDArray[np.bool_] = data["logit"] > _REJECTED
        return mask

    def accept(self, token: int) -> None:
        """Advance. Raises ValueError when `token` is not allowed: C++ would end the process."""
        if not 0 <= token < self._n_vocab or not self._was_allowed(token):
            raise ValueError(f"the grammar does not allow token {token} here")
        self._last_allowed = None
        llama_cpp.llama_sampler_accept(self._open(), token)

    def _was_allowed(self, token: int) -> bool:
        return token == self._last_allowed or self.allows(token)

    def close(self) -> None:
        """Free it. Safe to call twice."""
        if self._pointer:
            llama_cpp.llama_sampler_free(self._pointer)
        self._pointer = None

    def _open(self) -> Any:
        if not self._pointer:
            raise EngineCrashed("the grammar was closed")
        return self._pointer


def _token_array(data: npt.NDArray[Any]) -> Any:
    """A C view of `data`, which must outlive it."""
    pointer = ctypes.cast(data.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data))
    return llama_cpp.llama_token_data_array(pointer, len(data), -1, False)
