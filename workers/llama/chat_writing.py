"""A chat turn while it is being written: its channels, its text, the call of a tool."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from llama_cpp.llama_grammar import JSON_GBNF, json_schema_to_gbnf

from workers.chat import ChatJob, Tool
from workers.errors import JobRejected
from workers.jobs import Effort, Sampling
from workers.llama.api import LlamaModel, Logits
from workers.llama.conversation import TOOL_TAGS
from workers.llama.grammar import GrammarState
from workers.llama.harmony import ANALYSIS, ASSISTANT, GPT_OSS
from workers.llama.reasoning import Analysis
from workers.llama.row import Row
from workers.llama.sampling import Sampler, text_mask
from workers.llama.tokenizer import LlamaTokenizer

_FINAL: Final = "final"
OVERHEAD_TOKENS: Final = 64
"""At most so many tokens of channels stand between the prompt, the analysis and the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawCall:
    """A call as the model wrote it."""

    name: str
    arguments: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a model writes what its turn is. An opening is what the model chooses between; none of
    them is the start of another."""

    lead: str
    """Before the opening."""
    before_name: str
    after_name: str
    """A call's opening is the tool's name between these."""
    to_json: str
    """Between a call's opening and the arguments."""
    to_text: str
    """Between the opening `final` and the answer."""

    def call(self, name: str) -> str:
        return f"{self.before_name}{name}{self.after_name}"


_HARMONY: Final = Layout(
    lead="<|channel|>",
    before_name="commentary to=functions.",
    after_name=" ",
    to_json="<|constrain|>json<|message|>",
    to_text="<|message|>",
)
_TAGS: Final = Layout(
    lead=TOOL_TAGS[0] + '\n{"name": ',
    before_name='"',
    after_name='"',
    to_json=', "arguments": ',
    to_text="",
)


class Vocabulary:
    """What writers of chat turns need to know of a model; made once."""

    def __init__(self, model: LlamaModel, tokenizer: LlamaTokenizer) -> None:
        self.model = model
        self.encode = tokenizer.encode_trusted
        self.bytes_of = model.token_bytes
        self.is_gpt_oss = model.architecture == GPT_OSS
        control = tokenizer.control_tokens
        self.ends = frozenset(token for token in control if model.ends_generation(token))
        tags = {self.bytes_of(token): token for token in control}
        spoken = [tags[tag.encode()] for tag in TOOL_TAGS if tag.encode() in tags]
        self.is_control = text_mask(model.n_vocab, control, ()).barred
        self.text = text_mask(model.n_vocab, control, [*self.ends, *spoken])
        self.end_of_analysis = tags.get(b"<|end|>", -1)
        self.analysis = text_mask(
            model.n_vocab, control, [self.end_of_analysis] if self.end_of_analysis >= 0 else ()
        )

    def grammar(self, gbnf: str) -> GrammarState:
        """A grammar over ordinary tokens. Raises ValueError for what llama.cpp can't parse."""
        return GrammarState(self.model.new_grammar(gbnf), self.is_control)


class Text:
    """Free text until an end token, a stop text or the cap."""

    def __init__(self, job: ChatJob, vocabulary: Vocabulary) -> None:
        self._sampler = Sampler(job.sampling)
        self._cap = job.sampling.max_output_tokens
        self._stops = tuple(stop for stop in job.stop if stop)
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._n_tokens = 0
        self._n_told = 0
        self.log_probabilities: list[float] = []
        self.text = ""
        self.is_over = False
        self.finish_reason = "length"

    def take(self, row: Logits) -> int:
        ranked = Row(row)
        token = self._sampler.choose(ranked, self._vocabulary.text)
        self.log_probabilities.append(ranked.log_probability(token))
        self._n_tokens += 1
        if token in self._vocabulary.ends:
            self._finish("stop")
        else:
            self._append(self._decoder.decode(self._vocabulary.bytes_of(token)))
        self.is_over = self.is_over or self._n_tokens >= self._cap
        return token

    def fresh(self) -> str:
        """The text since the last call that no stop text can take back any more."""
        end = len(self.text) if self.is_over else len(self.text) - self._n_undecided()
        fresh, self._n_told = self.text[self._n_told : end], max(end, self._n_told)
        return fresh

    def close(self) -> None:
        """Nothing is held."""

    def _append(self, piece: str) -> None:
        begin = max(0, len(self.text) - max(map(len, self._stops), default=1) + 1)
        self.text += piece
        ends = [at for stop in self._stops if (at := self.text.find(stop, begin)) >= 0]
        if ends:
            self.text = self.text[: min(ends)]
            self._finish("stop")

    def _finish(self, reason: str) -> None:
        self.is_over, self.finish_reason = True, reason

    def _n_undecided(self) -> int:
        """Length of the longest end of the text that begins a stop text."""
        longest = max(map(len, self._stops), default=1) - 1
        for n in range(min(longest, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-n:]) for stop in self._stops):
                return n
        return 0


