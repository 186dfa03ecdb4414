"""Files of a case that are written when they are downloaded: their content, their failures, several visitors."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import VolumeError
from ui.review.export_job import CaseExport
from ui.shared import jobs

WRITE = (
    "import sys; from pathlib import Path;"
    "file = next(a.partition('=')[2] for a in sys.argv if a.startswith('--errors='));"
    "(print('error: no space left', file=sys.stderr), sys.exit(1)) if Path({full!r}).exists() else None;"
    "Path(file).write_text(' '.join(sys.argv[1:6]))"
)


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command is replaced by one that fails while this file exists."""
    file = tmp_path / "full"
    program = WRITE.format(full=str(file))
    monkeypatch.setattr(jobs, "module_command", lambda *arguments: [sys.executable, "-S", "-c", program, *arguments])
    return file


def test_a_failure_is_kept_until_the_file_is_written(checkpoints: Path, tmp_path: Path, full: Path) -> None:
    case = CaseExport(tmp_path / "net.safetensors", tmp_path / "data", "p1", "errors", ".nii.gz")
    assert case.failure() == ""
    full.touch()
    with pytest.raises(VolumeError, match=r"p1: .*no space left"):
        case.make()
    assert case.failure() == "no space left"
    full.unlink()
    assert case.make().decode().split()[:3] == ["core", "review", "export"]
    assert case.failure() == "" and not case._folder.exists()


def test_visitors_who_download_the_same_file_at_once_all_get_it(checkpoints: Path, tmp_path: Path, full: Path) -> None:
    case = CaseExport(tmp_path / "net.safetensors", tmp_path / "data", "p1", "errors", ".nii.gz")
    with ThreadPoolExecutor(2) as pool:
        contents = list(pool.map(lambda _: case.make(), range(2)))
    assert contents[0] == contents[1] != b""
