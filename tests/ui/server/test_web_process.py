"""All pages in a fresh process without runs and data: each opens with title and footer, and torch is not imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.paths import project_root

PROGRAM = """
import sys
import app
from streamlit.testing.v1 import AppTest
from ui.shared import jobs
from ui.shared.navigation import PAGES

jobs.start = lambda *_: None  # no demo data is made
jobs.observe = lambda *_, **__: jobs.Job("running")
shell = AppTest.from_file("ui/shell.py", default_timeout=60).run()
for name in PAGES:
    shell.switch_page(f"{sys.argv[1]}/pages/{name}.py").run()
    assert not shell.exception, (name, shell.exception[0].message)
    assert len(shell.title) == 1, name
    footers = [c.value for c in shell.caption if c.value == "For research and teaching, not a medical device."]
    assert len(footers) == 1, name
heavy = sorted(m for m in sys.modules if m.partition(".")[0] in ("torch", "monai", "torchvision", "tensorboard"))
sys.exit(f"loaded: {heavy[:5]}" if heavy else 0)
"""


@pytest.mark.long
@pytest.mark.slow
def test_every_page_opens_in_a_fresh_process_without_torch(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "SEGMENTARIUM_DATA": str(tmp_path / "data"),
        "SEGMENTARIUM_CHECKPOINTS": str(tmp_path / "runs"),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(project_root())],
        cwd=project_root(),
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-4000:]
