"""The route of live charts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from core.colours import PALETTE
from core.runs import MetricRow
from core.runs.store.pictures import add_picture
from tests.support.run_folders import add_metrics, make_run
from ui.server import routes


def request(query: str = "", **path_params: Any) -> Request:
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/",
            "headers": [],
            "query_string": query.encode(),
            "path_params": path_params,
        }
    )


def ask(run_id: str, query: str = "") -> tuple[int, Any]:
    answer = routes.metrics(request(query, run_id=run_id))
    return answer.status_code, json.loads(bytes(answer.body))


def test_first_request_has_all_points_and_later_ones_only_new_points(checkpoints: Path) -> None:
    run = make_run(checkpoints, "net", epochs=2)
    status, first = ask(run)
    assert status == 200 and len(first["rows"]) == 12
    number = first["names"].index("val/dice/CSF")
    assert [row[1:] for row in first["rows"] if row[0] == number] == [[1, 20, 4.0, 0.5], [2, 40, 8.0, 0.75]]
    assert ask(run, f"after={first['last']}")[1]["rows"] == []
    add_metrics(checkpoints, run, 3, 3)
    news = ask(run, f"after={first['last']}")[1]
    assert {row[1] for row in news["rows"]} == {3} and news["last"] > first["last"]


def test_response_has_state_and_classes_of_the_run(checkpoints: Path) -> None:
    answer = ask(make_run(checkpoints, "net", epochs=2, samples_train=40, batch_size=2))[1]
    assert (answer["state"], answer["active"], answer["best"]["mean_dice"]) == ("finished", False, 0.75)
    assert answer["steps_per_epoch"] == 20
    assert answer["classes"] == [
        {"name": name, "colour": colour} for name, colour in zip(("CSF", "GM", "WM"), PALETTE, strict=False)
    ]


def test_nan_is_null(checkpoints: Path) -> None:
    from core.runs.store.index import open_index

    run = make_run(checkpoints, "net", epochs=0)
    open_index(checkpoints).add_metrics(run, [MetricRow(0, 1, 20, 4.0, "val/dice/CSF", math.nan)])
    assert ask(run)[1]["rows"] == [[0, 1, 20, 4.0, None]]


@pytest.mark.parametrize("run_id", ["nope", "../../etc", "", "a/b", ".cache"])
def test_unknown_run_is_404(checkpoints: Path, run_id: str) -> None:
    assert ask(run_id)[0] == 404


def test_invalid_row_id_is_400(checkpoints: Path) -> None:
    status, answer = ask(make_run(checkpoints, "net"), "after=abc")
    assert status == 400 and "whole number" in answer["error"]


def test_thinning_keeps_ends_peaks_and_order() -> None:
    rows = [MetricRow(i, i, i, float(i), "train/loss", math.sin(i / 50)) for i in range(1, 9001)]
    rows[4321] = MetricRow(4322, 4322, 4322, 4322.0, "train/loss", 9.0)  # a peak of one point
    rows += [MetricRow(9001, 9, 9, 9.0, "val/loss", 0.5)]
    kept = routes.thin(rows, points=1000)
    assert [r.id for r in kept] == sorted({r.id for r in kept})
    assert 500 <= len(kept) <= 1010
    assert {1, 4322, 9000, 9001} <= {r.id for r in kept}


def test_short_series_is_not_thinned() -> None:
    rows = [MetricRow(i, i, i, 0.0, "a", math.nan if i == 3 else 1.0) for i in range(1, 11)]
    assert routes.thin(rows) == rows


def test_pictures_are_listed_and_served(checkpoints: Path) -> None:
    run = make_run(checkpoints, "net")
    assert ask(run)[1]["pictures"] == []
    add_picture(checkpoints / run, 2, 40, b"png")
    ((epoch, step, version),) = ask(run)[1]["pictures"]
    answer = routes.picture(request(f"version={version}", run_id=run, step=step))
    assert (epoch, answer.status_code, answer.body, answer.media_type) == (2, 200, b"png", "image/png")
    assert "immutable" in answer.headers["cache-control"]
    for run_id, other in ((run, 41), ("gone", 40), ("..", 40)):
        assert routes.picture(request(run_id=run_id, step=other)).status_code == 404


def test_all_measurements_of_runs_are_served_as_csv(checkpoints: Path) -> None:
    one, two = make_run(checkpoints, "one", epochs=1), make_run(checkpoints, "two", epochs=1)
    answer = routes.measurements(request(f"run={one}&run={two}"))
    lines = bytes(answer.body).decode().splitlines()
    assert lines[0] == "run,epoch,step,elapsed_s,metric,value" and len(lines) == 13
    assert f"{two},1,20,4.0,val/dice/CSF,0.5" in lines
    assert routes.measurements(request("run=gone")).status_code == 404


def test_runs_that_have_ended_since_a_moment_are_served(checkpoints: Path) -> None:
    now = json.loads(bytes(routes.ended(request()).body))
    assert now["ended"] == []
    run = make_run(checkpoints, "net")
    make_run(checkpoints, "other", "queued")
    (found,) = json.loads(bytes(routes.ended(request(f"after={now['now']}")).body))["ended"]
    assert (found["run"], found["name"]) == (run, "net") and "mean Dice 0.875" in found["text"]
    assert json.loads(bytes(routes.ended(request(f"after={now['now'] + 100}")).body))["ended"] == []
    assert routes.ended(request("after=x")).status_code == 400
