"""The child process that reads another program's checkpoint for :mod:`core.checkpointing.foreign_weights`.

It reads the request (:class:`Request`) in a folder, limits its own memory, loads the file with torch's ``weights_only``
reader, matches the tensors with the network's, and writes the matching ones and a response to the folder.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor, nn

from core.checkpointing.checkpoint import is_hidden_kernel
from core.checkpointing.metadata import ZIP_MAGIC
from core.errors import CheckpointError
from core.formatting import format_bytes

if sys.platform != "win32":
    import resource

REQUEST_FILE, RESPONSE_FILE, WEIGHTS_FILE = "request.json", "response.json", "weights.safetensors"
MAX_ARCHIVE_ENTRIES = 10_000  # one for each tensor, and some
STATE_DICT_KEYS = (
    "state_dict",
    "model_state_dict",
    "network_weights",
    "model_state",
    "model",
    "network",
    "net",
    "weights",
)
MAX_NESTING = 3  # of dictionaries around the state_dict
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")  # DataParallel, torch.compile, Lightning
SAVE_HINT = "in the program that wrote it, save only the weights: torch.save(model.state_dict(), FILE)"

ExpectedTensors = Mapping[str, tuple[tuple[int, ...], str]]  # shape and dtype (as safetensors names it) by name


class Request(TypedDict):
    """Request to the child process.

    Attributes
    ----------
    path : str. The file to read.
    expected : ExpectedTensors. The network's tensors.
    repeatable : list of str. Kernels that read the image, and may be repeated for several modalities.
    memory_bytes, written_bytes : int. Limits of additional memory, and of the size of a written file.
    """

    path: str
    expected: ExpectedTensors
    repeatable: list[str]
    memory_bytes: int
    written_bytes: int


def main(folder: Path) -> int:
    """Answer the request in a folder with a response and, unless that is an error, the weights."""
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    request: Request = json.loads((folder / REQUEST_FILE).read_text("utf-8"))
    expected: ExpectedTensors = {name: (tuple(shape), dtype) for name, (shape, dtype) in request["expected"].items()}
    _limit_resources(request["memory_bytes"], request["written_bytes"])
    response: dict[str, object]
    try:
        content = load_weights_only(Path(request["path"]), request["memory_bytes"])
        tensors, repeated = repeat_modality(find_state_dict(content), expected, request["repeatable"])
        matching, in_order = match_weights(tensors, expected)
        # Values are read only here: a tensor in the file may claim any size, these have the network's own.
        with torch.no_grad():
            weights = {name: _converted(tensor, expected[name][1]) for name, tensor in matching.items()}
        save_file(weights, str(folder / WEIGHTS_FILE))
        left_out = 0 if in_order else sum(t.ndim > 1 for name, t in tensors.items() if name not in matching)
        response = {"in_order": in_order, "repeated": repeated, "left_out": left_out}
    except CheckpointError as error:
        response = {"error": str(error)}
    (folder / RESPONSE_FILE).write_text(json.dumps(response), "utf-8")
    return 0


def load_weights_only(path: Path, memory_bytes: int) -> object:
    """Load a file that holds only tensors and plain values; the tensors of an archive stay on disk.

    Call it only in a process whose memory is limited.

    Parameters
    ----------
    path : Path. The file.
    memory_bytes : int. The limit, which an error names.

    Raises
    ------
    CheckpointError
        If the file is damaged, compressed, needs more memory, or contains other objects.
    """
    with open(path, "rb") as file:
        is_archive = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    if is_archive:
        _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except Exception as error:  # a damaged pickle may raise any exception
        text = str(error)
        if isinstance(error, MemoryError) or "allocate memory" in text or "not enough memory" in text:
            raise CheckpointError(
                f"reading it takes more than the {format_bytes(memory_bytes)} that the network to train implies; "
                f"choose the model and channels that the file is from, or {SAVE_HINT}"
            ) from error
        if refused := re.search(r"GLOBAL (\S+)", text):
            raise CheckpointError(
                f"expected only tensors and plain values, found {printable(refused[1])}, which may run code from "
                f"the file; nothing was executed; {SAVE_HINT}"
            ) from error
        lines = text.rpartition("WeightsUnpickler error:")[2].strip().splitlines()
        reason = printable(lines[0]) if lines else "it ends too early"
        raise CheckpointError(
            f"expected a PyTorch checkpoint, but it is damaged or of another format ({type(error).__name__}: {reason})"
        ) from error


def find_state_dict(content: object) -> dict[str, Tensor]:
    """The tensors of the state_dict in the content of a file, by name, without the prefixes of wrappers.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    for _ in range(MAX_NESTING):
        if not isinstance(content, dict):
            break
        inner = next((content[key] for key in STATE_DICT_KEYS if isinstance(content.get(key), dict)), None)
        if inner is None:
            break
        content = inner
    tensors: dict[str, Tensor] = {}
    if isinstance(content, dict):
        tensors = {n: t for n, t in content.items() if isinstance(n, str) and _is_plain_tensor(t)}
    if not tensors:
        keys = ", ".join(printable(k) for k in list(content)[:5]) if isinstance(content, dict) else ""
        raise CheckpointError(
            f"expected a state_dict (names and tensors), at top level or under one of {', '.join(STATE_DICT_KEYS)}; "
            f"found a {type(content).__name__}{f' of {keys}' if keys else ''}; {SAVE_HINT}"
        )
    while prefix := next((p for p in WRAPPER_PREFIXES if all(name.startswith(p) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def repeat_modality(
    tensors: Mapping[str, Tensor], expected: ExpectedTensors, names: Sequence[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Fit kernels of a network with one modality to one with several: repeated, and divided by the number of
    modalities, so that equal modalities give what the one gave.

    Parameters
    ----------
    tensors : mapping of str to Tensor. The tensors of the file.
    expected : ExpectedTensors. The network's tensors.
    names : sequence of str. Kernels to fit, shape (out, in, i, j, k).

    Returns
    -------
    tensors : dict of Tensor. With the repeated kernels.
    repeated : list of str. Their names.
    """
    fitted, repeated = dict(tensors), []
    for name in names:
        tensor, shape = tensors.get(name), expected[name][0]
        if tensor is not None and shape[1] > 1 and tuple(tensor.shape) == (shape[0], 1, *shape[2:]):
            fitted[name] = (tensor / shape[1]).expand(shape)
            repeated.append(name)
    return fitted, repeated


def match_weights(tensors: Mapping[str, Tensor], expected: ExpectedTensors) -> tuple[dict[str, Tensor], bool]:
    """Match tensors with a network's: by name and shape, or where no kernel matches, all of them by their order.

    They match by order only if every shape and every last part of a name (weight, bias, running_mean ...) is the same:
    by shape only, the slope of an activation could be taken for the scale of a normalisation. Counters of batch norm
    are left out.

    Returns
    -------
    matching : dict of Tensor. The tensors as in the file, by the network's names.
    in_order : bool. Whether they were matched by order.

    Raises
    ------
    CheckpointError
        If no kernel matches.
    """
    by_name = {
        name: tensors[name] for name, (shape, dtype) in expected.items() if _fits(tensors.get(name), shape, dtype)
    }
    if any(is_hidden_kernel(name, tensor.shape) for name, tensor in by_name.items()):
        return by_name, False
    ours = [(name, shape) for name, (shape, _) in expected.items() if shape]
    theirs = [(name, tuple(t.shape)) for name, t in tensors.items() if t.ndim and t.is_floating_point()]
    if [(_last_part(name), shape) for name, shape in ours] == [(_last_part(name), shape) for name, shape in theirs]:
        return {own: tensors[other] for (own, _), (other, _) in zip(ours, theirs, strict=True)}, True
    raise CheckpointError(
        f"expected weights of the network to train, whose first kernels are {_first_kernels(ours)}; found "
        f"{_first_kernels(theirs)}: no kernel fits by name and shape, and the whole does not by order; choose the "
        "model, channels and convolutions of the network that the file is from"
    )


def printable(value: object) -> str:
    """Text from a file as at most 200 printable characters."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:200])


def _limit_resources(memory_bytes: int, written_bytes: int) -> None:
    """Limit the additional memory of this process, and the size of the files it writes; on Linux only."""
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        for kind, limit in ((resource.RLIMIT_AS, used + memory_bytes), (resource.RLIMIT_FSIZE, written_bytes)):
            hard = resource.getrlimit(kind)[1]
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (limit, limit))


def _check_archive(path: Path) -> None:
    """Refuse archives whose entries claim more bytes than the file has; torch.save does not compress."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"expected a PyTorch checkpoint, but it is damaged ({printable(error)})") from error
    claimed, size = sum(entry.file_size for entry in entries), path.stat().st_size
    compressed = [e for e in entries if e.compress_type != zipfile.ZIP_STORED or e.compress_size != e.file_size]
    if compressed or claimed > size or len(entries) > MAX_ARCHIVE_ENTRIES:
        raise CheckpointError(
            f"expected an archive as torch.save writes it, at most {MAX_ARCHIVE_ENTRIES} entries and none compressed; "
            f"found {len(entries)}, {len(compressed)} of them compressed, that claim {format_bytes(claimed)} in a file "
            f"of {format_bytes(size)}; {SAVE_HINT}"
        )


def _converted(tensor: Tensor, dtype: str) -> Tensor:
    """A new tensor in the dtype of the network's."""
    return torch.empty(tensor.shape, dtype=torch.int64 if dtype == "I64" else torch.float32).copy_(tensor)


def _is_plain_tensor(value: object) -> bool:
    """Whether a value is a dense tensor of numbers on the CPU: not sparse, quantised, nested, or on the meta device."""
    return (
        type(value) in (Tensor, nn.Parameter)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested)
        and (value.is_floating_point() or value.dtype == torch.int64)
    )


def _fits(tensor: Tensor | None, shape: tuple[int, ...], dtype: str) -> bool:
    return tensor is not None and tuple(tensor.shape) == shape and (tensor.dtype == torch.int64) == (dtype == "I64")


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def _first_kernels(tensors: list[tuple[str, tuple[int, ...]]]) -> str:
    kernels = [f"{printable(name)} {shape}" for name, shape in tensors if len(shape) > 1]
    return " and ".join(kernels[:2]) or "no kernel"


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