class Arguments:
    """The JSON object of a tool call, by the tool's own schema where that can be a grammar."""

    def __init__(self, tool: Tool, sampling: Sampling, vocabulary: Vocabulary) -> None:
        self._sampler = Sampler(sampling)
        self._cap = sampling.max_output_tokens
        self._bytes_of = vocabulary.bytes_of
        self._state = arguments_grammar(tool, vocabulary.grammar)
        self._written = bytearray()
        self._n_tokens = 0
        self.name = tool.name
        self.is_over = False
        self.is_complete = False

    @property
    def text(self) -> str:
        return self._written.decode("utf-8", "ignore")

    def take(self, row: Logits) -> int:
        token = self._sampler.choose(Row(row), self._state)
        self._state.accept(token)
        self._written += self._bytes_of(token)
        self._n_tokens += 1
        self.is_complete = self._written.rstrip().endswith(b"}") and _is_json(self.text)
        self.is_over = self.is_complete or self._n_tokens >= self._cap
        return token

    def close(self) -> None:
        self._state.close()


class Choice:
    """One of several texts, none of which begins another."""

    def __init__(self, texts: Sequence[str], sampling: Sampling, vocabulary: Vocabulary) -> None:
        self._sampler = Sampler(sampling)
        self._texts = [text.encode() for text in texts]
        self._bytes_of = vocabulary.bytes_of
        options = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
        self._state = vocabulary.grammar(f"root ::= {options}")
        self._written = b""
        self.is_over = False

    @property
    def text(self) -> str:
        return self._written.decode()

    def take(self, row: Logits) -> int:
        token = self._sampler.choose(Row(row), self._state)
        self._state.accept(token)
        self._written += self._bytes_of(token)
        self.is_over = self._written in self._texts
        return token

    def close(self) -> None:
        self._state.close()


