"""Checkpoints: they come back bit by bit, survive SIGKILL and a full disk; what only looks like one is never used."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.checkpoint import (
    FORMAT_VERSION,
    KEY,
    Checkpoint,
    Description,
    build,
    load,
    read_description,
    save,
    sweep,
    transfer,
    write_atomically,
)
from core.config import TrainConfig
from core.errors import CheckpointError
from core.labels import LabelSpace
from core.models import build_model
from core.optim import build_optimizer, optimizer_tensors

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"channels": (2, 4), "norm": "batch", "optimizer": "adamw"}


def description(**values: Any) -> Description:
    config = TrainConfig().with_values({**SMALL, **values})
    labels = LabelSpace.from_raw({0: "background", 10: "CSF", 150: "GM"})
    return Description(
        config.to_json(), labels.to_json(), ("T1", "T2"), (1.0, 1.0, 1.5), {"epoch": 3, "best": None},
        {"mode": "tiles"}, {"name": "Söhne & Co", "synthetic": True}, {"train": ["a", "b"], "val": ["c"], "test": []},
    )  # fmt: skip


def trained(seed: int = 0) -> Checkpoint:
    """A checkpoint of a network that took one step."""
    torch.manual_seed(seed)
    about = description()
    network = build(about)
    optimizer = build_optimizer(network, about.train_config.optim)
    network(torch.randn(1, 2, 4, 4, 4)).square().sum().backward()
    optimizer.step()
    average = {k: v + 1 for k, v in network.state_dict().items()}
    return Checkpoint(about, dict(network.state_dict()), average, optimizer_tensors(optimizer, network))


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype
        and one[k].shape == other[k].shape
        and one[k].detach().numpy().tobytes() == other[k].detach().numpy().tobytes()
        for k in one
    )


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "last.safetensors"
    save(path, trained())
    return path.read_bytes()


@pytest.fixture
def saved(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "last.safetensors"
    path.write_bytes(content)
    return path


def forge(
    path: Path,
    tensors: Callable[[dict[str, Tensor]], object] = lambda tensors: None,
    about: Callable[[dict[str, Any]], object] = lambda about: None,
    text: str | None = None,
) -> Path:
    """Change a checkpoint's tensors or its description, or put another text in the description's place."""
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors(found)
    told = json.loads(metadata[KEY])
    about(told)
    save_file(found, str(path), {KEY: json.dumps(told) if text is None else text})
    return path


@contextmanager
def at_most(seconds: float, megabytes: float) -> Iterator[None]:
    """What happens inside takes no longer and raises this process's peak of memory by no more."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    scale = 1e6 if sys.platform == "darwin" else 1e3
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / scale < megabytes
    assert time.monotonic() - began < seconds


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
    temporary = f".last.safetensors.{os.getpid()}.tmp"
    assert done == [f"sync {temporary}", f"{temporary} -> last.safetensors", f"sync {saved.parent.name}"]


