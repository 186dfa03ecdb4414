"""Patterns that are proposed for the names of a folder's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.datasets.layouts.assignment import assign
from core.datasets.layouts.listing import Listing
from core.datasets.layouts.proposal import propose
from core.datasets.layouts.set_description import parse_description
from core.errors import DatasetError

FOLDERS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "a folder for each case": (
        [f"pat{n:02}/pat{n:02}_{m}.nii.gz" for n in range(5) for m in ("t1", "t2", "seg")],
        {"images": "{case}/{case}_{modality}.nii.gz", "labels": "{case}/{case}_seg.nii.gz"},
    ),
    "the same names in each folder": (
        [f"K{n}x/{m}.nii.gz" for n in range(5) for m in ("T1", "FLAIR", "maske")],
        {"images": "{case}/{modality}.nii.gz", "labels": "{case}/maske.nii.gz"},
    ),
    "two folders": (
        [f"{d}/Fall{n:03}.nii.gz" for n in range(5) for d in ("Bilder", "Masken")],
        {"images": "Bilder/{case}.nii.gz", "labels": "Masken/{case}.nii.gz"},
    ),
    "a folder for each modality": (
        [f"{d}/sub{n:03}.nrrd" for n in range(5) for d in ("T1", "T2", "segmentation")],
        {"images": "{modality}/{case}.nrrd", "labels": "segmentation/{case}.nrrd"},
    ),
    "all files in one folder": (
        [f"p{n}_{m}.nii.gz" for n in range(12) for m in ("ct", "label")],
        {"images": "{case}_ct.nii.gz", "labels": "{case}_label.nii.gz", "modalities": {"image": "CT"}},
    ),
    "label maps named like their image": (
        [f"p{n}{m}.nii.gz" for n in range(12) for m in ("", "_seg")],
        {"images": "{case}.nii.gz", "labels": "{case}_seg.nii.gz"},
    ),
    "what it is in front": (
        [f"{m}_{n:03}.nii.gz" for n in range(12) for m in ("image", "mask")],
        {"images": "image_{case}.nii.gz", "labels": "mask_{case}.nii.gz"},
    ),
    "channels": (
        [f"imagesTr/a{n}_{c:04}.nii.gz" for n in range(4) for c in (0, 1)]
        + [f"labelsTr/a{n}.nii.gz" for n in range(4)],
        {"images": "imagesTr/{case}_{channel}.nii.gz", "labels": "labelsTr/{case}.nii.gz"},
    ),
    "a mask for each class": (
        [f"s{n:04}/{f}.nii.gz" for n in range(4) for f in ("ct", "masks/liver", "masks/spleen")],
        {"images": "{case}/ct.nii.gz", "labels": "{case}/masks/{label=liver|spleen}.nii.gz"},
    ),
    "raters": (
        [f"s{n:04}/{f}.nii.gz" for n in range(4) for f in ("flair", "seg_rater1", "seg_rater2")],
        {"images": "{case}/flair.nii.gz", "labels": "{case}/seg_{rater=rater1|rater2}.nii.gz"},
    ),
    "sites": (
        [f"{s}/p{n}{s}/{f}.nii.gz" for s in "ab" for n in range(3) for f in ("t1", "mask")],
        {"images": "{site=a|b}/{case}/t1.nii.gz", "labels": "{site=a|b}/{case}/mask.nii.gz"},
    ),
    "Russian": (
        [f"пациент{n}/{m}.nii.gz" for n in range(3) for m in ("t1", "маска")],
        {"images": "{case}/t1.nii.gz", "labels": "{case}/маска.nii.gz"},
    ),
    "Chinese": (
        [f"{d}/{n:03}.nii.gz" for n in range(3) for d in ("影像", "标注")],
        {"images": "影像/{case}.nii.gz", "labels": "标注/{case}.nii.gz"},
    ),
    "no label maps": ([f"p{n}.nii.gz" for n in range(4)], {"images": "{case}.nii.gz"}),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_patterns_are_proposed_and_explain_every_file(name: str) -> None:
    files, expected = FOLDERS[name]
    listing = Listing(Path("/data"), tuple(sorted(files)))
    content = propose(listing).content
    assert {key: content.get(key) for key in expected} == expected and ("labels" in content) == ("labels" in expected)
    found = assign(parse_description("test", content), listing)
    assert not found.problems and not found.left_over
    assert all(case.images and bool(case.labels) == ("labels" in expected) for case in found.cases)


def test_single_files_are_left_over() -> None:
    files = [f"c{n}/{f}.nii.gz" for n in range(12) for f in ("t1", "seg")] + ["c3/t1_old.nii.gz", "atlas.nii.gz"]
    listing = Listing(Path("/data"), tuple(sorted(files)))
    found = assign(parse_description("test", propose(listing).content), listing)
    assert found.left_over == ("atlas.nii.gz", "c3/t1_old.nii.gz") and len(found.cases) == 12


def test_a_folder_without_images_has_no_proposal() -> None:
    with pytest.raises(DatasetError, match="expected image files, found none among 1 files"):
        propose(Listing(Path("/data"), ("notes.txt",)))
