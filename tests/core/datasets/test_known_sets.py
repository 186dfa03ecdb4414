"""Folders of every known data set, with real names and values, are opened by recognition alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from core.datasets import LAYOUTS, load_subject, open_dataset
from core.datasets.doctor import check
from core.datasets.layouts.known_sets import known_sets
from core.datasets.recognition import CODED, named_layout, recognise
from core.errors import DatasetError
from tests.support.known_folders import EXAMPLES


@pytest.mark.parametrize("name", [n for n in EXAMPLES if n in CODED])
def test_layouts_in_code_precede_the_known_sets(tmp_path: Path, name: str) -> None:
    folder = EXAMPLES[name](tmp_path / "data")
    found = recognise(folder)
    assert found.layout is CODED[name] and found.reason
    assert open_dataset(folder).reason == found.reason


def test_names_titles_and_patterns_are_complete() -> None:
    for name, layout in LAYOUTS.items():
        assert re.fullmatch(r"[a-z][a-z0-9-]*", name) and layout.title and layout.expects
    for described in known_sets().values():
        assert described.text("verified"), f"{described.name} does not say what was verified"
        for variant in described.variants:
            assert described.variant(variant).title != described.title


def test_a_variant_merges_classes_and_leaves_others_out(tmp_path: Path) -> None:
    folder = EXAMPLES["mrbrains2018"](tmp_path / "data")
    ten = open_dataset(folder)
    four = open_dataset(folder, "mrbrains2018/tissues")
    assert four.labels.names == ("background", "CSF", "GM", "WM") and four.labels.ignore is not None
    assert check(four).ok
    fine, merged = load_subject(ten, "1").label, load_subject(four, "1").label
    assert fine is not None and merged is not None
    expected = {0: 0, 1: 2, 2: 2, 3: 3, 4: 3, 5: 1, 6: 1, 7: 255, 8: 255, 9: 255, 10: 255}
    assert all((merged[fine == value] == index).all() for value, index in expected.items())
    assert open_dataset(folder, four.layout).layout == "mrbrains2018/tissues", "a run finds it again by this name"


def test_unknown_layouts_and_variants_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected auto or one of iseg, nnunet, decathlon, saved, .*got 'nifti'"):
        named_layout("nifti", tmp_path)
    with pytest.raises(DatasetError, match=r"one of its variants \(mrbrains2018/tissues\); got mrbrains2018/gm"):
        named_layout("mrbrains2018/gm", tmp_path)
    with pytest.raises(DatasetError, match="iseg, which has no variants"):
        named_layout("iseg/x", tmp_path)


def test_a_folder_that_two_layouts_explain_equally_well_is_refused_by_both_names(tmp_path: Path) -> None:
    folder = EXAMPLES["freesurfer"](tmp_path / "data")
    for case in folder.iterdir():
        (case / "mri" / "aparc.DKTatlas+aseg.deep.mgz").write_bytes((case / "mri" / "aseg.mgz").read_bytes())
    with pytest.raises(DatasetError, match=r"two that explain its files equally well: freesurfer .* and fastsurfer"):
        open_dataset(folder)
    assert open_dataset(folder, "fastsurfer").layout == "fastsurfer"


def test_what_comes_nearest_is_named_with_what_it_leaves_over(tmp_path: Path) -> None:
    folder = EXAMPLES["kits"](tmp_path / "data")
    for n in range(9):
        (folder / f"other{n}.nii.gz").write_bytes(b"")
    with pytest.raises(
        DatasetError, match=r"kits .* comes nearest: it reads 3 images and 3 label maps of 15 files; left"
    ):
        open_dataset(folder)


def test_the_fetal_atlas_is_opened_as_it_lies_on_disk() -> None:
    root = os.environ.get("SEGMENTARIUM_TEST_DATA")
    if not root:
        pytest.skip("SEGMENTARIUM_TEST_DATA is not set")
    dataset = open_dataset(Path(root) / "fetal_atlas")
    assert dataset.layout == "fetal-atlas" and len(dataset.labelled_ids) == 15 and len(dataset.labels) == 9
    assert dataset.notes == ()
