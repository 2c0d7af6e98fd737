"""What OpenAI's clients put into a message: texts and files, as pydantic models and as ours."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from minions.chat.conversation import Attachment
from minions.errors import BadRequest, BeyondAbilities
from workers import Effort, Tool, ToolCall

MAX_TOOLS = 128
MAX_STOPS = 4
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high"]
ToolMode = Literal["auto", "none", "required"]


class Strict(BaseModel):
    """A parameter that would be ignored is refused instead."""

    model_config = ConfigDict(extra="forbid")


class TextPart(Strict):
    """Words."""

    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: list[dict[str, Any]] | None = None
    """Of our own earlier answers, when they come back."""
    logprobs: list[dict[str, Any]] | None = None


class RefusalPart(Strict):
    """A model's refusal, when it comes back."""

    type: Literal["refusal"]
    refusal: str


class FileContent(Strict):
    """A file by its bytes or its id."""

    file_data: str | None = Field(default=None, description="Base64, or a data URL of it.")
    file_id: str | None = Field(default=None, max_length=200)
    filename: str | None = Field(default=None, max_length=255)


class FilePart(Strict):
    """A file, as chat completions have it."""

    type: Literal["file"]
    file: FileContent


class InputFilePart(FileContent):
    """A file, as the Responses API has it."""

    type: Literal["input_file"]


class PicturePart(BaseModel):
    """A picture or a sound: known, so that it can be refused with the reason."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["image_url", "input_image", "input_audio"]


Part = Annotated[
    TextPart | RefusalPart | FilePart | InputFilePart | PicturePart, Field(discriminator="type")
]
Content = str | list[Part] | None


def text_of(content: Content) -> str:
    """The words of a message."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = (part.text for part in content if isinstance(part, TextPart))
    refusals = (part.refusal for part in content if isinstance(part, RefusalPart))
    return "\n\n".join([*texts, *refusals])


def attachments_of(content: Content) -> tuple[Attachment, ...]:
    """The files of a message. Raises BeyondAbilities for pictures and sounds, BadRequest for a file
    that is neither given nor named."""
    if content is None or isinstance(content, str):
        return ()
    if any(isinstance(part, PicturePart) for part in content):
        raise BeyondAbilities(
            "Only text is read here, and only text is sent to the cloud: no model gets to see a "
            "picture or hear a sound. Send a document with a text layer, or ask in words."
        )
    files = (part.file if isinstance(part, FilePart) else part for part in content)
    return tuple(_attachment(file) for file in files if isinstance(file, FileContent))


def _attachment(file: FileContent) -> Attachment:
    if (file.file_data is None) == (file.file_id is None):
        raise BadRequest("A file part holds either file_data or file_id, and exactly one of them.")
    if file.file_id is not None:
        return Attachment(name=file.filename or file.file_id, document_id=file.file_id)
    name = file.filename or "document"
    return Attachment(name=name, data=_decoded(file.file_data or "", name))


def _decoded(data: str, name: str) -> bytes:
    head = _DATA_URL.match(data)
    try:
        return base64.b64decode(data[head.end() :] if head else data, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(
            f"file_data of {name!r} is not base64, nor a data URL such as "
            "`data:application/pdf;base64,...`."
        ) from None


class Function(Strict):
    """A function that the client offers."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = Field(
        default=None, description="true is refused: arguments are not forced into their schema."
    )


def tool_of(function: Function) -> Tool:
    """As our models get it. Raises BadRequest for a promise that can't be kept."""
    if function.strict:
        raise BadRequest(
            f"Tool {function.name!r} asks for strict arguments, which no model here guarantees: "
            "leave `strict` out and check the arguments."
        )
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=function.parameters or {},
    )


def checked_choice(choice: str, tools: Iterable[Tool]) -> str:
    """`tool_choice` as our models get it. Raises BadRequest for a tool that is not there."""
    names = [tool.name for tool in tools]
    if choice in ("auto", "none") or (choice == "required" and names) or choice in names:
        return choice
    raise BadRequest(f"tool_choice is {choice!r}, and the tools are: {', '.join(names) or 'none'}.")


class CalledFunction(Strict):
    """What a model wanted to be run."""

    name: str
    arguments: str


class Call(Strict):
    """A tool call of an earlier turn, as chat completions have it."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None

    def call(self) -> ToolCall:
        return ToolCall(call_id=self.id, name=self.function.name, arguments=self.function.arguments)


def effort_of(effort: ReasoningEffort | None) -> Effort | None:
    """OpenAI's `minimal` is no reasoning at all."""
    if effort is None:
        return None
    return Effort.NONE if effort == "minimal" else Effort(effort)
