"""``--version``."""

from __future__ import annotations

import importlib.metadata
import platform
import re

import pytest
import torch

from core import __version__
from core.cli import main, version


def test_version_names_the_packages_and_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        f"Segmentarium {__version__}",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
        f"Streamlit {importlib.metadata.version('streamlit')}",
    ]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    assert re.fullmatch(rf"device {re.escape(device)}, \d+ CPU threads?", lines[4])


def test_version_without_streamlit(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(package: str) -> str:
        if package == "streamlit":
            raise importlib.metadata.PackageNotFoundError(package)
        return importlib.metadata.version(package)

    monkeypatch.setattr(version, "version", installed)
    assert "Streamlit not installed" in version.version_text().splitlines()
