"""Headless Chromium by its DevTools protocol over a pipe (--remote-debugging-pipe): one browser for many tests."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 300.0  # s; the machine may be busy


class Chromium:
    """A browser without a network: every request of its pages is written down, and those to other hosts fail."""

    def __init__(self, profile: Path):
        out, to_browser = os.pipe()
        from_browser, back = os.pipe()
        # The browser reads 3 and writes 4; bash puts them there, from numbers that are neither (dash knows one digit).
        far = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (out, back)]
        options = ["--headless", "--no-first-run", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"]
        options += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--remote-debugging-pipe"]
        options += [f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        shell = f'exec "$@" 3<&{far[0]} 4>&{far[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", str(CHROMIUM), *options], pass_fds=far, stderr=subprocess.DEVNULL
        )
        for fd in (out, back, *far):
            os.close(fd)
        self._write = os.fdopen(to_browser, "wb", buffering=0)
        self._read = from_browser
        os.set_blocking(self._read, False)
        self._pending, self._n = b"", 0
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        self._write.close()
        os.close(self._read)

    def call(self, method: str, **params: Any) -> dict:
        """The answer to one command. Raises RuntimeError for the protocol's errors."""
        self._n += 1
        message = {"id": self._n, "method": method, "params": params}
        if not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        answer = self._next(lambda m: m.get("id") == message["id"])
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _next(self, wanted: Callable[[dict], bool]) -> dict:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            while b"\0" in self._pending:
                text, self._pending = self._pending.split(b"\0", 1)
                message = json.loads(text)
                self.events.append(message)
                if wanted(message):
                    return message
            try:
                self._pending += os.read(self._read, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
        raise TimeoutError(f"chromium has not answered for {PATIENCE} s")

    def open(self, url: str) -> float:
        """Load a page, past events forgotten; the seconds until it had loaded."""
        self._load("about:blank")  # else an address that differs by its #part loads nothing
        return self._load(url)

    def _load(self, url: str) -> float:
        self.events.clear()
        begun = time.monotonic()
        self.call("Page.navigate", url=url)
        if not any(m.get("method") == "Page.loadEventFired" for m in self.events):
            self._next(lambda m: m.get("method") == "Page.loadEventFired")
        return time.monotonic() - begun

    def run(self, script: str) -> Any:
        """The JSON value of an expression, awaited if it is a promise. Raises AssertionError where it throws."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        """The expression's value once that is true."""
        ends = time.monotonic() + PATIENCE
        while not (value := self.run(script)):
            assert time.monotonic() < ends, f"never true: {script}"
            time.sleep(0.05)
        return value

    def size(self, width: int, height: int = 900) -> None:
        """Of the window, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def prefer(self, scheme: str) -> None:
        """ "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path, whole: bool = False) -> Path:
        """A PNG of what is seen, or of the whole page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def pdf(self) -> bytes:
        """What would be printed, by the page's own sizes."""
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])

    def faults(self) -> list[str]:
        """What the page has said on the console, and thrown, since it was opened."""
        self.run("0")  # what was said before has come by now
        said = []
        for message in self.events:
            params = message.get("params", {})
            if message.get("method") == "Runtime.exceptionThrown":
                said.append(str(params["exceptionDetails"].get("exception", params)))
            elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] in (
                "error",
                "warning",
                "assert",
            ):
                said.append(str(params["args"]))
            elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                said.append(str(params["entry"]))
        return said

    def requests(self) -> list[str]:
        """Addresses that the page has asked for since it was opened, but for those of its own data."""
        sent = [m["params"]["request"]["url"] for m in self.events if m.get("method") == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("data:", "blob:"))]
