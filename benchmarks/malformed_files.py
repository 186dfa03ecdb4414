"""Outcome of reading damaged image files of every format: accepted, warned of, or refused by name; time and memory.

    python benchmarks/malformed_files.py [--mutations 10000] [--seed 0] [--format seg rtstruct ...]

Time is that of the processor, of this process and the one that decodes, which other work on the machine does not
change; memory is that of both, looked at after every 50th file. A folder of DICOM files is indexed, too.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.errors import VolumeError
from core.imaging.dicom_folders import index_folder
from core.imaging.foreign_files import decoded_cache
from core.imaging.image_files import is_dicom_file
from core.imaging.volume import read_header, read_image, read_label
from tests.support.mutations import FORMATS, LABEL_FORMATS, mutated, valid_file

LIMIT_S, LIMIT_BYTES = 5.0, 2e9


def main() -> None:
    """Damage and read files, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=10_000, help="damaged files, of all formats together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS), help="formats (default: all)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["SEGMENTARIUM_CHECKPOINTS"] = str(Path(name) / "runs")
        print("format        files  accepted  warned  refused  other  slowest s  memory MB")
        for format in args.format:
            # Deep enough that the search for the images of a label map stays inside.
            _run(format, Path(name) / "files" / "set", -(-args.mutations // len(args.format)), args.seed)


def _run(format: str, folder: Path, mutations: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    file = valid_file(format, folder / format.replace(".", "-"))
    content = file.read_bytes()
    _read(format, file)  # the decoding process is running
    outcomes: collections.Counter[str] = collections.Counter()
    slowest_s, memory = 0.0, 0
    for number in range(mutations):
        file.write_bytes(mutated(content, rng))
        begin = _processor_s()
        try:
            outcome = _read(format, file)
        except VolumeError as error:
            outcome = "refused" if str(file.parent) in str(error) else "other"
        except Exception as error:  # noqa: BLE001 - what the measurement is about
            outcome = "other"
            print(f"{format}, mutation {number}: {type(error).__name__}: {error}")
        outcomes[outcome] += 1
        slowest_s = max(slowest_s, _processor_s() - begin)
        if number % 50 == 0:
            memory = max(memory, _memory())
            decoded_cache().clear()
    counts = "  ".join(f"{outcomes[name]:>7}" for name in ("accepted", "warned", "refused", "other"))
    late = " (too slow)" if slowest_s > LIMIT_S else ""
    much = " (too much)" if memory > LIMIT_BYTES else ""
    print(f"{format:12}  {mutations:5}  {counts}  {slowest_s:9.2f}{late}  {memory / 1e6:9.0f}{much}", flush=True)


def _read(format: str, file: Path) -> str:
    """Read a file as the program does; whether it is accepted or warned of."""
    header = read_header(file)
    (read_label if format in LABEL_FORMATS else read_image)(file)
    damaged = is_dicom_file(file) and index_folder(file.parent).damaged
    return "warned" if header.warnings or damaged else "accepted"


def _processor_s() -> float:
    """Processor time of this process and of those that it has started, in seconds."""
    return time.process_time() + sum(sum(p.cpu_times()[:2]) for p in psutil.Process().children())


def _memory() -> int:
    """Resident memory of this process and of those that it started."""
    own = psutil.Process()
    return int(sum(p.memory_info().rss for p in (own, *own.children())))


if __name__ == "__main__":
    main()
