"""A player of the quiz in a real browser, by keyboard, which records what the browser receives before each answer."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field

from playwright.sync_api import ElementHandle, Page, Request, WebSocket

_VIEWER = re.compile(rb'"image": "(api/volumes/\w+)", (?:"intensities": "[^"]*", )?"layers": (\{[^}]*\})')
_SHOWN = """([bar, viewer, number, token]) => bar.dataset.state === "open" && bar.dataset.number === number &&
  viewer.dataset.ready?.includes(token)"""
_ANSWERED = "([bar, number]) => bar.dataset.state === 'answered' && bar.dataset.number === number"
_OPEN_OR_OVER = (
    """([bar, number]) => !bar.isConnected || (bar.dataset.state === "open" && bar.dataset.number === number)"""
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
    """A volume that the browser received.

    Attributes
    ----------
    url : str. Address.
    asked_s, finished_s : float. Times of the request and of its end.
    headers : list of (name, value). Response headers in their order.
    wire : int. Bytes on the wire.
    body : bytes. Decoded body.
    first_byte_ms, last_byte_ms : float. Times of the response since the request.
    """

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
    """Everything that the browser received for a question before it was answered.

    Attributes
    ----------
    number : int. Number of the question.
    frames : list of (time, bytes). Websocket messages.
    volumes : list of Fetched. Volumes in the order of their requests.
    left, right : str. URLs of the segmentations.
    source : str. Source of the page.
    """

    number: int
    frames: list[tuple[float, bytes]]
    volumes: list[Fetched]
    left: str
    right: str
    source: str

    def side(self, name: str) -> Fetched:
        return next(v for v in self.volumes if v.url.endswith(getattr(self, name)))


class Player:
    """A page on which games are played.

    Parameters
    ----------
    record : bool. Whether volumes and page source are recorded too.
    """

    def __init__(self, page: Page, record: bool = False) -> None:
        self.page, self.record = page, record
        self.frames: list[tuple[float, bytes]] = []
        self.requests: list[tuple[float, float, Request]] = []
        self.began = time.monotonic()
        page.on("websocket", self._listen)
        page.on("requestfinished", self._finished)

    def play(self, url: str, count: int, start: str = "Play") -> None:
        """Begin a game on the first screen, or on the present screen if the URL is empty."""
        if url:
            self.page.goto(url)
            self.page.get_by_label("Questions").get_by_text(str(count), exact=True).click()
        self._reset()
        self.page.get_by_role("button", name=start).click()
        self.page.wait_for_selector(".root[data-state=open]", timeout=60_000)
        self.page.wait_for_selector(".root[data-voxel]", timeout=60_000)

    def question(self, number: int) -> Observed:
        """Wait until a question is completely on the screen; what was received for it."""
        bar, viewer = self.handles()
        image, left, right = self._layers(number)
        self.page.wait_for_function(_SHOWN, arg=[bar, viewer, str(number), right])
        observed = Observed(number, list(self.frames), [], left, right, "")
        if self.record:
            urls = {image, left, right}
            for requested_at, finished, request in self._finished_requests(urls):
                observed.volumes.append(_fetched(requested_at, finished, request))
            observed.source = self.page.evaluate(_SOURCE)
        return observed

    def answer(self, number: int, key: str, confidence: int) -> str:
        """Answer a question; the text of the verdict."""
        self.choose(key, confidence)
        heading = self.wait_for_verdict(number).query_selector("strong")
        assert heading is not None
        return heading.text_content() or ""

    def choose(self, key: str, confidence: int) -> None:
        """Press the arrow key of a side, then the digit of the confidence."""
        self.page.keyboard.press(key)
        self.page.keyboard.press(str(confidence))

    def wait_for_verdict(self, number: int) -> ElementHandle:
        """Wait for the verdict of a question; the element of the bar."""
        bar, _ = self.handles()
        self.page.wait_for_function(_ANSWERED, arg=[bar, str(number)])
        return bar

    def next_question(self, number: int) -> bool:
        """Press Enter; whether another question follows."""
        return self.question_follows(self.press_enter(), number)

    def press_enter(self) -> ElementHandle:
        """Press Enter; the element of the bar before."""
        bar, _ = self.handles()
        self._reset()
        self.page.keyboard.press("Enter")
        return bar

    def question_follows(self, bar: ElementHandle, number: int) -> bool:
        """Wait for the next question or the end of the game."""
        self.page.wait_for_function(_OPEN_OR_OVER, arg=[bar, str(number + 1)])
        return bool(bar.evaluate("bar => bar.isConnected"))

    def handles(self) -> tuple[ElementHandle, ElementHandle]:
        bar, viewer = (self.page.query_selector(f".root[{name}]") for name in ("data-state", "data-voxel"))
        assert bar is not None and viewer is not None
        return bar, viewer

    def _layers(self, number: int) -> tuple[str, str, str]:
        """URLs of image, left and right segmentation in the newest message to the viewer that has them."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = [m for _, frame in self.frames for m in _VIEWER.finditer(frame)]
            layers = [(m[1].decode(), json.loads(m[2])) for m in found]
            unanswered = [(image, both) for image, both in layers if set(both) == {"left", "right"}]
            if unanswered:
                image, both = unanswered[-1]
                return image, both["left"], both["right"]
            self.page.wait_for_timeout(5)
        raise AssertionError(f"question {number} was not received")

    def _finished_requests(self, urls: set[str]) -> list[tuple[float, float, Request]]:
        """The requests of these URLs, when all of them are reported as finished; the viewer may be ready before."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = [(url, entry) for entry in self.requests for url in urls if entry[2].url.endswith(url)]
            if {url for url, _ in found} == urls:
                return [entry for _, entry in found]
            self.page.wait_for_timeout(5)
        raise AssertionError(f"expected finished requests of {sorted(urls)}, got {[r.url for *_, r in self.requests]}")

    def _reset(self) -> None:
        self.frames.clear()
        self.requests.clear()
        self.began = time.monotonic()

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda data: self.frames.append((time.monotonic() - self.began, _bytes(data))))

    def _finished(self, request: Request) -> None:
        if "/api/volumes/" in request.url:
            requested_at = request.timing["startTime"]
            self.requests.append((requested_at, time.monotonic() - self.began, request))


def _bytes(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


def _fetched(requested_at: float, finished: float, request: Request) -> Fetched:
    response = request.response()
    assert response is not None
    headers = [(h["name"], h["value"]) for h in response.headers_array()]
    timing = request.timing
    sizes = request.sizes()
    return Fetched(
        request.url,
        requested_at,
        headers,
        sizes["responseBodySize"] + sizes["responseHeadersSize"],
        response.body(),
        timing["responseStart"],
        timing["responseEnd"],
        finished,
    )
