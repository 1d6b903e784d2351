"""A real browser for tests: headless Chromium that can reach nothing, and what it noticed.

A test that needs it skips where Chromium is not installed, except where the environment variable CI
is set: there it fails.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Browser", "open_browser"]

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
    # Whatever asks for an address gets none, and nothing listens where requests would go.
    "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=http://127.0.0.1:9",
)  # fmt: skip


class Browser:
    """One page at a time.

    Args:
        driver: Selenium's.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def look(self, path: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Open a file as `file://` in a window of this width; earlier logs are forgotten."""
        self.resize(width=width, dark=dark)
        self.console()
        self.requests()
        self._driver.get(path.resolve().as_uri())

    def resize(self, *, width: int = 1280, dark: bool = False) -> None:
        """Another width, and light or dark."""
        self._tell("Emulation.setDeviceMetricsOverride", width=width, height=900,
                   deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._tell("Emulation.setEmulatedMedia", features=[scheme])

    def ask(self, script: str, *arguments: Any) -> Any:
        """The value of a JavaScript function's body."""
        return self._driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """What the console said since the last question, whatever its level."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """Every address that was asked for since the last question, but for those that the page's
        own policy stopped."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        told = [(message["method"], message["params"]) for message in messages]
        stopped = {
            fact["requestId"]
            for method, fact in told
            if method == "Network.loadingFailed" and fact.get("blockedReason") == "csp"
        }
        return [
            fact["request"]["url"]
            for method, fact in told
            if method == "Network.requestWillBeSent" and fact["requestId"] not in stopped
        ]

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        size = self._tell("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self._tell("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _tell(self, command: str, **parameters: Any) -> Any:
        return self._driver.execute_cdp_cmd(command, parameters)

    def _log(self, name: str) -> list[Any]:
        return list(self._driver.get_log(name))


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Headless Chromium with a profile of its own."""
    chromium = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        missing = "needs Chromium and chromedriver (Debian: chromium, chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    profile = tempfile.mkdtemp(prefix="aflow-grpo-browser-")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = Service(chromedriver)
    try:
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield Browser(driver)
        finally:
            driver.quit()
    finally:
        shutil.rmtree(profile, ignore_errors=True)
