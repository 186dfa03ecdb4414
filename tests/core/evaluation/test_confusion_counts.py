"""Counts per class on the device against the metric of whole volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.evaluation.confusion_counts import ClassCounts, class_counts
from core.evaluation.metrics import dice_from_counts, dice_per_class
from core.labels import IGNORE_INDEX
from tests.core.evaluation.test_metrics import blobs


def test_counts_of_labels_and_of_logits_agree_with_dice() -> None:
    truth, prediction = blobs(7), blobs(8)
    expected = dice_per_class(truth, prediction, 5)
    target = torch.as_tensor(truth)[None]
    counts = class_counts(torch.as_tensor(prediction)[None].long(), target, 5)
    assert all(c.dtype == torch.int64 and c.shape == (5,) for c in counts)
    assert (counts.tp + counts.fn).tolist() == np.bincount(truth.ravel(), minlength=5).tolist()
    assert (counts.tp + counts.fp).tolist() == np.bincount(prediction.ravel(), minlength=5).tolist()
    np.testing.assert_array_equal(dice_from_counts(*(c.numpy() for c in counts)), expected)
    logits = torch.nn.functional.one_hot(torch.as_tensor(prediction)[None].long(), 5).movedim(-1, 1)
    from_logits = class_counts(logits.bfloat16(), target, 5)
    assert all(torch.equal(a, b) for a, b in zip(counts, from_logits, strict=True))


def test_counts_of_sub_volumes_sum_to_those_of_the_volume() -> None:
    truth, prediction = torch.as_tensor(blobs(9))[None], torch.as_tensor(blobs(10))[None]
    whole = torch.stack(class_counts(prediction, truth, 4))
    parts = [torch.stack(class_counts(prediction[:, s], truth[:, s], 4)) for s in (slice(0, 7), slice(7, None))]
    assert torch.equal(parts[0] + parts[1], whole)


def test_counts_never_synchronise_with_the_device() -> None:
    # Tensors on the meta device have no values: reading one (item, bool, bincount) raises.
    counts = class_counts(
        torch.empty(2, 4, 3, 3, 3, device="meta"), torch.empty(2, 3, 3, 3, device="meta", dtype=torch.uint8), 4
    )
    assert isinstance(counts, ClassCounts)
    assert all(c.device.type == "meta" and c.shape == (4,) for c in counts)


def test_mismatched_shapes_are_refused() -> None:
    target = torch.zeros(1, 3, 3, 3, dtype=torch.long)
    for shape in [(1, 3, 3, 3, 3), (1, 3, 3, 2), (3, 3, 3)]:
        with pytest.raises(ValueError, match=r"prediction of shape \(1, 3, 3, 3\)"):
            class_counts(torch.zeros(shape), target, 4)


def test_ignored_voxels_are_not_counted() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 4, 5, 6), generator=generator).byte()
    prediction = torch.randint(0, 3, (2, 4, 5, 6), generator=generator)
    whole = target.clone()
    whole[:, 2:] = IGNORE_INDEX
    counts, cropped = class_counts(prediction, whole, 3), class_counts(prediction[:, :2], target[:, :2], 3)
    assert [c.tolist() for c in counts] == [c.tolist() for c in cropped]
    logits = torch.nn.functional.one_hot(prediction, 3).movedim(-1, 1).float()
    assert [c.tolist() for c in class_counts(logits, whole, 3)] == [c.tolist() for c in cropped]
