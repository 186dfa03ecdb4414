"""Weights of other programs' checkpoints (PyTorch's ``.pth``, ``.pt``, ``.pt.tar``), to start training from.

Such a file is a pickle: a program for a small machine, which may ask for any amount of memory and, with a careless
reader, for anything else. Here a child process reads it, with torch's reader that knows tensors and plain values alone
(``weights_only``), and with as much memory as the network to train implies. Of what it finds it writes the tensors that
fit that network to a safetensors file, which this process reads and compares with the network once more.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from core.checkpointing.checkpoint import TYPES, is_kernel
from core.checkpointing.metadata import ZIP
from core.errors import CheckpointError
from core.formatting import format_bytes
from core.paths import project_root

if sys.platform != "win32":
    import resource

# A file may hold the weights, their average and two moments of an optimizer, all in double precision; and some text.
LARGEST_FILE = 8  # times the network's own tensors in single precision
TEXT_BYTES = 64 * 2**20
# The file is mapped or read once; what fits is converted and written (each of them once the network, and as much
# again to spare); the rest is for the reader, its lazy imports and names.
COPIES = 4  # of the network's own tensors
READER_BYTES = 256 * 2**20
TORCH_BYTES = 2**30  # resident in a process that has imported torch and done nothing, at most
MOST_ENTRIES = 10_000  # of an archive: one for each tensor, and some
PATIENCE_S = 120.0
POLL_S = 0.05

HOLDERS = (
    "state_dict", "model_state_dict", "network_weights", "model_state", "model", "network", "net", "weights",
)  # fmt: skip
DEPTH = 3  # of dictionaries in one another
WRAPPERS = ("module.", "_orig_mod.", "model.", "network.", "net.")  # DataParallel, torch.compile, Lightning
REQUEST, ANSWER, WEIGHTS, ERRORS = "request.json", "answer.json", "weights.safetensors", "errors.txt"
ALONE = "in the program that wrote it, write the weights alone: torch.save(model.state_dict(), FILE)"

Wanted = Mapping[str, tuple[tuple[int, ...], str]]  # by name: shape, and type as safetensors calls it


@dataclass(frozen=True)
class Foreign:
    """Weights under our network's names, float32; ``in_order``: matched by their order, since no name fits."""

    weights: dict[str, Tensor]
    in_order: bool


def read_foreign(path: Path, network: nn.Module) -> Foreign:
    """Read those weights of another program's checkpoint that fit a network; nothing in it is executed.

    Parameters
    ----------
    path : the file: a state_dict, alone or in a dictionary (:data:`HOLDERS`).
    network : what the weights are for; it is not changed.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, larger than the network implies or takes more memory to read, holds anything
        but tensors and plain values, or none of its kernels fits.
    """
    wanted = {name: (tuple(like.shape), TYPES[like.dtype]) for name, like in network.state_dict().items()}
    own_bytes = sum(like.numel() * like.element_size() for like in network.state_dict().values())
    file_bytes = _check_size(path, own_bytes)
    with tempfile.TemporaryDirectory(prefix="segmentarium-") as name:
        folder = Path(name)
        request = {
            "path": str(path.absolute()), "wanted": wanted, "written_bytes": 2 * own_bytes + 2**20,
            "memory_bytes": file_bytes + COPIES * own_bytes + READER_BYTES,
        }  # fmt: skip
        (folder / REQUEST).write_text(json.dumps(request), "utf-8")
        _in_child(path, folder, TORCH_BYTES + int(request["memory_bytes"]))
        answer = json.loads((folder / ANSWER).read_text("utf-8"))
        if "error" in answer:
            raise CheckpointError(f"{path}: {answer['error']}")
        return Foreign(_read_back(folder / WEIGHTS, wanted), bool(answer["in_order"]))


def load_plain(path: Path, memory_bytes: int) -> object:
    """What a file holds: tensors and plain values, the tensors of an archive still on the disk.

    Only to be called where memory is limited to ``memory_bytes``, which an error names.

    Raises
    ------
    CheckpointError
        If it is damaged, compressed, needs more memory, or holds anything else.
    """
    with open(path, "rb") as file:
        archive = file.read(len(ZIP)) == ZIP
    if archive:
        _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # there is nothing that a damaged pickle cannot raise
        text = str(error)
        if isinstance(error, MemoryError) or "allocate memory" in text or "not enough memory" in text:
            raise CheckpointError(
                f"reading it takes more than the {format_bytes(memory_bytes)} that the network to train implies; choose "
                f"the model and channels that the file is from, or {ALONE}"
            ) from error
        if named := re.search(r"GLOBAL (\S+)", text):
            raise CheckpointError(
                f"expected tensors and plain values alone, found {_printable(named[1])}, which is not made here, since "
                f"making it may run code of the file's; nothing was executed; {ALONE}"
            ) from error
        lines = text.rpartition("WeightsUnpickler error:")[2].strip().splitlines()
        reason = _printable(lines[0]) if lines else "it ends too early"
        raise CheckpointError(
            f"expected a PyTorch checkpoint, but it is damaged or none ({type(error).__name__}: {reason})"
        ) from error


