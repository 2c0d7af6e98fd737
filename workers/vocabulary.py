"""The o200k vocabulary, loaded from the file beside this package and never from a network.

`tiktoken.get_encoding` downloads the ranks at first use. Here they ship with the package
(`data/NOTICE.md`), and the encoding is built from them with the pattern and the special tokens that
tiktoken itself defines for `o200k_base` (`tiktoken_ext/openai_public.py`).
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import re
from importlib import resources

import tiktoken

from workers.errors import ModelCorrupt

O200K_FILE = "data/o200k_base.tiktoken"
O200K_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"

_CASED = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_UNCASED = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_PATTERN = "|".join(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_CASED}]*[{_UNCASED}]+{_CONTRACTION}",
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_CASED}]+[{_UNCASED}]*{_CONTRACTION}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_LONGEST_RUN = 10_000
_BLANK_RUN = re.compile(rf"\s{{{_LONGEST_RUN}}}")
_SPECIAL_TOKENS = {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}


@functools.cache
def o200k_base() -> tiktoken.Encoding:
    """The encoding of gpt-4o; gpt-oss uses it with harmony's special tokens added.

    Takes about a second at first, nothing afterwards. Raises ModelCorrupt when the file is not the
    published one, FileNotFoundError when the package was installed without it.
    """
    raw = resources.files("workers").joinpath(O200K_FILE).read_bytes()
    return tiktoken.Encoding(
        name="o200k_base",
        pat_str=_PATTERN,
        mergeable_ranks=parse_ranks(raw, expected_sha256=O200K_SHA256),
        special_tokens=_SPECIAL_TOKENS,
    )


def parse_ranks(raw: bytes, *, expected_sha256: str) -> dict[bytes, int]:
    """Token bytes -> rank, from lines of `<base64> <rank>`. Raises ModelCorrupt on another hash."""
    found = hashlib.sha256(raw).hexdigest()
    if found != expected_sha256:
        raise ModelCorrupt(
            f"workers/{O200K_FILE} has SHA-256 {found}, expected {expected_sha256}. "
            "The file was changed or cut: reinstall the package."
        )
    fields = raw.split()
    return dict(zip(map(binascii.a2b_base64, fields[::2]), map(int, fields[1::2]), strict=True))


def encode_ordinary(encoding: tiktoken.Encoding, text: str) -> list[int]:
    """Token ids of any text as data: nothing in it becomes a control token.

    tiktoken 0.14 panics on a run of about a million blanks: its regex engine overflows its stack.
    So runs that long are cut; each cut may change the count by one.
    """
    start, ids = 0, []
    for run in _BLANK_RUN.finditer(text):
        ids += encoding.encode_ordinary(text[start : run.end()])
        start = run.end()
    return ids + encoding.encode_ordinary(text[start:])


class TiktokenTokenizer:
    """`Tokenizer` over a tiktoken encoding; text such as `<|end|>` stays ordinary text."""

    def __init__(self, encoding: tiktoken.Encoding | None = None) -> None:
        self._encoding = encoding or o200k_base()

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` as data."""
        return encode_ordinary(self._encoding, text)

    def count(self, text: str) -> int:
        """Number of tokens of `text`."""
        return len(self.encode(text))
