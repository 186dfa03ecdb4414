"""Arrays on disk instead of in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ui.quiz.mapped_arrays import MappedArrays


def test_copies_are_equal_read_only_and_leave_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    given: tuple[np.ndarray, ...] = (
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        np.array([[True, False]]),
        np.full((5000,), 7, np.uint8),
    )
    mapped = MappedArrays(folder, given)
    assert list(folder.iterdir()) == []
    mapped.release()
    for copy, array in zip(mapped.arrays, given, strict=True):
        assert copy.dtype == array.dtype and np.array_equal(copy, array) and not copy.flags.writeable
    assert sum(array.nbytes for array in given) <= mapped.nbytes
    kept = mapped.arrays[2]
    del mapped
    assert kept.sum() == 35000, "an array outlives the object"
