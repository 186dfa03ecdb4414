"""A data set whose images have other formats than NIfTI is checked, recorded and loaded like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.datasets import fingerprint, load_subject, open_dataset
from core.datasets.data_record import DataRecord
from core.datasets.doctor import check
from core.datasets.single_case import read_images
from tests.support.foreign_volumes import (
    oblique_affine,
    phantom,
    write_metaimage,
    write_mgh,
    write_nrrd,
    write_series,
)
from tests.support.volume_files import write_nifti


@pytest.mark.slow
def test_images_of_every_format_give_the_same_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(tmp_path / "runs"))
    data, affine = tmp_path / "data", oblique_affine()
    images = data / "imagesTr"
    images.mkdir(parents=True)
    writers = {
        "a.mgz": write_mgh,
        "b.nrrd": write_nrrd,
        "c.mha": write_metaimage,
        "d": write_series,
        "e.nii.gz": write_nifti,
    }
    training = []
    for number, (name, write) in enumerate(writers.items()):
        write(images / name, phantom() + np.int16(number), affine)  # type: ignore[operator]
        label = (phantom() > 60).astype(np.uint8)
        write_nifti(data / "labelsTr" / f"{number}.nii.gz", label, affine)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{number}.nii.gz"})
    content = {"modality": {"0": "MR"}, "labels": {"0": "background", "1": "x"}, "training": training}
    (data / "dataset.json").write_text(json.dumps({"name": "Mixed", **content}))
    report = check(data)
    assert report.ok and [facts.orientation for facts in report.subjects] == ["PSL"] * 5
    dataset = open_dataset(data)
    assert set(fingerprint(dataset).shapes.values()) == {(7, 5, 6)}
    loaded = [load_subject(dataset, id) for id in dataset.ids]
    for number, subject in enumerate(loaded):
        np.testing.assert_array_equal(subject.image, loaded[0].image + number)
        np.testing.assert_array_equal(subject.label, loaded[0].label)
        np.testing.assert_allclose(subject.geometry.affine, loaded[0].geometry.affine, atol=1e-4)
    record = DataRecord.read_headers(dataset, dataset.ids, dataset.modalities, dataset.labels)
    record.save(tmp_path)
    again = DataRecord.load(tmp_path)
    assert again is not None and again.changes(record) == []
    single = read_images([images / "d"], ("MR",))
    np.testing.assert_array_equal(single.image, loaded[3].image)
