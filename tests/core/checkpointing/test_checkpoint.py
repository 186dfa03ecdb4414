"""Checkpoints: they come back bit by bit, survive SIGKILL and a full disk."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from safetensors import safe_open

from core.checkpointing.checkpoint import (
    FORMAT_VERSION,
    KEY,
    build,
    load,
    read_description,
    save,
    sweep,
    transfer,
    write_atomically,
)  # fmt: skip
from core.config import TrainConfig
from core.errors import CheckpointError
from core.models import build_model
from core.paths import project_root
from tests.support.checkpoint_files import SMALL, at_most, description, same_bits, trained

ROOT = project_root()

# --- what comes back --------------------------------------------------------------------------------------------------


def test_every_bit_comes_back(tmp_path: Path) -> None:
    written = trained()
    kernel = next(v for v in written.model.values() if v.ndim == 5)
    with torch.no_grad():
        kernel.view(-1)[:5] = torch.tensor([float("nan"), float("-inf"), -0.0, 1e-45, 3.4e38])
    assert any(v.dtype == torch.int64 for v in written.model.values())  # batch norm's counters
    save(tmp_path / "last.safetensors", written)
    read = load(tmp_path / "last.safetensors", training_state=True)
    assert read.description == written.description == read_description(tmp_path / "last.safetensors")
    assert same_bits(read.model, written.model)
    assert same_bits(read.average, written.average)
    assert read.optimizer.keys() == written.optimizer.keys() == set(range(len(read.optimizer)))
    assert {"exp_avg", "exp_avg_sq", "step"} == read.optimizer[0].keys()
    assert all(same_bits(read.optimizer[n], written.optimizer[n]) for n in written.optimizer)
    build(read.description).load_state_dict(read.model)


def test_views_and_shared_memory_are_stored_by_value(tmp_path: Path) -> None:
    written = trained()
    name = next(k for k, v in written.model.items() if v.ndim == 5)
    written.model[name] = torch.randn(written.model[name].shape[::-1]).permute(4, 3, 2, 1, 0)
    assert not written.model[name].is_contiguous()
    written.average = dict(written.model)
    save(tmp_path / "last.safetensors", written)
    read = load(tmp_path / "last.safetensors")
    assert torch.equal(read.model[name], written.model[name])
    assert torch.equal(read.average[name], written.model[name])


def test_weights_are_the_average_where_there_is_one(saved: Path) -> None:
    read = load(saved)
    assert read.optimizer == {}
    assert read.weights is read.average
    save(saved, replace(read, average={}))
    read = load(saved)
    assert read.average == {}
    assert read.weights is read.model


def test_what_the_description_means(saved: Path) -> None:
    about = read_description(saved)
    assert about.train_config == TrainConfig().with_values(SMALL)
    assert about.label_space.names == ("background", "CSF", "GM")
    assert about.modalities == ("T1", "T2")
    assert about.spacing_mm == (1.0, 1.0, 1.5)
    assert about.version == FORMAT_VERSION


def test_a_score_that_is_no_number_does_not_cost_the_checkpoint(tmp_path: Path) -> None:
    written = trained()
    about = replace(written.description, inference={"dice": {"tiles": float("nan")}}, spacing_mm=None)
    save(tmp_path / "last.safetensors", replace(written, description=about))
    read = load(tmp_path / "last.safetensors").description
    assert read.inference == {"dice": {"tiles": None}}
    assert read.spacing_mm is None


def test_reading_the_description_reads_no_tensor(saved: Path, tmp_path: Path) -> None:
    # A file of 1 GB, nearly all of it a hole.
    about = json.dumps({"__metadata__": {KEY: _text(saved)}, "model/x": _entry([2**28])}).encode()
    path = tmp_path / "sparse.safetensors"
    with open(path, "wb") as file:
        file.write(len(about).to_bytes(8, "little") + about)
        file.truncate(8 + len(about) + 2**30)
    with at_most(seconds=1, megabytes=20):
        assert read_description(path) == read_description(saved)
        with pytest.raises(CheckpointError, match="expected the tensors of its model"):
            load(path)


def test_reading_draws_no_random_numbers(saved: Path) -> None:
    before = torch.get_rng_state()
    load(saved, training_state=True)
    assert torch.equal(torch.get_rng_state(), before)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_file_then_rename_then_folder_reach_the_disk(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        done.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def watched_replace(source: Path, target: Path) -> None:
        done.append(f"{source.name} -> {target.name}")
        assert source.parent == target.parent
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    save(saved, trained(1))
    temporary = done[0].removeprefix("sync ")
    assert temporary.startswith(f".last.safetensors.{os.getpid()}.")
    assert done == [f"sync {temporary}", f"{temporary} -> last.safetensors", f"sync {saved.parent.name}"]


# A process that imports torch once and forks a writer for every line: the number that its first checkpoint holds.
WRITER = """
import os, sys
from dataclasses import replace
from pathlib import Path
import torch
from core.checkpointing.checkpoint import Checkpoint, Description, build, save

