"""What the parent tells the reading child: one line of JSON, before the file's bytes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from minions.documents.reading import ReadLimits
from minions.documents.sniff import Kind

OUT_OF_MEMORY = "out_of_memory"
"""The child's error code when an allocation failed; all others are codes of `minions.errors`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadRequest:
    """One file to read."""

    kind: Kind
    name: str
    limits: ReadLimits

    def to_line(self) -> bytes:
        """ASCII JSON and a newline."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> ReadRequest:
        """The inverse of `to_line`."""
        fields = json.loads(line)
        return cls(
            kind=Kind(fields["kind"]),
            name=fields["name"],
            limits=ReadLimits(**fields["limits"]),
        )
