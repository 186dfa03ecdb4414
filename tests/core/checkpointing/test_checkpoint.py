"""Checkpoints: round trip, atomic and durable writing under SIGKILL and full disks, copying of matching weights."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from safetensors import safe_open

from core.checkpointing.checkpoint import (
    build_network,
    copy_matching_weights,
    load,
    remove_temporary_checkpoints,
    save,
    write_verified,
)
from core.checkpointing.metadata import FORMAT_VERSION, METADATA_KEY, read_metadata
from core.config import TrainConfig
from core.errors import CheckpointError
from core.models.build import build_model
from core.paths import project_root
from tests.support.checkpoint_files import SMALL, at_most, checkpoint_metadata, same_bits, trained
from tests.support.watching import wait_until

# --- round trip -------------------------------------------------------------------------------------------------------


def test_checkpoint_round_trip_is_bit_exact(tmp_path: Path) -> None:
    written = trained()
    kernel = next(v for v in written.model.values() if v.ndim == 5)
    with torch.no_grad():
        kernel.view(-1)[:5] = torch.tensor([float("nan"), float("-inf"), -0.0, 1e-45, 3.4e38])
    assert any(v.dtype == torch.int64 for v in written.model.values())  # batch norm's counters
    save(tmp_path / "last.safetensors", written)
    read = load(tmp_path / "last.safetensors", training_state=True)
    assert read.metadata == written.metadata == read_metadata(tmp_path / "last.safetensors")
    assert same_bits(read.model, written.model)
    assert same_bits(read.average, written.average)
    assert read.optimizer.keys() == written.optimizer.keys() == set(range(len(read.optimizer)))
    assert {"exp_avg", "exp_avg_sq", "step"} == read.optimizer[0].keys()
    assert all(same_bits(read.optimizer[n], written.optimizer[n]) for n in written.optimizer)
    build_network(read.metadata).load_state_dict(read.model)


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


def test_weights_are_the_ema_where_there_is_one(saved: Path) -> None:
    read = load(saved)
    assert read.optimizer == {}
    assert read.weights is read.average
    save(saved, replace(read, average={}))
    read = load(saved)
    assert read.average == {}
    assert read.weights is read.model


def test_metadata_give_configuration_and_label_space(saved: Path) -> None:
    metadata = read_metadata(saved)
    assert metadata.train_config == TrainConfig().with_values(SMALL)
    assert metadata.label_space.names == ("background", "CSF", "GM")
    assert metadata.modalities == ("T1", "T2")
    assert metadata.spacing_mm == (1.0, 1.0, 1.5)
    assert metadata.version == FORMAT_VERSION


def test_nan_in_the_metadata_is_stored_as_null(tmp_path: Path) -> None:
    written = trained()
    metadata = replace(written.metadata, inference={"dice": {"tiles": float("nan")}}, spacing_mm=None)
    save(tmp_path / "last.safetensors", replace(written, metadata=metadata))
    read = load(tmp_path / "last.safetensors").metadata
    assert read.inference == {"dice": {"tiles": None}}
    assert read.spacing_mm is None


def test_reading_the_metadata_reads_no_tensor(saved: Path, tmp_path: Path) -> None:
    # A sparse file of 1 GB.
    header = json.dumps({"__metadata__": {METADATA_KEY: _text(saved)}, "model/x": _entry([2**28])}).encode()
    path = tmp_path / "sparse.safetensors"
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**30)
    with at_most(seconds=1, megabytes=20):
        assert read_metadata(path) == read_metadata(saved)
        with pytest.raises(CheckpointError, match="expected the tensors of its model"):
            load(path)


def test_reading_draws_no_random_numbers(saved: Path) -> None:
    before = torch.get_rng_state()
    load(saved, training_state=True)
    assert torch.equal(torch.get_rng_state(), before)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_file_is_synced_before_the_rename_and_the_folder_after(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        calls.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def watched_replace(source: Path, target: Path) -> None:
        calls.append(f"{source.name} -> {target.name}")
        assert source.parent == target.parent
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    save(saved, trained(1))
    temporary = calls[0].removeprefix("sync ")
    assert temporary.startswith(".last.safetensors.") and f".{os.getpid()}." in temporary
    assert calls == [f"sync {temporary}", f"{temporary} -> last.safetensors", f"sync {saved.parent.name}"]


# A process that imports torch once, and for every line forks a writer whose checkpoints count up from that number.
WRITER = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import torch
from core.checkpointing.checkpoint import Checkpoint, build_network, save
from core.checkpointing.metadata import CheckpointMetadata

torch.set_num_threads(1)
path, metadata = Path(sys.argv[1]), CheckpointMetadata(**json.loads(sys.argv[2]))
with torch.device("meta"):
    shapes = {name: tensor.shape for name, tensor in build_network(metadata).state_dict().items()}
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        number = int(line)
        while True:
            weights = {name: torch.full(shape, float(number)) for name, shape in shapes.items()}
            save(path, Checkpoint(replace(metadata, progress={"step": number}), weights))
            number += 1
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.mark.long
@pytest.mark.slow
def test_sigkill_at_any_instant_leaves_a_complete_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    metadata = checkpoint_metadata(channels=(32, 64, 128), norm="instance")
    fields = {"config": metadata.config, "labels": metadata.labels, "modalities": ["T1"], "spacing_mm": None}
    rng = random.Random(0)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), json.dumps(fields)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=project_root(),
    ) as server:
        assert server.stdin and server.stdout
        last_step = -1
        killed_while_writing = 0
        for attempt in range(8):
            before = path.stat().st_ino if path.exists() else None
            pid = _start_writer(server.stdin, server.stdout, first_step=1000 * attempt)
            if (
                attempt % 2 or before is None
            ):  # within the second write or a later one, at a random instant; else the first
                wait_until(lambda: path.exists() and path.stat().st_ino != before, 20, 0.0005)  # noqa: B023
                time.sleep(rng.uniform(0, 0.1))
            wait_until(lambda: any(_temporaries(path, pid)), 20, 0.0005)  # noqa: B023
            os.kill(pid, signal.SIGKILL)
            assert int(server.stdout.readline()) == signal.SIGKILL
            killed_while_writing += any(_temporaries(path, pid))
            checkpoint = load(path)
            step = checkpoint.metadata.progress["step"]
            assert step >= last_step and step % 1000 < 900
            assert all((tensor == step).all() for tensor in checkpoint.model.values())
            last_step = step
        server.stdin.close()
    assert last_step >= 1000, "no later writer replaced the file"
    assert killed_while_writing, "no writer was killed while it wrote"
    assert path.stat().st_size > 4e6
    remove_temporary_checkpoints(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_only_temporary_files_of_writers_are_removed(tmp_path: Path) -> None:
    stale = [".last.safetensors.123.tmp", ".best.safetensors.99999.0a1b2c3d.tmp"]
    other = ["last.safetensors", "notes.tmp", ".hidden", "last.safetensors.tmp", ".config.json.12.tmp"]
    for name in stale + other:
        (tmp_path / name).write_bytes(b"x")
    remove_temporary_checkpoints(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(other)
    remove_temporary_checkpoints(tmp_path / "nowhere")


# Fills a file system of two megabytes in a new mount namespace, which the parent does not see.
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


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux") or os.getuid() != 0, reason="needs root to mount a small disk")
def test_full_file_system_leaves_the_old_file(saved: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=2m tmpfs "$1" || exit 77; exec "$0" -c "$3" "$1" "$2"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, sys.executable, str(disk), str(saved), FULL_DISK],
        capture_output=True,
        text=True,
        cwd=project_root(),
        timeout=60,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert re.match(
        rf"no space left to write {disk / 'last.safetensors'} \(4.*MB\); the previous file is intact", done.stdout
    )
    assert not any(disk.iterdir())


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "no space left to write"), (errno.EDQUOT, "no space left to write"), (errno.EIO, "cannot write")],
)
def test_write_error_leaves_the_old_file(
    saved: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    before = saved.read_bytes()

    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CheckpointError, match=f"{message} {saved}.*the previous file is intact"):
        save(saved, trained(1))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in ("missing", "file"):
        path = tmp_path / folder / "last.safetensors"
        with pytest.raises(CheckpointError, match=f"cannot write {path}"):
            write_verified(path, b"data")


# --- copying weights --------------------------------------------------------------------------------------------------


def _network(in_channels: int = 2, classes: int = 3, **values: Any) -> torch.nn.Module:
    return build_model(TrainConfig().with_values({**SMALL, **values}).model, in_channels, classes)


def test_all_weights_of_the_same_network_are_copied() -> None:
    source, target = _network(), _network()
    assert copy_matching_weights(source.state_dict(), target) == (len(source.state_dict()),) * 2
    assert same_bits(dict(target.state_dict()), dict(source.state_dict()))


def test_weights_of_other_shapes_keep_their_initial_values() -> None:
    source, target = _network(), _network(in_channels=1, classes=5)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    copied, total = copy_matching_weights(source.state_dict(), target)
    fresh = {"classifier.weight", "classifier.bias", next(k for k, v in before.items() if v.ndim == 5)}
    assert (copied, total) == (len(before) - len(fresh), len(before))
    for name, value in target.state_dict().items():
        expected = before[name] if name in fresh else source.state_dict()[name]
        assert torch.equal(value, expected), name


@pytest.mark.parametrize(
    "values", [{"channels": (6, 10)}, {"model": "vnet", "channels": (2, 4)}, {"model": "vnet", "channels": (1, 3, 5)}]
)
def test_weights_of_another_architecture_are_refused(values: dict[str, Any]) -> None:
    # The classifier and the counters of batch norm match, but no kernel before the classifier.
    source, target = _network(), _network(**values)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError, match="init_from: none of the checkpoint's kernels fits"):
        copy_matching_weights(source.state_dict(), target)
    assert same_bits(dict(target.state_dict()), before)


def _entry(shape: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * shape[0]]}


def _text(path: Path) -> str:
    with safe_open(str(path), "pt") as file:
        return file.metadata()[METADATA_KEY]


def _temporaries(path: Path, pid: int) -> Iterator[Path]:
    return path.parent.glob(f".*.{pid}.*.tmp")


def _start_writer(requests: IO[str], answers: IO[str], first_step: int) -> int:
    requests.write(f"{first_step}\n")
    requests.flush()
    return int(answers.readline())
