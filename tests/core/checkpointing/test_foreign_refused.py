"""Files that ask for more than weights, or that are none: refused in one line, nothing in them is run."""

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

from core.checkpointing.foreign_weights import LARGEST_FILE, TEXT_BYTES, load_plain, read_foreign, wait_within
from core.checkpointing.metadata import is_foreign, read_description
from core.errors import CheckpointError
from core.paths import project_root
from tests.support.damages import cut_off, garbage
from tests.support.foreign_networks import network, same

ROOT = project_root()
MEMORY = 1000 * 10**6


def test_a_file_that_is_not_there_empty_or_too_large(tmp_path: Path) -> None:
    path, model = tmp_path / "weights.pth", network()
    with pytest.raises(CheckpointError, match=f"found no file {path}"):
        read_foreign(path, model)
    path.touch()
    with pytest.raises(CheckpointError, match=r"is damaged: .*found an empty file"):
        read_foreign(path, model)
    own = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    with open(path, "wb") as file:
        file.truncate(LARGEST_FILE * own + TEXT_BYTES + 1)
    with pytest.raises(CheckpointError, match=r"expected at most 67 MB, .* optimizer keeps; found 67 MB; choose"):
        read_foreign(path, model)


@pytest.mark.parametrize(("start", "name", "foreign"), [
    (b"PK\x03\x04", "weights.dat", True), (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "weights", True),
    (b"", "a.pt.tar", True), (b"", "a.PTH", True), (b"", "a.safetensors", False), (b"\x5c\x01", "a.nii.gz", False),
    (struct.pack("<Q", 2) + b"{}", "ours.pth", False),
])  # fmt: skip
def test_which_files_are_foreign(tmp_path: Path, start: bytes, name: str, foreign: bool) -> None:
    (tmp_path / name).write_bytes(start)
    assert is_foreign(tmp_path / name) == foreign


