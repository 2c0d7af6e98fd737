"""A gpt-oss model with random weights, in any shape: `python -m workers.random_gguf OUT`.

It has the real architecture, the real tensor formats (MXFP4 experts, Q8_0 for the rest) and a real
byte-level BPE vocabulary with harmony's control tokens, so that loader, kernels, tokenizer, chat
template and grammar are the real ones too. What it answers means nothing. The tests use the `tiny`
shape (about a second to make); `gpt-oss-20b` is the exact shape of the published model, to measure
speed and memory without it.

Keys and tensor names are those of llama.cpp's `conversion/gpt_oss.py`. Needs the `gguf` package.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from workers.errors import EngineUnavailable
from workers.vocabulary import O200K_FILE, O200K_SHA256, parse_ranks

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

TEMPLATE: Final = (
    "{%- for m in messages -%}"
    "<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}"
)
"""The bare bones of harmony's layout."""

BOS: Final = "<|startoftext|>"
EOS: Final = "<|return|>"
PADDING: Final = "<|endoftext|>"
CONTROL_TOKENS: Final = (
    BOS, PADDING, EOS, "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>",
    "<|call|>",
)  # fmt: skip

_WORDS: Final = """
the of and to in is that it for was on are as with be at this have from or had by not but what
all were when there can an your which their said if do will each about how up out them then she
many some so these would other into has more her two like him see time could no make than first
been its who now people my made over did down only way find use may water long little very after
words called just where most know answer citation null question excerpt page document shall
party agreement date company section rate amount year month report total income
"""
_FIXED_PAIRS: Final = (("{", '"'), ('"', ":"), ('"', ","), ('"', "}"), ("\n", "\n"), ("-", "-"))


VocabularyKind = Literal["small", "o200k", "o200k-short", "o200k-32k"]
"""`small` has some hundred English words; `o200k` is gpt-oss's own with its 201,088 tokens;
`o200k-short` has its tokens with only the first merges: quick to make, but texts become longer;
`o200k-32k` has its first 32,000 tokens and nothing else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of a gpt-oss model; widths are multiples of 32, the block of its formats."""

    n_layers: int = 4
    width: int = 128
    n_heads: int = 4
    n_kv_heads: int = 2
    head_width: int = 64
    n_experts: int = 4
    n_experts_used: int = 2
    expert_width: int = 128
    sliding_window: int = 128
    context: int = 131_072
    vocabulary: VocabularyKind = "small"
    is_talkative: bool = False
    """Answers are never null and never end by themselves: for benchmarks, where all competitors
    have to write up to their cap."""
    is_coarse: bool = False
    """Weights are drawn as random blocks of their formats instead of being drawn and quantised:
    a hundred times faster, for the sizes that only measure speed and memory."""

    def __post_init__(self) -> None:
        for width in (self.width, self.expert_width, self.head_width):
            if width < 32 or width % 32:
                raise ValueError(f"a width is {width}, must be a multiple of 32")


SHAPES: Final = {
    "tiny": Shape(),
    "small": Shape(
        n_layers=8, width=512, n_heads=8, n_experts=8, n_experts_used=4, expert_width=512,
    ),
    "small-32k": Shape(
        n_layers=8, width=512, n_heads=8, n_experts=8, n_experts_used=4, expert_width=512,
        vocabulary="o200k-32k", is_talkative=True,
    ),
    "small-201k": Shape(
        n_layers=8, width=512, n_heads=8, n_experts=8, n_experts_used=4, expert_width=512,
        vocabulary="o200k", is_talkative=True,
    ),
    "gpt-oss-20b": Shape(
        n_layers=24, width=2880, n_heads=64, n_kv_heads=8, n_experts=32, n_experts_used=4,
        expert_width=2880, vocabulary="o200k", is_talkative=True, is_coarse=True,
    ),
}  # fmt: skip


