"""Files of other programs that are malicious or no weights are refused; no code in them is executed."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core.checkpointing.foreign_reader import load_weights_only
from core.checkpointing.foreign_weights import MAX_FILE_FACTOR, TEXT_BYTES, read_foreign_weights, wait_within_limits
from core.checkpointing.metadata import is_torch_file, read_metadata
from core.errors import CheckpointError
from core.paths import project_root
from tests.support.damages import cut_off, garbage
from tests.support.foreign_networks import network, same

MEMORY = 1000 * 10**6


def test_missing_empty_or_too_large_file_is_refused(tmp_path: Path) -> None:
    path, model = tmp_path / "weights.pth", network()
    with pytest.raises(CheckpointError, match=f"found no file {path}"):
        read_foreign_weights(path, model)
    path.touch()
    with pytest.raises(CheckpointError, match=r"weights.pth is damaged: .*empty file"):
        read_foreign_weights(path, model)
    own = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    with open(path, "wb") as file:
        file.truncate(MAX_FILE_FACTOR * own + TEXT_BYTES + 1)
    with pytest.raises(CheckpointError, match=r"at most 67 MB.*found 67 MB"):
        read_foreign_weights(path, model)


@pytest.mark.parametrize(("start", "name", "foreign"), [
    (b"PK\x03\x04", "weights.dat", True), (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "weights", True),
    (b"", "a.pt.tar", True), (b"", "a.PTH", True), (b"", "a.safetensors", False), (b"\x5c\x01", "a.nii.gz", False),
    (struct.pack("<Q", 2) + b"{}", "ours.pth", False),
])  # fmt: skip
def test_torch_files_are_recognised_by_content_or_name(tmp_path: Path, start: bytes, name: str, foreign: bool) -> None:
    (tmp_path / name).write_bytes(start)
    assert is_torch_file(tmp_path / name) == foreign


def test_prediction_with_a_torch_file_names_init_from(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(network().state_dict(), path)
    with pytest.raises(CheckpointError, match=r"is not a checkpoint of Segmentarium.*--init-from"):
        read_metadata(path)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)

    def __init__(self, folder: Path) -> None:
        self.folder = folder


def written(path: Path, content: object, zipped: bool = True) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)


def damaged(path: Path, damage: Callable[[Path], None], zipped: bool = True) -> None:
    written(path, network().state_dict(), zipped)
    damage(path)


def pickled_by_hand(path: Path, code: bytes) -> None:
    """An archive as torch writes it, with this program as its pickle."""
    written(path, {})
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, code if name.endswith("data.pkl") else data)


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for part in ("data.pkl", "data/0"):
            with archive.open(f"archive/{part}", "w", force_zip64=True) as member:
                for _ in range(36):
                    member.write(bytes(2**24))


def overlapping(path: Path) -> None:
    """Entries that are stored, all of them the same bytes of the file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(2**20))
        archive.filelist *= 900


def short_storage(path: Path) -> None:
    """A tensor that claims 4 TB, in an archive that holds four bytes of it."""
    huge = torch.zeros(1).expand(2**20, 2**20)
    written(path, {"state_dict": {"weight": huge}})
    data = path.read_bytes()
    # Its strides are two zeros in the pickle; they are replaced by 128 and 1, of the same number of bytes.
    assert data.count(b"K\x00K\x00\x86") == 1
    path.write_bytes(data.replace(b"K\x00K\x00\x86", b"K\x80K\x01\x86"))


GREEDY = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + (2**31).to_bytes(6, "little") + b"\x85R."
LISTS = b"\x80\x02(" + b"]" * (8 * 2**20) + b"l."

Make = Callable[[Path, Path], object]
REFUSED = "found "

# Read by the child process: how each is made (path, folder that executing it would make), pattern of the message.
MALICIOUS: dict[str, tuple[Make, str]] = {
    "pickle": (lambda path, trap: written(path, {"state_dict": Trap(trap)}), f"{REFUSED}posix.mkdir"),
    "old pickle": (lambda path, trap: written(path, Trap(trap), False), f"{REFUSED}posix.mkdir"),
    "zip bomb": (lambda path, trap: zip_bomb(path), r"2 of them compressed, that claim 1\.2 GB in a file of"),
    "strides": (
        lambda path, trap: written(path, {"state_dict": {"weight": torch.zeros(1).expand(2**20, 2**20)}}),
        r"found weight \(1048576, 1048576\): no kernel fits",
    ),
    "greedy": (lambda path, trap: pickled_by_hand(path, GREEDY), r"reading it takes more than the \d+ MB"),
    "lists": (lambda path, trap: pickled_by_hand(path, LISTS), r"reading it takes more than the \d+ MB"),
}  # fmt: skip

