"""Files listed in dataset.json: paths as other systems write them, ids from folders, images that are left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core.datasets import load_subject, open_dataset
from core.datasets.doctor import check
from core.datasets.layouts.listed_files import resolve_listed, subject_ids, unlisted_images
from core.errors import DatasetError
from tests.support.heads import list_cases, listed_cases, write_heads
from tests.support.volume_files import label_map, load, voxels, write_analyze, write_nifti


@pytest.mark.parametrize(
    "prefix", ["imagesTr\\", ".\\imagesTr\\", "D:\\data\\Task\\imagesTr\\", "\\\\server\\x\\imagesTr\\"]
)
def test_paths_with_backslashes_are_found(tmp_path: Path, prefix: str) -> None:
    folder = write_heads(tmp_path / "data", 2)
    cases = [{k: prefix.replace("images", k + "s") + Path(v).name for k, v in c.items()} for c in listed_cases(folder)]
    list_cases(folder, cases)
    report = check(folder)
    assert report.ok and [s.id for s in report.subjects] == ["case_1", "case_2"]
    assert load_subject(open_dataset(folder), "case_1").label is not None
    elsewhere = prefix.startswith(("D:", "\\\\"))
    assert [f.message for f in report.findings if "another place" in f.message] == (
        [f"dataset.json lists files of another place ({cases[0]['image']}); imagesTr/case_1.nii.gz is read"]
        if elsewhere
        else []
    )


def test_absolute_paths_of_another_machine_are_looked_for_in_the_folder(tmp_path: Path) -> None:
    folder = write_heads(tmp_path / "data", 2)
    list_cases(folder, [{k: f"/mnt/other/Task{v[1:]}" for k, v in case.items()} for case in listed_cases(folder)])
    assert check(folder).ok
    inside = [{k: str(folder / v) for k, v in case.items()} for case in listed_cases(write_heads(folder, 2))]
    list_cases(folder, inside)
    assert check(folder).ok and open_dataset(folder).notes == ()


def test_file_name_with_a_backslash_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a\\b.nii").write_bytes(b"")
    assert resolve_listed(tmp_path, "a\\b.nii") == tmp_path / "a\\b.nii"
    assert resolve_listed(tmp_path, "c\\d.nii") == tmp_path / "c" / "d.nii"
    assert resolve_listed(tmp_path, "./imagesTr/x.nii") == tmp_path / "imagesTr" / "x.nii"


def test_folders_name_cases_whose_files_have_the_same_name(tmp_path: Path) -> None:
    folder, cases = write_heads(tmp_path / "data", 3), []
    for n in (1, 2, 3):
        (folder / f"case{n}").mkdir()
        for part in ("image", "label"):
            shutil.move(folder / f"{part}sTr" / f"case_{n}.nii.gz", folder / f"case{n}" / f"{part}.nii.gz")
        cases.append({part: f"case{n}/{part}.nii.gz" for part in ("image", "label")})
    report = check(list_cases(folder, cases), thumbnails=tmp_path / "pictures")
    assert report.ok and [s.id for s in report.subjects] == ["case1", "case2", "case3"]
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["case1.png", "case2.png", "case3.png"]


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        (["imagesTr/a.nii.gz", "imagesTr/b.nii"], ["a", "b"]),
        (["case1/image.nii.gz", "case2/image.nii.gz"], ["case1", "case2"]),
        (["site1/p1/t1.nii", "site2/p1/t1.nii"], ["site1", "site2"]),
        (["s1/p1/t1.nii", "s1/p2/t1.nii", "s2/p1/t1.nii"], ["s1-p1", "s1-p2", "s2-p1"]),
        (["sub-01/ses-1/anat/t1.nii.gz", "sub-01/ses-2/anat/t1.nii.gz"], ["ses-1", "ses-2"]),
        (["a/x.nii", "b/x.nii", "b/y.nii"], ["a-x", "b-x", "b-y"]),
        (["x.nii", "b/x.nii"], ["x", "b-x"]),
        (["images/case1/volume.img", "images/case2/volume.img"], ["case1", "case2"]),
    ],
)
def test_ids_are_as_short_as_they_can_be(tmp_path: Path, paths: list[str], ids: list[str]) -> None:
    assert subject_ids(tmp_path, [tmp_path / path for path in paths]) == ids


def test_image_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    folder = write_heads(tmp_path / "data", 3)
    first, second, third = listed_cases(folder)
    list_cases(folder, [first, second, {"image": first["image"], "label": third["label"]}])
    with pytest.raises(DatasetError, match="expected every subject once, got case_1 more than once"):
        open_dataset(folder)


def test_either_file_of_a_pair_may_be_listed(tmp_path: Path) -> None:
    training = []
    for n, suffix in ((1, ".img"), (2, ".hdr")):
        write_analyze(tmp_path / "imagesTr" / f"case_{n}.hdr", voxels(seed=n))
        write_analyze(tmp_path / "labelsTr" / f"case_{n}.hdr", label_map((0, 1), seed=n))
        training.append({"image": f"imagesTr/case_{n}{suffix}", "label": f"labelsTr/case_{n}{suffix}"})
    content = {"modality": {"0": "T1"}, "labels": {"0": "background", "1": "x"}, "training": training}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    report = check(tmp_path)
    assert report.ok and not [f for f in report.findings if "does not list" in f.message]
    write_analyze(tmp_path / "imagesTr" / "left.hdr", voxels())
    assert open_dataset(tmp_path).notes == ("imagesTr holds images that dataset.json does not list: left.hdr",)


def test_pairs_count_once(tmp_path: Path) -> None:
    for name in ("a.img", "a.hdr", "b.img.gz", "b.hdr.gz", "c.nii", "c.nii.gz", ".hidden.nii"):
        (tmp_path / name).write_bytes(b"")
    assert unlisted_images(tmp_path, [Path("a.img"), Path("c.nii")]) == ["b.hdr.gz", "c.nii.gz"]
    assert unlisted_images(tmp_path / "none", []) == []


def test_nifti_pair_is_listed_by_its_data_file(tmp_path: Path) -> None:
    import nibabel as nib

    folder = write_heads(tmp_path / "data", 2)
    for case in listed_cases(folder):
        for path in case.values():
            image = load(folder / path)
            nib.save(
                nib.Nifti1Pair(image.get_fdata().astype("int16"), image.affine),
                (folder / path).with_suffix("").with_suffix(".img"),
            )
            (folder / path).unlink()
    list_cases(folder, [{k: v.replace(".nii.gz", ".img") for k, v in case.items()} for case in listed_cases(folder)])
    report = check(folder)
    assert report.ok and not [f for f in report.findings if "does not list" in f.message]
    write_nifti(folder / "imagesTr" / "more.nii.gz", voxels())
    assert any("does not list: more.nii.gz" in f.message for f in check(folder).findings)
