"""The map of errors: each voxel's kind, without ignored ones."""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation.error_map import DESCRIPTION, error_map
from core.labels import IGNORE_INDEX


def test_each_kind_of_error_has_its_value_and_ignored_voxels_have_none() -> None:
    truth = np.array([0, 0, 1, 1, 1, IGNORE_INDEX, 2], np.uint8).reshape(1, 1, -1)
    prediction = np.array([0, 2, 1, 0, 2, 1, 1], np.uint8).reshape(1, 1, -1)
    assert error_map(truth, prediction).ravel().tolist() == [0, 1, 0, 2, 3, 0, 3]
    assert DESCRIPTION == "errors: 0 none, 1 false positive, 2 false negative, 3 wrong class"
    with pytest.raises(ValueError, match="one shape"):
        error_map(truth, prediction[..., :-1])
