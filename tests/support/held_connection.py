"""Answers of a server that reach the page late or never, as on a busy machine."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, WebSocketRoute


class HeldConnection:
    """The connection of a page to its server, whose answers can be held back or dropped, as on a busy machine.

    Attributes
    ----------
    is_dropped : callable. Whether an answer is dropped, as the server drops what is not sent yet when a run begins.
    on_request : callable. Called with what the page sends, before the server has it.
    """

    def __init__(self, page: Page) -> None:
        self._page, self._routes = page, list[WebSocketRoute]()
        self._server: WebSocketRoute
        self.held: list[str | bytes] | None = None
        self.is_dropped: Callable[[str | bytes], bool] = lambda message: False
        self.on_request: Callable[[str | bytes], None] = lambda message: None
        page.route_web_socket(re.compile("/_stcore/stream"), self._connect)

    def hold(self) -> None:
        self.held = []

    def wait_for(self, content: bytes) -> None:
        """Wait until an answer that has the content is held; 60 s at most."""
        for _ in range(12_000):
            if any(content in message for message in self.held or () if isinstance(message, bytes)):
                return
            self._page.wait_for_timeout(5)
        raise TimeoutError(f"expected an answer with {content!r}, got {len(self.held or ())} others")

    def release(self) -> None:
        late, self.held = self.held or [], None
        for message in late:
            self._routes[-1].send(message)

    def _connect(self, route: WebSocketRoute) -> None:
        self._routes.append(route)
        self._server = server = route.connect_to_server()
        server.on_message(lambda message: self._receive(route, message))
        route.on_message(lambda message: self._send(server, message))

    def request(self, message: str | bytes) -> None:
        """Send a request to the server as if it came from the page."""
        self._server.send(message)

    def _send(self, server: WebSocketRoute, message: str | bytes) -> None:
        self.on_request(message)
        server.send(message)

    def _receive(self, route: WebSocketRoute, message: str | bytes) -> None:
        if self.is_dropped(message):
            return
        if self.held is None:
            route.send(message)
        else:
            self.held.append(message)
