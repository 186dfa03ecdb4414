"""Malicious files offered as checkpoints to the real commands: refused, and no code in them is run."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from core.processes import PROJECT, module_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

MEMORY = 1000 * 10**6
SMALL = ("--preset", "quick", "--channels", "8,16", "--sub-volume", "16x16x16", "--device", "cpu")

# Runs commands one after another, as `python -m core` does, and writes for each its exit status, its standard error
# with that of its children, and the peak memory so far of this process and of the largest child.
RUNNER = """
import json, os, resource, sys
from pathlib import Path
from core.cli import main

folder = Path(sys.argv[1])
outcomes = []
for number, command in enumerate(json.loads(sys.argv[2])):
    with open(folder / f"errors-{number}.txt", "wb") as errors:
        os.dup2(errors.fileno(), 2)
        code = main(command)
        sys.stderr.flush()
    own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    outcomes.append([code, (folder / f"errors-{number}.txt").read_text(), own * 1024, child * 1024])
(folder / "outcomes.json").write_text(json.dumps(outcomes))
"""


class RunsCode:
    """What makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def write_bombs(folder: Path, marker: Path) -> list[Path]:
    """Six malicious files; code in them would make the folder ``marker``."""
    torch.save({"state_dict": RunsCode(marker)}, folder / "pickle.pth")
    (folder / "pickle.safetensors").write_bytes(pickle.dumps(RunsCode(marker)))
    with (
        zipfile.ZipFile(folder / "zip.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("archive/data/0", "w", force_zip64=True) as member,
    ):
        for _ in range(72):
            member.write(bytes(2**24))
    torch.save({"state_dict": OrderedDict(weight=torch.zeros(1).expand(2**20, 2**20))}, folder / "stride.pth")
    header = json.dumps({"model/x": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()
    (folder / "huge.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    (folder / "header.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    return sorted(folder.iterdir())


@pytest.mark.long(30)
@pytest.mark.fault(14, "malicious pickle, zip bomb, stride bomb offered as checkpoint: refused below 1 GB")
def test_malicious_checkpoint_is_refused_without_running_code(tmp_path: Path, data: Path, root: Path) -> None:
    """In one process, whose peak of memory is that of its worst command."""
    offered, marker = tmp_path / "bombs", tmp_path / "code was run"
    offered.mkdir()
    init_from_errors = {"pickle": "found posix.mkdir", "zip": "1 of them compressed", "stride": "no kernel fits"}
    cases: list[tuple[Path, str, list[str]]] = []  # file, what its refusal says, command
    for bomb in write_bombs(offered, marker):
        image, out = data / "imagesTr" / "ball_0.nii.gz", tmp_path / "out.nii.gz"
        if bomb.name not in ("zip.pth", "stride.pth"):  # refused by their name, as pickle.pth is
            cases.append((bomb, "is not a checkpoint", ["predict", str(bomb), str(image), "--out", str(out)]))
        if bomb.suffix == ".pth":
            train = ["train", str(data), "--init-from", str(bomb), "--checkpoints", str(root), *SMALL]
            cases.append((bomb, init_from_errors[bomb.stem], train))
    assert len(cases) == 7
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(tmp_path), json.dumps([command for *_, command in cases])],
        capture_output=True, text=True, timeout=300, check=False, cwd=PROJECT, env=module_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    for (bomb, expected, command), (code, errors, own, child) in zip(cases, outcomes, strict=True):
        assert code == 1, (bomb.name, errors)
        assert expected in errors and str(bomb) in errors, (bomb.name, errors)
        assert "Traceback" not in errors
        assert own < MEMORY and child < MEMORY, (bomb.name, command[0], own, child)
    assert not marker.exists(), "code in a checkpoint was run"
