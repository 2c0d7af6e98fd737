"""Evaluations over HTTP: the runs that lie in the service's folder of evaluations, with reports."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse

from eval.report.figures import run_figures
from eval.report.page import report_page
from eval.rows import MANIFEST, RunFolder, read_run
from minions.errors import MinionsError, NotFound
from minions.rest.access import Administering
from minions.rest.errors import ERRORS, in_json
from minions.rest.listing import whole_list
from minions.rest.office import Office, OfficeOf

router = APIRouter(
    prefix="/v1/evals",
    tags=["evaluations"],
    responses=in_json(ERRORS),
    dependencies=[Administering],
)
EvalId = Annotated[
    str,
    PathParameter(max_length=200, description="Name of the run's folder.", examples=["cuad-local"]),
]
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""No separators and no leading dot: nothing that leads out of the folder."""
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""A report shows what models wrote; the page around it must not be reached by any of that."""


@router.get("")
async def list_evals(office: OfficeOf) -> dict[str, Any]:
    """Every run, by name. Put runs there with `minions eval run --out`."""
    return whole_list(await asyncio.to_thread(_runs, office.app.settings.evals_dir))


@router.get("/{eval_id}")
async def get_eval(office: OfficeOf, eval_id: EvalId) -> dict[str, Any]:
    """A run: what was asked of whom, and how far it is."""
    run = await asyncio.to_thread(read_run, _folder(office, eval_id))
    return run_json(run)


@router.get("/{eval_id}/report.html", response_class=HTMLResponse)
async def get_report(office: OfficeOf, eval_id: EvalId) -> HTMLResponse:
    """The run's figures as a page that stands alone."""
    page = await asyncio.to_thread(_report, _folder(office, eval_id))
    return HTMLResponse(page, headers={"Content-Security-Policy": REPORT_POLICY})


def _folder(office: Office, eval_id: str) -> Path:
    path = office.app.settings.evals_dir / eval_id
    if not _FOLDER_NAME.fullmatch(eval_id) or not (path / MANIFEST).is_file():
        raise NotFound(f"There is no evaluation {eval_id!r}. GET /v1/evals lists what there is.")
    return path


def _runs(folder: Path) -> list[dict[str, Any]]:
    if not folder.is_dir():
        return []
    found = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    return [_listed(path) for path in found if _FOLDER_NAME.fullmatch(path.name)]


def _listed(path: Path) -> dict[str, Any]:
    """One broken run must not hide the others."""
    try:
        return run_json(read_run(path))
    except MinionsError as error:
        return {"id": path.name, "object": "eval", "error": str(error)}


def _report(path: Path) -> str:
    return report_page(run_figures(read_run(path)))


def run_json(run: RunFolder) -> dict[str, Any]:
    """A run as clients see it."""
    manifest = asdict(run.manifest)
    progress = [
        {"strategy": label, "done": len(run.of(label)), "missing": run.n_missing(label)}
        for label in run.manifest.labels
    ]
    return {"id": run.path.name, "object": "eval", **manifest, "progress": progress}
