"""A headless Chromium, and what a page in it must not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support.programs import absent, require

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Runs the browser; the test is skipped where there is none."""
    path = require("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page under watch."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        """Opens an empty page; `base` is where its requests may go."""
        self.base = base
        self.page: Page = context.new_page()
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: str) -> Page:
        """Goes to a page of the tracker."""
        self.page.goto(self.base + path)
        return self.page

    def check(self) -> None:
        """Fails if the page complained, or asked another host for anything."""
        assert self.complaints == []
        elsewhere = [url for url in self.requests if not url.startswith((self.base, "data:"))]
        assert elsewhere == []

    def fits(self) -> bool:
        """Tells whether the page is no wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@contextmanager
def visit(browser: Browser, base: str, **options: Any) -> Iterator[Visit]:
    """Opens a page in a profile of its own, and checks it at the end; options as Playwright's, hence `Any`."""
    context = browser.new_context(**options)
    try:
        visited = Visit(context, base)
        yield visited
        visited.check()
    finally:
        context.close()


def violations(page: Page) -> list[str]:
    """Lists what axe-core finds wrong with a page, one sentence each."""
    if not AXE.exists():
        absent("needs axe-core in node_modules, where `make check` puts it when there is npm")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:150] for node in each['nodes'][:3]]}"
        for each in found["violations"]
    ]
