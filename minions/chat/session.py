"""One plain turn on its way through the house: draft, decision, purchase, receipt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from minions.budget import Budget, DayBudget
from minions.chat.drafting import chat_job, run_booked
from minions.chat.preview import Preview, PreviewedCloud
from minions.chat.routing import Forecaster, prepare_turn
from minions.chat.turn import DEFAULT_OUTPUT_TOKENS, ChatReply, Route, TokensUsed, Turn
from minions.cloud.model import CloudClient, CloudResponse
from minions.errors import (
    BeyondAbilities,
    BudgetExceeded,
    CeilingExceeded,
    CloudError,
    WorkerFailed,
)
from minions.events import CloudDelta, Event
from minions.offers import EXPECTED_OUTPUT_TOKENS, CloudTerms, PreparedRung
from minions.purchase import Purchaser
from minions.question import JobCounts, OfferView, Receipt, Reply
from minions.receipt import make_receipt
from minions.redaction import Redacted, Redactor
from minions.store.model import LedgerEntry, Store
from minions.trace import Trace
from router import Rung, Wishes, choose_by_value, closed_because
from router.chat import Forecast
from router.chat_prior import LocalDraft
from workers import ChatResult, EngineInfo, JobStatus, ToolCall, WorkerPool


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Somebody's answer to the turn."""

    model: str
    rung: Rung
    text: str
    finish_reason: str
    tool_calls: tuple[ToolCall, ...]
    p_correct: float
    reason: str


