"""Backup and restoration of a root whose database is an SQLite file."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import RunError
from core.runs.backup import back_up, restore
from core.runs.store import transfer
from core.study.answers import read_answers, save_answer
from tests.core.study.test_answers import answer
from tests.support.elsewhere import run_elsewhere


def test_failed_restoration_leaves_nothing_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, file, target = tmp_path / "runs", tmp_path / "backup.tar", tmp_path / "restored"
    root.mkdir()
    run_elsewhere(root, "finished")
    save_answer(root, answer())
    made = back_up(root, file)
    with monkeypatch.context() as patched:
        patched.setattr(transfer, "copy_database", _refuse)
        with pytest.raises(RunError, match="no answer"):
            restore(file, target)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "backup.tar"}
    assert restore(file, target) == made and read_answers(target) == [answer()]


def _refuse(*_: object) -> None:
    raise RunError("the server gives no answer")
