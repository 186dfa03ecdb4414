"""Damages of a file, as by disks and transfers."""

from __future__ import annotations

import os
from pathlib import Path


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def one_bit(path: Path) -> None:
    """Flip a bit in the last tensor of a checkpoint, which the header does not cover."""
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
