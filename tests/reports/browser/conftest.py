"""A browser without a window and without network, for looking at the page as a reader does."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_WITH_PIPES = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(pipes[0], 3), os.dup2(pipes[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium takes its commands from descriptor 3 and answers on 4."""


class Browser:
    """Chromium without a window, driven through its debugging pipe; the network is off.

    One page at a time: `open` it, `run` expressions in it, read `errors` (console errors and uncaught exceptions).
    """

    def __init__(self, program: str, profile: Path) -> None:
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
        flags += [
            "--disable-component-update",
            "--disable-quic",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        pipes = [str(read_there), str(write_there)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WITH_PIPES, *pipes, program, *flags],
            pass_fds=(read_there, write_there),
            stderr=subprocess.DEVNULL,
        )
        os.close(read_there)
        os.close(write_there)
        self._to, self._from = os.fdopen(write_here, "wb", 0), os.fdopen(read_here, "rb")
        self._rest, self._number, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def open(self, path: Path, *, width: int = 1280, scheme: str = "light") -> None:
        """Load a page from disk at a width in CSS pixels and a colour scheme."""
        self._events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._receive())

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript in the page, under its own policy, and return its value; a promise is waited for."""
        result = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            allowUnsafeEvalBlockedByCSP=False,
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    @property
    def errors(self) -> list[Any]:
        """Console errors, security-policy violations and uncaught exceptions since the page was opened."""
        self.run("0")
        wanted = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        return [event["params"] for event in self._events if event.get("method") in wanted]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        self._to.write(
            json.dumps({**message, "sessionId": self._session} if self._session else message).encode() + b"\0"
        )
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = self._from.read1(65536)  # type: ignore[attr-defined]
            if not more:
                raise EOFError("Chromium ended")
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def close(self) -> None:
        """End the browser."""
        self._session = ""
        self.call("Browser.close")
        self._to.close()
        self._from.close()
        self._process.wait(timeout=20)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser without network; the tests that need one are skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on the path; install the package chromium")
    browser = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()
