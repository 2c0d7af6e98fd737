"""Serves the page: `/` and its files under `/assets`, with a policy that no foreign script passes.

The page shows documents and model output, both hostile. It inserts them as text only, and the
browser is told to hold it to that: no inline script or style, nothing from elsewhere, and (where
browsers know Trusted Types) no text that becomes HTML or a script address.
"""

from __future__ import annotations

import mimetypes
from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types minions-worker",
    )
)
"""Content-Security-Policy of the page. The one Trusted Types policy it may make is for the address
of the PDF worker."""

WORKER_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
"""A worker has a policy of its own: pdf.js decodes JPEG 2000 and JBIG2 images in WebAssembly."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
REVALIDATE = "no-cache"
"""Kept by the browser, and asked for anew each time: an update is seen at once."""
FOR_A_YEAR = "public, max-age=31536000, immutable"
"""For files in a folder whose name carries their version."""

_VENDORED = "pdfjs-"
_WORKER = "pdf.worker.min.mjs"
# Types that Python, or the system's own list, may not know or may get wrong.
_TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}


def mount_page(api: FastAPI) -> None:
    """Add the page to the service. Its files need no key: they hold nothing of anybody's."""
    for suffix, media_type in _TYPES.items():
        mimetypes.add_type(media_type, suffix)
    folder = Path(str(resources.files("minions").joinpath("page")))
    contract = Path(str(resources.files("minions").joinpath("demo/contract.pdf")))

    @api.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(folder / "index.html", headers=_headers("index.html"))

    @api.get("/assets/sample.pdf", include_in_schema=False)
    async def sample() -> FileResponse:
        return FileResponse(contract, headers=_headers("sample.pdf"))

    api.mount("/assets", PageFiles(directory=folder), name="page")


class PageFiles(StaticFiles):
    """The page's files, each with its headers."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_headers(path))
        return response


def _headers(path: str) -> dict[str, str]:
    policy = WORKER_POLICY if path.endswith(_WORKER) else POLICY
    caching = FOR_A_YEAR if path.startswith(_VENDORED) else REVALIDATE
    return {**HEADERS, "Content-Security-Policy": policy, "Cache-Control": caching}
