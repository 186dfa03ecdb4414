"""Pairs of image and label map by names of folders and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.datasets.layouts.pairs import find_pairs


@pytest.mark.parametrize(
    ("files", "pairs"),
    [
        (["imagesTr/a.nii.gz", "labelsTr/a.nii.gz"], [("imagesTr/a.nii.gz", "labelsTr/a.nii.gz")]),
        (["images/c10.nii", "images/c9.nii", "labels/c9.nii", "labels/c10.nii"],
         [("images/c9.nii", "labels/c9.nii"), ("images/c10.nii", "labels/c10.nii")]),
        (["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"], [("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")]),
        (["image/p1_img.nii", "mask/p1_seg.nii.gz", "mask/p2_seg.nii"], [("image/p1_img.nii", "mask/p1_seg.nii.gz")]),
        (["images/a.hdr", "images/a.img", "labels/a.hdr", "labels/a.img"], [("images/a.hdr", "labels/a.hdr")]),
        (["images/a.HDR", "images/a.IMG", "labels/a.hdr", "labels/a.img.gz"], [("images/a.HDR", "labels/a.hdr")]),
        (["case1/image.nii.gz", "case1/label.nii.gz", "case2/t1.nii", "case2/t1_seg.nii", "other/notes.txt"],
         [("case1/image.nii.gz", "case1/label.nii.gz"), ("case2/t1.nii", "case2/t1_seg.nii")]),
        (["case1/t1.nii", "case1/t2.nii", "case1/seg.nii"], []),
        (["fall1/t1.nii", "fall1/Maske.nii", "fall2/t1.nii", "fall2/t1Seg2.nii"],
         [("fall1/t1.nii", "fall1/Maske.nii"), ("fall2/t1.nii", "fall2/t1Seg2.nii")]),
        (["images/p1_img1.nii", "images/p2_img1.nii", "labels/p1_seg1.nii", "labels/p2_maske1.nii"],
         [("images/p1_img1.nii", "labels/p1_seg1.nii"), ("images/p2_img1.nii", "labels/p2_maske1.nii")]),
        (["imagesTr/a.nii.gz", "labelsTr/b.nii.gz"], []),
        (["imagesTr/a.nii.gz"], []),
        (["images/p1_ct.nii", "images/p2_ct.nii", "labels/p1_liver.nii", "labels/p2_liver.nii"],
         [("images/p1_ct.nii", "labels/p1_liver.nii"), ("images/p2_ct.nii", "labels/p2_liver.nii")]),
        (["images/Анна.nii", "images/Иван.nii", "labels/Анна.nii", "labels/Иван_seg.nii"],
         [("images/Анна.nii", "labels/Анна.nii"), ("images/Иван.nii", "labels/Иван_seg.nii")]),
        (["p1_t1.nii", "p1_seg.nii", "p2_t1.nii", "p2_seg.nii"],
         [("p1_t1.nii", "p1_seg.nii"), ("p2_t1.nii", "p2_seg.nii")]),
        (["p1_t1.nii", "p1_t2.nii", "p1_seg.nii"], []),
        (["images/p1.nii", "labels/p1_seg.nii", "labels/p1_mask.nii"], []),
        (["imagesTr/a_0000.nii", "imagesTr/a_0001.nii", "labelsTr/a.nii"], []),
        (["imagesTr/case_0001.nii", "imagesTr/case_0002.nii", "labelsTr/case_0001.nii", "labelsTr/case_0002.nii"],
         [("imagesTr/case_0001.nii", "labelsTr/case_0001.nii"), ("imagesTr/case_0002.nii", "labelsTr/case_0002.nii")]),
        ([], []),
    ],
)  # fmt: skip
def test_pairs_are_found_by_names(tmp_path: Path, files: list[str], pairs: list[tuple[str, str]]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [(image.as_posix(), label.as_posix()) for image, label in find_pairs(tmp_path)] == pairs
