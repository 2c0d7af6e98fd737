"""`/v1/files`: documents under OpenAI's name for them. A file's id is its document's id."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Response, UploadFile

from minions.rest import documents
from minions.rest.access import Filing, Seeing
from minions.rest.documents import DocumentId
from minions.rest.errors import ERRORS, MAY_FAIL
from minions.rest.listing import WantedOf, list_json
from minions.rest.office import OfficeOf
from minions.store.summary import DocumentSummary

router = APIRouter(prefix="/v1/files", tags=["openai"], responses=ERRORS)
PURPOSE = "user_data"
"""Of every file in lists: it is read to answer questions, whatever it was called at first."""


@router.post("", responses=MAY_FAIL)
async def upload(
    office: OfficeOf,
    caller: Filing,
    file: Annotated[UploadFile, File(description="PDF, DOCX, HTML, Markdown or text.")],
    purpose: Annotated[
        Literal["user_data", "assistants"], Form(description="Both mean: to be asked about.")
    ],
) -> dict[str, Any]:
    """Upload a file to ask about: `{"type": "file", "file": {"file_id": ...}}` in a message."""
    document = await documents.upload(office, caller, file)
    return await get_file(office, caller, document["id"]) | {"purpose": purpose}


@router.get("")
async def list_files(office: OfficeOf, caller: Seeing, wanted: WantedOf) -> dict[str, Any]:
    """Your files, the newest first."""
    return list_json(await office.app.store.document_page(caller.owner, wanted), file_json)


@router.get("/{file_id}")
async def get_file(office: OfficeOf, caller: Seeing, file_id: DocumentId) -> dict[str, Any]:
    """What is known of a file."""
    return file_json(await office.app.store.document_summary(file_id, caller.owner))


@router.get("/{file_id}/content", response_class=Response)
async def get_content(office: OfficeOf, caller: Seeing, file_id: DocumentId) -> Response:
    """The file as it was uploaded."""
    return await documents.get_content(office, caller, file_id)


@router.delete("/{file_id}")
async def delete_file(office: OfficeOf, caller: Filing, file_id: DocumentId) -> dict[str, Any]:
    """Forget a file with all that was derived from it."""
    return await documents.delete_document(office, caller, file_id) | {"object": "file"}


def file_json(summary: DocumentSummary) -> dict[str, Any]:
    """A file as OpenAI's clients know it."""
    return {
        "id": summary.document_id,
        "object": "file",
        "bytes": summary.n_bytes,
        "created_at": int(summary.created_at),
        "filename": summary.name,
        "purpose": PURPOSE,
        "status": "processed",
    }
