"""The header of a GGUF file: the sizes of its tensors, read before anything is loaded."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from llama_cpp import _ggml

from workers.errors import ModelCorrupt
from workers.gguf_file import check_gguf
from workers.llama.placement import ModelSize
from workers.llama.sizing import file_parts

_EXPERTS: Final = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps\.")
_NUMBERS: Final = (
    "block_count",
    "embedding_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
)
_Q8_BLOCK: Final = 32
"""Numbers that q8_0 stores together (QK8_0 of ggml)."""
_UINT32: Final = 4
_ARRAY: Final = 9
"""GGUF_TYPE_UINT32 and GGUF_TYPE_ARRAY of gguf.h."""


class _Params(ctypes.Structure):
    """`struct gguf_init_params`: no memory is taken for tensors."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def read_size(path: Path, name: str) -> ModelSize:
    """The model's size by its header, all parts of a split file together.

    Raises ModelNotFound, or ModelCorrupt for a header that is cut or damaged."""
    parts = file_parts(path)
    tensors = [item for part in parts for item in _read(part, _tensors)]
    is_expert = [bool(_EXPERTS.search(tensor)) for tensor, _ in tensors]
    expert_bytes = sum(n for (_, n), expert in zip(tensors, is_expert, strict=True) if expert)
    numbers = _read(path, _numbers)
    n_layers = numbers["block_count"]
    heads = numbers["attention.head_count_kv"] or numbers["attention.head_count"]
    width = numbers["embedding_length"] // max(numbers["attention.head_count"], 1)
    widths = [numbers[f"attention.{kind}_length"] or width for kind in ("key", "value")]
    return ModelSize(
        name=name,
        n_layers=n_layers,
        dense_bytes=sum(n for _, n in tensors) - expert_bytes,
        expert_bytes=expert_bytes,
        kv_values_per_cell=n_layers * heads * sum(widths),
        has_whole_blocks=all(width % _Q8_BLOCK == 0 for width in widths),
    )


def _read(path: Path, read: Any) -> Any:
    """What `read` makes of the open header."""
    check_gguf(path)
    lib = _library()
    header = lib.gguf_init_from_file(bytes(path), _Params(no_alloc=True, ctx=None))
    if not header:
        raise ModelCorrupt(f"{path}: its header is cut or damaged: download it again")
    try:
        return read(lib, header)
    finally:
        lib.gguf_free(header)


def _tensors(lib: Any, header: int) -> list[tuple[str, int]]:
    """Name and bytes of each tensor."""
    return [
        (lib.gguf_get_tensor_name(header, i).decode(), int(lib.gguf_get_tensor_size(header, i)))
        for i in range(lib.gguf_get_n_tensors(header))
    ]


def _numbers(lib: Any, header: int) -> dict[str, int]:
    """The numbers that the size depends on; 0 for one that is absent."""
    architecture = _text(lib, header, b"general.architecture")
    return {
        name: max(_values(lib, header, f"{architecture}.{name}"), default=0) for name in _NUMBERS
    }


def _text(lib: Any, header: int, key: bytes) -> str:
    index = lib.gguf_find_key(header, key)
    return str(lib.gguf_get_val_str(header, index).decode()) if index >= 0 else ""


def _values(lib: Any, header: int, key: str) -> Iterator[int]:
    """One number, or one per layer."""
    index = lib.gguf_find_key(header, key.encode())
    kind = lib.gguf_get_kv_type(header, index) if index >= 0 else None
    if kind == _UINT32:
        yield int(lib.gguf_get_val_u32(header, index))
    elif kind == _ARRAY and lib.gguf_get_arr_type(header, index) in (_UINT32, _UINT32 + 1):
        n = lib.gguf_get_arr_n(header, index)
        data = lib.gguf_get_arr_data(header, index)
        yield from ctypes.cast(data, ctypes.POINTER(ctypes.c_int32))[:n]


@functools.cache
def _library() -> Any:
    """ggml's own reader of headers, with its functions' types."""
    lib = _ggml.libggml
    header, index = ctypes.c_void_p, ctypes.c_int64
    functions: dict[str, tuple[Any, list[Any]]] = {
        "gguf_init_from_file": (header, [ctypes.c_char_p, _Params]),
        "gguf_free": (None, [header]),
        "gguf_get_n_tensors": (index, [header]),
        "gguf_get_tensor_name": (ctypes.c_char_p, [header, index]),
        "gguf_get_tensor_size": (ctypes.c_size_t, [header, index]),
        "gguf_find_key": (index, [header, ctypes.c_char_p]),
        "gguf_get_kv_type": (ctypes.c_int, [header, index]),
        "gguf_get_val_u32": (ctypes.c_uint32, [header, index]),
        "gguf_get_val_str": (ctypes.c_char_p, [header, index]),
        "gguf_get_arr_type": (ctypes.c_int, [header, index]),
        "gguf_get_arr_n": (ctypes.c_size_t, [header, index]),
        "gguf_get_arr_data": (ctypes.c_void_p, [header, index]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