torch.set_num_threads(1)
path, about = Path(sys.argv[1]), Description(**__import__("json").loads(sys.argv[2]))
with torch.device("meta"):
    shapes = {name: tensor.shape for name, tensor in build(about).state_dict().items()}
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        number = int(line)
        while True:
            weights = {name: torch.full(shape, float(number)) for name, shape in shapes.items()}
            save(path, Checkpoint(replace(about, progress={"step": number}), weights))
            number += 1
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def test_sigkill_at_any_instant_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    about = description(channels=(64, 128, 256), norm="instance")
    facts = json.dumps({"config": about.config, "labels": about.labels, "modalities": ["T1"], "spacing_mm": None})
    instant = random.Random(0)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), facts],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as writer:  # fmt: skip
        assert writer.stdin and writer.stdout
        last = -1
        killed_while_writing = 0
        for attempt in range(10):
            pid = _start(writer.stdin, writer.stdout, first=1000 * attempt)
            if attempt % 2 or attempt == 0:
                _wait(lambda: any(path.parent.glob(f".*.{pid}.*.tmp")) and (path.exists() or last >= 0))  # noqa: B023
            else:
                time.sleep(instant.uniform(0.02, 0.25))
            os.kill(pid, signal.SIGKILL)
            assert int(writer.stdout.readline()) == signal.SIGKILL
            killed_while_writing += any(path.parent.glob(f".*.{pid}.*.tmp"))
            found = load(path)
            step = found.description.progress["step"]
            assert step >= last and step % 1000 < 900
            assert all((tensor == step).all() for tensor in found.model.values())
            last = step
        writer.stdin.close()
    assert last >= 1000, "never the file of a later writer"
    assert killed_while_writing, "never killed while it wrote"
    assert path.stat().st_size > 18e6
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_sweep_takes_only_what_a_killed_writer_left(tmp_path: Path) -> None:
    stale = [".last.safetensors.123.tmp", ".best.safetensors.99999.0a1b2c3d.tmp"]
    other = ["last.safetensors", "notes.tmp", ".hidden", "last.safetensors.tmp", ".config.json.12.tmp"]
    for name in stale + other:
        (tmp_path / name).write_bytes(b"x")
    sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(other)
    sweep(tmp_path / "nowhere")


# Fills a file system of two megabytes of its own; the parent sees nothing of it.
FULL_DISK = """
import sys
from pathlib import Path
import torch
from core.checkpointing.checkpoint import load, save
from core.errors import CheckpointError

path = Path(sys.argv[1]) / "last.safetensors"
checkpoint = load(Path(sys.argv[2]))
save(path, checkpoint)
before = path.read_bytes()
checkpoint.optimizer[0] = {"exp_avg": torch.zeros(10**6)}
try:
    save(path, checkpoint)
except CheckpointError as error:
    print(error)
assert path.read_bytes() == before and load(path)
assert [p.name for p in path.parent.iterdir()] == [path.name]
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.getuid() != 0, reason="needs root to mount a small disk")
def test_a_disk_that_is_really_full(saved: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=2m tmpfs "$1" || exit 77; exec "$0" -c "$3" "$1" "$2"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, sys.executable, str(disk), str(saved), FULL_DISK],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    expected = f"no space left to write {disk / 'last.safetensors'} (4 MB); the previous file is intact"
    assert done.stdout.startswith(expected)
    assert not any(disk.iterdir())


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "no space left to write"), (errno.EDQUOT, "no space left to write"), (errno.EIO, "cannot write")],
)
def test_the_disk_refuses(saved: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str) -> None:
    before = saved.read_bytes()

    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointError, match=f"{message} {saved}.*the previous file is intact"):
        save(saved, trained(1))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in ("missing", "file"):
        path = tmp_path / folder / "last.safetensors"
        with pytest.raises(CheckpointError, match=f"cannot write {path}"):
            write_atomically(path, b"data")


# --- fine-tuning ------------------------------------------------------------------------------------------------------


def _network(in_channels: int = 2, classes: int = 3, **values: Any) -> torch.nn.Module:
    return build_model(TrainConfig().with_values({**SMALL, **values}).model, in_channels, classes)


def test_transfer_to_the_same_network_copies_all() -> None:
    source, target = _network(), _network()
    assert transfer(source.state_dict(), target) == (len(source.state_dict()),) * 2
    assert same_bits(dict(target.state_dict()), dict(source.state_dict()))


def test_transfer_leaves_what_does_not_fit_fresh() -> None:
    source, target = _network(), _network(in_channels=1, classes=5)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    copied, total = transfer(source.state_dict(), target)
    fresh = {"classifier.weight", "classifier.bias", next(k for k, v in before.items() if v.ndim == 5)}
    assert (copied, total) == (len(before) - len(fresh), len(before))
    for name, value in target.state_dict().items():
        expected = before[name] if name in fresh else source.state_dict()[name]
        assert torch.equal(value, expected), name


@pytest.mark.parametrize(
    "values", [{"channels": (6, 10)}, {"model": "vnet", "channels": (2, 4)}, {"model": "vnet", "channels": (1, 3, 5)}]
)
def test_transfer_refuses_another_architecture(values: dict[str, Any]) -> None:
    # The same classes, and batch norm's counters in both: single tensors fit, but nothing that was learned.
    source, target = _network(), _network(**values)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError, match="init_from: none of the checkpoint's kernels fits"):
        transfer(source.state_dict(), target)
    assert same_bits(dict(target.state_dict()), before)


def _entry(shape: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * shape[0]]}


def _text(path: Path) -> str:
    with safe_open(str(path), "pt") as file:
        return file.metadata()[KEY]


def _start(requests: IO[str], answers: IO[str], first: int) -> int:
    requests.write(f"{first}\n")
    requests.flush()
    return int(answers.readline())


def _wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0005)
