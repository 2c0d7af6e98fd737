"""Write a checkpoint as GGUF for llama.cpp: `python -m workers.nano.export --help`.

Architecture `gpt-oss`: experts in MXFP4, other matrices in Q8_0, norms, biases, sinks and router
in F32, as OpenAI's own release has them.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from workers.llama.extracting import METADATA_KEY
from workers.nano.checkpoint import load_checkpoint
from workers.nano.shape import NanoShape
from workers.nano.tokenizer import NanoTokenizer
from workers.nano.vocabulary import SPECIAL_TOKENS

CONTEXT_TOKENS = 131072
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}"
    "<|start|>user<|message|>{{ message.content }}<|end|>"
    "{%- elif message.role == 'assistant' -%}"
    "<|start|>assistant<|channel|>final<|message|>{{ message.content }}<|return|>"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}"
)
"""Drops system and developer messages: nano has never seen any. Like gpt-oss's own template it
ends at `<|start|>assistant`; the caller opens the final channel."""

Array = NDArray[np.float32]
ATTENTION_NAMES = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "out": "attn_output"}
EXPERT_NAMES = {"gate": "ffn_gate_exps", "up": "ffn_up_exps", "down": "ffn_down_exps"}


def _metadata(writer: gguf.GGUFWriter, shape: NanoShape) -> None:
    writer.add_name("nano")
    writer.add_license("apache-2.0")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.expert_width)
    writer.add_expert_feed_forward_length(shape.expert_width)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_expert_count(shape.n_experts)
    writer.add_expert_used_count(shape.n_experts_used)
    writer.add_sliding_window(shape.sliding_window)
    writer.add_vocab_size(shape.n_vocab)
    writer.add_bool(METADATA_KEY, True)
    _rope_metadata(writer, shape)


def _rope_metadata(writer: gguf.GGUFWriter, shape: NanoShape) -> None:
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(shape.yarn_factor)
    writer.add_rope_scaling_orig_ctx_len(shape.yarn_original_context)
    writer.add_rope_scaling_yarn_beta_fast(shape.yarn_beta_fast)
    writer.add_rope_scaling_yarn_beta_slow(shape.yarn_beta_slow)


def _token_type(token: str) -> gguf.TokenType:
    if token in SPECIAL_TOKENS:
        return gguf.TokenType.CONTROL
    return gguf.TokenType.UNUSED if token.startswith("<|reserved_") else gguf.TokenType.NORMAL


def _tokenizer_metadata(writer: gguf.GGUFWriter, tokenizer: NanoTokenizer) -> None:
    tokens = tokenizer.vocabulary.tokens
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(list(tokens))
    writer.add_token_types([_token_type(token) for token in tokens])
    writer.add_token_merges([f"{a} {b}" for a, b in tokenizer.vocabulary.merges])
    writer.add_bos_token_id(tokenizer.ids["<|startoftext|>"])
    writer.add_eos_token_id(tokenizer.ids["<|return|>"])
    writer.add_pad_token_id(tokenizer.ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add(writer: gguf.GGUFWriter, name: str, values: Array, kind: Kind) -> None:
    values = np.ascontiguousarray(values, dtype=np.float32)
    if kind == Kind.F32:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def _block(
    writer: gguf.GGUFWriter, weights: dict[str, Array], index: int, kinds: tuple[Kind, Kind]
) -> None:
    """One layer; `kinds` are those of the experts and of the other matrices."""
    source, target = f"blocks.{index}.", f"blk.{index}."
    for own, theirs in (("attention_norm", "attn_norm"), ("experts_norm", "post_attention_norm")):
        _add(writer, f"{target}{theirs}.weight", weights[source + own], Kind.F32)
    for own, theirs in ATTENTION_NAMES.items():
        name = f"{source}attention.{own}"
        _add(writer, f"{target}{theirs}.weight", weights[name], kinds[1])
        _add(writer, f"{target}{theirs}.bias", weights[f"{name}_bias"], Kind.F32)
    _add(writer, f"{target}attn_sinks.weight", weights[f"{source}attention.sink"], Kind.F32)
    router = f"{source}experts.router"
    _add(writer, f"{target}ffn_gate_inp.weight", weights[router], Kind.F32)
    _add(writer, f"{target}ffn_gate_inp.bias", weights[f"{router}_bias"], Kind.F32)
    for own, theirs in EXPERT_NAMES.items():
        name = f"{source}experts.{own}"
        _add(writer, f"{target}{theirs}.weight", weights[name], kinds[0])
        _add(writer, f"{target}{theirs}.bias", weights[f"{name}_bias"], Kind.F32)


def write_gguf(
    shape: NanoShape,
    weights: dict[str, Array],
    tokenizer: NanoTokenizer,
    out: Path,
    kinds: tuple[Kind, Kind] = (Kind.MXFP4, Kind.Q8_0),
) -> str:
    """Write the file; returns its SHA-256 (hex)."""
    writer = gguf.GGUFWriter(str(out), "gpt-oss")
    _metadata(writer, shape)
    _tokenizer_metadata(writer, tokenizer)
    _add(writer, "token_embd.weight", weights["embedding"], kinds[1])
    _add(writer, "output.weight", weights["head"], kinds[1])
    _add(writer, "output_norm.weight", weights["final_norm"], Kind.F32)
    for index in range(shape.n_layers):
        _block(writer, weights, index, kinds)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return hashlib.sha256(out.read_bytes()).hexdigest()


def export_checkpoint(checkpoint: Path, out: Path, full_precision: bool = False) -> str:
    """Convert a training checkpoint; `full_precision` writes F32, to compare with PyTorch."""
    record = load_checkpoint(checkpoint)
    weights = {name: tensor.float().numpy() for name, tensor in record["model"].items()}
    kinds = (Kind.F32, Kind.F32) if full_precision else (Kind.MXFP4, Kind.Q8_0)
    return write_gguf(NanoShape(**record["shape"]), weights, NanoTokenizer.load(), out, kinds)


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--full-precision", action="store_true")
    args = parser.parse_args()
    digest = export_checkpoint(args.checkpoint, args.out, args.full_precision)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB, sha256 {digest}")  # noqa: T201


if __name__ == "__main__":
    main()
