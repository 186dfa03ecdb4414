"""Processes that benchmarks start: commands of the program, Streamlit servers, and Chromium: its path and flags."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 60
# Flags with which Chromium draws WebGL on the processor, without a graphics card.
SOFTWARE_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


def run_command(*arguments: str) -> str:
    """Run a command of the program; returns its standard output. Its progress goes to standard error, its failure ends
    this program."""
    done = subprocess.run([sys.executable, "-m", "core", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def chromium_path() -> str | None:
    """The browser: ``CHROMIUM``, else the one on the path."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


class StreamlitServer:
    """A Streamlit server on a free port.

    Parameters
    ----------
    script : str. Script to serve.
    folder : Path. Holds the roots ``data`` and ``checkpoints``.
    """

    def __init__(self, script: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            **os.environ,
            "SEGMENTARIUM_DATA": str(folder / "data"),
            "SEGMENTARIUM_CHECKPOINTS": str(folder / "checkpoints"),
        }
        options = ["--server.port", str(port), "--server.headless", "true"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", script, *options],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2)
                return
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise SystemExit(f"the server of {script} did not start within {START_TIMEOUT_S} s")

    def stop(self) -> None:
        """End the server and wait for it."""
        self.process.terminate()
        self.process.wait()
