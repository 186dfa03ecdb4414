"""Reads weights from checkpoints of other programs (PyTorch's ``.pth``, ``.pt``, ``.pt.tar``), to start training from.

Such a file is a pickle: reading it may take any amount of memory and, with a careless reader, run code. It is read in a
child process (:mod:`core.checkpointing.foreign_reader`) that accepts only tensors and plain values and is limited to
the memory that the network to train implies. The child writes the matching tensors to a safetensors file, which this
process reads and compares with the network once more.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from core.checkpointing.checkpoint import SAFETENSORS_DTYPES
from core.checkpointing.foreign_reader import (
    REQUEST_FILE,
    RESPONSE_FILE,
    SAVE_HINT,
    WEIGHTS_FILE,
    ExpectedTensors,
    Request,
    printable,
)
from core.errors import CheckpointError
from core.formatting import format_bytes, format_count
from core.processes import PROJECT, ProcessLimits, module_command, module_environment

# A file may contain the weights, their EMA and two moments of an optimizer, all in double precision, and some text.
MAX_FILE_FACTOR = 8  # times the network's own tensors in single precision
TEXT_BYTES = 64 * 2**20
# The file is mapped or read once; matching tensors are converted and written, with as much again to spare; the rest is
# for the reader, its lazy imports and names.
COPIES = 4  # of the network's own tensors
READER_BYTES = 256 * 2**20
TORCH_BYTES = 2**30  # upper bound of the resident memory of a process that has imported torch
CPU_S = 120.0  # longest processor time to read a file
POLL_S = 0.05
STDERR_FILE = "stderr.txt"


@dataclass(frozen=True)
class ForeignWeights:
    """Weights under this network's names.

    Attributes
    ----------
    weights : dict of Tensor, float32 or int64.
    in_order : bool. Whether they were matched by their order, because no name matches.
    repeated : tuple of str. Kernels of one modality that were repeated for several, and divided by their number.
    left_out : int. Kernels of the file that have no place in the network, or another shape there.
    """

    weights: dict[str, Tensor]
    in_order: bool
    repeated: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def how(self) -> str:
        """How they were matched, as the end of a sentence; empty if all by name."""
        parts = ["by order"] if self.in_order else []
        if self.repeated:
            parts.append(f"{' and '.join(self.repeated)} repeated for all modalities")
        if self.left_out:
            parts.append(f"{format_count(self.left_out, 'kernel')} of the file left out")
        return "".join(f", {part}" for part in parts)


def read_foreign_weights(path: Path, network: nn.Module) -> ForeignWeights:
    """Read the weights of another program's checkpoint that match a network; no code in the file is executed.

    Parameters
    ----------
    path : Path. The file: a state_dict, at the top level or in a dictionary
        (:data:`core.checkpointing.foreign_reader.STATE_DICT_KEYS`).
    network : Module. Network for the weights; it is not changed.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, larger than the network implies or takes more memory to read, contains anything
        but tensors and plain values, or none of its kernels matches.
    """
    state = network.state_dict()
    expected = {name: (tuple(like.shape), SAFETENSORS_DTYPES[like.dtype]) for name, like in state.items()}
    network_bytes = sum(like.numel() * like.element_size() for like in state.values())
    file_bytes = _check_size(path, network_bytes)
    request = Request(
        path=str(path.absolute()),
        expected=expected,
        repeatable=list(getattr(network, "single_modality_kernels", ())),
        memory_bytes=file_bytes + COPIES * network_bytes + READER_BYTES,
        written_bytes=2 * network_bytes + 2**20,
    )
    with tempfile.TemporaryDirectory(prefix="segmentarium-") as name:
        folder = Path(name)
        (folder / REQUEST_FILE).write_text(json.dumps(request), "utf-8")
        _run_reader(path, folder, TORCH_BYTES + request["memory_bytes"])
        response = json.loads((folder / RESPONSE_FILE).read_text("utf-8"))
        if "error" in response:
            raise CheckpointError(f"{path}: {response['error']}")
        weights = _read_weights(folder / WEIGHTS_FILE, expected)
        repeated = tuple(name for name in request["repeatable"] if name in response["repeated"])
        return ForeignWeights(weights, bool(response["in_order"]), repeated, int(response["left_out"]))


def wait_within_limits(process: subprocess.Popen[bytes], resident_bytes: int, cpu_s: float) -> str:
    """Wait for a process to end.

    Returns
    -------
    str. Empty, or which limit of memory or time the process exceeded, while it still runs.
    """
    limits = ProcessLimits(resident_bytes, cpu_s)
    while True:
        if exceeded := limits.exceeded(process.pid):
            return f"reading it takes {exceeded.text}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return ""


def _check_size(path: Path, network_bytes: int) -> int:
    """The size of the file in bytes, if it is plausible for the network."""
    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint, found no file {path}")
    size, limit = path.stat().st_size, MAX_FILE_FACTOR * network_bytes + TEXT_BYTES
    if not size:
        raise CheckpointError(f"{path} is damaged: expected a PyTorch checkpoint, found an empty file")
    if size > limit:
        raise CheckpointError(
            f"{path}: expected at most {format_bytes(limit)}, enough for the weights of the network to train and all "
            f"that an optimizer keeps; found {format_bytes(size)}; choose the model and channels that the file is "
            f"from, or {SAVE_HINT}"
        )
    return size


def _run_reader(path: Path, folder: Path, resident_bytes: int) -> None:
    """Run the child process on the request in a folder, and kill it if it exceeds its memory or time."""
    with open(folder / STDERR_FILE, "wb") as stderr:
        process = subprocess.Popen(
            module_command("core.checkpointing.foreign_reader", str(folder)),
            cwd=PROJECT,
            env=module_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            failure = wait_within_limits(process, resident_bytes, CPU_S)
        finally:
            process.kill()
            process.wait()
    if not failure and (process.returncode or not (folder / RESPONSE_FILE).is_file()):
        lines = (folder / STDERR_FILE).read_text("utf-8", "replace").strip().splitlines()
        last_line = f": {printable(lines[-1])}" if lines else ""
        failure = f"the process that read it ended with status {process.returncode}{last_line}"
    if failure:
        raise CheckpointError(f"{path} is damaged, or not a checkpoint ({failure}); {SAVE_HINT}")


def _read_weights(path: Path, expected: ExpectedTensors) -> dict[str, Tensor]:
    """The tensors that the child wrote; their names, shapes and dtypes are checked, as the child is not trusted."""
    from safetensors import safe_open

    weights = {}
    with safe_open(str(path), framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            stored = file.get_slice(name)
            if expected.get(name) != (tuple(stored.get_shape()), stored.get_dtype()):
                raise CheckpointError(f"{path}: expected tensors of the network, found {printable(name)}")
            weights[name] = file.get_tensor(name)
    return weights
