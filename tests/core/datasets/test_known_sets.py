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

# Subjects, modalities, classes without the background (number where there are many), subjects without label map.
EXPECTED: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...] | int, int]] = {
    "iseg-challenge": (("subject-1", "subject-2", "subject-11", "subject-12"), ("T1", "T2"), ("CSF", "GM", "WM"), 2),
    "mrbrains2013": (("1", "2", "3"), ("T1", "T1 IR", "FLAIR"), 8, 0),
    "mrbrains2018": (("1", "14", "070"), ("T1", "T1 IR", "FLAIR"), 10, 0),
    "brats2018": (
        ("Brats18_2013_1_1", "Brats18_2013_2_1", "Brats18_2013_3_1"),
        ("T1", "T1ce", "T2", "FLAIR"),
        ("necrotic and non-enhancing core", "oedema", "enhancing tumour"),
        0,
    ),
    "brats2020": (
        ("BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_003"), ("T1", "T1ce", "T2", "FLAIR"), 3, 0,
    ),
    "brats2021": (("BraTS2021_00001", "BraTS2021_00002", "BraTS2021_00003"), ("T1", "T1ce", "T2", "FLAIR"), 3, 0),
    "brats2023": (
        ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-GLI-00003-000"), ("T1", "T1ce", "T2", "FLAIR"), 3, 0,
    ),
    "brats2024": (
        ("BraTS-GLI-00005-100", "BraTS-GLI-00006-100", "BraTS-GLI-00006-101"), ("T1", "T1ce", "T2", "FLAIR"), 4, 0,
    ),
    "ixi": (("IXI002-Guys-0828", "IXI012-Guys-0828"), ("T1", "T2", "PD"), ("foreground",), 2),
    "dhcp": (
        ("sub-CC00051XX07_ses-7100", "sub-CC00052XX07_ses-7100", "sub-CC00053XX07_ses-7100"), ("T2", "T1"), 9, 0,
    ),
    "feta": (("sub-001", "sub-002", "sub-041", "sub-042"), ("T2",), 7, 0),
    "oasis": (
        ("OASIS_OAS1_0001_MR1", "OASIS_OAS1_0002_MR1", "OASIS_OAS1_0003_MR1"),
        ("T1",),
        ("cortex", "subcortical grey matter", "white matter", "CSF"),
        0,
    ),
    "amos": (("amos_0001", "amos_0002", "amos_0003", "amos_0600"), ("CT or MR",), 15, 1),
    "totalsegmentator-ct": (("s0000", "s0001"), ("CT",), ("kidney_left", "kidney_right", "spleen"), 0),
    "totalsegmentator-mr": (("s0000", "s0001"), ("MR",), ("kidney_left", "kidney_right", "spleen"), 0),
    "kits": (("case_00001", "case_00002", "case_00003"), ("CT",), ("kidney", "tumour", "cyst"), 0),
    "lits": (("volume-9", "volume-10", "volume-11"), ("CT",), ("liver", "tumour"), 0),
    "acdc": (
        ("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame12"), ("MR",), 3, 0,
    ),
    "isles2022": (
        ("sub-strokecase0001_ses-0001", "sub-strokecase0002_ses-0001", "sub-strokecase0003_ses-0001"),
        ("DWI", "ADC"),
        ("infarct",),
        0,
    ),
    "wmh2017": (
        ("Amsterdam-GE3T-100", "Singapore-50", "Utrecht-0"), ("FLAIR", "T1"), ("white matter hyperintensities",), 0,
    ),
    "covid19-ct": (
        ("coronacases_001", "radiopaedia_10_85902_1"), ("CT",), ("left lung", "right lung", "infection"), 0,
    ),
    "fetal-atlas": (tuple(f"fetal_SB_atlas_GA{n}_operated" for n in (25, 26, 27)), ("T2",), 8, 0),
    "freesurfer": (("bert", "sub-02"), ("T1",), 45, 0),
    "fastsurfer": (("subject1", "subject2", "subject3"), ("T1",), 95, 0),
    "bids": (("sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a"), ("T1w", "T2w"), ("cortex", "lesion"), 0),
    "bids-masks": (("sub-01", "sub-02", "sub-03"), ("T1w",), ("lesion", "oedema"), 0),
    "plain": (("p1", "p2", "p3"), ("image",), ("liver", "spleen"), 0),
    "dicom": (("PAT-1", "PAT-2", "PAT-3"), ("CT",), ("Liver", "Spleen"), 0),
}  # fmt: skip


def test_every_layout_has_an_example() -> None:
    assert EXAMPLES.keys() == LAYOUTS.keys(), "a layout without an entry in EXAMPLES is not tested"
    assert EXPECTED.keys() == known_sets().keys()


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "dicom")) for n in EXPECTED])
def test_known_set_is_recognised_by_names_alone_and_read_as_it_is_published(tmp_path: Path, name: str) -> None:
    folder = EXAMPLES[name](tmp_path / "data")
    ids, modalities, classes, unlabelled = EXPECTED[name]
    dataset = open_dataset(folder)
    assert (dataset.layout, dataset.ids, dataset.modalities) == (name, ids, modalities)
    found = dataset.labels.names[1:]
    assert found == classes if isinstance(classes, tuple) else len(found) == classes
    assert len(dataset.ids) - len(dataset.labelled_ids) == unlabelled
    assert not any("no pattern of the layout fits" in note for note in dataset.notes)
    assert "image files are named as in" in dataset.reason or "refer to 3 of its DICOM series" in dataset.reason
    assert open_dataset(folder, name).ids == ids, "named, it reads the same"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["wmh2017", "totalsegmentator-ct", "acdc", "bids", "bids-masks", "plain", "covid19-ct", "dicom"]
)
def test_every_file_of_each_kind_of_folder_is_read_and_fit_for_training(tmp_path: Path, name: str) -> None:
    report = check(EXAMPLES[name](tmp_path / "data"))
    assert report.ok, report.with_severity("error")
    assert all(s.label_shares for s in report.subjects if s.labelled)


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
