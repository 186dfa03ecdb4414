"""Data of one subject for the Learn page: histograms, masks, slices, shares and the block under the kernel."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from core.datasets import load_subject, open_dataset
from core.errors import DatasetError
from tests.support.balls import SPACING_MM, balls, write_balls
from tests.support.ignored import write_ignored_balls
from tests.support.learn_data import demo_subject
from tests.support.volume_files import load
from ui.learn.subject_data import SubjectData, disc_mask, read_subject_data

pytestmark = pytest.mark.slow  # the demo subject is made once


def unpack_mask(mask: dict[str, Any]) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(base64.b64decode(mask["mask"]), np.uint8))
    return bits[: mask["width"] * mask["height"]].reshape(mask["height"], mask["width"]).astype(bool)


def decode_picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_subject(tmp_path_factory)


@pytest.fixture(scope="module")
def data(folder: Path) -> SubjectData:
    return read_subject_data(folder, "subject-1")


def test_histogram_overlaps_of_tissues_match_published_values(data: SubjectData) -> None:
    histograms = data.intensities
    assert histograms["modalities"] == ["T1", "T2"] and [c["name"] for c in histograms["classes"]] == [
        "CSF",
        "GM",
        "WM",
    ]
    t1, t2 = ({(c, d): value for c, d, value in pairs} for pairs in histograms["overlaps"])
    assert t1[1, 2] == pytest.approx(0.70, abs=0.06) and t2[1, 2] == pytest.approx(0.90, abs=0.06)
    assert t1[0, 1] == pytest.approx(0.36, abs=0.06) and t2[0, 2] == pytest.approx(0.35, abs=0.08)
    assert np.array(histograms["counts"]).sum(axis=(1, 2)).tolist() == [histograms["head"]] * 2
    assert 0.5 < max(histograms["accuracies"][:2]) < histograms["accuracies"][2] < 0.8


def test_every_part_is_strict_json_below_200_kb(data: SubjectData) -> None:
    for part in (data.intensities, data.block, data.slices, data.masks, data.shares, disc_mask()):
        assert len(json.dumps(part, allow_nan=False)) < 200_000


def test_masks_and_slices_equal_the_label_map(data: SubjectData, folder: Path) -> None:
    loaded = load_subject(open_dataset(folder), "subject-1")
    label = loaded.label
    assert label is not None and loaded.geometry.oriented
    spans = [np.flatnonzero(label.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    k = int(spans[2][0] + spans[2][-1]) // 2
    plane = label[:, :, k].T[::-1, ::-1]  # anterior up, the patient's left on the right
    assert [m["name"] for m in data.masks] == ["CSF in a slice", "GM in a slice", "WM in a slice"]
    for n, mask in enumerate(data.masks, start=1):
        here = unpack_mask(mask)
        assert here.sum() == (plane == n).sum()
        rows, columns = (np.flatnonzero((plane > 0).any(axis=a)) for a in (1, 0))
        top, left = max(0, rows[0] - 8), max(0, columns[0] - 8)
        np.testing.assert_array_equal(here, (plane == n)[top : top + mask["height"], left : left + mask["width"]])
    assert decode_picture(data.slices["slices"]["axial"]).shape == (192, 144, 3)
    assert decode_picture(data.slices["slices"]["coronal"]).shape == (256, 144, 3)
    assert decode_picture(data.slices["slices"]["sagittal"]).shape == (256, 192, 3)
    axial = decode_picture(data.slices["slices"]["axial"]).astype(int)
    assert (axial[..., 0] - axial[..., 2])[plane == 3].mean() > 60 > (axial[..., 0] - axial[..., 2])[plane == 1].mean()


def test_extent_is_the_bounding_box_of_the_labels_with_a_margin(data: SubjectData, folder: Path) -> None:
    label = load_subject(open_dataset(folder), "subject-1").label
    assert label is not None
    spans = [np.flatnonzero(label.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    assert data.extent == tuple(span[-1] - span[0] + 9 for span in spans)


def test_shares_count_all_voxels(data: SubjectData, folder: Path) -> None:
    label = load_subject(open_dataset(folder), "subject-1").label
    assert label is not None
    for n, share in enumerate(data.shares["shares"]):
        assert share["share"] == pytest.approx((label == n).mean())
    assert data.shares["total"] == label.size


def test_block_has_three_similar_but_different_slices(data: SubjectData, folder: Path) -> None:
    block = np.array(data.block["values"]).reshape(3, 21, 21)
    assert block.min() == 0 and block.max() == 99
    between = np.corrcoef(block[0].ravel(), block[1].ravel())[0, 1]
    assert 0.5 < between < 1, "neighbours resemble each other"
    assert np.abs(block[2] - block[0]).mean() > 5, "and differ"


def oriented_subject(folder: Path, flipped: bool) -> Path:
    """One subject of balls, stored as RAS or as LAS."""
    image, label = balls(4, shape=(40, 36, 30))
    affine = np.diag([*SPACING_MM, 1.0])
    if flipped:
        image, label = image[:, ::-1], label[::-1]
        affine = affine @ np.array([[-1, 0, 0, 39], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    for part, array in (("imagesTr", image[0]), ("labelsTr", label)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), folder / part / "a.nii.gz")
    content = {
        "name": "Balls",
        "modality": {"0": "M0"},
        "labels": {"0": "background", "1": "bright", "2": "dark"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder


def test_ras_and_las_files_give_the_same_mirrored_picture(tmp_path: Path) -> None:
    stored_ras, stored_las = (read_subject_data(oriented_subject(tmp_path / str(f), f), "a") for f in (False, True))
    assert stored_ras == stored_las and stored_ras.slices["oriented"]
    assert stored_ras.intensities["joint"] is None, "one modality"
    label = balls(4, shape=(40, 36, 30))[1]
    spans = np.flatnonzero(label.any(axis=(0, 1)))
    plane = label[:, :, (spans[0] + spans[-1]) // 2].T[::-1, ::-1]  # the patient's right on the left
    across = np.flatnonzero((plane > 0).any(axis=0))
    left = max(0, across[0] - 8)
    np.testing.assert_array_equal(
        unpack_mask(stored_ras.masks[0]).any(axis=0),
        (plane == 1).any(axis=0)[left : left + stored_ras.masks[0]["width"]],
    )


def test_subject_too_small_or_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="at least 21x21x3 voxels"):
        read_subject_data(write_balls(tmp_path / "small", subjects=1), "ball_0")
    folder = oriented_subject(tmp_path, False)
    nib.save(
        nib.Nifti1Image(np.zeros((40, 36, 30), np.uint8), np.diag([*SPACING_MM, 1.0])), folder / "labelsTr/a.nii.gz"
    )
    with pytest.raises(DatasetError, match=r"label map of a .*found none"):
        read_subject_data(folder, "a")


def test_ignored_voxels_are_no_class_of_any_figure(tmp_path: Path) -> None:
    folder = write_ignored_balls(tmp_path / "balls", subjects=2)
    for file in folder.glob("*Tr/ball_0.nii.gz"):
        image = load(file)
        nib.save(nib.Nifti1Image(np.kron(np.asarray(image.dataobj), np.ones((2, 2, 2))), image.affine), file)
    data = read_subject_data(folder, "ball_0")
    assert [c["name"] for c in data.intensities["classes"]] == ["bright", "dark"]
    assert [s["name"] for s in data.shares["shares"]] == ["background", "bright", "dark"]
    assert sum(s["share"] for s in data.shares["shares"]) == pytest.approx(1)
    assert all("ignore" not in mask["name"] for mask in data.masks)
