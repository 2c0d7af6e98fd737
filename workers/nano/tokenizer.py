"""The trained vocabulary at work: text to ids and back (with Hugging Face's `tokenizers`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from workers.nano.vocabulary import Vocabulary

TOKENIZER_FILE = Path(__file__).with_name("tokenizer.json")
# llama.cpp's LLAMA_VOCAB_PRE_TYPE_GPT4O expression.
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_TAIL = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PRE_TOKENIZER_PATTERN = "|".join(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_TAIL}",
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_TAIL}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


class NanoTokenizer:
    """Text to ids and back, with the special tokens by name."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.ids = {token: i for i, token in enumerate(vocabulary.tokens)}
        engine = Tokenizer(models.BPE(vocab=self.ids, merges=list(vocabulary.merges)))
        engine.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PRE_TOKENIZER_PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        engine.decoder = decoders.ByteLevel()
        self._engine = engine

    @classmethod
    def load(cls, path: Path = TOKENIZER_FILE) -> NanoTokenizer:
        """The tokenizer that ships with the model."""
        return cls(Vocabulary.load(path))

    def __len__(self) -> int:
        return len(self.vocabulary.tokens)

    def encode(self, text: str) -> list[int]:
        """Ordinary text; names of special tokens in it stay text."""
        return list(self._engine.encode(text, add_special_tokens=False).ids)

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and each token's half-open character span in `text`."""
        encoding = self._engine.encode(text, add_special_tokens=False)
        return list(encoding.ids), list(encoding.offsets)

    def special(self, *names: str) -> list[int]:
        """Ids of special tokens, e.g. `special("start")` for `<|start|>`."""
        return [self.ids[f"<|{name}|>"] for name in names]

    def decode(self, ids: Iterable[int]) -> str:
        """Bytes back to text; invalid UTF-8 becomes U+FFFD."""
        return str(self._engine.decode(list(ids), skip_special_tokens=False))
