"""A headless Chromium for tests of the page; tests skip, saying why, where there is none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
"""A container has no user namespaces for the sandbox, no GPU, and little shared memory."""
PATIENCE_MS = 60_000


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser for a module's tests; skips when this machine has none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass(kw_only=True)
class Visit:
    """A page that is open, and what the browser complained of."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def refusals(self) -> list[str]:
        """Answers of 400 and above, which browsers write to the console themselves; taken out."""
        refused = [text for text in self.complaints if "Failed to load resource" in text]
        self.complaints = [text for text in self.complaints if text not in refused]
        return refused


@contextlib.contextmanager
def visiting(browser: Any, url: str, **context: Any) -> Iterator[Visit]:
    """Open the page in a browser profile of its own. At the end nothing may have gone wrong in the
    console: no error, no warning, no breach of the content policy."""
    profile = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **context})
    profile.set_default_timeout(PATIENCE_MS)
    visit = Visit(page=profile.new_page())
    visit.page.on("console", lambda message: _note(visit, message))
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    try:
        visit.page.goto(url)
        yield visit
        assert visit.complaints == []
    finally:
        profile.close()


def _note(visit: Visit, message: Any) -> None:
    if message.type in ("error", "warning"):
        visit.complaints.append(message.text)
