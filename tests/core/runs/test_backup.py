"""Backup and restoration of a root whose database is an SQLite file."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import RunError
from core.processes import PROJECT
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


KILLED = """import os, signal, sys
from pathlib import Path
from core.runs import backup
from core.runs.store import index, transfer

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

what, function, file, root = sys.argv[1:]
setattr({"backup": backup, "os": os, "transfer": transfer, "index": index.Index}[what], function, die)
backup.restore(Path(file), Path(root))
"""


@pytest.mark.long
@pytest.mark.fault(
    45, "killed while a backup is restored: nothing, or everything with the quiz answers; it can be repeated"
)
@pytest.mark.parametrize(
    ("instant", "is_there"),
    [
        (("backup", "_unpack"), False),
        (("transfer", "_compare"), False),  # the answers are written, and not committed
        (("os", "replace"), False),
        (("index", "rebuild"), True),
    ],
)
def test_restoration_that_is_killed_leaves_nothing_or_everything(
    tmp_path: Path, instant: tuple[str, str], is_there: bool
) -> None:
    root, file, target = tmp_path / "runs", tmp_path / "backup.tar", tmp_path / "restored"
    root.mkdir()
    folder = run_elsewhere(root, "finished")
    save_answer(root, answer())
    made = back_up(root, file)
    command = [sys.executable, "-c", KILLED, *instant, str(file), str(target)]
    assert subprocess.run(command, cwd=PROJECT, check=False).returncode == -signal.SIGKILL
    assert target.exists() == is_there
    if not is_there:
        assert restore(file, target) == made
    assert read_answers(target) == [answer()] and (target / folder.name / "state.json").is_file()
    assert {path.name for path in tmp_path.iterdir() if not is_there} <= {"runs", "backup.tar", "restored"}


def _refuse(*_: object) -> None:
    raise RunError("the server gives no answer")
