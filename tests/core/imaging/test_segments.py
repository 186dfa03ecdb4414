"""Named segments: sets of overlapping ones, and the values that voxels get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging.segments import Segment, SegmentSets, SegmentTable, SegmentValues, segment_values

FILE = Path("a.dcm")
BODY, LIVER, TUMOUR = Segment(1, "BODY"), Segment(2, "Liver"), Segment(7, "Tumour")


def three_segments() -> tuple[SegmentTable, np.ndarray]:
    """BODY everywhere but in the first voxel, Liver in it, Tumour in Liver; and one voxel of Tumour alone."""
    sets = SegmentSets((1, 1, 6))
    row = sets.stored[0, 0]
    for inside, segment in (([0, 1, 1, 1, 1, 0], BODY), ([0, 0, 1, 1, 0, 0], LIVER), ([0, 0, 0, 1, 0, 1], TUMOUR)):
        sets.add(row, np.array(inside, bool), segment.number)
    return SegmentTable((BODY, LIVER, TUMOUR), sets.sets, "", "", ""), sets.stored


def test_a_voxel_keeps_all_of_its_segments() -> None:
    table, stored = three_segments()
    assert [table.sets[n] for n in stored.ravel()] == [(), (1,), (1, 2), (1, 2, 7), (1,), (7,)]


def test_segments_that_overlap_are_refused_with_names_numbers_and_remedy() -> None:
    table, stored = three_segments()
    with pytest.raises(
        VolumeError, match=r"BODY and Liver \(1 voxel\), BODY and Liver and Tumour \(1 voxel\).*--overlap"
    ):
        segment_values(FILE, table, stored, None)


def test_segments_that_are_not_read_do_not_overlap() -> None:
    table, stored = three_segments()
    values = segment_values(FILE, table, stored, SegmentValues({"liver": 5}))
    assert values.ravel().tolist() == [0, 0, 5, 5, 0, 0] and values.dtype == np.int32


def test_the_class_listed_last_wins_where_that_is_wanted() -> None:
    table, stored = three_segments()
    wanted = {"liver": 1, "tumour": 2}
    values = segment_values(FILE, table, stored, SegmentValues(wanted, later_wins=True))
    assert values.ravel().tolist() == [0, 0, 1, 2, 0, 2]
    with pytest.raises(VolumeError, match=r"Liver and Tumour \(1 voxel\)"):
        segment_values(FILE, table, stored, SegmentValues(wanted))


def test_segments_of_one_class_may_overlap() -> None:
    table, stored = three_segments()
    values = segment_values(FILE, table, stored, SegmentValues({"liver": 3, "tumour": 3}))
    assert values.ravel().tolist() == [0, 0, 3, 3, 0, 3]


def test_a_set_without_voxels_is_no_overlap() -> None:
    table, stored = three_segments()
    stored[stored == stored[0, 0, 3]] = 0
    stored[stored == stored[0, 0, 2]] = 0
    assert segment_values(FILE, table, stored, None).ravel().tolist() == [0, 1, 0, 0, 1, 7]
