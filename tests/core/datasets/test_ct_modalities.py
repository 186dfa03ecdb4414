"""Which modalities are computed tomography: by name, or by the intensities of the first subjects that have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.datasets import DataOptions, Dataset, LoadedSubject, load_subject, open_dataset
from core.datasets import ct_modalities as module
from core.datasets.ct_modalities import examined_subjects, find_ct_modalities, refuse_absent_ct
from core.errors import DatasetError
from tests.support.volume_files import label_map, write_nifti

MODALITIES = ("scan", "late")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five subjects: scans in Hounsfield units but for the fifth; only the fourth and the fifth have "late", which is
    none."""
    folder = tmp_path_factory.mktemp("scans")
    scan = np.random.default_rng(0).integers(-50, 300, (6, 7, 5)).astype(np.int16)
    scan[:3] = -1000
    for number in range(1, 6):
        for channel in range(2 if number > 3 else 1):
            image = scan if channel == 0 and number < 5 else np.abs(scan)
            write_nifti(folder / "imagesTr" / f"s{number}_{channel:04d}.nii.gz", image)
        write_nifti(folder / "labelsTr" / f"s{number}.nii.gz", label_map((0, 1)))
    labels = {"background": 0, "organ": 1}
    content = {"channel_names": dict(enumerate(MODALITIES)), "labels": labels, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**content, "numTraining": 5}), "utf-8")
    return folder


def opened(folder: Path) -> Dataset:
    return open_dataset(folder, options=DataOptions(missing_modalities="zero"))


def test_first_subjects_with_an_image_of_a_modality_decide(folder: Path) -> None:
    dataset = opened(folder)
    assert examined_subjects(dataset, dataset.ids, MODALITIES) == ("s1", "s2", "s3", "s4", "s5")
    assert examined_subjects(dataset, dataset.ids, ("scan",)) == ("s1", "s2", "s3")
    assert find_ct_modalities(dataset, dataset.ids, MODALITIES) == [True, False]
    assert find_ct_modalities(dataset, ("s4", "s5"), MODALITIES) == [False, False], "one of them is none"
    assert find_ct_modalities(dataset, ("s1", "s2"), MODALITIES) == [True, False], "nobody has an image of the second"


def test_subjects_that_decide_are_enough(folder: Path) -> None:
    dataset = opened(folder)
    for ids in (dataset.ids, dataset.ids[::-1]):
        examined = examined_subjects(dataset, ids, MODALITIES)
        assert find_ct_modalities(dataset, examined, MODALITIES) == find_ct_modalities(dataset, ids, MODALITIES)


def test_named_modalities_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(dataset: Dataset, id: str, modalities: tuple[str, ...]) -> LoadedSubject:
        read.append(id)
        return load_subject(dataset, id, modalities)

    monkeypatch.setattr(module, "load_subject", counted)
    dataset = opened(folder)
    assert find_ct_modalities(dataset, dataset.ids, ("scan",)) == [True] and read == ["s1", "s2", "s3"]
    read.clear()
    assert find_ct_modalities(dataset, dataset.ids[::-1], ("scan",)) == [False] and read == ["s5"], "the first decides"
    monkeypatch.setattr(module, "is_named_ct", lambda modality: True)
    read.clear()
    assert find_ct_modalities(dataset, dataset.ids, MODALITIES) == [True, True] and read == []


def test_subjects_without_an_image_of_computed_tomography_are_refused(folder: Path) -> None:
    dataset = opened(folder)
    refuse_absent_ct(dataset, dataset.ids, MODALITIES, ("ct", "z_score"))
    refuse_absent_ct(dataset, ("s4", "s5"), MODALITIES, ("z_score", "ct"))
    with pytest.raises(DatasetError, match="s1: expected an image of late for the normalisation ct"):
        refuse_absent_ct(dataset, dataset.ids, MODALITIES, ("z_score", "ct"))
