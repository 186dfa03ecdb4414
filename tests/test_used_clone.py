"""The tests of the pages pass in a checkout with data and runs, and do not change them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.datasets.synthetic.demo import ensure_subject
from core.files import FileStamp, file_stamp
from core.paths import project_root

USED = ("data", "checkpoints")


def tracked_files() -> list[str]:
    """Files that git tracks or does not ignore; environment, data and runs are ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=project_root(), capture_output=True, check=True
    )
    return [name for name in listing.stdout.decode().split("\0") if name and (project_root() / name).is_file()]


@pytest.fixture
def used_clone(tmp_path: Path) -> Path:
    """A copy of the checkout as after `make app`, a visit of the Review page and a training run."""
    if not (project_root() / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs a git checkout: this copy has no .git folder, or git is not installed")
    clone, names = tmp_path / "clone", tracked_files()
    for name in names:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project_root() / name, clone / name)
    for folder in {Path(name).parent for name in names if name.endswith(".py")}:
        compiled = project_root() / folder / "__pycache__"  # valid in the copy: it has the times of its sources
        if compiled.is_dir():
            shutil.copytree(compiled, clone / folder / "__pycache__", ignore=shutil.ignore_patterns("*.pyc.*"))
    ensure_subject(clone / "data" / "demo", "subject-1")
    shutil.copytree(clone / "tests" / "fixtures" / "version_0_1", clone / "checkpoints", dirs_exist_ok=True)
    (clone / "checkpoints" / ".cache" / "doctor").mkdir(parents=True)
    return clone


def stamps(clone: Path) -> dict[str, FileStamp]:
    """The stamp of every file below the clone's roots of data and runs."""
    files = [path for folder in USED for path in (clone / folder).rglob("*") if path.is_file()]
    return {path.relative_to(clone).as_posix(): file_stamp(path) for path in files}


@pytest.mark.long(50)
@pytest.mark.parametrize("tests", ["tests/pages tests/ui"])
def test_page_tests_pass_in_a_used_clone_and_change_nothing(used_clone: Path, tests: str) -> None:
    before = stamps(used_clone)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SEGMENTARIUM_", "PYTEST_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not long", *tests.split()],
        cwd=used_clone, env=environment | {"CI": "", "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True,
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert stamps(used_clone) == before