def weights_in(content: object) -> dict[str, Tensor]:
    """The tensors of the state_dict in what a file holds, by name, without what a wrapper puts before every name.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    for _ in range(DEPTH):
        inner = [content[n] for n in HOLDERS if isinstance(content.get(n), dict)] if isinstance(content, dict) else []
        if not inner:
            break
        content = inner[0]
    found = {n: t for n, t in content.items() if isinstance(n, str) and _plain(t)} if isinstance(content, dict) else {}
    if not found:
        seen = ", ".join(_printable(k) for k in list(content)[:5]) if isinstance(content, dict) else ""
        raise CheckpointError(
            f"expected a state_dict (names and tensors), alone or under one of {', '.join(HOLDERS)}; found a "
            f"{type(content).__name__}{f' of {seen}' if seen else ''}; {ALONE}"
        )
    while wrapper := next((w for w in WRAPPERS if all(name.startswith(w) for name in found)), ""):
        found = {name.removeprefix(wrapper): tensor for name, tensor in found.items()}
    return found


def match(found: Mapping[str, Tensor], wanted: Wanted) -> tuple[dict[str, Tensor], bool]:
    """The tensors that fit, under our names: by name and shape; where no kernel does, all of them in their order.

    In order they fit only if every shape and every last part of a name (weight, bias, running_mean ...) is the same:
    shapes alone would take the slope of an activation for the scale of a normalisation. Counters of batches are left
    out.

    Returns
    -------
    The tensors as they were found, and whether they were matched in order.

    Raises
    ------
    CheckpointError
        If nothing fits.
    """
    named = {name: found[name] for name, (shape, kind) in wanted.items() if _fits(found.get(name), shape, kind)}
    if any(is_kernel(name, tensor.shape) for name, tensor in named.items()):
        return named, False
    ours = [(name, shape) for name, (shape, _) in wanted.items() if shape]
    theirs = [(name, tuple(t.shape)) for name, t in found.items() if t.ndim and t.is_floating_point()]
    if [(_last(name), shape) for name, shape in ours] == [(_last(name), shape) for name, shape in theirs]:
        return {own: found[other] for (own, _), (other, _) in zip(ours, theirs, strict=True)}, True
    raise CheckpointError(
        f"expected weights of the network to train, whose first kernels are {_kernels(ours)}; found {_kernels(theirs)}:"
        " no kernel fits by name and shape, and the whole does not by order; choose the model, channels and "
        "convolutions of the network that the file is from"
    )


def main(folder: Path) -> int:
    """The child: reads what :func:`read_foreign` asks for in a folder, and leaves an answer and the weights there."""
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    request = json.loads((folder / REQUEST).read_text("utf-8"))
    wanted: Wanted = {name: (tuple(shape), kind) for name, (shape, kind) in request["wanted"].items()}
    memory_bytes = int(request["memory_bytes"])
    _limit(memory_bytes, int(request["written_bytes"]))
    answer: dict[str, object]
    try:
        chosen, in_order = match(weights_in(load_plain(Path(request["path"]), memory_bytes)), wanted)
        # Only here are numbers touched: a tensor may claim any size, these have the network's own.
        with torch.no_grad():
            ready = {
                name: torch.empty(tensor.shape, dtype=torch.int64 if wanted[name][1] == "I64" else torch.float32).copy_(
                    tensor
                )
                for name, tensor in chosen.items()
            }
        save_file(ready, str(folder / WEIGHTS))
        answer = {"in_order": in_order}
    except CheckpointError as error:
        answer = {"error": str(error)}
    (folder / ANSWER).write_text(json.dumps(answer), "utf-8")
    return 0


def _check_size(path: Path, own_bytes: int) -> int:
    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint, found no file {path}")
    size, most = path.stat().st_size, LARGEST_FILE * own_bytes + TEXT_BYTES
    if not size:
        raise CheckpointError(f"{path} is damaged: expected a PyTorch checkpoint, found an empty file")
    if size > most:
        raise CheckpointError(
            f"{path}: expected at most {format_bytes(most)}, enough for the weights of the network to train and all that"
            f" an optimizer keeps; found {format_bytes(size)}; choose the model and channels that the file is from, or "
            f"{ALONE}"
        )
    return size


def _in_child(path: Path, folder: Path, resident_bytes: int) -> None:
    """Have a child process answer the request in a folder; it is ended when it takes too much or too long."""
    with open(folder / ERRORS, "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "core.checkpointing.foreign_weights", str(folder)], cwd=project_root(),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
        try:
            wrong = wait_within(process, resident_bytes, PATIENCE_S)
        finally:
            process.kill()
            process.wait()
    if not wrong and (process.returncode or not (folder / ANSWER).is_file()):
        said = (folder / ERRORS).read_text("utf-8", "replace").strip().splitlines()
        last = f": {_printable(said[-1])}" if said else ""
        wrong = f"what read it ended with status {process.returncode}{last}"
    if wrong:
        raise CheckpointError(f"{path} is damaged, or no checkpoint ({wrong}); {ALONE}")


def wait_within(process: subprocess.Popen[bytes], resident_bytes: int, seconds: float) -> str:
    """Wait for a process to end; says what was wrong with it where it takes more memory or time, else nothing.

    Linux holds the child to its memory by itself (:func:`_limit`), to the byte; other systems do not.
    """
    import psutil

    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return ""
        if time.monotonic() > deadline:
            return f"reading it takes longer than {seconds:.0f} s"
        with contextlib.suppress(psutil.Error):
            if psutil.Process(process.pid).memory_info().rss > resident_bytes:
                return f"reading it takes more than {format_bytes(resident_bytes)}"


def _read_back(path: Path, wanted: Wanted) -> dict[str, Tensor]:
    """The weights that the child wrote: names, shapes and types are the network's, whatever became of the child."""
    from safetensors import safe_open

    weights = {}
    with safe_open(str(path), framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 - it is no dictionary
            stored = file.get_slice(name)
            if wanted.get(name) != (tuple(stored.get_shape()), stored.get_dtype()):
                raise CheckpointError(f"{path}: expected tensors of the network, found {_printable(name)}")
            weights[name] = file.get_tensor(name)
    return weights


def _limit(memory_bytes: int, written_bytes: int) -> None:
    """From here on this process gets so much more memory and writes no larger file, where the system can see to it."""
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        for what, most in ((resource.RLIMIT_AS, used + memory_bytes), (resource.RLIMIT_FSIZE, written_bytes)):
            hard = resource.getrlimit(what)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(what, (most, most))


def _check_archive(path: Path) -> None:
    """torch.save compresses nothing: what an archive claims to hold is there, in so many bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"expected a PyTorch checkpoint, but it is damaged ({_printable(error)})") from error
    claimed, there = sum(entry.file_size for entry in entries), path.stat().st_size
    packed = [e for e in entries if e.compress_type != zipfile.ZIP_STORED or e.compress_size != e.file_size]
    if packed or claimed > there or len(entries) > MOST_ENTRIES:
        raise CheckpointError(
            f"expected an archive as torch.save writes it, at most {MOST_ENTRIES} entries and none compressed; found "
            f"{len(entries)}, {len(packed)} of them compressed, that claim {format_bytes(claimed)} in a file of "
            f"{format_bytes(there)}; {ALONE}"
        )


def _plain(value: object) -> bool:
    """Whether it is a tensor of plain numbers that are there: not sparse, quantised, nested, or of a shape alone."""
    return (
        type(value) in (Tensor, nn.Parameter)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested)
        and (value.is_floating_point() or value.dtype == torch.int64)
    )


def _fits(tensor: Tensor | None, shape: tuple[int, ...], kind: str) -> bool:
    return tensor is not None and tuple(tensor.shape) == shape and (tensor.dtype == torch.int64) == (kind == "I64")


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _kernels(tensors: list[tuple[str, tuple[int, ...]]]) -> str:
    kernels = [f"{_printable(name)} {shape}" for name, shape in tensors if len(shape) > 1]
    return " and ".join(kernels[:2]) or "no kernel"


def _printable(value: object) -> str:
    """Text from a file, for one line on a screen."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:200])


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