@dataclass(kw_only=True)
class ChatSession:
    """Everything concrete is handed in."""

    run_id: str
    turn: Turn
    store: Store
    open_pool: Callable[[], Awaitable[WorkerPool]]
    terms: CloudTerms
    client: CloudClient | None
    day: DayBudget
    redactor: Redactor | None
    forecaster: Forecaster
    trace: Trace
    say: Callable[[str], None]
    """Hears the answer as it is written; joined, the pieces are the answer."""
    hidden: dict[str, int] = field(default_factory=dict)
    """Values that were redacted, counted by kind."""
    local_s: float = 0.0

    def __post_init__(self) -> None:
        self.budget = Budget(cap_usd=self.turn.options.max_cost_usd)
        self.preview = Preview(say=self.say)
        self.forecast = self.forecaster.before(self.turn.question)
        self.prepared = prepare_turn(self.turn, self.terms, self.run_id, self.forecast)
        self._kept = ""

    @property
    def warnings(self) -> list[str]:
        return self.forecaster.warnings

    async def answer(self) -> ChatReply:
        """Answer by whoever should. Raises BeyondAbilities where nobody can or may, and what the
        one who had to answer raised."""
        with self.trace.step("forecast", source=self.forecaster.source) as facts:
            facts["p_local"], facts["p_cloud"] = self.forecast.p_local, self.forecast.p_cloud
            facts["prompt_tokens"] = self.prepared.offer.prompt_tokens
        answer = await self._by_route()
        text = self.preview.finish(answer.text)
        return await self._reply(replace(answer, text=text))

    async def _by_route(self) -> Answer:
        if self.turn.route is Route.CLOUD:
            return await self._cloud_only()
        with self.trace.step("load worker") as facts:
            pool = await self.open_pool()
            facts["model"] = pool.info.model
        closed = "the model minions-local never asks it"
        if self.turn.route is Route.LADDER:
            closed = self._closed() or ""
        if not pool.info.chats:
            return await self._without_worker(pool.info.model, closed)
        if closed:
            draft = await self._draft(pool, self.preview.hear)
            return _local(
                draft, pool.info, self._after(draft), f"the cloud may not be asked: {closed}"
            )
        return await self._cascade(pool)

    async def _cascade(self, pool: WorkerPool) -> Answer:
        """The cloud at once, or a local draft that is looked at before anybody hears it."""
        in_share = self.forecaster.in_share(self.turn.question)
        if in_share is not None:
            return await self._by_share(pool, in_share)
        reason = self._decide(self.forecast)
        if reason is not None:
            bought = await self._try_cloud(reason)
            return bought or _local(await self._draft(pool), pool.info, self.forecast, reason)
        draft = await self._attempt(pool)
        if draft.status is JobStatus.FAILED:
            return await self._buy(f"the worker failed: {draft.error}")
        forecast = self._after(draft)
        reason = self._decide(forecast)
        bought = None if reason is None else await self._try_cloud(reason)
        return bought or _local(draft, pool.info, forecast, self._kept)

    async def _by_share(self, pool: WorkerPool, in_share: bool) -> Answer:
        """By the order of questions alone: nothing is looked at twice, so a draft is streamed."""
        kind = "among" if in_share else "not among"
        reason = f"{kind} the {self.forecaster.share:.0%} of questions that the cloud gets"
        bought = await self._try_cloud(reason) if in_share else None
        if bought is not None:
            return bought
        draft = await self._draft(pool, self.preview.hear)
        return _local(draft, pool.info, self._after(draft), reason)

    async def _cloud_only(self) -> Answer:
        closed = self._closed()
        if closed is not None:
            rung = self.prepared.offer.rung
            kind = BeyondAbilities if self.turn.options.privacy.allows(rung) else CeilingExceeded
            raise kind(f"The cloud may not be asked: {closed}. Use minions-local, or allow it.")
        return await self._buy("the model minions-cloud asks the cloud at once")

    async def _without_worker(self, worker: str, closed: str) -> Answer:
        if closed:
            raise BeyondAbilities(
                f"The worker {worker} only finds answers in documents and can't chat, and the "
                f"cloud may not be asked ({closed}). Send a document along, use a worker that "
                "chats (minions serve --model gpt-oss-20b), or allow a cloud."
            )
        return await self._buy(f"the worker {worker} only finds answers in documents")

    # ---- the decision ----

    @property
    def _wishes(self) -> Wishes:
        options = self.turn.options
        left_s = options.max_latency_s
        if left_s is not None:
            left_s = max(0.0, left_s - self.trace.elapsed_s)
        caps = (options.max_cost_usd, self.day.left_usd if self.client else None)
        return Wishes(
            target=options.target,
            ceiling=options.privacy,
            max_cost_usd=min((cap for cap in caps if cap is not None), default=None),
            value_usd=options.value_usd,
            max_latency_s=left_s,
        )

    def _closed(self) -> str | None:
        """Why the cloud may not be asked, or None."""
        return closed_because(self.prepared.offer, self._wishes, self.budget.spent_usd)

    def _decide(self, forecast: Forecast) -> str | None:
        """Why the turn should be bought; None to keep it local, and `_kept` says why."""
        offer = replace(self.prepared.offer, p_correct=forecast.p_cloud)
        with self.trace.step("decide", p_local=forecast.p_local, p_cloud=forecast.p_cloud) as facts:
            decision = choose_by_value(
                Rung.LOCAL, forecast.p_local, [offer], self._wishes, self.budget.spent_usd
            )
            facts["rung"] = decision.rung.value if decision.rung else None
            facts["reason"] = self._kept = decision.reason
        return None if decision.rung is None else decision.reason

    def _after(self, draft: ChatResult) -> Forecast:
        seen = LocalDraft(
            text=draft.text,
            calls_tools=bool(draft.tool_calls),
            # At a limit of the client's own, a cut says nothing of the answer.
            cut=draft.finish_reason == "length"
            and self.turn.max_output_tokens >= DEFAULT_OUTPUT_TOKENS,
        )
        return self.forecaster.after(self.turn.question, seen)

    # ---- the worker ----

    async def _draft(
        self, pool: WorkerPool, on_text: Callable[[str], None] | None = None
    ) -> ChatResult:
        """The worker's answer. Raises WorkerFailed."""
        draft = await self._attempt(pool, on_text)
        if draft.status is JobStatus.FAILED:
            raise WorkerFailed(f"{pool.info.model} could not answer: {draft.error}")
        return draft

    async def _attempt(
        self, pool: WorkerPool, on_text: Callable[[str], None] | None = None
    ) -> ChatResult:
        job = chat_job(self.turn, self.run_id, pool.info)
        if self.turn.effort not in (None, job.effort):
            self.warnings.append(f"reasoning effort changes nothing with {pool.info.model}")
        with self.trace.step("draft", model=pool.info.model, effort=job.effort.value) as facts:
            result = await run_booked(job, pool, self.store, self.run_id, on_text)
            facts["status"], facts["text"] = result.status.value, result.text
            facts["analysis"], facts["error"] = result.analysis, result.error
            facts["logprob"], facts["finish_reason"] = result.logprob, result.finish_reason
        self.local_s += result.elapsed_s
        if not self.turn.parallel_tool_calls:
            result = replace(result, tool_calls=result.tool_calls[:1])
        return result

    # ---- the cloud ----

    async def _try_cloud(self, reason: str) -> Answer | None:
        """Buy the turn; None, and a warning, when that fails."""
        try:
            return await self._buy(reason)
        except (BudgetExceeded, CloudError) as error:
            self.warnings.append(f"The cloud could not help: {error}")
            return None

    async def _buy(self, reason: str) -> Answer:
        with self.trace.step("cloud", rung=self.prepared.offer.rung.value, reason=reason) as facts:
            response = await self._purchaser().buy(self.prepared)
            facts["call_key"], facts["text"] = response.idempotency_key, response.text
            facts["finish_reason"] = response.finish_reason
        return Answer(
            model=response.model,
            rung=self.prepared.offer.rung,
            text=response.text,
            finish_reason=_reason_of(response),
            tool_calls=response.tool_calls,
            p_correct=self.forecast.p_cloud,
            reason=reason,
        )

    def _purchaser(self) -> Purchaser:
        if self.client is None:
            raise BeyondAbilities("No cloud is set up: give --cloud-url, or a key.")
        return Purchaser(
            run_id=self.run_id,
            ceiling=self.turn.options.privacy,
            budget=self.budget,
            client=PreviewedCloud(client=self.client, preview=self.preview),
            prices=self.terms.prices,
            store=self.store,
            observe=self._hear_cloud,
            day=self.day,
            redactor=self.redactor,
            on_redacted=self._note_redaction,
        )

    def _hear_cloud(self, event: Event) -> None:
        # With redaction the pieces hold placeholders: only the whole answer has them put back.
        if isinstance(event, CloudDelta) and self.redactor is None:
            self.preview.hear(event.text)

    def _note_redaction(self, rung: Rung, redacted: Redacted) -> None:
        with self.trace.step("redact", rung=rung.value, hidden=redacted.counts):
            self.hidden.update(redacted.counts)

    # ---- the reply ----

    def _receipt(self, entries: Sequence[LedgerEntry]) -> Receipt:
        offer, snapshot = self.prepared.offer, self.terms.prices.snapshot_id
        method = (
            f"one call to {self.terms.model} with this conversation: {offer.prompt_tokens} prompt "
            f"tokens, {EXPECTED_OUTPUT_TOKENS} output tokens, nothing cached, prices of {snapshot}"
        )
        return make_receipt(
            entries,
            offer.expected_usd,
            method,
            snapshot,
            local_s=round(self.local_s, 3),
            redacted=self.hidden,
        )

    async def _reply(self, answer: Answer) -> ChatReply:
        entries = await self.store.ledger(self.run_id)
        n_local = sum(entry.kind == "local" for entry in entries)
        reply = Reply(
            answer=answer.text,
            citations=(),
            rung=answer.rung,
            p_correct=answer.p_correct,
            p_correct_source=self.forecaster.source,
            coverage=1.0,
            jobs=JobCounts(answered=n_local),
            receipt=self._receipt(entries),
            reason=answer.reason,
            offers=(_view(self.prepared, self._closed()),),
            warnings=tuple(self.warnings),
            trace_id=self.run_id,
        )
        return ChatReply(
            run_id=self.run_id,
            model=answer.model,
            text=answer.text,
            finish_reason=answer.finish_reason,
            tool_calls=answer.tool_calls,
            usage=TokensUsed.of(entries),
            reply=reply.to_json(),
        )


def _local(draft: ChatResult, worker: EngineInfo, forecast: Forecast, reason: str) -> Answer:
    return Answer(
        model=worker.model,
        rung=Rung.LOCAL,
        text=draft.text,
        finish_reason=draft.finish_reason,
        tool_calls=draft.tool_calls,
        p_correct=forecast.p_local,
        reason=reason,
    )


def _reason_of(response: CloudResponse) -> str:
    """A refusal is an answer in words; the rest keeps its name."""
    return "stop" if response.finish_reason == "refusal" else response.finish_reason


def _view(prepared: PreparedRung, closed: str | None) -> OfferView:
    offer = prepared.offer
    return OfferView(
        rung=offer.rung,
        prompt_tokens=offer.prompt_tokens,
        expected_usd=offer.expected_usd,
        worst_usd=offer.worst_usd,
        p_correct=offer.p_correct,
        closed=closed,
    )
