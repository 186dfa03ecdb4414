"""Notes of reviewers: files beside the predictions are the truth, the database is their index."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from core.errors import RunError
from core.presets import preset
from core.runs.launch import create_run
from core.runs.review_notes import NewNote, NotedModel, all_notes, latest_marks, notes_csv, notes_json
from core.runs.store.index import open_index
from core.runs.store.rebuild import rebuild
from core.runs.store.review_notes import FILE
from core.strict_json import dumps

pytestmark = pytest.mark.slow


@pytest.fixture
def model(tmp_path: Path) -> NotedModel:
    """A run without a checkpoint, and a data set."""
    root = tmp_path / "checkpoints"
    root.mkdir()
    folder = create_run(root, preset("quick"), foreground=True)
    return NotedModel(root, folder / "best.safetensors", tmp_path / "balls")


def test_notes_are_changed_removed_and_read_in_the_order_of_their_first_writing(model: NotedModel) -> None:
    first = model.add(NewNote("ball_1", "fix", " the rim is missed \n", (3, 4, 5), epoch=7))
    second = model.add(NewNote("ball_2", "discuss"))
    third = model.add(NewNote("ball_1", comment="later"))
    model.change(first, "accept", "done")
    model.remove(third)
    one, two = model.notes()
    assert (one.id, one.mark, one.comment, one.voxel, one.epoch) == (first.id, "accept", "done", (3, 4, 5), 7)
    assert one.made_at == first.made_at <= one.changed_at and first.comment == "the rim is missed"
    assert two == second and one.model == model.checkpoint.parent.name and one.data == "balls"
    assert latest_marks(model.notes()) == {"ball_1": "accept", "ball_2": "discuss"}
    assert NotedModel(model.root, model.checkpoint.with_name("last.safetensors"), model.data).notes() == []


def test_a_line_that_a_kill_has_torn_costs_that_note_alone(model: NotedModel) -> None:
    model.add(NewNote("ball_1", "fix"))
    (file,) = model.root.glob(f"*/predictions/*/{FILE}")
    with file.open("ab") as handle:
        handle.write(b'{"id": "half')
    model.add(NewNote("ball_2", "accept"))
    assert [note.subject for note in model.notes()] == ["ball_1", "ball_2"]


def test_rebuilding_the_index_keeps_the_notes(model: NotedModel) -> None:
    kept = model.add(NewNote("ball_1", "fix", "a comment", (1, 2, 3)))
    other = NotedModel(model.root, model.root.parent / "other.safetensors", model.data)
    elsewhere = other.add(NewNote("ball_2", "accept"))
    assert open_index(model.root).notes() == [kept, elsewhere]
    rebuild(model.root)
    assert open_index(model.root).notes() == [kept, elsewhere] and elsewhere.model == "other"
    for file in model.root.glob("index.sqlite*"):
        file.unlink()
    assert all_notes(model.root) == [kept, elsewhere]
    shutil.rmtree(model.checkpoint.parent)
    assert all_notes(model.root) == [elsewhere], "those of a deleted run go with it"


def test_notes_that_another_program_wrote_are_listed(model: NotedModel) -> None:
    """The index is brought up to date from the files, which may be written on another machine."""
    model.add(NewNote("ball_1", "fix"))
    (file,) = model.root.glob(f"*/predictions/*/{FILE}")
    line = file.read_text().replace("ball_1", "ball_9").replace('"id": "', '"id": "0')
    file.write_text(file.read_text() + line)
    assert {note.subject for note in all_notes(model.root)} == {"ball_1", "ball_9"}


def test_a_note_with_text_that_no_database_can_store_is_kept_and_does_not_hide_the_others(model: NotedModel) -> None:
    """A folder of a case may be named in another encoding than UTF-8."""
    foreign = b"Gr\xfcn".decode("utf-8", "surrogateescape")
    written = [model.add(NewNote(foreign, "fix", f"a\0b {foreign}")), model.add(NewNote("ball_1", "accept"))]
    assert model.notes() == written
    assert [(n.subject, n.comment) for n in all_notes(model.root)] == [("Gr?n", "a\ufffdb Gr?n"), ("ball_1", "")]
    assert notes_csv(written).encode() and json.loads(dumps(notes_json(written)))[0]["subject"] == foreign


def test_csv_counts_voxels_from_one_and_json_from_zero(model: NotedModel) -> None:
    note = model.add(NewNote("ball_1", "fix", '=1+1, "quoted"', (0, 4, 9), epoch=2))
    (row,) = csv.DictReader(io.StringIO(notes_csv([note])))
    assert [row[f"{axis} (voxel, from 1)"] for axis in "ijk"] == ["1", "5", "10"]
    assert (row["Case"], row["Mark"], row["Epoch"], row["Comment"]) == ("ball_1", "fix", "2", '\'=1+1, "quoted"')
    assert row["Written (UTC)"].endswith("+00:00")
    assert notes_json([note])[0]["voxel"] == (0, 4, 9)


@pytest.mark.parametrize(
    ("mark", "comment", "reason"),
    [("", "  ", "a mark"), ("wrong", "", "'wrong'"), ("fix", "x" * 5001, "5000 characters")],
)
def test_a_note_that_says_nothing_is_refused(mark: str, comment: str, reason: str) -> None:
    with pytest.raises(RunError, match=reason):
        NewNote("ball_1", mark, comment)
