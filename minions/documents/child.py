"""The child process that reads one PDF, DOCX or HTML file and exits.

    python -m minions.documents.child  <  header line (JSON), then the file's bytes
                                       >  one JSON object: pages and warnings, or an error

Parsers of binary formats meet files from strangers. Here they may hang, crash or eat memory: the
process has bounds of its own, knows no secret of its parent and is killed when its time is over.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from minions.documents.protocol import OUT_OF_MEMORY, ReadRequest
from minions.documents.reading import Extract, ReadLimits
from minions.documents.sniff import Kind
from minions.errors import MinionsError

Reader = Callable[[bytes, str, ReadLimits], Extract]


def main() -> None:
    """Read the request from stdin, write the reply to stdout."""
    request = ReadRequest.from_line(sys.stdin.buffer.readline())
    _bound_process(request.limits)
    reply = _reply(request)
    sys.stdout.buffer.write(json.dumps(reply, ensure_ascii=False).encode("utf-8"))


def _reply(request: ReadRequest) -> dict[str, Any]:
    try:
        read = _reader(request.kind)
        return asdict(read(sys.stdin.buffer.read(), request.name, request.limits))
    except MinionsError as error:
        return {"error": error.code, "message": str(error)}
    except MemoryError:
        return {"error": OUT_OF_MEMORY, "message": ""}


def _reader(kind: Kind) -> Reader:
    """Import only the reader that is needed: the child's start is paid per file."""
    if kind is Kind.PDF:
        from minions.documents.pdf import read_pdf

        return read_pdf
    if kind is Kind.DOCX:
        from minions.documents.word import read_docx

        return read_docx
    from minions.documents.web import read_html

    return read_html


def _bound_process(limits: ReadLimits) -> None:
    """Let the kernel bound memory and CPU time (where it can: not on Windows).

    The parent's clock is the real timeout; the bound on CPU time also ends a child whose parent was
    killed.
    """
    if sys.platform == "win32":
        return
    import resource

    cpu_s = math.ceil(limits.timeout_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
