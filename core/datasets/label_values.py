"""Values of label maps, and names of classes to begin with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from core.errors import DatasetError
from core.imaging.volume import read_label
from core.labels import MAX_CLASSES
from core.types import ProgressCallback

MAX_VALUES = MAX_CLASSES - 1  # positive label values


def label_values(files: Sequence[Path], progress: ProgressCallback | None = None) -> dict[int, int]:
    """Number of label maps that hold a value, by value.

    Parameters
    ----------
    files : sequence of Path. Label maps, which are all read.
    progress : callable, optional. Called with (files done, files) from (0, n) to (n, n).

    Raises
    ------
    DatasetError
        If there are too many values for label maps.
    VolumeError
        If a file cannot be read.
    """
    counts: Counter[int] = Counter()
    for number, file in enumerate(files):
        if progress is not None:
            progress(number, len(files))
        counts.update(int(v) for v in np.unique(read_label(file).data))
        # Besides the positive values 0 and the ignore label.
        if sum(v > 0 for v in counts) > MAX_VALUES or len(counts) > MAX_VALUES + 2:
            raise DatasetError(
                f"{file}: expected at most {MAX_VALUES} label values in all label maps, got more; is it an image? "
                "Correct the names, or the pattern, of the label maps"
            )
    if progress is not None:
        progress(len(files), len(files))
    return dict(sorted(counts.items()))


def default_classes(folder: Path, values: Iterable[int]) -> dict[str, int]:
    """Names of the label values in a folder to begin with, background first; a negative one is the ignore label.

    Raises
    ------
    DatasetError
        If several values are negative.
    """
    negative = [value for value in values if value < 0]
    if len(negative) > 1:
        raise DatasetError(
            f"{folder}: expected at most one negative label value, of voxels left out of training, got {negative}; "
            "change the others in the label maps, or name their classes"
        )
    named = {"ignore" if value < 0 else f"label {value}": value for value in values if value}
    return {"background": 0, **named}
