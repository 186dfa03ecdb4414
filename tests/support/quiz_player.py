"""Plays the quiz in a real browser by keyboard, and notes all that the browser receives before each answer."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import ElementHandle, Page, Request, WebSocket

_VIEWER = re.compile(rb'"image": "(/api/volumes/\w+)", "layers": (\{[^}]*\})')
_SHOWN = """([bar, viewer, number, token]) => bar.dataset.state === "asked" && bar.dataset.number === number &&
  viewer.dataset.ready?.includes(token)"""
_TOLD = "([bar, number]) => bar.dataset.state === 'told' && bar.dataset.number === number"
_ASKED_OR_OVER = (
    """([bar, number]) => !bar.isConnected || (bar.dataset.state === "asked" && bar.dataset.number === number)"""
)
_SOURCE = """() => {
  const parts = [];
  const walk = (root) => {
    parts.push(root.innerHTML ?? "");
    for (const e of root.querySelectorAll("*")) if (e.shadowRoot) walk(e.shadowRoot);
  };
  walk(document);
  return document.documentElement.outerHTML + parts.join("");
}"""


@dataclass
class Fetched:
    """One volume as it came: address, when it was asked for and answered (seconds since the question was asked for),
    headers in their order, bytes on the wire and in the body."""

    url: str
    asked_s: float
    headers: list[tuple[str, str]] = field(default_factory=list)
    wire: int = 0
    body: bytes = b""
    first_byte_ms: float = 0.0
    last_byte_ms: float = 0.0
    finished_s: float = 0.0


@dataclass
class Observed:
    """All that came for one question before it was answered: websocket frames with their times, volumes in the order in
    which they were asked for, the page's source."""

    number: int
    frames: list[tuple[float, bytes]]
    volumes: list[Fetched]
    left: str
    right: str
    source: str

    def side(self, name: str) -> Fetched:
        return next(v for v in self.volumes if v.url.endswith(getattr(self, name)))


class Player:
    """A page on which a game is played. ``watch``: keep what is received (bodies, headers, sizes, source)."""

    def __init__(self, page: Page, watch: bool = False) -> None:
        self.page, self.watch = page, watch
        self.frames: list[tuple[float, bytes]] = []
        self.requests: list[tuple[float, float, Request]] = []
        self.began = time.monotonic()
        page.on("websocket", self._listen)
        page.on("requestfinished", self._finished)

    def play(self, url: str, count: int, start: str = "Play") -> None:
        """Open the first screen (or the score of the last game), and begin."""
        if url:
            self.page.goto(url)
            self.page.get_by_label("Questions").get_by_text(str(count), exact=True).click()
        self._reset()
        self.page.get_by_role("button", name=start).click()
        self.page.wait_for_selector(".root[data-state=asked]", timeout=60_000)
        self.page.wait_for_selector(".root[data-voxel]", timeout=60_000)

    def question(self, number: int) -> Observed:
        """Wait until a question is on the screen in full; all that came for it."""
        bar, viewer = self.handles()
        image, left, right = self._layers(number)
        self.page.wait_for_function(_SHOWN, arg=[bar, viewer, str(number), right])
        observed = Observed(number, list(self.frames), [], left, right, "")
        if self.watch:
            wanted = {image, left, right}
            for asked, finished, request in self.requests:
                if any(request.url.endswith(token) for token in wanted):
                    observed.volumes.append(_fetched(asked, finished, request))
            observed.source = self.page.evaluate(_SOURCE)
        return observed

    def answer(self, number: int, key: str, sure: int) -> dict[str, Any]:
        """Choose a side by its arrow key and say how sure; what the bar says then."""
        self.choose(key, sure)
        bar = self.told(number)
        return {"verdict": bar.query_selector("strong").text_content()}  # type: ignore[union-attr]

    def choose(self, key: str, sure: int) -> None:
        """Choose a side by its arrow key and say how sure."""
        self.page.keyboard.press(key)
        self.page.keyboard.press(str(sure))

    def told(self, number: int) -> ElementHandle:
        """Wait for the answer to a question; the bar that tells it."""
        bar, _ = self.handles()
        self.page.wait_for_function(_TOLD, arg=[bar, str(number)])
        return bar

    def go_on(self, number: int) -> bool:
        """Press Enter; whether another question came."""
        return self.another(self.enter(), number)

    def enter(self) -> ElementHandle:
        """Press Enter; the bar that was there."""
        bar, _ = self.handles()
        self._reset()
        self.page.keyboard.press("Enter")
        return bar

    def another(self, bar: ElementHandle, number: int) -> bool:
        """Wait for what Enter brings; whether it is another question."""
        self.page.wait_for_function(_ASKED_OR_OVER, arg=[bar, str(number + 1)])
        return bool(bar.evaluate("bar => bar.isConnected"))

    def handles(self) -> tuple[ElementHandle, ElementHandle]:
        bar, viewer = (self.page.query_selector(f".root[{name}]") for name in ("data-state", "data-voxel"))
        assert bar is not None and viewer is not None
        return bar, viewer

    def _layers(self, number: int) -> tuple[str, str, str]:
        """The addresses in the newest message to the viewer, once that of this question has come."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = [m for _, frame in self.frames for m in _VIEWER.finditer(frame)]
            layers = [(m[1].decode(), json.loads(m[2])) for m in found]
            asked = [(image, both) for image, both in layers if set(both) == {"left", "right"}]
            if asked:
                image, both = asked[-1]
                return image, both["left"], both["right"]
            self.page.wait_for_timeout(5)
        raise AssertionError(f"question {number} did not come")

    def _reset(self) -> None:
        self.frames.clear()
        self.requests.clear()
        self.began = time.monotonic()

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda data: self.frames.append((time.monotonic() - self.began, _bytes(data))))

    def _finished(self, request: Request) -> None:
        if "/api/volumes/" in request.url:
            asked = request.timing["startTime"]
            self.requests.append((asked, time.monotonic() - self.began, request))


def _bytes(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


def _fetched(asked: float, finished: float, request: Request) -> Fetched:
    response = request.response()
    assert response is not None
    headers = [(h["name"], h["value"]) for h in response.headers_array()]
    timing = request.timing
    sizes = request.sizes()
    return Fetched(
        request.url, asked, headers, sizes["responseBodySize"] + sizes["responseHeadersSize"], response.body(),
        timing["responseStart"], timing["responseEnd"], finished,
    )  # fmt: skip
