"""Pictures of the running UI, for the README and `docs/`.

    python docs/screenshots.py http://127.0.0.1:3000     a UI that is up already
    python docs/screenshots.py --demo                    starts the demo, takes them, ends it

Every picture is taken only once the page shows what it is meant to show, so that a slow machine
makes no empty pictures: a page that never does is an error.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).parent.parent
IMAGES = Path(__file__).parent / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_CHECKS = """
query Checks {
  assetNodes {
    assetKey { path }
    assetChecksOrError {
      ... on AssetChecks {
        checks {
          name
          blocking
          executionForLatestMaterialization {
            status
            runId
            evaluation { severity metadataEntries { __typename } }
          }
        }
      }
    }
  }
}
"""


class Unpictured(Exception):
    """A picture could not be taken; the message says why and what to do."""


# --- The browser ---------------------------------------------------------------------------------


def find_browser() -> str:
    """The path of a Chromium.

    Raises:
        Unpictured: none is installed.
    """
    for name in BROWSERS:
        path = shutil.which(name)
        if path is not None:
            return path
    raise Unpictured(
        "No Chromium was found (looked for " + ", ".join(BROWSERS) + "). "
        "Install it (on Debian: apt-get install chromium) and run this again."
    )


class Page:
    """One page of a browser, driven by the DevTools protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._last_id = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result; events that come between are passed over."""
        self._last_id += 1
        self._connection.send(
            json.dumps({"id": self._last_id, "method": method, "params": parameters})
        )
        while True:
            message = json.loads(self._connection.recv(timeout=60))
            if message.get("id") != self._last_id:
                continue
            if "error" in message:
                raise Unpictured(f"Chromium refused {method}: {message['error']}")
            return dict(message["result"])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise Unpictured(f"{expression} failed in the page: {result['exceptionDetails']}")
        return result["result"].get("value")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def wait_for(self, expression: str, what: str, seconds: float = 60) -> None:
        """Return once a JavaScript expression is true.

        Raises:
            Unpictured: it did not become true in `seconds`.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.evaluate(f"Boolean({expression})"):
                return
            time.sleep(0.25)
        shown = str(self.evaluate("document.body ? document.body.innerText : ''"))
        raise Unpictured(
            f"After {seconds:.0f} s the page {self.evaluate('location.href')} did not show {what}. "
            f"It shows: {' / '.join(shown.splitlines())[:400]!r}"
        )

    def wait_for_texts(self, *texts: str, seconds: float = 60) -> None:
        """Return once the page shows all of `texts`."""
        listed = json.dumps(list(texts))
        self.wait_for(
            f"document.body && {listed}.every(t => document.body.innerText.includes(t))",
            ", ".join(texts),
            seconds,
        )

    def settle(self, seconds: float = 20) -> None:
        """Return once two pictures in a row are the same: animations and late rows are over."""
        deadline = time.monotonic() + seconds
        before = b""
        while time.monotonic() < deadline:
            now = self.picture()
            if now == before:
                return
            before = now
            time.sleep(0.75)

    def picture(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def browser_page(width: int = 1500, height: int = 800) -> Iterator[Page]:
    """A page in a headless Chromium that is ended afterwards.

    Raises:
        Unpictured: no Chromium, or it does not start.
    """
    browser = find_browser()
    with tempfile.TemporaryDirectory(prefix="lakegate-chromium-") as profile:
        process = subprocess.Popen(
            [
                browser,
                "--headless",
                # Its sandbox needs rights that containers and root do not give.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _debugging_port(Path(profile), process)
            with connect(_page_address(port), max_size=None) as connection:
                page = Page(connection)
                page.call("Page.enable")
                page.call(
                    "Emulation.setDeviceMetricsOverride",
                    width=width,
                    height=height,
                    deviceScaleFactor=1,
                    mobile=False,
                )
                yield page
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _debugging_port(profile: Path, process: subprocess.Popen[bytes], seconds: float = 30) -> int:
    # With port 0 Chromium chooses one and writes it here.
    chosen = profile / "DevToolsActivePort"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Unpictured(f"Chromium ended at once with exit code {process.returncode}.")
        lines = chosen.read_text().splitlines() if chosen.exists() else []
        if len(lines) >= 2:
            return int(lines[0])
        time.sleep(0.1)
    raise Unpictured(f"Chromium opened no debugging port in {seconds:.0f} s.")


def _page_address(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
        targets = json.load(answer)
    for target in targets:
        if target["type"] == "page":
            return str(target["webSocketDebuggerUrl"])
    raise Unpictured(f"Chromium shows no page: {targets}")


# --- What Dagster knows --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check whose last evaluation failed; `samples`, whether it shows rows at fault."""

    asset: tuple[str, ...]
    name: str
    severity: str
    samples: bool


def failed_checks(address: str) -> tuple[FailedCheck, ...]:
    """The failed checks, those that show rows at fault first, and errors before warnings.

    Raises:
        Unpictured: nothing answers at `address`.
    """
    request = urllib.request.Request(
        f"{address}/graphql",
        data=json.dumps({"query": _CHECKS}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            data = json.load(answer)["data"]
    except (urllib.error.URLError, TimeoutError) as error:
        raise Unpictured(
            f"No Dagster UI answers at {address} ({error}). Start one with `lakegate up`, "
            "or run this with --demo."
        ) from error
    found = []
    for node in data["assetNodes"]:
        for check in node["assetChecksOrError"].get("checks", []):
            execution = check["executionForLatestMaterialization"]
            if execution is not None and execution["status"] == "FAILED":
                evaluation = execution["evaluation"] or {"severity": "ERROR", "metadataEntries": []}
                kinds = {entry["__typename"] for entry in evaluation["metadataEntries"]}
                found.append(
                    FailedCheck(
                        asset=tuple(node["assetKey"]["path"]),
                        name=check["name"],
                        severity=evaluation["severity"],
                        samples="TableMetadataEntry" in kinds,
                    )
                )
    return tuple(
        sorted(found, key=lambda c: (not c.samples, c.severity != "ERROR", c.asset, c.name))
    )


# --- The pictures --------------------------------------------------------------------------------


def picture_lineage(page: Page, address: str, dataset: str, location: str) -> bytes:
    """The lineage of one data set."""
    page.open(f"{address}/locations/{urllib.parse.quote(location)}/asset-groups/{dataset}/lineage")
    page.wait_for_texts("Lineage")
    page.settle()
    return page.picture()


def picture_check(page: Page, address: str, check: FailedCheck) -> bytes:
    """The page of one failed check."""
    asset = "/".join(urllib.parse.quote(part) for part in check.asset)
    name = urllib.parse.quote(check.name)
    page.open(f"{address}/assets/{asset}?view=checks&checkDetail={name}")
    page.wait_for_texts(check.name, "Failed")
    page.settle()
    return page.picture()


def take(address: str, dataset: str, location: str, folder: Path) -> tuple[Path, ...]:
    """Take every picture into `folder`.

    Raises:
        Unpictured: see its message.
    """
    checks = [c for c in failed_checks(address) if c.asset[-1] == dataset]
    if not checks:
        raise Unpictured(
            f"No check of {dataset} has failed at {address}, so there is none to show. "
            "Land the golden files first: `lakegate demo`, or run this with --demo."
        )
    folder.mkdir(parents=True, exist_ok=True)
    lineage, failed = folder / "lineage.png", folder / "failed_check.png"
    with browser_page() as page:
        lineage.write_bytes(picture_lineage(page, address, dataset, location))
        failed.write_bytes(picture_check(page, address, checks[0]))
    return lineage, failed


@contextmanager
def _address(given: str | None) -> Iterator[str]:
    """The address of a UI that shows the demo: the one given, or one's own for the block."""
    if given is not None:
        yield given.rstrip("/")
        return
    from dagster_project.demo import DemoError, demonstrated
    from dagster_project.report import wide_console
    from dagster_project.standing import StuckError
    from dagster_project.up import UpError
    from deploy.local.embedded import EmbeddedAwsError

    try:
        with demonstrated(0, wide_console()) as up:
            yield up.ui
    except (DemoError, StuckError, UpError, EmbeddedAwsError) as problem:
        raise Unpictured(str(problem)) from problem


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?", help="where the UI is, such as http://127.0.0.1:3000")
    parser.add_argument("--demo", action="store_true", help="start the demo and end it afterwards")
    parser.add_argument("--dataset", default="orders")
    parser.add_argument("--location", default="lakegate", help="Dagster's code location")
    parser.add_argument("--into", type=Path, default=IMAGES)
    options = parser.parse_args()
    if options.demo == (options.address is not None):
        parser.error("give the address of a running UI, or --demo")
    try:
        find_browser()
        with _address(options.address) as address:
            pictures = take(address, options.dataset, options.location, options.into)
    except Unpictured as error:
        print(error, file=sys.stderr)
        return 1
    for picture in pictures:
        print(f"{picture} ({picture.stat().st_size // 1024} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
