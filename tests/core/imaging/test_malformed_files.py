"""A damaged file of any format is accepted, warned of, or refused by name.

``benchmarks/malformed_files.py`` reads more of them, and measures time and memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import VolumeError
from core.imaging.volume import read_image, read_label
from tests.support.mutations import FORMATS, LABEL_FORMATS, mutated, valid_file


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_a_damaged_file_is_read_or_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, seed: int
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(tmp_path / "runs"))
    read = read_label if format in LABEL_FORMATS else read_image
    folder = tmp_path / "set" / "case" / "files"  # the search for the images of a label map stays below tmp_path
    if not folder.exists():
        read(valid_file(format, folder))
    file = folder / FORMATS[format][0]
    original = tmp_path / "original"
    if not original.exists():
        original.write_bytes(file.read_bytes())
    file.write_bytes(mutated(original.read_bytes(), np.random.default_rng(seed)))
    try:
        image = read(file)
    except VolumeError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
    else:
        assert np.isfinite(image.data).all() and np.isfinite(image.geometry.affine).all()
