"""A real headless Chromium, offline, that writes down everything it complains of or asks for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@contextmanager
def opened(page: Path) -> Iterator[tuple]:
    """The page in a browser without network, and a list that fills with its errors and requests; skips without a browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra test)")
    executable = next((found for name in NAMES if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip("there is no Chromium (Debian: apt-get install chromium-headless-shell)")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"] if root else [])
        view = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
        heard: list[str] = []
        view.on("console", lambda message: heard.append(f"console: {message.text}"))
        view.on("pageerror", lambda error: heard.append(f"error: {error}"))
        view.on("request", lambda request: heard.append(request.url) if not request.url.startswith("data:") else None)
        view.goto(page.resolve().as_uri())
        yield view, heard
        browser.close()
