"""HTTP routes for live charts, pictures and volumes, behind the access check."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from core import runs
from core.errors import UserError
from core.runs.compare import metrics_csv
from core.runs.other_roots import SEPARATOR, find_other_run, other_metrics
from core.runs.store.metrics_file import MetricRow
from core.runs.thinning import thinned
from ui.server import upload_routes
from ui.shared.addresses import API, base_path
from ui.shared.legend import class_colours
from ui.shared.navigation import PAGES
from ui.shared.paths import runs_root
from ui.viewer import streams, volumes

ReadRows = Callable[[int, int], list[MetricRow]]

PAGE_ROWS = 5000  # rows read from the index at a time
MAX_ROWS = 400_000  # per request
POINTS_PER_SERIES = 2000  # per request; longer series are thinned


def thin(rows: Iterable[MetricRow], points: int = POINTS_PER_SERIES) -> list[MetricRow]:
    """Rows sorted by id, about ``points`` per series at most, with the shape of the curves preserved."""
    by_name: dict[str, list[MetricRow]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    kept = [row for series in by_name.values() for row in thinned(series, points, lambda row: row.value)]
    return sorted(kept, key=lambda row: row.id)


def metrics(request: Request) -> Response:
    """``GET /api/runs/<id>/metrics?after=<row id>``: measurements after a row, and the state of the run.

    The response is ``{"run", "state", "active", "what", "epoch", "epochs", "steps_per_epoch", "best", "classes":
    [{name, colour}], "pictures": [[epoch, step, version], ...], "last": row id, "names": [...], "rows": [[name index,
    epoch, step, elapsed seconds, value or null], ...]}``; 404 for an unknown run. The function is not async: Starlette
    runs it in a thread, since it reads the database.
    """
    run_id = request.path_params["run_id"]
    try:
        after = int(request.query_params.get("after", "0"))
    except ValueError:
        return JSONResponse({"error": "after: expected a row id (a whole number)"}, 400)
    try:
        run, read = _source(run_id)
        rows = _rows_after(read, after)
    except UserError as error:
        return JSONResponse({"error": str(error)}, 404)
    last = rows[-1].id if rows else after
    return JSONResponse(_response(run, thin(rows), last), headers={"cache-control": "no-store"})


def _source(run_id: str) -> tuple[runs.RunSummary, ReadRows]:
    """A run, and what reads its measurements after a row; the run may be one of another root."""
    root = runs_root()
    if SEPARATOR not in run_id:
        return runs.get_run(root, run_id), partial(runs.metrics_after, root, run_id)
    other = find_other_run(root, run_id)
    if other.root is not None:
        return other.summary, partial(runs.metrics_after, other.root, other.summary.id)
    return other.summary, partial(other_metrics, root, other)


def _rows_after(read: ReadRows, after: int) -> list[MetricRow]:
    rows: list[MetricRow] = []
    while len(rows) < MAX_ROWS:
        page = read(rows[-1].id if rows else after, PAGE_ROWS)
        rows += page
        if len(page) < PAGE_ROWS:
            break
    return rows


def _response(run: runs.RunSummary, rows: Sequence[MetricRow], last: int) -> dict[str, Any]:
    state = run.state
    names = list(dict.fromkeys(row.name for row in rows))
    number = {name: i for i, name in enumerate(names)}
    best = state.best
    return {
        "run": run.id,
        "state": state.state,
        "active": state.active or state.state == "queued",
        "what": state.what,
        "epoch": state.epoch,
        "epochs": state.epochs,
        "steps_per_epoch": math.ceil(run.config.sampling.samples_train / run.config.sub_volumes_per_step),
        "best": best and {"epoch": best.epoch, "mean_dice": best.mean_dice, "measured_on": best.measured_on},
        "classes": class_colours(state),
        "pictures": [[p.epoch, p.step, str(p.version)] for p in runs.list_pictures(run.folder)],
        "last": last,
        "names": names,
        "rows": [
            [number[r.name], r.epoch, r.step, round(r.elapsed_s, 2), r.value if math.isfinite(r.value) else None]
            for r in rows
        ],
    }


def picture(request: Request) -> Response:
    """``GET /api/runs/<id>/pictures/<step>``: the picture of a validation as PNG; 404 where there is none.

    With the version of the picture in the address, as the query parameter ``version``, browsers keep it.
    """
    step = request.path_params["step"]
    try:
        run, _ = _source(request.path_params["run_id"])
        found = next((p for p in runs.list_pictures(run.folder) if p.step == step), None)
        content = found.path.read_bytes() if found else None
    except (UserError, OSError) as error:
        return JSONResponse({"error": str(error)}, 404)
    if content is None:
        return JSONResponse({"error": f"{run.id}: no picture of step {step}"}, 404)
    kept = "private, max-age=31536000, immutable" if "version" in request.query_params else "no-store"
    return Response(content, media_type="image/png", headers={"cache-control": kept})


def ended(request: Request) -> Response:
    """``GET /api/ended?after=<seconds since 1970>``: the runs that have ended since, for notifications of the browser.

    The response is ``{"now", "ended": [{"run", "name", "text"}]}``; without ``after`` no run is in it.
    """
    now = time.time()
    try:
        after = float(request.query_params.get("after", now))
    except ValueError:
        return JSONResponse({"error": "after: expected seconds since 1970"}, 400)
    found = [
        {"run": run.id, "name": run.name, "text": runs.describe_end(run)}
        for run in runs.list_runs(runs_root())
        if run.state.state in runs.ENDED and after < (run.state.ended_at or 0) <= now
    ]
    return JSONResponse({"now": now, "ended": found}, headers={"cache-control": "no-store"})


def measurements(request: Request) -> Response:
    """``GET /api/measurements.csv?run=<id>&run=<id>``: all measurements of runs as CSV; 404 if one is unknown."""
    try:
        ids = request.query_params.getlist("run")
        if any(SEPARATOR in run_id for run_id in ids):
            content = metrics_csv((run.id, _rows_after(read, 0)) for run, read in map(_source, ids))
        else:
            content = runs.curves_csv(runs_root(), ids)
    except UserError as error:
        return JSONResponse({"error": str(error)}, 404)
    headers = {"cache-control": "no-store", "content-disposition": "attachment; filename=measurements.csv"}
    return Response(content, media_type="text/csv", headers=headers)


def connection(request: Request) -> Response:
    """``POST /api/connection``: an empty response, if the access check lets the page's origin through."""
    return Response(status_code=204)


def to_start_page(request: Request) -> Response:
    """``GET /home``: the start page under its name, like the other pages."""
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"./{query}", 307)


def routes() -> list[Route]:
    """The routes of ``st.App``, below the path prefix of the server."""
    found = [
        Route(f"/{API}runs/{{run_id}}/metrics", metrics, methods=["GET"]),
        Route(f"/{API}runs/{{run_id}}/pictures/{{step:int}}", picture, methods=["GET"]),
        Route(f"/{API}measurements.csv", measurements, methods=["GET"]),
        Route(f"/{API}ended", ended, methods=["GET"]),
        Route(f"/{API}connection", connection, methods=["POST"]),
        Route(f"/{next(iter(PAGES))}", to_start_page, methods=["GET"]),
        *upload_routes.ROUTES,
        volumes.ROUTE,
        streams.ROUTE,
    ]
    return [Route(base_path() + route.path, route.endpoint, methods=route.methods) for route in found]
