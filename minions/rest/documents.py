"""Documents over HTTP: upload, list, read page by page, get the file back, delete."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, File, Path, Query, Response, UploadFile

from minions.documents import Document
from minions.documents.model import Page
from minions.errors import DocumentTooLarge, NotFound
from minions.rest.access import Filing, Seeing
from minions.rest.errors import ERRORS, MAY_FAIL
from minions.rest.idempotency import IdempotencyKey, claimed_id
from minions.rest.listing import WantedOf, list_json
from minions.rest.office import Office, OfficeOf
from minions.store.service import Listed
from minions.store.summary import DocumentSummary

router = APIRouter(prefix="/v1/documents", tags=["documents"], responses=ERRORS)
DocumentId = Annotated[str, Path(max_length=200, examples=["doc_0123456789abcdef01234567"])]


@router.post("", status_code=201, responses=MAY_FAIL)
async def upload(
    office: OfficeOf,
    caller: Filing,
    file: Annotated[UploadFile, File(description="PDF, DOCX, HTML, Markdown or text.")],
    key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Upload a file. The same bytes are one document, however often they come."""
    name = file.filename or "document"
    async with office.uploads:  # each may be as large as the limit: so many in memory, no more
        data = await _content(file, name, office.app.limits.max_bytes)
        await claimed_id(office.app.store, caller.owner, key, data, "doc")
        document = await office.app.add_document(data, name, caller.owner)
    summary = await office.app.store.document_summary(document.document_id, caller.owner)
    return summary_json(summary)


@router.get("")
async def list_documents(office: OfficeOf, caller: Seeing, wanted: WantedOf) -> dict[str, Any]:
    """Your documents, the newest first."""
    return list_json(await office.app.store.document_page(caller.owner, wanted), summary_json)


@router.get("/{document_id}")
async def get_document(office: OfficeOf, caller: Seeing, document_id: DocumentId) -> dict[str, Any]:
    """What is known of a document."""
    return summary_json(await office.app.store.document_summary(document_id, caller.owner))


@router.delete("/{document_id}")
async def delete_document(
    office: OfficeOf, caller: Filing, document_id: DocumentId
) -> dict[str, Any]:
    """Forget a document with its file and all that was derived from it: chunks, readings, answers,
    events, traces. What is on the books stays: the ledger, and the record of what left."""
    await office.app.store.document_summary(document_id, caller.owner)
    await _stop_questions(office, caller.owner, document_id)
    await office.app.store.delete_document(document_id, caller.owner)
    return {"id": document_id, "object": "document", "deleted": True}


@router.get(
    "/{document_id}/content",
    response_class=Response,
    responses={200: {"content": {"*/*": {}}}},
)
async def get_content(office: OfficeOf, caller: Seeing, document_id: DocumentId) -> Response:
    """The file as it was uploaded."""
    summary = await office.app.store.document_summary(document_id, caller.owner)
    content = await office.app.store.get_file(document_id)
    # A document is a stranger's: the browser must neither guess its type nor run what is in it.
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{_header_name(summary.name)}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, media_type=summary.media_type, headers=headers)


@router.get("/{document_id}/pages")
async def list_pages(
    office: OfficeOf,
    caller: Seeing,
    document_id: DocumentId,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[int, Query(ge=0, le=2**31, description="Number of a page.")] = 0,
) -> dict[str, Any]:
    """The text of a document, page by page."""
    document = await office.app.store.get_document(document_id, caller.owner)
    later = [page for page in document.pages if page.number > after]
    part = Listed(items=tuple(later[:limit]), has_more=len(later) > limit)
    return list_json(part, lambda page: page_json(document, page))


@router.get("/{document_id}/pages/{number}")
async def get_page(
    office: OfficeOf,
    caller: Seeing,
    document_id: DocumentId,
    number: Annotated[int, Path(ge=1, le=2**31)],
) -> dict[str, Any]:
    """The text of one page; pages count from 1."""
    document = await office.app.store.get_document(document_id, caller.owner)
    for page in document.pages:
        if page.number == number:
            return page_json(document, page)
    raise NotFound(
        f"{document_id} has no page {number}: it has the pages 1 to {len(document.pages)}."
    )


async def _content(file: UploadFile, name: str, limit: int) -> bytes:
    data = await file.read(limit + 1)
    if len(data) > limit:
        raise DocumentTooLarge(
            f"{name} has {file.size or len(data):,} bytes; the limit is {limit:,}. Split the file, "
            "or raise the limit (max_bytes)."
        )
    return data


async def _stop_questions(office: Office, owner: str, document_id: str) -> None:
    """Work on a document that goes would put back what is being forgotten."""
    runs = await office.app.store.unfinished_runs()
    doomed = [
        run.run_id
        for run in runs
        if run.owner == owner and document_id in run.question.get("documents", [])
    ]
    await asyncio.gather(*(office.cancel(run_id) for run_id in doomed))


def _header_name(name: str) -> str:
    return quote(name.encode(errors="replace"), safe="")


def summary_json(summary: DocumentSummary) -> dict[str, Any]:
    """A document without its text."""
    return {
        "id": summary.document_id,
        "object": "document",
        "name": summary.name,
        "media_type": summary.media_type,
        "bytes": summary.n_bytes,
        "pages": summary.n_pages,
        "characters": summary.n_chars,
        "warnings": list(summary.warnings),
        "created_at": summary.created_at,
    }


def page_json(document: Document, page: Page) -> dict[str, Any]:
    """One page with its text and its place in the document's."""
    return {
        "id": str(page.number),
        "object": "page",
        "page": page.number,
        "text": document.text[page.start : page.end],
        "start": page.start,
        "end": page.end,
    }
