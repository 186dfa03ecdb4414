"""Answers on a root whose database is a local copy: they are in the root, and other machines read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import RunError
from core.runs.store import database
from core.runs.store.file_systems import IN_ROOT
from core.study.answer_files import FOLDER
from core.study.answers import read_answers, save_answer
from tests.core.study.test_answers import answer


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folders of the local copies of two machines that share the root ``tmp_path / "runs"``."""
    root = tmp_path / "runs"
    root.mkdir()
    monkeypatch.setattr(database, "file_system_of", lambda path: "nfs4" if path.is_relative_to(root) else "ext4")
    return tmp_path / "one", tmp_path / "two"


def test_answers_are_read_by_every_machine_that_shares_the_root(
    tmp_path: Path, machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, given = tmp_path / "runs", [answer(number=n, answered_at=100.0 + n, dice=n / 7) for n in (1, 2, 3)]
    for machine in machines:
        monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", str(machine))
        assert read_answers(root) == (given[:2] if machine == machines[1] else [])
        for each in given[2:] if machine == machines[1] else given[:2]:
            save_answer(root, each)
        with pytest.raises(RunError, match="answered already"):
            save_answer(root, given[0])
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", str(machines[0]))
    assert read_answers(root) == given
    for file in machines[0].iterdir():
        file.unlink()
    assert read_answers(root) == given, "the local copy is lost"


def test_answer_after_a_torn_line_is_kept(
    tmp_path: Path, machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", str(machines[0]))
    save_answer(root, answer())
    (file,) = (root / FOLDER).iterdir()
    file.write_bytes(file.read_bytes() + b'{"game": "a1b2", "num')
    save_answer(root, answer(number=2))
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", str(machines[1]))
    assert read_answers(root) == [answer(), answer(number=2)]


def test_answer_that_cannot_be_kept_in_the_root_is_not_kept_at_all(
    tmp_path: Path, machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", str(machines[0]))
    (root / FOLDER).write_text("a file is in the way")
    with pytest.raises(RunError, match="quiz-answers"):
        save_answer(root, answer())
    (root / FOLDER).unlink()
    assert read_answers(root) == []
    save_answer(root, answer())


def test_answers_that_an_earlier_version_kept_in_the_root_are_read(
    tmp_path: Path, machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", IN_ROOT)
    save_answer(root, answer())
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", str(machines[0]))
    save_answer(root, answer(number=2))
    assert read_answers(root) == [answer(), answer(number=2)]


def test_answers_of_a_root_that_was_moved_to_a_local_disk_are_read(
    tmp_path: Path, machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", str(machines[0]))
    save_answer(root, answer())
    monkeypatch.setenv("SEGMENTARIUM_INDEX_FOLDER", "")
    moved = root.rename(tmp_path / "local")
    assert read_answers(moved) == [answer()]
