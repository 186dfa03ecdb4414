"""Malicious files offered as checkpoints to the real commands: refused, and no code in them is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.processes import PROJECT, module_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

BOMBS = """
import os, sys, torch
from collections import OrderedDict
from pathlib import Path

class RunsCode:
    def __reduce__(self):
        return os.mkdir, (sys.argv[2],)

folder = Path(sys.argv[1])
torch.save({"state_dict": RunsCode()}, folder / "pickle.pth")
import pickle
(folder / "pickle.safetensors").write_bytes(pickle.dumps(RunsCode()))
import zipfile
with zipfile.ZipFile(folder / "zip.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
    with archive.open("archive/data/0", "w", force_zip64=True) as member:
        for _ in range(72):
            member.write(bytes(2**24))
torch.save({"state_dict": OrderedDict(weight=torch.zeros(1).expand(2**20, 2**20))}, folder / "stride.pth")
import json, struct
header = json.dumps({"model/x": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()
(folder / "huge.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
(folder / "header.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
"""


MARKER = "code was run"
SMALL = ("--preset", "quick", "--channels", "8,16", "--sub-volume", "16x16x16", "--device", "cpu")


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six malicious files; code in them would make the folder :data:`MARKER` in it."""
    folder = tmp_path_factory.mktemp("bombs")
    subprocess.run([sys.executable, "-c", BOMBS, str(folder), str(folder / MARKER)], check=True, timeout=120)
    assert len(list(folder.iterdir())) == 6
    return folder


@pytest.mark.long
@pytest.mark.fault(14, "malicious pickle, zip bomb, stride bomb offered as checkpoint: refused below 1 GB")
@pytest.mark.parametrize(
    "names",
    [
        ("pickle.pth", "zip.pth", "huge.safetensors"),
        ("pickle.safetensors", "stride.pth", "header.safetensors"),
    ],
    ids=["three kinds", "three others"],
)
def test_malicious_checkpoint_is_refused_without_running_code(
    tmp_path: Path, bombs: Path, data: Path, root: Path, names: tuple[str, ...]
) -> None:
    offered = [bombs / name for name in names]
    limit = 1000 * 10**6
    measured = (
        "import sys; from core.cli import main; code = main(sys.argv[1:]); "
        "import resource; print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')], "
        "resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    init_from_errors = {"pickle": "found posix.mkdir", "zip": "1 of them compressed", "stride": "no kernel fits"}
    for bomb in offered:
        image, out = data / "imagesTr" / "ball_0.nii.gz", tmp_path / "out.nii.gz"
        commands = {}
        if bomb.name not in ("zip.pth", "stride.pth"):  # refused by their name, as pickle.pth is
            commands["is not a checkpoint"] = ["predict", str(bomb), str(image), "--out", str(out)]
        if bomb.suffix == ".pth":
            train = ["train", str(data), "--init-from", str(bomb), "--checkpoints", str(root), *SMALL]
            commands[init_from_errors[bomb.stem]] = train
        for expected, command in commands.items():
            done = subprocess.run(
                [sys.executable, "-c", measured, *command],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
                cwd=PROJECT,
                env=module_environment(),
            )
            assert done.returncode == 1, (bomb.name, done.stdout, done.stderr)
            assert expected in done.stderr and str(bomb) in done.stderr, (bomb.name, done.stderr)
            assert "Traceback" not in done.stderr
            own, children = (int(word) * 1024 for word in done.stdout.split()[-2:])
            assert own < limit and children < limit, (bomb.name, command[0], own, children)
    assert not (bombs / MARKER).exists(), "code in a checkpoint was run"
