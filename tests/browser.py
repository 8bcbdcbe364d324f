"""A headless Chromium for tests, spoken to over two pipes: no driver and no further package is needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
         "--mute-audio", "--disable-dev-shm-usage")


def find_browser() -> str | None:
    """The first Chromium on the path."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a Chromium that was started for it. `complaints` are errors and warnings of its console."""

    def __init__(self, program: str, profile: Path) -> None:
        self.complaints: list[str] = []
        self._number, self._buffer, self._answers = 0, b"", {}  # type: ignore[var-annotated]
        self._events: list[dict[str, Any]] = []
        ours, theirs = os.pipe(), os.pipe()         # commands to it, answers from it

        def at_3_and_4() -> None:                   # where Chromium looks for them
            reading, writing = os.dup(ours[0]), os.dup(theirs[1])
            os.dup2(reading, 3)
            os.dup2(writing, 4)
        self.process = subprocess.Popen([program, *FLAGS, f"--user-data-dir={profile}"], close_fds=False,
                                        preexec_fn=at_3_and_4, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = ours[1], theirs[0]
        target = self.send("Target.createTarget", session=None, url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", session=None, targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._to)
        os.close(self._from)

    def send(self, method: str, session: str | None = "", **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = self.session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda: self._answers.pop(self._number, None))
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, page: Path, width: int = 1200, height: int = 900, *, dark: bool = False) -> None:
        """Load a file, on a screen of this size."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        self.send("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self._events.clear()
        self.send("Page.navigate", url=page.resolve().as_uri())
        self._wait(lambda: next((e for e in self._events if e["method"] == "Page.loadEventFired"), None))

    def run(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it comes to."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The value of an expression, once it is true."""
        return self._wait(lambda: self.run(script))

    def click(self, selector: str) -> None:
        """Press and release the mouse over the middle of an element, as a user would."""
        x, y = self.run(
            "(selector => { const element = document.querySelector(selector);"
            "element.scrollIntoView({block: 'center', inline: 'center'}); const box = element.getBoundingClientRect();"
            f"return [box.x + box.width / 2, box.y + box.height / 2] }})({json.dumps(selector)})")
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of what is on the screen, or of the whole page."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def _wait(self, ready: Any, seconds: float = 30) -> Any:
        until = time.monotonic() + seconds
        while not (found := ready()):
            assert time.monotonic() < until, "the browser does not answer"
            assert self.process.poll() is None, "the browser is gone"
            self._read(0.05)
        return found

    def _read(self, seconds: float) -> None:
        if not select.select([self._from], [], [], seconds)[0]:
            return
        self._buffer += os.read(self._from, 1 << 20)
        *messages, self._buffer = self._buffer.split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._events.append(message)
                self._complain(message["method"], message["params"])

    def _complain(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(parameters["args"]))