# A process that imports torch once and forks a writer for every line: the number that its first checkpoint holds.
WRITER = """
import os, sys
from dataclasses import replace
from pathlib import Path
import torch
from core.checkpoint import Checkpoint, Description, build, save

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
                _wait(lambda: any(path.parent.glob(f".*.{pid}.tmp")) and (path.exists() or last >= 0))  # noqa: B023
            else:
                time.sleep(instant.uniform(0.02, 0.25))
            os.kill(pid, signal.SIGKILL)
            assert int(writer.stdout.readline()) == signal.SIGKILL
            killed_while_writing += any(path.parent.glob(f".*.{pid}.tmp"))
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
    stale = [".last.safetensors.123.tmp", ".best.safetensors.99999.tmp"]
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
from core.checkpoint import load, save
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


# --- what is no checkpoint --------------------------------------------------------------------------------------------


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def _pth(path: Path, mark: Path) -> None:
    torch.save({"state_dict": trained().model, "trap": Trap(mark)}, path)


IMPOSTORS: dict[str, Callable[[Path, Path], object]] = {
    "missing": lambda path, mark: None,
    "folder": lambda path, mark: path.mkdir(),
    "empty": lambda path, mark: path.write_bytes(b""),
    "garbage": lambda path, mark: path.write_bytes(random.Random(0).randbytes(5000)),
    "text": lambda path, mark: path.write_text("version https://git-lfs.github.com/spec/v1\n" * 3, "utf-8"),
    "pickle": lambda path, mark: path.write_bytes(pickle.dumps({"state_dict": Trap(mark)})),
    "pth": _pth,
    "foreign": lambda path, mark: save_file({"weight": torch.ones(3)}, str(path)),
    "foreign with metadata": lambda path, mark: save_file({"weight": torch.ones(3)}, str(path), {"format": "pt"}),
}


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_impostors_are_named_and_never_run(kind: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "best.safetensors", tmp_path / "mark"
    IMPOSTORS[kind](path, mark)
    for read in (load, read_description):
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert str(path) in str(caught.value)
    assert not mark.exists()


def test_the_trap_of_these_tests_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_a_file_that_was_cut_off(saved: Path) -> None:
    whole = saved.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    for length in (1, 7, 8, 9, 8 + header // 2, 8 + header, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        for read in (load, read_description):
            with pytest.raises(CheckpointError, match=f"{saved} is not a checkpoint.* or it is damaged"):
                read(saved)


def test_flipped_bits_in_the_header_are_refused_or_harmless(saved: Path) -> None:
    whole = saved.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    generator = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 3)):
            damaged[generator.randrange(8 + header)] ^= 1 << generator.randrange(8)
        saved.write_bytes(damaged)
        try:
            load(saved, training_state=True)
        except CheckpointError as error:
            assert str(saved) in str(error)
            refused += 1
    assert refused > 150


# --- descriptions that lie --------------------------------------------------------------------------------------------

DAMAGED = {
    "": "its description is damaged",
    "{": "its description is damaged",
    "[]": "its description is damaged",
    "null": "its description is damaged",
    "[" * 100_000: "its description is damaged",
    '{"version": 1e999}': "its description is damaged",
    '{"version": 1}': "its description is damaged",
}

LIES: dict[str, tuple[dict[str, Any], str]] = {
    "newer": ({"version": FORMAT_VERSION + 1, "novelty": 1}, rf"format {FORMAT_VERSION + 1}, this program reads up to"),
    "newer configuration": ({"config": {"version": 99}}, "expected configuration version 1 or older, got 99"),
    "no configuration": ({"config": None}, "config is no dict"),
    "other configuration": ({"config": {"version": 1, "colour": {}}}, "expected the sections .* got 'colour'"),
    "unknown field": ({"novelty": 1}, "novelty"),
    "unknown network": ({"config": {"version": 1, "model": {"model": "resnet"}}}, "model: expected one of"),
    "no modalities": ({"modalities": []}, "no modalities"),
    "modalities as text": ({"modalities": "T1"}, "modalities is no list"),
    "one class": ({"labels": [{"name": "air", "colour": "#000000", "raw": 0}]}, "2 to 255 classes"),
    "labels as numbers": ({"labels": [1, 2, 3]}, "expected a list of {name, colour, raw}"),
    "infinite label": ({"labels": [{"name": "a", "colour": "#000000", "raw": float("inf")}] * 3}, "expected a list of"),
    "progress as list": ({"progress": []}, "progress is no dict"),
    "two sizes": ({"spacing_mm": [1, 1]}, "description is damaged"),
    "no size": ({"spacing_mm": [1, 1, 0]}, "spacing_mm"),
    "infinite size": ({"spacing_mm": [1, 1, float("inf")]}, "spacing_mm"),
    "large size": ({"spacing_mm": [1, 1, 10**400]}, "description is damaged"),
}


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_description(text: str, saved: Path) -> None:
    forge(saved, text=text)
    for read in (load, read_description):
        with pytest.raises(CheckpointError, match=f"{saved}: {DAMAGED[text]}"):
            read(saved)


@pytest.mark.parametrize("lie", LIES)
def test_a_description_that_cannot_be(lie: str, saved: Path) -> None:
    changes, message = LIES[lie]
    forge(saved, about=lambda about: about.update(changes))
    with pytest.raises(CheckpointError, match=message) as caught:
        load(saved, training_state=True)
    assert str(caught.value).count(str(saved)) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"channels": (2, 8)},
        {"channels": (2, 4, 8)},
        {"channels": (4096,) * 8},
        {"channels": (4096,) * 8, "model": "vnet"},
        {"norm": "instance"},
        {"activation": "prelu"},
    ],
)
def test_another_network_than_described_is_refused_without_building_it(values: dict[str, Any], saved: Path) -> None:
    claimed = TrainConfig().with_values({**SMALL, **values}).to_json()
    forge(saved, about=lambda about: about.update(config=claimed))
    with at_most(seconds=5, megabytes=60), pytest.raises(CheckpointError, match=f"{saved}: expected"):
        load(saved, training_state=True)


# --- tensors that do not belong ---------------------------------------------------------------------------------------


def _renamed(old: str, new: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({new: tensors.pop(old)})


def _instead(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({name: tensor})


BIAS = "classifier.bias"  # three values
STRANGE: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "wrong shape": (_instead(f"model/{BIAS}", torch.ones(4)), r"of shape \(3,\), F32; found \(4,\), F32"),
    "wrong axes": (_instead(f"average/{BIAS}", torch.ones(3, 1)), r"of shape \(3,\), F32; found \(3, 1\), F32"),
    "wrong type": (_instead(f"model/{BIAS}", torch.ones(3, dtype=torch.float64)), r"F32; found \(3,\), F64"),
    "whole numbers": (_instead(f"model/{BIAS}", torch.ones(3, dtype=torch.long)), r"F32; found \(3,\), I64"),
    "missing": (lambda tensors: tensors.pop(f"model/{BIAS}"), f"tensors of its model, but {BIAS} do not match"),
    "missing average": (lambda tensors: tensors.pop(f"average/{BIAS}"), f"tensors of its average, but {BIAS} do not"),
    "renamed": (_renamed(f"model/{BIAS}", "model/Bias"), f"tensors of its model, but Bias, {BIAS} do not match"),
    "extra": (_instead("model/more", torch.ones(1)), "tensors of its model, but more do not match"),
    "extra group": (_instead("surprise/more", torch.ones(1)), "expected tensors named .* found surprise/more"),
    "no group": (_instead("more", torch.ones(1)), "expected tensors named .* found more"),
    "no model": (
        lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("model/")],
        "expected the tensors of its model",
    ),
}
STRANGE_STATE: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "shape": (_instead("optimizer/0/exp_avg", torch.ones(9)), r"optimizer/0/exp_avg of shape \(\) or .* found \(9,\)"),
    "type": (_instead("optimizer/0/step", torch.tensor(1)), r"optimizer/0/step .* found \(\), I64"),
    "another's": (_renamed("optimizer/0/exp_avg", "optimizer/1/exp_avg"), "optimizer/1/exp_avg of shape"),
    "beyond": (_instead("optimizer/999/exp_avg", torch.ones(1)), "optimizer/999/exp_avg belongs to none"),
    "no number": (_instead("optimizer/first/exp_avg", torch.ones(1)), "optimizer/first/exp_avg belongs to none"),
    "superscript": (_instead("optimizer/²/exp_avg", torch.ones(1)), "optimizer/²/exp_avg belongs to none"),
    "long number": (_instead(f"optimizer/{'9' * 5000}/x", torch.ones(1)), "belongs to none"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_tensors_that_are_not_the_networks(kind: str, saved: Path) -> None:
    change, message = STRANGE[kind]
    forge(saved, tensors=change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(saved)
    assert str(caught.value).startswith(str(saved))


@pytest.mark.parametrize("kind", STRANGE_STATE)
def test_optimizer_tensors_that_fit_no_parameter(kind: str, saved: Path) -> None:
    change, message = STRANGE_STATE[kind]
    forge(saved, tensors=change)
    load(saved)  # to predict, the optimizer does not matter
    with pytest.raises(CheckpointError, match=message) as caught:
        load(saved, training_state=True)
    assert str(caught.value).startswith(str(saved))


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
