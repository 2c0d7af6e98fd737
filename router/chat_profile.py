"""What the chat router learned of one pair of models, as an object and as JSON.

For another pair its probabilities mean nothing and are refused; its order of questions still
carries over (RouteLLM found so, arXiv 2406.18665), so that `gain_at_share` may be
used with any: "the hardest 20% go to the cloud".
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from router.chat import (
    N_BUCKETS,
    TERMS_VERSION,
    Bytes,
    DraftModel,
    Floats,
    QuestionModel,
    SignedBytes,
    TermWeights,
)
from router.chat_signs import DRAFT_SIGNS, QUESTION_SIGNS

FORMAT = 1
N_SHARES = 101
"""Points of `gain_at_share`: every percent from 0 to 100."""


class StaleChatProfile(ValueError):
    """The profile was learned for other models or other terms; it must not be used for these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatProfile:
    """What was learned of one pair of models."""

    weak_model: str
    strong_model: str
    n_rows: int
    """Questions that it was fitted on."""
    question: QuestionModel
    question_gains: Floats
    """Shape (N_SHARES,), falling: gains above which 0%, 1%, ... of unseen questions lay."""
    draft: DraftModel | None
    """None when too few recorded rows had the weak model's answer."""
    draft_gains: Floats | None
    """The same for `draft`; None with it."""

    def check(self, weak_model: str, strong_model: str) -> None:
        """Raises StaleChatProfile when the probabilities are asked for another pair of models."""
        if (self.weak_model, self.strong_model) != (weak_model, strong_model):
            raise StaleChatProfile(
                f"The chat profile was fitted for {self.weak_model} and {self.strong_model}; now "
                f"{weak_model} and {strong_model} run. Fit one on recorded answers of these with "
                "`minions eval routing --fit DIR --save FILE`, or route a fixed share of questions."
            )

    def gain_at_share(self, share: float, *, with_draft: bool = False) -> float:
        """The gain above which `share` (0..1) of questions like the fitted ones lie, by the model
        of the question or of the draft. Raises ValueError for a share outside 0..1, or without a
        model of drafts."""
        if not 0 <= share <= 1:
            raise ValueError(f"A share of questions lies in 0..1, not {share}.")
        gains = self.draft_gains if with_draft else self.question_gains
        if gains is None:
            raise ValueError(f"The chat profile of {self.weak_model} knows no drafts.")
        return float(np.interp(share, np.linspace(0, 1, N_SHARES), gains))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that it holds; goes into the trace of each routed question."""
        text = json.dumps(self._content(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As kept in a file, under a megabyte."""
        return {**self._content(), "fingerprint": self.fingerprint}

    def _content(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "terms_version": TERMS_VERSION,
            "weak_model": self.weak_model,
            "strong_model": self.strong_model,
            "n_rows": self.n_rows,
            "question": _question_to_json(self.question),
            "question_gains": self.question_gains.tolist(),
            "draft": None if self.draft is None else _linear_to_json(self.draft),
            "draft_gains": None if self.draft_gains is None else self.draft_gains.tolist(),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ChatProfile:
        """The reverse of `to_json`. Raises StaleChatProfile for a profile of other terms, and
        ValueError for anything damaged or that is no profile."""
        if data.get("format") != FORMAT:
            raise ValueError(f"No chat profile of format {FORMAT}: format {data.get('format')!r}.")
        if data.get("terms_version") != TERMS_VERSION:
            raise StaleChatProfile(
                f"The chat profile counts terms of version {data.get('terms_version')!r}, this "
                f"program those of {TERMS_VERSION}: fit it again with `minions eval routing`."
            )
        try:
            profile = _profile(data)
        except (KeyError, TypeError, zlib.error) as error:
            raise ValueError(f"No chat profile: {type(error).__name__} {error}.") from None
        if profile.fingerprint != data.get("fingerprint"):
            raise ValueError("The chat profile was changed after it was fitted: fit it again.")
        return profile


def _question_to_json(model: QuestionModel) -> dict[str, Any]:
    return {
        "rarity": _packed(model.rarity),
        "terms": [{"levels": _packed(w.levels), "scale": w.scale} for w in model.terms],
        **_linear_to_json(model),
    }


def _linear_to_json(model: QuestionModel | DraftModel) -> dict[str, Any]:
    return {
        "signs": model.signs.tolist(),
        "intercepts": list(model.intercepts),
    }


def _packed(array: Bytes | SignedBytes) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()


def _profile(data: Mapping[str, Any]) -> ChatProfile:
    draft, draft_gains = data["draft"], data["draft_gains"]
    return ChatProfile(
        weak_model=data["weak_model"],
        strong_model=data["strong_model"],
        n_rows=data["n_rows"],
        question=_question(data["question"]),
        question_gains=_floats(data["question_gains"], (N_SHARES,)),
        draft=None if draft is None else _draft(draft),
        draft_gains=None if draft_gains is None else _floats(draft_gains, (N_SHARES,)),
    )


def _question(data: Mapping[str, Any]) -> QuestionModel:
    gain, local = (_term_weights(weights) for weights in data["terms"])
    return QuestionModel(
        rarity=np.frombuffer(_unpacked(data["rarity"]), dtype=np.uint8),
        terms=(gain, local),
        signs=_floats(data["signs"], (2, len(QUESTION_SIGNS))),
        intercepts=_pair(data["intercepts"]),
    )


def _draft(data: Mapping[str, Any]) -> DraftModel:
    return DraftModel(
        signs=_floats(data["signs"], (2, len(DRAFT_SIGNS))),
        intercepts=_pair(data["intercepts"]),
    )


def _term_weights(data: Mapping[str, Any]) -> TermWeights:
    levels = np.frombuffer(_unpacked(data["levels"]), dtype=np.int8)
    return TermWeights(levels=levels, scale=float(data["scale"]))


def _pair(numbers: list[float]) -> tuple[float, float]:
    first, second = _floats(numbers, (2,))
    return float(first), float(second)


def _floats(numbers: list[Any], shape: tuple[int, ...]) -> Floats:
    """Raises ValueError unless they are finite numbers in this shape."""
    array = np.array(numbers, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"No chat profile: expected finite numbers of shape {shape}.")
    return array


def _unpacked(text: str) -> bytes:
    """N_BUCKETS bytes. Never unpacks more, whatever the file says; raises ValueError if not so."""
    try:
        packed = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"No chat profile: its weights are damaged ({error}).") from None
    content = zlib.decompressobj().decompress(packed, N_BUCKETS + 1)
    if len(content) != N_BUCKETS:
        raise ValueError(f"No chat profile: it has not {N_BUCKETS} weights.")
    return content