# Files without weights that are safe to read in this process.
NO_WEIGHTS: dict[str, tuple[Make, str]] = {
    "raw pickle": (lambda path, trap: path.write_bytes(pickle.dumps(Trap(trap), 2)), f"{REFUSED}posix.mkdir"),
    "a namespace": (
        lambda path, trap: written(path, {"state_dict": {}, "args": argparse.Namespace(lr=1)}),
        rf"{REFUSED}argparse.Namespace.*torch.save\(model.state_dict\(\), FILE\)",
    ),
    "a whole model": (lambda path, trap: written(path, nn.Linear(2, 2)), f"{REFUSED}torch.nn.modules.linear.Linear"),
    "a numpy scalar": (
        lambda path, trap: written(path, {"state_dict": {}, "best": torch.zeros(1).numpy()[0]}),
        rf"{REFUSED}numpy\S*.scalar",
    ),
    "overlapping": (lambda path, trap: overlapping(path), r"0 of them compressed, that claim \d+ MB in a file of"),
    "short storage": (lambda path, trap: short_storage(path), "is damaged"),
    "truncated": (lambda path, trap: damaged(path, cut_off), "it is damaged"),
    "old truncated": (lambda path, trap: damaged(path, cut_off, False), "is damaged"),
    "garbage": (lambda path, trap: damaged(path, garbage), "is damaged"),
}  # fmt: skip

# Reads every file for the network; prints after each the message, and the peak memory of this and of a child process.
READER = """
import json, resource, sys
from pathlib import Path
from core.config import ModelConfig
from core.errors import CheckpointError
from core.checkpointing.foreign_weights import read_foreign_weights
from core.models.build import build_model

model = build_model(ModelConfig(channels=(2, 4), norm="batch"), 1, 3)
for name in json.loads(sys.argv[1]):
    try:
        message = f"no error: {read_foreign_weights(Path(name), model)}"
    except CheckpointError as error:
        message = str(error)
    own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps([message, own * 1024, child * 1024]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """For each file: path, message, peak memory in bytes of the reading process and of its largest child so far."""
    folder = tmp_path_factory.mktemp("bombs")
    paths = {}
    for name, (make, _) in MALICIOUS.items():
        paths[name] = folder / f"{name}.pth"
        make(paths[name], folder / "trap")
    done = subprocess.run(
        [sys.executable, "-c", READER, json.dumps([str(path) for path in paths.values()])],
        cwd=project_root(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "trap").exists(), "code in the file was executed"
    found = dict(zip(paths, map(json.loads, done.stdout.splitlines()), strict=True))
    return {name: [paths[name], *outcome] for name, outcome in found.items()}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of the child is limited and measured only on Linux")
@pytest.mark.parametrize("name", MALICIOUS)
def test_malicious_files_are_refused_within_the_memory_limit(name: str, outcomes: dict[str, list[Any]]) -> None:
    path, message, own, child = outcomes[name]
    assert str(path) in message and "\n" not in message
    assert re.search(MALICIOUS[name][1], message), message
    assert own < MEMORY and child < MEMORY


@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_files_without_weights_are_refused(tmp_path: Path, name: str) -> None:
    make, pattern = NO_WEIGHTS[name]
    make(tmp_path / "file.pth", tmp_path / "trap")
    with pytest.raises(CheckpointError, match=pattern):
        load_weights_only(tmp_path / "file.pth", 2**28)
    assert not (tmp_path / "trap").exists(), "code in the file was executed"


@pytest.mark.slow
def test_limits_of_memory_and_time_are_reported() -> None:
    program = "import sys; block = bytearray(b'x') * (300 * 2**20)\nwhile True: pass"
    for limit_bytes, cpu_s, reason in ((200 * 2**20, 60, "more than 210 MB"), (2**40, 0.3, "more than 0.3 s of")):
        process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
        try:
            assert reason in wait_within_limits(process, limit_bytes, cpu_s)
        finally:
            process.kill()
            process.wait()


def test_exit_status_of_a_failed_reader_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    torch.save(network().state_dict(), path)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CheckpointError, match=r"weights.pth is damaged.*status 1"):
        read_foreign_weights(path, network())


@pytest.mark.slow
def test_reader_works_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(network(1).state_dict(), tmp_path / "weights.pth")
    monkeypatch.chdir(tmp_path)
    found = read_foreign_weights(Path("weights.pth"), network(2))
    assert same(found.weights, dict(network(1).state_dict()))
