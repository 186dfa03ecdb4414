"""The middleware of the app: the access check, and what is added to the document behind it."""

from __future__ import annotations

import os

from starlette.middleware import Middleware

from core.errors import UserError
from ui.server.access import Access
from ui.server.document import Document
from ui.server.outside import UVICORN_PROXIES_VARIABLE, Outside


def middleware() -> list[Middleware]:
    """The middleware of ``st.App``; ends the process with one line if a setting cannot be understood.

    uvicorn is kept from replacing the address of a proxy by that of its client, which the access check has to see.
    """
    os.environ.setdefault(UVICORN_PROXIES_VARIABLE, "")
    try:
        outside = Outside.from_environment()
    except UserError as error:
        raise SystemExit(f"error: {error}") from error
    return [Middleware(Access, outside=outside), Middleware(Document)]
