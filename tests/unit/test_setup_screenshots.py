"""The pictures' script waits for what a page is to show, and says what it shows instead."""

from __future__ import annotations

import importlib.util
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "screenshots.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("screenshots", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


screenshots = _load()

needs_browser = pytest.mark.skipif(
    not any(map(screenshots.shutil.which, screenshots.BROWSERS)), reason="no Chromium is installed"
)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with screenshots.browser_page(400, 300) as page:
        yield page


def html(body: str) -> str:
    return "data:text/html," + urllib.parse.quote(body)


@needs_browser
def test_a_picture_is_taken_once_the_page_shows_what_it_is_meant_to(page: Any) -> None:
    late = "setTimeout(() => { document.body.innerHTML = '<h1>curated</h1>' }, 700)"
    page.open(html(f"<body>empty<script>{late}</script></body>"))

    page.wait_for_texts("curated", seconds=20)
    page.settle()

    assert page.picture().startswith(b"\x89PNG\r\n")


@needs_browser
def test_a_page_that_shows_something_else_is_an_error_that_says_what(page: Any) -> None:
    page.open(html("<body>404 nothing here</body>"))

    with pytest.raises(screenshots.Unpictured, match="404 nothing here"):
        page.wait_for_texts("curated", seconds=1)


def test_without_a_browser_the_sentence_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(screenshots.Unpictured, match="apt-get install chromium"):
        screenshots.find_browser()


def test_without_a_running_ui_the_sentence_says_how_to_start_one() -> None:
    with pytest.raises(screenshots.Unpictured, match="lakegate up"):
        screenshots.failed_checks("http://127.0.0.1:9")