def test_predicting_with_one_says_what_to_do_instead(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(network().state_dict(), path)
    with pytest.raises(CheckpointError, match=r"is not a checkpoint of Segmentarium.*--init-from"):
        read_description(path)


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
    # Its strides are two zeros in the pickle; the same number of bytes says 128 and 1.
    assert data.count(b"K\x00K\x00\x86") == 1
    path.write_bytes(data.replace(b"K\x00K\x00\x86", b"K\x80K\x01\x86"))


GREEDY = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + (2**31).to_bytes(6, "little") + b"\x85R."
LISTS = b"\x80\x02(" + b"]" * (8 * 2**20) + b"l."

Make = Callable[[Path, Path], object]
NOT_MADE = "expected tensors and plain values alone, found "

# What could do harm, each read by the child: how it is made (the file, and the folder that running it would make), and
# what is said of it.
BOMBS: dict[str, tuple[Make, str]] = {
    "pickle": (lambda path, trap: written(path, {"state_dict": Trap(trap)}), f"{NOT_MADE}posix.mkdir"),
    "old pickle": (lambda path, trap: written(path, Trap(trap), False), f"{NOT_MADE}posix.mkdir"),
    "zip bomb": (lambda path, trap: zip_bomb(path), "2 of them compressed, that claim 1208 MB in a file of"),
    "strides": (
        lambda path, trap: written(path, {"state_dict": {"weight": torch.zeros(1).expand(2**20, 2**20)}}),
        r"found weight \(1048576, 1048576\): no kernel fits",
    ),
    "greedy": (lambda path, trap: pickled_by_hand(path, GREEDY), r"reading it takes more than the \d+ MB"),
    "lists": (lambda path, trap: pickled_by_hand(path, LISTS), r"reading it takes more than the \d+ MB"),
}  # fmt: skip

# What is merely no checkpoint, and harms nobody who reads it.
DUDS: dict[str, tuple[Make, str]] = {
    "raw pickle": (lambda path, trap: path.write_bytes(pickle.dumps(Trap(trap), 2)), f"{NOT_MADE}posix.mkdir"),
    "a namespace": (
        lambda path, trap: written(path, {"state_dict": {}, "args": argparse.Namespace(lr=1)}),
        rf"{NOT_MADE}argparse.Namespace.*torch.save\(model.state_dict\(\), FILE\)",
    ),
    "a whole model": (lambda path, trap: written(path, nn.Linear(2, 2)), f"{NOT_MADE}torch.nn.modules.linear.Linear"),
    "a numpy scalar": (
        lambda path, trap: written(path, {"state_dict": {}, "best": torch.zeros(1).numpy()[0]}),
        rf"{NOT_MADE}numpy\S*.scalar",
    ),
    "overlapping": (lambda path, trap: overlapping(path), "0 of them compressed, that claim 944 MB in a file of"),
    "short storage": (lambda path, trap: short_storage(path), "damaged or none"),
    "truncated": (lambda path, trap: damaged(path, cut_off), "it is damaged"),
    "old truncated": (lambda path, trap: damaged(path, cut_off, False), "damaged or none"),
    "garbage": (lambda path, trap: damaged(path, garbage), "damaged or none"),
}  # fmt: skip

# Reads every file for the network, and says after each what came of it and what memory it took here and in a child.
READER = """
import json, resource, sys
from pathlib import Path
from core.config import ModelConfig
from core.errors import CheckpointError
from core.checkpointing.foreign_weights import read_foreign
from core.models import build_model

model = build_model(ModelConfig(channels=(2, 4), norm="batch"), 1, 3)
for name in json.loads(sys.argv[1]):
    try:
        said = f"nothing: {read_foreign(Path(name), model)}"
    except CheckpointError as error:
        said = str(error)
    here = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps([said, here * 1024, child * 1024]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What became of each: what was said, this and the largest child's peak of memory so far, in bytes."""
    folder = tmp_path_factory.mktemp("bombs")
    paths = {}
    for name, (make, _) in BOMBS.items():
        paths[name] = folder / f"{name}.pth"
        make(paths[name], folder / "the trap went off")
    done = subprocess.run(
        [sys.executable, "-c", READER, json.dumps([str(path) for path in paths.values()])],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (folder / "the trap went off").exists(), "a checkpoint ran code"
    found = dict(zip(paths, map(json.loads, done.stdout.splitlines()), strict=True))
    return {name: [paths[name], *outcome] for name, outcome in found.items()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of the child, and says its peak")
@pytest.mark.parametrize("name", BOMBS)
def test_what_could_do_harm_is_refused_in_one_line(name: str, outcomes: dict[str, list[Any]]) -> None:
    path, said, here, child = outcomes[name]
    assert str(path) in said and "\n" not in said
    assert re.search(BOMBS[name][1], said), said
    assert here < MEMORY and child < MEMORY


@pytest.mark.parametrize("name", DUDS)
def test_what_merely_is_no_checkpoint_is_told_too(tmp_path: Path, name: str) -> None:
    make, words = DUDS[name]
    make(tmp_path / "file.pth", tmp_path / "trap")
    with pytest.raises(CheckpointError, match=words):
        load_plain(tmp_path / "file.pth", 2**28)
    assert not (tmp_path / "trap").exists(), "a checkpoint ran code"


def test_a_child_that_takes_too_much_or_too_long_is_ended() -> None:
    program = "import time; kept = bytearray(b'x') * (300 * 2**20); time.sleep(60)"
    for bytes_, seconds, words in ((200 * 2**20, 60, "more than 210 MB"), (2**40, 0.3, "longer than 0 s")):
        process = subprocess.Popen([sys.executable, "-c", program])
        try:
            assert words in wait_within(process, bytes_, seconds)
        finally:
            process.kill()
            process.wait()


def test_a_child_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    torch.save(network().state_dict(), path)
    monkeypatch.setattr("core.checkpointing.foreign_weights.sys.executable", "/bin/false")
    with pytest.raises(
        CheckpointError, match=r"weights.pth is damaged, or no checkpoint \(what read it ended with stat"
    ):
        read_foreign(path, network())


def test_importable_whatever_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(network(1).state_dict(), tmp_path / "weights.pth")
    monkeypatch.chdir(tmp_path)
    found = read_foreign(Path("weights.pth"), network(2))
    assert same(found.weights, dict(network(1).state_dict()))