class Turn:
    """The assistant's next turn: a `Writer`.

    With gpt-oss: perhaps an analysis, then the channel of the answer or of a call, then that. Other
    models write a text, in which calls may stand between tags, or a call that is demanded."""

    def __init__(self, job: ChatJob, effort: Effort, vocabulary: Vocabulary) -> None:
        """Raises JobRejected for a `tool_choice` that names no tool of the job."""
        self._job = job
        self._vocabulary = vocabulary
        self._tools = {tool.name: tool for tool in job.tools}
        self._layout = _HARMONY if vocabulary.is_gpt_oss else _TAGS
        self._openings = openings(job, self._layout)
        self._choice: Choice | None = None
        self._analysis: Analysis | None = None
        self._part: Text | Arguments | None = None
        self._n_tokens = 0
        self.opening: Sequence[int] = self._open(effort)
        """Tokens to be put after the prompt: they are forced."""

    @property
    def is_over(self) -> bool:
        return self._part is not None and self._part.is_over

    @property
    def n_tokens(self) -> int:
        return self._n_tokens

    @property
    def n_reasoning_tokens(self) -> int:
        return self._analysis.n_tokens if self._analysis else 0

    @property
    def analysis(self) -> str:
        return self._analysis.text if self._analysis else ""

    @property
    def text(self) -> str:
        """The answer so far."""
        if not isinstance(self._part, Text):
            return ""
        return self._part.text.partition(TOOL_TAGS[0])[0] if self.calls else self._part.text

    @property
    def calls(self) -> tuple[RawCall, ...]:
        """The tools that are to be called."""
        if isinstance(self._part, Arguments):
            return (RawCall(name=self._part.name, arguments=self._part.text),)
        if isinstance(self._part, Text) and self._may_tag:
            return tuple(tagged_calls(self._part.text, self._tools))
        return ()

    @property
    def finish_reason(self) -> str:
        if isinstance(self._part, Text) and not self.calls:
            return self._part.finish_reason
        is_cut = isinstance(self._part, Arguments) and not self._part.is_complete
        return "length" if is_cut or self._part is None else "tool_calls"

    @property
    def logprob(self) -> float | None:
        """Mean log-probability of the text's tokens, in nats."""
        found = self._part.log_probabilities if isinstance(self._part, Text) else []
        return sum(found) / len(found) if found else None

    def fresh(self) -> str:
        """The text since the last call, as far as nothing can take it back."""
        if not isinstance(self._part, Text):
            return ""
        if not self._may_tag:
            return self._part.fresh()
        return self._part.fresh() if self._part.is_over and not self.calls else ""

    def take(self, row: Logits) -> Sequence[int]:
        """See `Writer.take`."""
        written = self._take(row)
        self._n_tokens += len(written)
        return written

    def guesses(self, most: int) -> Sequence[int]:  # noqa: ARG002 - a chat has no chunk
        return ()

    def close(self) -> None:
        for part in (self._choice, self._part):
            if part:
                part.close()

    @property
    def _may_tag(self) -> bool:
        return bool(self._tools) and not self._vocabulary.is_gpt_oss

    def _take(self, row: Logits) -> Sequence[int]:
        if self._part:
            return [self._part.take(row)]
        if self._choice:
            token = self._choice.take(row)
            return [token, *self._enter(self._choice.text)] if self._choice.is_over else [token]
        if self._analysis:
            written = self._analysis.take(row)
            if not self._analysis.is_closed:
                return written
            return [*written, *self._vocabulary.encode(ASSISTANT), *self._choose()]
        raise JobRejected("a chat turn was written on after its end")

    def _open(self, effort: Effort) -> Sequence[int]:
        if not self._vocabulary.is_gpt_oss and _FINAL in self._openings:
            self._part = Text(self._job, self._vocabulary)
            return ()
        if effort is Effort.NONE or not self._vocabulary.is_gpt_oss:
            return self._choose()
        self._analysis = Analysis(
            sampling=self._job.sampling,
            cap=self._job.max_analysis_tokens,
            end_token=self._vocabulary.end_of_analysis,
            mask=self._vocabulary.analysis,
            bytes_of=self._vocabulary.bytes_of,
        )
        return self._vocabulary.encode(ANALYSIS)

    def _choose(self) -> Sequence[int]:
        """Begin the opening, which the model chooses where there is a choice."""
        only = next(iter(self._openings)) if len(self._openings) == 1 else ""
        header = self._vocabulary.encode(self._layout.lead + only)
        if only:
            return [*header, *self._enter(only)]
        self._choice = Choice(tuple(self._openings), self._job.sampling, self._vocabulary)
        return header

    def _enter(self, opening: str) -> Sequence[int]:
        """Begin what an opening is for; returns the rest of its header."""
        tool = self._openings[opening]
        if tool is None:
            self._part = Text(self._job, self._vocabulary)
            return self._vocabulary.encode(self._layout.to_text)
        self._part = Arguments(tool, self._job.sampling, self._vocabulary)
        return self._vocabulary.encode(self._layout.to_json)


def openings(job: ChatJob, layout: Layout) -> dict[str, Tool | None]:
    """What an answer may begin with, by `tool_choice`, and the tool that is then called; None for
    a text. Raises JobRejected for a choice that is no tool's name."""
    text: dict[str, Tool | None] = {_FINAL: None}
    calls: dict[str, Tool | None] = {layout.call(tool.name): tool for tool in job.tools}
    if job.tool_choice == "none" or (not calls and job.tool_choice == "auto"):
        return text
    if job.tool_choice == "auto":
        return text | calls
    if job.tool_choice == "required" and calls:
        return calls
    named = layout.call(job.tool_choice)
    if named not in calls:
        names = [tool.name for tool in job.tools]
        raise JobRejected(f"tool_choice is {job.tool_choice!r}, the tools are {names}")
    return {named: calls[named]}


def tagged_calls(text: str, tools: Iterable[str]) -> Iterable[RawCall]:
    """The calls in a text: JSON objects with `name` and `arguments` between tags, or the whole."""
    opening, closing = TOOL_TAGS
    known = set(tools)
    inside = [part.partition(closing)[0] for part in text.split(opening)[1:]] or [text]
    for part in inside:
        call = _read_call(part)
        if call and call.name in known:
            yield call


def _read_call(text: str) -> RawCall | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    arguments = found.get("arguments", found.get("parameters", {}))
    return RawCall(name=found["name"], arguments=json.dumps(arguments, ensure_ascii=False))


def arguments_grammar(tool: Tool, new_grammar: Callable[[str], GrammarState]) -> GrammarState:
    """The grammar of the tool's schema; that of any JSON object where the schema is beyond it."""
    if tool.parameters:
        try:
            return new_grammar(json_schema_to_gbnf(json.dumps(dict(tool.parameters))))
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError):
            pass  # a schema that llama.cpp's converter does not know, or that is none
    return new_grammar(JSON_GBNF)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
