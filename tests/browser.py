"""A real Chromium without a window, spoken to through a pipe in the DevTools protocol.

    with Browser() as browser:
        page = browser.open("file:///tmp/report.html", scripts=False)
        page.value("document.title")

Protocol: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT_S = 60.0


def found() -> str | None:
    """The program, where there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A browser of our own with an empty profile, for a block; it reads from descriptor 3 and writes to 4."""

    def __enter__(self) -> Self:
        program = found()
        assert program is not None
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        flags = ["--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={self._profile.name}"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        redirect = f'exec {{read}}<&{to_read} {{write}}>&{to_write}; exec "$@" 3<&$read 4>&$write'
        self._process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", program, *flags, "--remote-debugging-pipe", "about:blank"],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self._profile.name},
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._calls = b"", 0
        self.events: list[dict[str, Any]] = []
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._write)
            os.close(self._read)
            self._profile.cleanup()

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of one command; what happens meanwhile goes to `events`."""
        self._calls += 1
        number = self._calls
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (told := self._next()).get("id") != number:
            self.events.append(told)
        assert "error" not in told, told
        return dict(told["result"])

    def wait_for(self, method: str, session: str) -> None:
        """Until that event came; those before it go to `events`."""
        while not any(e.get("method") == method and e.get("sessionId") == session for e in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser says nothing"
            read = os.read(self._read, 2**16)
            assert read, "the browser has ended"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, url: str, *, scripts: bool = True, width: int = 1100, wait: bool = True) -> "Page":
        """A page, loaded unless we do not `wait`; without `scripts` none of its own runs."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable", session)
        self.call("Emulation.setScriptExecutionDisabled", session, value=not scripts)
        self.call(
            "Emulation.setDeviceMetricsOverride", session, width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        self.events.clear()
        self.call("Page.navigate", session, url=url)
        if wait:
            self.wait_for("Page.loadEventFired", session)
        return Page(self, session)


class Page:
    """A page under test."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol."""
        return self._browser.call(method, self._session, **params)

    def value(self, script: str) -> Any:
        """What an expression of JavaScript gives in the page."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    @property
    def requests(self) -> list[str]:
        """What the browser asked for so far, the page itself included."""
        return [e["params"]["request"]["url"] for e in self._events("Network.requestWillBeSent")]

    @property
    def complaints(self) -> list[str]:
        """Errors in the console: exceptions, and what the page's policy refused."""
        refused = [e["params"]["entry"]["text"] for e in self._events("Log.entryAdded")]
        return refused + [e["params"]["exceptionDetails"]["text"] for e in self._events("Runtime.exceptionThrown")]

    def _events(self, method: str) -> list[dict[str, Any]]:
        return [e for e in self._browser.events if e.get("method") == method and e.get("sessionId") == self._session]