def write_random_gguf(
    path: Path, *, shape: Shape | None = None, seed: int = 0, template: str = TEMPLATE
) -> None:
    """Write a model to `path`; the same arguments give the same bytes.

    `template` is its chat template (Jinja). Raises EngineUnavailable without the `gguf` package."""
    gguf = _gguf()
    shape = shape or Shape()
    vocabulary = _vocabulary(shape.vocabulary)
    writer = gguf.GGUFWriter(str(path), "gpt-oss", use_temp_file=True)
    _add_header(gguf, writer, shape)
    _add_vocabulary(gguf, writer, vocabulary)
    writer.add_chat_template(template)
    random = np.random.default_rng(seed)
    tensors = _Tensors(gguf=gguf, writer=writer, random=random, is_coarse=shape.is_coarse)
    _add_weights(tensors, shape, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf() -> ModuleType:
    try:
        import gguf
    except ImportError as error:
        raise EngineUnavailable(
            "making a GGUF needs the `gguf` package: pip install 'minions[train]'"
        ) from error
    module: ModuleType = gguf
    return module


# -- vocabulary -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """A byte-level BPE in GGUF's form: bytes are written as printable characters."""

    tokens: list[str]
    merges: list[tuple[str, str]]
    control: dict[str, int]
    """Ids of the control tokens, by their text; part of `tokens`."""


def _vocabulary(kind: VocabularyKind) -> Vocabulary:
    if kind == "small":
        return _small_vocabulary()
    if kind == "o200k-32k":
        return _first_of_o200k(32_000)
    return _o200k_vocabulary(n_merged=_N_O200K if kind == "o200k" else 1000)


def _byte_characters() -> list[str]:
    """GPT-2's printable character for each of the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def _small_vocabulary() -> Vocabulary:
    """Bytes, then common words letter by letter, then the same after a space."""
    characters = _byte_characters()
    space = characters[ord(" ")]
    pairs = [("".join(characters[ord(c)] for c in a), characters[ord(b)]) for a, b in _FIXED_PAIRS]
    words = _WORDS.split()
    merges = dict.fromkeys([*pairs, *_chains(words), *((space, word) for word in words)])
    tokens = [*characters, *dict.fromkeys(left + right for left, right in merges)]
    tokens += [f"<|reserved_{i}|>" for i in range(-(len(tokens) + len(CONTROL_TOKENS)) % 32)]
    control = {text: len(tokens) + i for i, text in enumerate(CONTROL_TOKENS)}
    return Vocabulary(tokens=[*tokens, *CONTROL_TOKENS], merges=list(merges), control=control)


def _chains(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The merges that build each word from the left: t+h, th+e."""
    for word in words:
        yield from ((word[:i], word[i]) for i in range(1, len(word)))


_N_O200K: Final = 201_088
_HARMONY_IDS: Final = {
    BOS: 199_998, PADDING: 199_999, EOS: 200_002, "<|constrain|>": 200_003,
    "<|channel|>": 200_005, "<|start|>": 200_006, "<|end|>": 200_007, "<|message|>": 200_008,
    "<|call|>": 200_012, "<|endofprompt|>": 200_018,
}  # fmt: skip


def _o200k_vocabulary(*, n_merged: int) -> Vocabulary:
    """o200k with harmony's control tokens, from the ranks that ship with this package.

    Merges are made for the first `n_merged` tokens."""
    raw = resources.files("workers").joinpath(O200K_FILE).read_bytes()
    ranks = parse_ranks(raw, expected_sha256=O200K_SHA256)
    characters = _byte_characters()
    spelled = {token: "".join(characters[byte] for byte in token) for token in ranks}
    names = {token_id: text for text, token_id in _HARMONY_IDS.items()}
    ordered = sorted(ranks, key=ranks.__getitem__)
    merges = list(_merges(ordered[:n_merged], ranks, spelled))
    tokens = [spelled[token] for token in ordered]
    tokens += [names.get(i, f"<|reserved_{i}|>") for i in range(len(tokens), _N_O200K)]
    return Vocabulary(tokens=tokens, merges=merges, control=dict(_HARMONY_IDS))


def _first_of_o200k(n_tokens: int) -> Vocabulary:
    """The tokens that were merged first, which are a vocabulary of their own."""
    raw = resources.files("workers").joinpath(O200K_FILE).read_bytes()
    all_ranks = parse_ranks(raw, expected_sha256=O200K_SHA256)
    ordered = sorted(all_ranks, key=all_ranks.__getitem__)[: n_tokens - len(CONTROL_TOKENS)]
    ranks = {token: all_ranks[token] for token in ordered}
    characters = _byte_characters()
    spelled = {token: "".join(characters[byte] for byte in token) for token in ranks}
    control = {text: len(ordered) + i for i, text in enumerate(CONTROL_TOKENS)}
    return Vocabulary(
        tokens=[*spelled.values(), *CONTROL_TOKENS],
        merges=list(_merges(ordered, ranks, spelled)),
        control=control,
    )


def _merges(
    tokens: Iterable[bytes], ranks: dict[bytes, int], spelled: dict[bytes, str]
) -> Iterator[tuple[str, str]]:
    """A rank file lists tokens, GGUF wants merges: every split of a token into two tokens is one,
    and among splits of one token the one with the lower ranks comes first."""
    for token in tokens:
        halves = ((token[:i], token[i:]) for i in range(1, len(token)))
        splits = [(left, right) for left, right in halves if left in ranks and right in ranks]
        splits.sort(key=lambda split: (ranks[split[0]], ranks[split[1]]))
        yield from ((spelled[left], spelled[right]) for left, right in splits)


# -- weights and file ------------------------------------------------------------------------


_EMBEDDING_SPREAD: Final = 0.3
_ATTENTION_GAIN: Final = 1.1
_EXPERT_GAIN: Final = 0.5
_HEAD_GAIN: Final = 1.7
"""Chosen so that the logits depend on the whole prompt and not only on its last token, and yet
rounding is not blown up: both matter to tests that compare two ways to compute the same prompt."""
_SILENCE: Final = 1000.0
_Q8_SPREAD: Final = 73.9
_E2M1_SPREAD: Final = 2.93
"""Standard deviations of a uniform signed byte and of a uniform 4-bit float."""


def _add_header(gguf: Any, writer: Any, shape: Shape) -> None:
    writer.add_name(f"random gpt-oss {shape.n_layers}x{shape.width}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_MXFP4_MOE)
    writer.add_block_count(shape.n_layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.expert_width)
    writer.add_expert_feed_forward_length(shape.expert_width)
    writer.add_expert_count(shape.n_experts)
    writer.add_expert_used_count(shape.n_experts_used)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_sliding_window(shape.sliding_window)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(150_000.0)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(32.0)
    writer.add_rope_scaling_orig_ctx_len(4096)


def _add_vocabulary(gguf: Any, writer: Any, vocabulary: Vocabulary) -> None:
    kinds = [gguf.TokenType.NORMAL] * len(vocabulary.tokens)
    for token in vocabulary.control.values():
        kinds[token] = gguf.TokenType.CONTROL
    for token, text in enumerate(vocabulary.tokens):
        if text.startswith("<|reserved_"):
            kinds[token] = gguf.TokenType.UNUSED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in vocabulary.merges])
    writer.add_bos_token_id(vocabulary.control[BOS])
    writer.add_eos_token_id(vocabulary.control[EOS])
    writer.add_pad_token_id(vocabulary.control[PADDING])
    writer.add_add_bos_token(False)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tensors:
    """Draws random weights and stores them in the three formats of gpt-oss."""

    gguf: Any
    writer: Any
    random: np.random.Generator
    is_coarse: bool

    def plain(self, name: str, *sizes: int, spread: float = 0.02, mean: float = 0.0) -> None:
        """F32: norms, biases, the router, the attention sinks."""
        self.writer.add_tensor(name, self.draw(sizes, spread) + np.float32(mean))

    def q8(self, name: str, *sizes: int, gain: float, mean: float = 0.0) -> None:
        """Q8_0, for attention and embeddings: rows of `sizes[-1]` values around `mean` that scale
        what passes through them by `gain`."""
        spread = gain / math.sqrt(sizes[-1])
        if self.is_coarse:
            self._add_blocks(name, sizes, _q8_blocks(self.random, sizes, spread, mean), "Q8_0")
        else:
            self.quantised(name, self.draw(sizes, spread) + np.float32(mean), "Q8_0")

    def mxfp4(self, name: str, *sizes: int, gain: float) -> None:
        """MXFP4, for the experts: as `q8`."""
        spread = gain / math.sqrt(sizes[-1])
        if self.is_coarse:
            self._add_blocks(name, sizes, _mxfp4_blocks(self.random, sizes, spread), "MXFP4")
        else:
            self.quantised(name, self.draw(sizes, spread), "MXFP4")

    def quantised(self, name: str, weights: Array, kind: str) -> None:
        """Weights in a format of ggml's."""
        number = self.gguf.GGMLQuantizationType[kind]
        self.writer.add_tensor(name, self.gguf.quants.quantize(weights, number), raw_dtype=number)

    def draw(self, sizes: Sequence[int], spread: float) -> Array:
        return self.random.standard_normal(sizes, dtype=np.float32) * np.float32(spread)

    def _add_blocks(self, name: str, sizes: Sequence[int], blocks: Bytes, kind: str) -> None:
        rows = blocks.reshape(*sizes[:-1], -1)
        self.writer.add_tensor(name, rows, raw_dtype=self.gguf.GGMLQuantizationType[kind])


