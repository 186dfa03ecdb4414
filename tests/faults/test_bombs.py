"""Files that only look like checkpoints: offered to the real commands, they are refused and nothing in them is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.runs.store.process import PROJECT, module_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of processes"),
]

BOMBS = """
import os, sys, torch
from collections import OrderedDict
from pathlib import Path

class Trap:
    def __reduce__(self):
        return os.mkdir, (sys.argv[2],)

folder = Path(sys.argv[1])
torch.save({"state_dict": Trap()}, folder / "pickle.pth")
import pickle
(folder / "pickle.safetensors").write_bytes(pickle.dumps(Trap()))
import zipfile
with zipfile.ZipFile(folder / "zip.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
    with archive.open("archive/data/0", "w", force_zip64=True) as member:
        for _ in range(300):
            member.write(bytes(2**24))
torch.save({"state_dict": OrderedDict(weight=torch.zeros(1).expand(2**20, 2**20))}, folder / "stride.pth")
import json, struct
header = json.dumps({"model/x": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()
(folder / "huge.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
(folder / "header.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
"""


SMALL = ("--preset", "quick", "--channels", "8,16", "--sub-volume", "16x16x16", "--device", "cpu")


@pytest.mark.fault(14, "malicious pickle, zip bomb, stride bomb offered as checkpoint: refused below 1 GB")
def test_what_only_looks_like_a_checkpoint(tmp_path: Path, data: Path, root: Path) -> None:
    trap = tmp_path / "the trap went off"
    bombs = tmp_path / "bombs"
    bombs.mkdir()
    subprocess.run([sys.executable, "-c", BOMBS, str(bombs), str(trap)], check=True, timeout=120)
    files_there = sorted(bombs.iterdir())
    assert len(files_there) == 6
    limit = 1000 * 10**6
    measured = (
        "import sys; from core.cli import main; code = main(sys.argv[1:]); "
        "import resource; print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')], "
        "resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    started_from = {"pickle": "found posix.mkdir", "zip": "1 of them compressed", "stride": "no kernel fits"}
    for bomb in files_there:
        image, out = data / "imagesTr" / "ball_0.nii.gz", tmp_path / "out.nii.gz"
        commands = {"is not a checkpoint": ["predict", str(bomb), str(image), "--out", str(out)]}
        if bomb.suffix == ".pth":
            train = ["train", str(data), "--init-from", str(bomb), "--checkpoints", str(root), *SMALL]
            commands[started_from[bomb.stem]] = train
        for expected, command in commands.items():
            done = subprocess.run(
                [sys.executable, "-c", measured, *command], capture_output=True, text=True, timeout=120, check=False,
                cwd=PROJECT, env=module_environment(),
            )  # fmt: skip
            assert done.returncode == 1, (bomb.name, done.stdout, done.stderr)
            assert expected in done.stderr and str(bomb) in done.stderr, (bomb.name, done.stderr)
            assert "Traceback" not in done.stderr
            here, children = (
                int(word) * 1024 for word in done.stdout.split()[-2:]
            )  # these: the trainer, and the reader that it starts
            assert here < limit and children < limit, (bomb.name, command[0], here, children)
    assert not trap.exists(), "a checkpoint ran code"
