"""Firefox under test, driven through WebDriver BiDi, which the browser itself speaks over a websocket."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

START_TIMEOUT_S, TIMEOUT_S, POLL_S = 60, 60, 0.05
PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.w3c_touch_events.enabled": 1,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}
# In the page: the first element of a selector, within shadow roots too.
FIND = """
const find = (selector, root = document) => root.querySelector(selector)
  ?? [...root.querySelectorAll("*")].map((e) => e.shadowRoot && find(selector, e.shadowRoot)).find(Boolean);
"""


class Firefox:
    """A headless Firefox with one page.

    Parameters
    ----------
    program : str. The program.
    profile : Path. An empty folder.
    width, height : int. Size of the page in CSS pixels.

    Attributes
    ----------
    errors : list of str. Errors that scripts of the page have raised.
    """

    def __init__(self, program: str, profile: Path, width: int = 1440, height: int = 1000) -> None:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines), "utf-8")
        command = [program, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self._connection = contextlib.ExitStack()
        connecting = connect(f"{self._address()}/session", max_size=None, open_timeout=START_TIMEOUT_S)
        self._socket = self._connection.enter_context(connecting)
        self._number = 0
        self.errors: list[str] = []
        self._send("session.new", capabilities={})
        self._send("session.subscribe", events=["log.entryAdded"])
        self._context = self._send("browsingContext.getTree")["contexts"][0]["context"]
        self._size = {"width": width, "height": height}
        self.set_pixel_ratio(1)

    def close(self) -> None:
        """End the browser."""
        self._connection.close()
        self._process.terminate()
        self._process.wait(TIMEOUT_S)

    def set_pixel_ratio(self, ratio: float) -> None:
        """Move the page to a screen with so many pixels per CSS pixel."""
        options = {"viewport": self._size, "devicePixelRatio": ratio}
        self._send("browsingContext.setViewport", context=self._context, **options)

    def goto(self, url: str) -> None:
        """Open an address."""
        self._send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, as plain JSON; ``find(selector)`` finds an element within shadow roots."""
        program = f"(() => {{ {FIND} return JSON.stringify(({expression}) ?? null); }})()"
        target = {"context": self._context}
        found = self._send("script.evaluate", expression=program, target=target, awaitPromise=True)
        if found["type"] != "success":
            raise AssertionError(found["exceptionDetails"]["text"])
        return json.loads(found["result"]["value"])

    def wait(self, expression: str) -> Any:
        """Wait until an expression is true; returns its value."""
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            value = self.evaluate(expression)
            if value:
                return value
            time.sleep(POLL_S)
        raise AssertionError(f"not true within {TIMEOUT_S} s: {expression}")

    def centre(self, selector: str) -> tuple[int, int]:
        """Centre of an element in the window, scrolled into view."""
        box = f"find({selector!r})"
        self.evaluate(f"{box}.scrollIntoView({{block: 'center'}})")
        x, y = self.evaluate(f"(b => [b.left + b.width / 2, b.top + b.height / 2])({box}.getBoundingClientRect())")
        return round(x), round(y)

    def click(self, selector: str) -> None:
        """Click on the centre of an element."""
        x, y = self.centre(selector)
        self.pointer([{"type": "pointerMove", "x": x, "y": y}, *_press()])

    def pointer(self, actions: Sequence[dict[str, Any]], kind: str = "mouse") -> None:
        """Perform actions of a pointer: "mouse" or "touch"."""
        self._act({"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": list(actions)})

    def wheel(self, x: int, y: int, delta_y: int) -> None:
        """Turn the wheel at a point."""
        action = {"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": delta_y}
        self._act({"type": "wheel", "id": "wheel", "actions": [action]})

    def press(self, key: str) -> None:
        """Press and release a key: a character, or its code in WebDriver."""
        self._act({"type": "key", "id": "keys", "actions": [{"type": t, "value": key} for t in ("keyDown", "keyUp")]})

    def drag_finger(self, x: int, y: int, to_y: int) -> None:
        """Move a finger up or down, in steps."""
        steps = [{"type": "pointerMove", "x": x, "y": y + (to_y - y) * n // 5, "duration": 20} for n in range(6)]
        down, up = _press()
        self.pointer([steps[0], down, *steps[1:], up], "touch")

    def _act(self, source: dict[str, Any]) -> None:
        self._send("input.performActions", context=self._context, actions=[source])

    def _address(self) -> str:
        """Address that the browser prints when it is ready."""
        lines: queue.Queue[str] = queue.Queue()
        assert self._process.stderr is not None
        stream = self._process.stderr

        def read() -> None:
            for line in stream:
                lines.put(line)

        threading.Thread(target=read, daemon=True).start()
        seen = []
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and (self._process.poll() is None or not lines.empty()):
            try:
                seen.append(lines.get(timeout=1))
            except queue.Empty:
                continue
            found = re.search(r"WebDriver BiDi listening on (ws://\S+)", seen[-1])
            if found:
                return found[1]
        raise RuntimeError(f"Firefox did not start: {''.join(seen)}")

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(TIMEOUT_S))
            if answer.get("method") == "log.entryAdded" and _is_script_error(answer["params"]):
                self.errors.append(answer["params"]["text"])
            if answer.get("id") == self._number:
                if answer["type"] == "error":
                    raise AssertionError(f"{method}: {answer['error']}: {answer['message']}")
                return dict(answer["result"])


def _is_script_error(entry: dict[str, Any]) -> bool:
    """Whether an entry of the log is an error of a script, and no font whose page was left while it was loaded."""
    failed = entry.get("type") == "javascript" and entry["level"] == "error"
    return failed and not entry["text"].startswith("downloadable font")


def _press() -> list[dict[str, Any]]:
    return [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
