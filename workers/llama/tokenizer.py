"""Text as data: a tokenizer through which no document can speak in control tokens.

llama.cpp turns some control strings into control ids even when told not to parse them: gpt-oss's
`<|start|>`, `<|channel|>`, `<|message|>`, `<|end|>` and `<|constrain|>` are marked as user defined.
A document that holds them could then end the user's message and speak as the system. Here the text
is cut inside every such string before it is tokenised, and the ids are checked afterwards.
"""

from __future__ import annotations

import itertools
import re

from workers.errors import JobRejected
from workers.llama.api import LlamaModel

_LONGEST_RUN = 1000
"""llama.cpp's pre-tokenizer is a std::regex that recurses per character and overflows the stack on
a run of some ten thousand letters, spaces or dashes. Runs longer than this are cut."""
_RUN = re.compile(r"\S+|\s+")

_SPM_SPACE = "▁"


class LlamaTokenizer:
    """The GGUF's own tokenizer, for ordinary text (`workers.seams.Tokenizer`)."""

    def __init__(self, model: LlamaModel) -> None:
        self._model = model
        markers = {
            token: text
            for token, raw in model.special_tokens().items()
            if (text := raw.decode("utf-8", "replace")) and not _is_blank(text)
        }
        self.control_tokens = frozenset(markers)
        """Ids that no ordinary text may become, and that no answer may contain."""
        self._marker = _any_of([text for text in markers.values() if len(text) > 1])

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` as data. Raises JobRejected if a control id came out all the same,
        which would be a fault of the vocabulary."""
        ids: list[int] = []
        for part in self._parts(text):
            ids += self._model.tokenize(part.encode("utf-8", "replace"), parse_special=False)
        if not self.control_tokens.isdisjoint(ids):
            raise JobRejected("text of the job turned into a control token of this vocabulary")
        return ids

    def count(self, text: str) -> int:
        """Number of tokens of `text` as data."""
        return len(self.encode(text))

    def encode_trusted(self, text: str) -> list[int]:
        """Token ids of our own text, in which control strings mean what they say."""
        return self._model.tokenize(text.encode(), parse_special=True)

    def holds_control_text(self, text: str) -> bool:
        """Whether `text` holds a string that `encode_trusted` would turn into a control token."""
        return self._marker.search(text) is not None

    def _parts(self, text: str) -> list[str]:
        """`text`, cut after the first character of each control string and inside long runs."""
        cuts = {match.start() + 1 for match in self._marker.finditer(text)}
        for run in _RUN.finditer(text):
            cuts.update(range(run.start() + _LONGEST_RUN, run.end(), _LONGEST_RUN))
        borders = [0, *sorted(cuts), len(text)]
        return [text[a:b] for a, b in itertools.pairwise(borders) if a < b]


def _is_blank(text: str) -> bool:
    """User-defined tokens that only hold white space are ordinary text."""
    return not text.replace(_SPM_SPACE, " ").strip()


def _any_of(strings: list[str]) -> re.Pattern[str]:
    """Matches, without consuming, wherever one of `strings` begins: overlaps are found too."""
    return re.compile(f"(?={'|'.join(map(re.escape, strings))})" if strings else r"(?!)")
