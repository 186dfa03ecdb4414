"""A button that turns notifications of the browser on and off; ``ui/server/notifications.js`` shows them."""

from __future__ import annotations

from pathlib import Path

from ui.shared.component import component

_mount = component("bell", Path(__file__).parent, ("bell.js",), ("bell.css",))


def bell() -> None:
    """Show the button. The choice is kept by the browser, not by the server."""
    _mount(key="bell", data={}, width="content")
