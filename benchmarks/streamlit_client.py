"""A visitor of a Streamlit server without a browser: a websocket session that opens pages and presses buttons."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Self
from urllib.request import Request, urlopen

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

VOLUME = re.compile(rb"api/volumes/[0-9a-f]{32}")
TIMEOUT_S = 180


class Visitor:
    """One browser tab's session.

    Parameters
    ----------
    url : str. Address of the server, ``http://host:port``.
    page : str. Name of the page that is opened.
    query : str. Query string of its address.
    """

    def __init__(self, url: str, page: str, query: str = "") -> None:
        self.url, self.page, self.query = url, page, query
        self.volumes: list[str] = []  # paths of the volumes that the last run of the page shows
        self.errors: list[str] = []
        self._buttons: dict[str, str] = {}  # id of the widget by label
        self._script = ""
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        socket_url = self.url.replace("http", "ws", 1) + "/_stcore/stream"
        self._socket = await connect(
            socket_url, subprotocols=[Subprotocol("streamlit")], max_size=None, open_timeout=TIMEOUT_S, compression=None
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def open(self) -> float:
        """Open the page; returns the seconds until its script has run."""
        return await self._run()

    async def press(self, label: str) -> float:
        """Press a button; returns the seconds until the page has run again."""
        return await self._run(self._buttons[label])

    async def fetch_volumes(self) -> float:
        """Fetch the volumes that the page shows; returns the seconds."""
        started = time.monotonic()
        await asyncio.gather(*(asyncio.to_thread(_fetch, f"{self.url}/{path}") for path in self.volumes))
        return time.monotonic() - started

    async def _run(self, button: str = "") -> float:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_name, state.page_script_hash = self.query, self.page, self._script
        if button:
            widget = state.widget_states.widgets.add()
            widget.id, widget.trigger_value = button, True
        assert self._socket is not None, "use it as a context"
        started = time.monotonic()
        self.volumes, self._buttons = [], {}
        await self._socket.send(message.SerializeToString())
        while not self._take(await asyncio.wait_for(self._socket.recv(decode=False), TIMEOUT_S)):
            pass
        return time.monotonic() - started

    def _take(self, data: bytes) -> bool:
        """Take a message of the server; whether it is the last one of a run that is not followed by another."""
        message = ForwardMsg.FromString(data)
        kind: Any = message.WhichOneof("type")
        if kind == "navigation":
            self._script = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "delta":
            element = message.delta.new_element
            if element.WhichOneof("type") == "button":
                self._buttons[element.button.label] = element.button.id
            elif element.WhichOneof("type") == "exception":
                self.errors.append(element.exception.message)
            self.volumes += [found.decode() for found in VOLUME.findall(data) if found.decode() not in self.volumes]
        return kind == "script_finished" and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY


def _fetch(url: str) -> None:
    with urlopen(Request(url, headers={"Accept-Encoding": "gzip"}), timeout=TIMEOUT_S) as response:
        while response.read(2**20):
            pass
