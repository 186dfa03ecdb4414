"""Outcome of reading damaged image files of every format: accepted, warned of, or refused by name; time and memory.

    python benchmarks/malformed_files.py [--mutations 10000] [--seed 0]

Memory is that of this process and the one that decodes, looked at after every 50th file.
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
from core.imaging.foreign_files import decoded_cache
from core.imaging.volume import read_header, read_image
from tests.support.mutations import FORMATS, mutated, valid_file

LIMIT_S, LIMIT_BYTES = 5.0, 2e9


def main() -> None:
    """Damage and read files, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=10_000, help="damaged files, of all formats together")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["SEGMENTARIUM_CHECKPOINTS"] = str(Path(name) / "runs")
        print("format        files  accepted  warned  refused  other  slowest s  memory MB")
        for format in FORMATS:
            _run(format, Path(name), -(-args.mutations // len(FORMATS)), args.seed)


def _run(format: str, folder: Path, mutations: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    file = valid_file(format, folder / format.replace(".", "-"))
    content = file.read_bytes()
    read_image(file)  # the decoding process is running
    outcomes: collections.Counter[str] = collections.Counter()
    slowest_s, memory = 0.0, 0
    for number in range(mutations):
        file.write_bytes(mutated(content, rng))
        begin = time.perf_counter()
        try:
            outcome = "warned" if read_header(file).warnings else "accepted"
            read_image(file)
        except VolumeError as error:
            outcome = "refused" if str(file.parent) in str(error) else "other"
        except Exception as error:  # noqa: BLE001 - what the measurement is about
            outcome = "other"
            print(f"{format}, mutation {number}: {type(error).__name__}: {error}")
        outcomes[outcome] += 1
        slowest_s = max(slowest_s, time.perf_counter() - begin)
        if number % 50 == 0:
            memory = max(memory, _memory())
            decoded_cache().clear()
    counts = "  ".join(f"{outcomes[name]:>7}" for name in ("accepted", "warned", "refused", "other"))
    late = " (too slow)" if slowest_s > LIMIT_S else ""
    much = " (too much)" if memory > LIMIT_BYTES else ""
    print(f"{format:12}  {mutations:5}  {counts}  {slowest_s:9.2f}{late}  {memory / 1e6:9.0f}{much}", flush=True)


def _memory() -> int:
    """Resident memory of this process and of those that it started."""
    own = psutil.Process()
    return int(sum(p.memory_info().rss for p in (own, *own.children())))


if __name__ == "__main__":
    main()
