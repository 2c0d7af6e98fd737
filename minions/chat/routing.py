"""Who answers a plain turn: forecasts of both models, and what the cloud would cost."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from decimal import Decimal

from minions.arithmetic import evaluate
from minions.chat.turn import Turn
from minions.cloud.model import CloudRequest, Conversation
from minions.offers import CloudTerms, PreparedRung, quote
from router import CALIBRATED, PRIOR, Rung
from router.chat import Forecast, QuestionModel
from router.chat_prior import LocalDraft, prior_forecast, prior_with_draft
from router.chat_profile import ChatProfile, StaleChatProfile
from workers import Role


def work_out(formula: str) -> float | None:
    """The value of a sum in a draft, by the whitelisted evaluator; None when it has none."""
    value = evaluate(formula, {})
    return float(value) if isinstance(value, Decimal) else None


@dataclass(kw_only=True, slots=True)
class Forecaster:
    """Forecasts for one pair of models. A profile of another pair is refused, once and aloud; for a
    stated share of questions only its order of them counts, which carries over."""

    profile: ChatProfile | None
    worker: str
    cloud: str
    share: float | None = None
    """Of all questions, those that the cloud gets, 0..1; None lets the chances decide."""
    warnings: list[str] = field(default_factory=list)
    _least_gain: float | None = field(default=None, init=False)
    _order: QuestionModel | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.profile is not None and self.share is not None:
            self._least_gain = self.profile.gain_at_share(self.share)
            self._order = self.profile.question
        try:
            if self.profile is not None:
                self.profile.check(self.worker, self.cloud)
        except StaleChatProfile as error:
            self.profile = None
            if self.share is None:
                self.warnings.append(str(error))

    @property
    def source(self) -> str:
        """`calibrated` or `prior`."""
        return PRIOR if self.profile is None else CALIBRATED

    def in_share(self, question: str) -> bool | None:
        """Whether the question is among those that go to the cloud; None without a share."""
        if self._order is None or self._least_gain is None:
            return None
        return self._order.forecast(question).gain > self._least_gain

    def before(self, question: str) -> Forecast:
        """Before anyone has answered."""
        if self.profile is None:
            return prior_forecast(question)
        return self.profile.question.forecast(question)

    def after(self, question: str, draft: LocalDraft) -> Forecast:
        """Once the local model has answered."""
        if self.profile is None:
            return prior_with_draft(question, draft, work_out)
        if self.profile.draft is None or draft.calls_tools:
            return self.before(question)
        return self.profile.draft.forecast(question, draft.text, work_out)


def rung_of(turn: Turn) -> Rung:
    """What the cloud would get to see, as a rung. The user's own words count as `evidence`; what a
    client's tools brought in may be anything, so it counts as a whole document."""
    if any(message.role is Role.TOOL for message in turn.messages):
        return Rung.DOCUMENT
    return Rung.EVIDENCE


def prepare_turn(turn: Turn, terms: CloudTerms, run_id: str, forecast: Forecast) -> PreparedRung:
    """The call that would hand the turn to the cloud, to the byte, with its price."""
    asked = Conversation(
        messages=turn.messages,
        tools=turn.tools,
        tool_choice=turn.tool_choice,
        parallel_tool_calls=turn.parallel_tool_calls,
        stop=turn.stop,
        effort=turn.effort,
    )
    identity = json.dumps([run_id, terms.model, *asked.texts])
    request = CloudRequest(
        model=terms.model,
        instructions="",
        content="",
        max_output_tokens=min(turn.max_output_tokens, terms.max_output_tokens),
        json_object=False,
        temperature=turn.temperature,
        idempotency_key=f"call_{hashlib.sha256(identity.encode()).hexdigest()[:40]}",
        conversation=asked,
    )
    return quote(rung_of(turn), request, (), terms, forecast.p_cloud)
