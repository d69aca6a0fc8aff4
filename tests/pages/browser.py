"""A headless Chromium driven over its DevTools pipe, for pages with scripts; skipped without it."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PLACES = (
    *(os.environ.get("MMTUNE_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"),
    "/tmp/chromium",
)
# What a console, a policy or a script that fails says, by DevTools' names.
TROUBLE = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
PATIENCE = 60  # seconds without a message after which the test fails


class Browser:
    """One page. Messages are JSON with a zero byte behind, as `--remote-debugging-pipe` wants."""

    def __init__(self, write: int, read: int) -> None:
        self.write, self.read = write, read
        self.received = b""
        self.session = ""
        self.number = 0
        self.trouble: list[Any] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command's result; complaints of the page on the way are kept in `trouble`."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            found = json.loads(self.receive())
            if found.get("method") in TROUBLE:
                self.trouble.append(found)
            if found.get("id") == self.number:
                result: dict[str, Any] = found["result"]
                return result

    def receive(self) -> bytes:
        """The next message, without its zero byte; a promise that never ends fails the test."""
        while b"\0" not in self.received:
            if not select.select([self.read], [], [], PATIENCE)[0]:
                pytest.fail(f"Chromium said nothing for {PATIENCE} seconds")
            piece = os.read(self.read, 1 << 16)
            if not piece:
                pytest.skip("Chromium has ended: it may lack a library here")
            self.received += piece
        message, _, self.received = self.received.partition(b"\0")
        return message

    def open(self, page: Path) -> None:
        """Load a file in a new tab, and wait until its scripts have run."""
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=page.as_uri())
        self.run(
            "new Promise(r => document.readyState == 'complete' ? r()"
            " : addEventListener('load', () => r()))"
        )

    def run(self, script: str) -> Any:
        """The value of an expression, waited for where it is a promise."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def show(self, width: int, height: int = 800, scheme: str = "light") -> None:
        """Give the window a size, below 600 pixels as a phone, and a colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def press(self, key: str) -> None:
        """A key as a person presses it."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A Chromium with a fresh profile."""
    program = next((found for name in PLACES if name and (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium: put it on the PATH, or name it in MMTUNE_CHROMIUM")
    (read_in, write), (read, write_out) = os.pipe(), os.pipe()
    options = ("--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
               "--remote-debugging-pipe")  # fmt: skip
    command = f'exec "$0" {options} "--user-data-dir=$1" 3<&{read_in} 4>&{write_out}'
    process = subprocess.Popen(
        ["bash", "-c", command, program, str(profile)],
        pass_fds=(read_in, write_out),
        stderr=subprocess.DEVNULL,
    )
    os.close(read_in)
    os.close(write_out)
    try:
        yield Browser(write, read)
    finally:
        process.kill()
        process.wait()
        os.close(write)
        os.close(read)
