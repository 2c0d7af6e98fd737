"""The weights of a nano GGUF, so that training can go on from the file that ships."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from workers.nano.checkpoint import load_checkpoint, model_from
from workers.nano.export import ATTENTION_NAMES, EXPERT_NAMES
from workers.nano.model import Nano
from workers.nano.shape import NanoShape

_TOP = {
    "token_embd.weight": "embedding",
    "output.weight": "head",
    "output_norm.weight": "final_norm",
}
_SHAPE_KEYS = {
    "n_vocab": "vocab_size",
    "width": "embedding_length",
    "n_layers": "block_count",
    "n_heads": "attention.head_count",
    "n_kv_heads": "attention.head_count_kv",
    "head_width": "attention.key_length",
    "n_experts": "expert_count",
    "n_experts_used": "expert_used_count",
    "expert_width": "expert_feed_forward_length",
    "sliding_window": "attention.sliding_window",
}


def _block_names(index: int) -> dict[str, str]:
    """GGUF tensor name -> our parameter name, for one layer."""
    theirs, ours = f"blk.{index}.", f"blocks.{index}."
    names = {
        f"{theirs}attn_norm.weight": f"{ours}attention_norm",
        f"{theirs}post_attention_norm.weight": f"{ours}experts_norm",
        f"{theirs}attn_sinks.weight": f"{ours}attention.sink",
        f"{theirs}ffn_gate_inp.weight": f"{ours}experts.router",
        f"{theirs}ffn_gate_inp.bias": f"{ours}experts.router_bias",
    }
    for part, table in (("attention", ATTENTION_NAMES), ("experts", EXPERT_NAMES)):
        for own, name in table.items():
            names[f"{theirs}{name}.weight"] = f"{ours}{part}.{own}"
            names[f"{theirs}{name}.bias"] = f"{ours}{part}.{own}_bias"
    return names


def shape_from_gguf(path: Path) -> NanoShape:
    """The sizes that a nano GGUF names; those that all nanos share are this version's."""
    fields = gguf.GGUFReader(path).fields
    named = {
        own: int(fields[f"gpt-oss.{theirs}"].contents()) for own, theirs in _SHAPE_KEYS.items()
    }
    return NanoShape(**named)


def weights_from_gguf(path: Path, shape: NanoShape) -> dict[str, Tensor]:
    """Dequantised weights under our names. What MXFP4 and Q8_0 rounded away stays away."""
    names = dict(_TOP)
    for index in range(shape.n_layers):
        names.update(_block_names(index))
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    weights = {}
    for theirs, ours in names.items():
        tensor = tensors[theirs]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        weights[ours] = torch.from_numpy(np.array(values, dtype=np.float32))
    return weights


def model_from_gguf(path: Path) -> Nano:
    """The model of a GGUF; what is used in training only starts afresh."""
    shape = shape_from_gguf(path)
    model = Nano(shape)
    state = model.state_dict()
    for name, tensor in weights_from_gguf(path, shape).items():
        state[name] = tensor.reshape(state[name].shape)
    model.load_state_dict(state)
    return model


def starting_model(path: Path) -> Nano:
    """The model of a checkpoint of ours, or of a GGUF."""
    if path.suffix == ".gguf":
        return model_from_gguf(path)
    return model_from(load_checkpoint(path))
