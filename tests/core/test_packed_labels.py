"""A packed label map is the one that was packed, and small."""

from __future__ import annotations

import numpy as np

from core.packed_labels import PackedLabels
from tests.support.balls import balls


def test_label_map_survives_packing() -> None:
    _, labels = balls(0, shape=(60, 50, 40))
    for given in (labels, labels[::-1, :, ::2], np.zeros((0, 3, 2), np.uint8)):
        packed = PackedLabels.pack(given)
        assert packed.shape == given.shape
        assert np.array_equal(packed.unpack(), given)
    assert len(PackedLabels.pack(labels).content) < labels.size / 30
