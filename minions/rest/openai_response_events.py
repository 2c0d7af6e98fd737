"""A response as the events of OpenAI's stream: numbered, from `created` to `completed`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from minions.rest.openai_items import text_item
from minions.rest.openai_stream import KEEPALIVE, failure_json


@dataclass(kw_only=True)
class ResponseEvents:
    """Writes the events of one response. The message item is opened by its first words."""

    response_id: str
    _number: int = field(default=0, init=False)
    _is_open: bool = field(default=False, init=False)

    def begin(self, head: dict[str, Any]) -> Iterator[str]:
        """Before anything is said."""
        yield self._event("response.created", response=head)
        yield self._event("response.in_progress", response=head)

    def say(self, piece: str) -> Iterator[str]:
        """The next words; a comment for none, so that the line stays up."""
        if not piece:
            yield KEEPALIVE
            return
        yield from self._open()
        yield self._event("response.output_text.delta", **self._place, delta=piece, logprobs=[])

    def end(self, done: dict[str, Any]) -> Iterator[str]:
        """All that is finished, item by item, then the whole."""
        for index, item in enumerate(done["output"]):
            if item["type"] == "message":
                yield from self._end_message(item)
            else:
                yield from self._call(index, item)
        yield self._event(f"response.{done['status']}", response=done)

    def fail(self, head: dict[str, Any], error: Exception) -> str:
        """The end of a response that failed."""
        told = failure_json(error)["error"]
        failure = {"code": "server_error", "message": told["message"]}
        failed = head | {"status": "failed", "error": failure}
        return self._event("response.failed", response=failed)

    @property
    def _item_id(self) -> str:
        return f"msg_{self.response_id.removeprefix('resp_')}"

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _open(self) -> Iterator[str]:
        if self._is_open:
            return
        self._is_open = True
        item = text_item(self._item_id, "", [])
        part = item["content"][0]
        begun = item | {"status": "in_progress", "content": []}
        yield self._event("response.output_item.added", output_index=0, item=begun)
        yield self._event("response.content_part.added", **self._place, part=part)

    def _end_message(self, item: dict[str, Any]) -> Iterator[str]:
        yield from self._open()
        part = item["content"][0]
        for index, annotation in enumerate(part["annotations"]):
            yield self._event(
                "response.output_text.annotation.added",
                **self._place,
                annotation_index=index,
                annotation=annotation,
            )
        text = part["text"]
        yield self._event("response.output_text.done", **self._place, text=text, logprobs=[])
        yield self._event("response.content_part.done", **self._place, part=part)
        yield self._event("response.output_item.done", output_index=0, item=item)

    def _call(self, index: int, item: dict[str, Any]) -> Iterator[str]:
        place = {"item_id": item["id"], "output_index": index}
        begun = item | {"status": "in_progress", "arguments": ""}
        yield self._event("response.output_item.added", output_index=index, item=begun)
        kind, arguments = "response.function_call_arguments", item["arguments"]
        yield self._event(f"{kind}.delta", **place, delta=arguments)
        yield self._event(f"{kind}.done", **place, name=item["name"], arguments=arguments)
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _event(self, kind: str, **fields: Any) -> str:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps(event)}\n\n"