def _q8_blocks(
    random: np.random.Generator, sizes: Sequence[int], spread: float, mean: float
) -> Bytes:
    """32 random signed bytes behind a 16-bit scale that gives them `spread`; for a mean above 0
    the lowest bytes are left out."""
    blocks = np.empty((math.prod(sizes) // 32, 34), np.uint8)
    scale = np.array([spread / _Q8_SPREAD], np.float16)
    blocks[:, :2] = scale.view(np.uint8)
    lowest = min(-128 + round(2 * mean / spread * _Q8_SPREAD), 0)
    signed = random.integers(lowest, 128, (len(blocks), 32), np.int8)
    blocks[:, 2:] = signed.view(np.uint8)
    return blocks


def _mxfp4_blocks(random: np.random.Generator, sizes: Sequence[int], spread: float) -> Bytes:
    """32 random 4-bit floats behind an 8-bit power of two that gives them about `spread`."""
    blocks = np.empty((math.prod(sizes) // 32, 17), np.uint8)
    blocks[:, 0] = 127 + round(math.log2(spread / _E2M1_SPREAD))
    blocks[:, 1:] = random.integers(0, 256, (len(blocks), 16), np.uint8)
    return blocks


def _add_weights(tensors: _Tensors, shape: Shape, vocabulary: Vocabulary) -> None:
    tensors.q8(
        "token_embd.weight",
        len(vocabulary.tokens),
        shape.width,
        gain=_EMBEDDING_SPREAD * math.sqrt(shape.width),
        mean=_EMBEDDING_SPREAD / 2 if shape.is_talkative else 0.0,
    )
    _add_output_head(tensors, shape, vocabulary)
    tensors.plain("output_norm.weight", shape.width, mean=1.0)
    for layer in range(shape.n_layers):
        _add_attention(tensors, shape, f"blk.{layer}.")
        _add_experts(tensors, shape, f"blk.{layer}.")


def _add_output_head(tensors: _Tensors, shape: Shape, vocabulary: Vocabulary) -> None:
    """Random rows. Those of quotes and of `null` are louder, so that strings end now and then and
    some jobs abstain.

    A talkative model's embeddings have a mean above 0, which the hidden state keeps: against it
    stand the rows of all that is not to be written. A quote alone is only unlikely, so that it
    opens the string, where nothing else may come."""
    spread = _HEAD_GAIN / math.sqrt(shape.width)
    head = tensors.draw((len(vocabulary.tokens), shape.width), spread)
    structure = ('"', '",', 'Ġ"', "null", "Ġnull")
    for index, text in enumerate(vocabulary.tokens):
        if not shape.is_talkative:
            head[index] *= 2 if text in structure else 1
        elif text in ('"', 'Ġ"'):
            head[index] = 0
        elif _can_end(text):
            head[index] = -_SILENCE / shape.width
    tensors.quantised("output.weight", head, "Q8_0")


def _can_end(text: str) -> bool:
    begins_null = "null".startswith(text.removeprefix("Ġ"))
    return '"' in text or begins_null or text.startswith("<|")


def _add_attention(tensors: _Tensors, shape: Shape, block: str) -> None:
    queries = shape.n_heads * shape.head_width
    keys = shape.n_kv_heads * shape.head_width
    tensors.plain(block + "attn_norm.weight", shape.width, mean=1.0)
    tensors.plain(block + "attn_sinks.weight", shape.n_heads, spread=1.0)
    projections = {
        "attn_q": (queries, shape.width),
        "attn_k": (keys, shape.width),
        "attn_v": (keys, shape.width),
        "attn_output": (shape.width, queries),
    }
    for name, sizes in projections.items():
        tensors.q8(f"{block}{name}.weight", *sizes, gain=_ATTENTION_GAIN)
        tensors.plain(f"{block}{name}.bias", sizes[0])


def _add_experts(tensors: _Tensors, shape: Shape, block: str) -> None:
    n, wide, narrow = shape.n_experts, shape.width, shape.expert_width
    tensors.plain(block + "post_attention_norm.weight", wide, mean=1.0)
    tensors.plain(block + "ffn_gate_inp.weight", n, wide, spread=0.05)
    tensors.plain(block + "ffn_gate_inp.bias", n)
    matrices = {"ffn_gate_exps": (narrow, wide), "ffn_up_exps": (narrow, wide)}
    matrices["ffn_down_exps"] = (wide, narrow)
    for name, (rows, columns) in matrices.items():
        tensors.mxfp4(f"{block}{name}.weight", n, rows, columns, gain=_EXPERT_GAIN)
        tensors.plain(f"{block}{name}.bias", n, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m workers.random_gguf", description=__doc__)
    parser.add_argument("out", type=Path, help="the GGUF to write")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    write_random_gguf(options.out, shape=SHAPES[options.shape], seed=options.seed)
    sys.stdout.write(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main()
