"""A sweep of the wheel over a pane, paced by frames of the browser, and what a page moves meanwhile.

Nothing depends on how long a frame takes: each event follows the frame that the one before it was drawn in, and the
timer after which a viewer reports a crosshair that rests is held until the sweep is over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from playwright.sync_api import Page, WebSocket

from core.paths import project_root
from tests.support.viewers import Pane

# Timers of a duration are held while it is `heldMs`, and run by `releaseTimers`.
_HOLD_TIMERS = """(() => {
    const { setTimeout: start, clearTimeout: stop } = window, held = new Map();
    let ids = 0;
    window.heldMs = null;
    window.heldTimers = held;
    window.setTimeout = (action, ms, ...all) => {
        if (ms !== window.heldMs) return start(action, ms, ...all);
        held.set(--ids, action);
        return ids;
    };
    window.clearTimeout = (id) => { if (!held.delete(id)) stop(id); };
    window.releaseTimers = () => {
        window.heldMs = null;
        for (const action of [...held.values()]) action();
        held.clear();
    };
})()"""
_SWEEP = """async (canvas, turns) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const place = { clientX: left + width / 2, clientY: top + height / 2 };
    const frame = () => new Promise((done) => requestAnimationFrame(() => {
        const channel = new MessageChannel(); // its task runs when all of this frame's drawing is done
        channel.port1.onmessage = done;
        channel.port2.postMessage(0);
    }));
    const picture = () => {
        let digest = 0;
        for (const byte of canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data) {
            digest = (Math.imul(digest, 31) + byte) | 0;
        }
        return digest;
    };
    const steps = [];
    await frame();
    for (const deltaY of turns) {
        const event = new WheelEvent('wheel', { deltaY, ...place, bubbles: true, composed: true, cancelable: true });
        canvas.dispatchEvent(event);
        await frame();
        steps.push([Number(canvas.dataset.slice), picture(), event.defaultPrevented]);
    }
    return steps;
}"""


@dataclass(frozen=True)
class Step:
    """What a pane shows at the end of the first frame after an event of the wheel.

    Attributes
    ----------
    slice : int. Slice of the pane.
    picture : int. Digest of its pixels.
    taken : bool. Whether the pane took the event, so that the page does not scroll.
    """

    slice: int
    picture: int
    taken: bool


@dataclass
class Traffic:
    """What a page has moved since it was last forgotten: bytes of its websockets in both directions, and requests."""

    bytes: int = 0
    requests: list[str] = field(default_factory=list)

    def wait_until_quiet(self, page: Page) -> None:
        """Wait until nothing is moved for 1.5 seconds: what an earlier run of the page still sends has arrived."""
        before = -1
        while before != self.bytes:
            before = self.bytes
            page.wait_for_timeout(1500)

    @classmethod
    def of(cls, page: Page) -> Traffic:
        """That of a page from now on, before it is opened: a websocket that is already open is not seen."""
        traffic = cls()

        def count(payload: str | bytes) -> None:
            traffic.bytes += len(payload)

        def follow(socket: WebSocket) -> None:
            traffic.requests.append(socket.url)
            socket.on("framesent", count)
            socket.on("framereceived", count)

        page.on("websocket", follow)
        page.on("request", lambda request: traffic.requests.append(request.url))
        return traffic

    def forget(self) -> None:
        """Count from 0 again."""
        self.bytes = 0
        self.requests.clear()


def hold_rest_timer(page: Page) -> None:
    """Prepare a page, before it is opened, for :func:`sweep`."""
    page.add_init_script(_HOLD_TIMERS)


def sweep(page: Page, shown: Pane, turns: list[int]) -> list[Step]:
    """Turn the wheel over a pane on which the pointer rests, an event for each frame.

    The report of the crosshair that then rests waits for :func:`rest`.

    Parameters
    ----------
    turns : list of int. Amount of each event in pixels, positive for downwards.
    """
    page.evaluate("ms => { heldMs = ms }", _rest_ms())
    return [Step(*step) for step in shown.canvas.evaluate(_SWEEP, turns)]


def at_slice(number: int) -> re.Pattern[str]:
    """Addresses with the crosshair in an axial slice, counted from 1."""
    return re.compile(rf"at=\d+(?:,|%2C)\d+(?:,|%2C){number}(?:&|$)")


def waiting_reports(page: Page) -> int:
    """Number of reports that wait for the crosshair to rest."""
    return int(page.evaluate("heldTimers.size"))


def rest(page: Page) -> None:
    """The crosshair has rested: it is reported."""
    page.evaluate("releaseTimers()")


def _rest_ms() -> int:
    """Time without a step after which a viewer reports its crosshair."""
    source = (project_root() / "ui" / "viewer" / "interaction.js").read_text("utf-8")
    found = re.search(r"\bREST_MS = (\d+)", source)
    assert found is not None
    return int(found[1])
