"""The web process never imports torch: the app and every page, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from core.paths import project_root

ROOT = project_root()

PROGRAM = """
import sys
import app
from streamlit.testing.v1 import AppTest

shell = AppTest.from_file("ui/shell.py", default_timeout=60).run()
for name in ("home", "learn", "data", "train", "runs", "review", "predict", "quiz"):
    shell.switch_page(f"{sys.argv[1]}/pages/{name}.py").run()
    assert not shell.exception, shell.exception[0].message
    assert len(shell.title) == 1
heavy = sorted(m for m in sys.modules if m.partition(".")[0] in ("torch", "monai", "torchvision", "tensorboard"))
sys.exit(f"loaded: {heavy[:5]}" if heavy else 0)
"""


def test_the_app_and_its_pages_load_no_torch(tmp_path: Path) -> None:
    environment = {
        **os.environ, "SEGMENTARIUM_DATA": str(tmp_path / "data"), "SEGMENTARIUM_CHECKPOINTS": str(tmp_path / "runs"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-2000:]
