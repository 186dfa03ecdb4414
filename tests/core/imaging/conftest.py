"""Coverage of the child process that decodes files, which is measured only here."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from core.imaging import foreign_files
from core.paths import project_root


@pytest.fixture(scope="package", autouse=True)
def decoder_coverage() -> Iterator[None]:
    """Where coverage is measured, that of the decoder too: in a file beside pytest's, which pytest combines with it."""
    coverage = sys.modules.get("coverage")
    measuring = coverage and coverage.Coverage.current()
    if not measuring:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVERAGE_PROCESS_START", str(project_root() / "pyproject.toml"))
        patch.setenv("COVERAGE_FILE", measuring.config.data_file)
        yield
        process = foreign_files._decoder.process
        if process and process.stdin:
            process.stdin.close()  # ends it: it saves what it has measured
            process.wait(30)
