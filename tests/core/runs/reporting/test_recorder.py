"""Files and index rows of a recorder, how often they are written, and that an unusable index does not stop training."""

from __future__ import annotations

import io
import json
import math
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from core import runs
from core.errors import RunError
from core.events import Ended, Metrics, Picture, Preparing, Progress, Ready, Saved
from core.presets import preset
from core.runs.launch import create_run
from core.runs.reporting.recorder import Recorder
from core.runs.store import folder as files
from core.runs.store import metrics_file
from core.runs.store.database import FILE
from core.runs.store.index import open_index
from core.runs.store.state import Best, RunState, read_state, write_state
from tests.support.index_rows import metric_rows, run_rows

READY = Ready({"device": "cpu"}, ("air", "CSF", "GM"), 0, 0)


class Clock:
    """A monotonic clock that the test advances."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("core.runs.reporting.recorder.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return create_run(tmp_path, preset("quick").with_values({"path": "demo"}), "net", foreground=True)


def progress(step: int) -> Progress:
    return Progress(1, 5, step, 100, 0.5, 20.0, step / 10, 60.0)


def test_events_become_state(folder: Path) -> None:
    recorder = Recorder(folder, read_state(folder))
    recorder(Preparing("reading subjects", 2, 8))
    preparing = read_state(folder)
    assert (preparing.state, preparing.what) == ("starting", "reading subjects 2/8")
    assert (preparing.done, preparing.total) == (2, 8)
    recorder(READY)
    state = read_state(folder)
    assert (state.done, state.total) == (0, 0)
    assert (state.state, state.what, state.facts, state.classes) == (
        "running",
        "training",
        {"device": "cpu"},
        READY.classes,
    )
    recorder(progress(7))
    recorder(Saved("best", "x", 1, 7, 0.75, "whole volumes"))
    state = read_state(folder)
    assert (state.step, state.epochs, state.loss, state.remaining_s) == (7, 5, 0.5, 60.0)
    assert state.best == Best(1, 0.75, "whole volumes", step=7)
    recorder.stop_requested()
    recorder(progress(8))
    assert read_state(folder).state == "stopping"
    recorder(Ended("stopped", 1, 8, 3.0))
    recorder.end("stopped")
    state = read_state(folder)
    assert (state.state, state.step, state.remaining_s, state.what) == ("stopped", 8, None, "")
    assert state.ended_at is not None


def test_dice_so_far_is_in_state_and_index_before_a_best_epoch_is_chosen(folder: Path, clock: Clock) -> None:
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    for step, dice in ((7, 0.9), (9, 0.8)):
        recorder(Metrics(1, step, 12.0, {"val/dice_mean": dice}))
        state = read_state(folder)  # written at once
        assert state.best is None and state.score == Best(1, dice, "held-out sub-volumes", step)
    assert not state.score_is_final
    clock.now += 1
    recorder(progress(10))
    assert recorder.index.drain()
    row = next(iter(run_rows(folder.parent)))
    assert (row["best_epoch"], row["best_dice"], row["best_measured_on"]) == (1, 0.8, "held-out sub-volumes")
    recorder(Saved("best", "x", 2, 20, 0.85, "held-out whole volumes"))
    assert read_state(folder).score == Best(2, 0.85, "held-out whole volumes", 20)
    recorder.end("finished")
    assert read_state(folder).score_is_final
    recorder(READY)  # again from the start
    assert read_state(folder).score is None


def test_state_and_index_are_written_once_a_second_at_most(folder: Path, clock: Clock) -> None:
    recorder, index = Recorder(folder, read_state(folder)), open_index(folder.parent)
    recorder(READY)
    assert recorder.index.drain()
    clock.now += 0.3
    for step in (1, 2, 3):
        recorder(progress(step))
        recorder(Metrics(1, step, 0.1, {"train/loss": 0.5}))
    assert read_state(folder).step == 0
    assert index.metrics_after(folder.name, 0, 10) == []
    assert [row.step for row in metrics_file.read_metrics(folder)] == [1, 2, 3]  # the file is written at once
    clock.now += 1
    recorder(progress(4))
    assert recorder.index.drain()
    assert read_state(folder).step == 4
    assert [row.step for row in index.metrics_after(folder.name, 0, 10)] == [1, 2, 3]
    recorder(Metrics(1, 5, 0.1, {"train/loss": 0.5}))
    recorder.end("finished")
    assert [row.step for row in index.metrics_after(folder.name, 0, 10)] == [1, 2, 3, 5]


@pytest.mark.slow
def test_locked_index_is_logged_once_and_updated_later(folder: Path, clock: Clock) -> None:
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    assert recorder.index.drain()
    other = sqlite3.connect(folder.parent / FILE, isolation_level=None)
    other.execute("begin exclusive")
    for step in (1, 2):
        clock.now += 100
        recorder(Metrics(1, step, 0.1, {"train/loss": 0.5}))
        assert recorder.index.drain()
    log = files.read_log_tail(folder, 100)
    assert log.count("database is locked") == 1
    other.execute("rollback")
    other.close()
    clock.now += 100
    recorder(Metrics(1, 3, 0.1, {"train/loss": 0.5}))
    assert recorder.index.drain()
    assert [row.step for row in open_index(folder.parent).metrics_after(folder.name, 0, 10)] == [1, 2, 3]


def test_unusable_index_does_not_fail_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATABASE", f"sqlite:///{folder}/no/such/folder/x.sqlite")
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    recorder(Metrics(1, 1, 0.1, {"train/loss": 0.5}))
    recorder.end("finished")
    assert read_state(folder).state == "finished"
    assert "unable to open database file" in files.read_log_tail(folder, 10)
    monkeypatch.delenv("SEGMENTARIUM_DATABASE")
    assert open_index(folder.parent).rebuild() == 1
    assert len(open_index(folder.parent).metrics_after(folder.name, 0, 10)) == 1


def test_index_is_complete_before_the_final_state_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    monkeypatch.setattr("core.runs.reporting.recorder.INDEX_EVERY_S", 1000.0)
    recorder(Metrics(1, 1, 0.1, {"lr": 0.1}))
    found: list[int] = []

    def look(where: Path, state: RunState, durable: bool = False) -> RunState:
        found.append(len(open_index(where.parent).metrics_after(where.name, 0, 10)))
        return write_state(where, state, durable)

    monkeypatch.setattr("core.runs.reporting.recorder.write_state", look)
    recorder.end("finished")
    assert found == [1]


def test_resumed_run_replaces_the_rows_after_its_checkpoint(folder: Path) -> None:
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    for step in (10, 20, 30):
        recorder(Metrics(step // 10, step, 0.1, {"train/loss": 1.0}))
    recorder.end("stopped")
    (written,) = (folder / files.TENSORBOARD).iterdir()  # TensorBoard orders files by the second in their name
    written.rename(written.with_name("events.out.tfevents.1000000000.earlier"))
    resumed = Recorder(folder, read_state(folder))
    resumed(Ready({}, READY.classes, 2, 20))
    resumed(Metrics(3, 30, 0.1, {"train/loss": 2.0}))
    resumed.end("finished")
    assert_rows(folder, [(10, "train/loss", 1.0), (20, "train/loss", 1.0), (30, "train/loss", 2.0)])
    assert scalars(folder)["train/loss"] == [(10, 1.0), (20, 1.0), (30, 2.0)]


EPOCH = [(20, "train/loss", 0.5), (20, "lr", 0.1), (20, "val/loss", 0.75)]


@pytest.mark.parametrize("index_every_s", [0.0, 1000.0], ids=["killed after the index", "killed before the index"])
def test_values_measured_again_at_the_resumed_step_replace_the_earlier_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch, index_every_s: float
) -> None:
    """Killed three times between the checkpoint of step 20 and the next one, with its whole volumes measured."""
    monkeypatch.setattr("core.runs.reporting.recorder.INDEX_EVERY_S", index_every_s)
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    recorder(Metrics(1, 10, 0.1, {"train/loss": 1.0, "lr": 0.1}))
    recorder(Metrics(2, 20, 0.2, {"train/loss": 0.5, "lr": 0.1}))
    recorder(Metrics(2, 20, 0.25, {"val/loss": 0.75}))
    before = [(10, "train/loss", 1.0), (10, "lr", 0.1), *EPOCH]
    for attempt in (1, 2, 3):
        recorder(Metrics(2, 20, 0.25 + attempt, {"whole/dice_mean": 0.1 * attempt, "whole/dice/GM": math.nan}))
        if not index_every_s:
            assert recorder.index.drain()
        recorder = Recorder(folder, read_state(folder))  # killed, and resumed
        recorder(Ready({}, READY.classes, 2, 20))
        assert recorder.index.drain()  # later its thread, which no kill has ended, would write what was so far
    recorder.end("stopped")
    assert_rows(folder, [*before, (20, "whole/dice_mean", pytest.approx(0.3)), (20, "whole/dice/GM", None)])


def test_row_that_the_index_missed_before_a_kill_is_added_on_resume(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runs.reporting.recorder.INDEX_EVERY_S", 1000.0)
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    assert recorder.index.drain()  # so that the next write is due in 1,000 s
    recorder(Metrics(1, 10, 0.1, {"lr": 0.1}))
    assert open_index(folder.parent).metrics_after(folder.name, 0, 10) == []
    resumed = Recorder(folder, read_state(folder))
    resumed(Ready({}, READY.classes, 1, 10))
    resumed.end("stopped")
    assert_rows(folder, [(10, "lr", 0.1)])


def test_index_rebuilt_between_file_and_index_holds_each_value_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    recorder, index = Recorder(folder, read_state(folder)), open_index(folder.parent)
    recorder(READY)
    recorder(Metrics(1, 10, 0.1, {"lr": 0.1}))
    recorder(Metrics(1, 20, 0.2, {"lr": 0.2}))  # in file and index
    assert recorder.index.drain()
    recorder(Metrics(1, 30, 0.3, {"lr": 0.3}))  # in the file, pending for the index
    index.rebuild()
    clock.now += 2
    recorder(Metrics(1, 40, 0.4, {"lr": 0.4}))
    assert recorder.index.drain()
    assert_rows(folder, [(10, "lr", 0.1), (20, "lr", 0.2), (30, "lr", 0.3), (40, "lr", 0.4)])


def assert_rows(folder: Path, expected: list[tuple[int, str, object]]) -> None:
    """The metrics file, the index and the API hold these values, NaN as ``None``, in this order."""
    lines = [json.loads(line) for line in (folder / metrics_file.METRICS).read_text().splitlines()]
    assert [(line["step"], name, value) for line in lines for name, value in line["values"].items()] == expected
    indexed = [row for row in metric_rows(folder.parent) if row["run"] == folder.name]
    assert [(row["step"], row["name"], row["value"]) for row in indexed] == expected
    for rows in (list(metrics_file.read_metrics(folder)), runs.metrics_after(folder.parent, folder.name)):
        assert [(row.step, row.name, metrics_file.finite_or_none(row.value)) for row in rows] == expected


def test_tensorboard_holds_every_finite_metric_and_the_pictures(folder: Path) -> None:
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    recorder(Metrics(1, 10, 0.1, {"train/loss": 0.5, "val/dice/CSF": 0.25, "val/dice/GM": float("nan"), "lr": 0.125}))
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[1, 2] = (255, 128, 0)
    recorder(Picture(1, 10, "val/slice", rgb))
    recorder.end("finished")
    assert scalars(folder) == {"train/loss": [(10, 0.5)], "val/dice/CSF": [(10, 0.25)], "lr": [(10, 0.125)]}
    (picture,) = events(folder).Images("val/slice")
    assert (picture.step, picture.width, picture.height) == (10, 6, 4)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.encoded_image_string))), rgb)


def test_metrics_that_cannot_be_written_are_an_error_that_names_the_file(folder: Path) -> None:
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    (folder / metrics_file.METRICS).unlink(missing_ok=True)
    (folder / metrics_file.METRICS).mkdir()
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be written: Is a directory"):
        recorder(Metrics(1, 1, 0.1, {"train/loss": 0.5}))


def test_undefined_numbers_stay_strict_json(folder: Path) -> None:
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    recorder(Progress(1, 5, 1, 10, float("nan"), float("inf"), 0.1, float("inf")))
    recorder(Saved("best", "x", 1, 1, float("nan"), None))

    def refuse(word: str) -> None:
        raise AssertionError(word)

    state = json.loads((folder / files.STATE).read_text(), parse_constant=refuse)
    assert state["loss"] is None and state["best"]["mean_dice"] is None


def test_damaged_configuration_does_not_fail_the_index(folder: Path) -> None:
    (folder / files.CONFIG).write_text('{"minutes": "soon"}')
    Recorder(folder, read_state(folder)).end("failed", "minutes: expected a number")
    assert "index" not in files.read_log_tail(folder, 10)
    assert [row["state"] for row in run_rows(folder.parent)] == ["failed"]


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / files.TENSORBOARD))
    found.Reload()
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = events(folder)
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_pictures_of_validations_are_kept_until_the_run_is_resumed_before_them(folder: Path) -> None:
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    for epoch in (1, 2):
        recorder(Picture(epoch, epoch * 10, "val/slice", np.zeros((2, 6, 3), np.uint8)))
    assert [(p.epoch, p.step) for p in runs.list_pictures(folder)] == [(1, 10), (2, 20)]
    Recorder(folder, read_state(folder))(Ready({}, READY.classes, 1, 10))
    assert [p.step for p in runs.list_pictures(folder)] == [10]


def test_picture_that_cannot_be_written_is_a_note(folder: Path) -> None:
    (folder / "pictures").write_text("a file is in the way")
    recorder = Recorder(folder, read_state(folder))
    recorder(READY)
    for step in (10, 20):
        recorder(Picture(1, step, "val/slice", np.zeros((2, 6, 3), np.uint8)))
    assert files.read_log_tail(folder, 20).count("the picture of a validation could not be written") == 1
