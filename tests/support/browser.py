"""A page in headless Chromium, Debian's, driven by playwright.

A test skips, with the reason, where Chromium is missing: ``deploy/setup --test-servers`` installs it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import attrs
import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.instance import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """Where it is; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@attrs.define
class Watched:
    """A page, and what it did that a dashboard must not.

    Attributes:
        errors: of scripts, and what the browser's policy refused.
        elsewhere: requests to any other address than the page's own.
    """

    page: Page
    errors: list[str] = attrs.field(factory=list)
    elsewhere: list[str] = attrs.field(factory=list)

    def open(self, url: str) -> None:
        """Open an address, and watch what becomes of it."""
        own = urlsplit(url).netloc

        def asked(request: Any) -> None:
            if urlsplit(request.url).netloc != own:
                self.elsewhere.append(request.url)

        def said(message: Any) -> None:
            # Not a fault of the page: it asks for no icon, browsers do by themselves.
            if message.type == "error" and "favicon" not in str(message.location):
                self.errors.append(message.text)

        self.page.on("request", asked)
        self.page.on("console", said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)


@contextmanager
def own_loop() -> Iterator[None]:
    """Give playwright a loop of asyncio's own: trio_asyncio, once imported, makes all loops Trio's."""
    watcher = getattr(asyncio, "ThreadedChildWatcher", None)
    with (
        patch.object(asyncio, "new_event_loop", asyncio.SelectorEventLoop),
        patch.object(asyncio.events, "get_child_watcher", watcher, create=True),
    ):
        yield


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A new page in a browser of its own; both end with the test, and so does playwright's loop."""
    path = chromium()
    if path is None:
        pytest.skip("no Chromium here: install Debian's package chromium")
    root = os.geteuid() == 0
    with own_loop(), sync_playwright() as playwright:
        # As root, Chromium's sandbox does not work; the only page here is our own.
        launched = playwright.chromium.launch(
            executable_path=path, chromium_sandbox=not root, args=["--disable-dev-shm-usage"]
        )
        page = launched.new_page(viewport={"width": 1280, "height": 900}, locale="en-GB")
        page.set_default_timeout(PATIENCE * 1000)
        yield Watched(page)
        launched.close()
