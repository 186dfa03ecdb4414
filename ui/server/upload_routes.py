"""HTTP routes through which the browser sends the files of a data set: each is written to disk as it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import anyio.from_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.datasets import uploaded_sets
from core.errors import UserError
from core.paths import data_root
from ui.shared.addresses import API


def begin(request: Request) -> Response:
    """``POST /api/uploads``: begin an upload; the response is ``{"id"}``."""
    return _answer(lambda: {"id": uploaded_sets.begin(data_root())})


async def receive(request: Request) -> Response:
    """``POST /api/uploads/<id>?name=<path>``: write the body as a file; the response is ``{"bytes"}``."""
    stream = request.stream()

    async def following() -> bytes | None:
        return await anext(stream, None)

    def pieces() -> Iterator[bytes]:
        while (piece := anyio.from_thread.run(following)) is not None:
            yield piece

    id, name = request.path_params["id"], request.query_params.get("name", "")
    try:
        return await run_in_threadpool(
            lambda: _answer(lambda: {"bytes": uploaded_sets.receive(data_root(), id, name, pieces())})
        )
    except ClientDisconnect:
        return Response(status_code=400)


def finish(request: Request) -> Response:
    """``POST /api/uploads/<id>/finish?name=<text>``: unpack and move into the data root; ``{"folder"}`` names it."""
    id, name = request.path_params["id"], request.query_params.get("name", "")
    return _answer(lambda: {"folder": Path(uploaded_sets.finish(data_root(), id, name)).name})


def cancel(request: Request) -> Response:
    """``POST /api/uploads/<id>/cancel``: remove an upload that is not finished."""
    uploaded_sets.cancel(data_root(), request.path_params["id"])
    return Response(status_code=204)


def _answer(act: Callable[[], dict[str, object]]) -> Response:
    """The result of an action as JSON; 400 with its error, if the user caused one."""
    try:
        return JSONResponse(act(), headers={"cache-control": "no-store"})
    except UserError as error:
        return JSONResponse({"error": str(error)}, 400)


ROUTES = (
    Route(f"/{API}uploads", begin, methods=["POST"]),
    Route(f"/{API}uploads/{{id}}", receive, methods=["POST"]),
    Route(f"/{API}uploads/{{id}}/finish", finish, methods=["POST"]),
    Route(f"/{API}uploads/{{id}}/cancel", cancel, methods=["POST"]),
)
