"""Every layout and variant, and further forms of the known data sets: a folder with the real names, values and
orientations is opened, its voxels are those that nibabel reads, and the doctor finds no fault in it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.datasets import Dataset, load_subject, open_dataset
from core.datasets.doctor import check
from core.datasets.layouts.base import Subject
from core.datasets.layouts.known_sets import known_sets
from core.datasets.recognition import CODED, layout_names
from core.datasets.saved_descriptions import SAVED
from core.labels import IGNORE_INDEX
from tests.support.known_contents import CONTENTS, Contents
from tests.support.known_folders import EXAMPLES
from tests.support.known_forms import FORMS

ENTRIES = {**CONTENTS, **FORMS}


def test_every_layout_and_variant_has_a_folder_and_stated_contents() -> None:
    assert CONTENTS.keys() == set(layout_names()) - {"auto", SAVED}, "an entry without contents is not tested"
    assert {name.partition("/")[0] for name in CONTENTS} == EXAMPLES.keys()
    assert {name.partition(" ")[0] for name in FORMS} <= CONTENTS.keys() and CODED.keys() < CONTENTS.keys()
    variants = [f"{d.name}/{v}" for d in known_sets().values() for v in d.variants]
    assert len(variants) == 6 and CONTENTS.keys() > set(variants)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "dicom")) for n in ENTRIES])
def test_folder_is_opened_read_and_found_good(tmp_path: Path, name: str) -> None:
    contents, layout = ENTRIES[name], name.partition(" ")[0]
    folder = (contents.make or EXAMPLES[layout.partition("/")[0]])(tmp_path / "data")
    dataset = open_dataset(folder, layout if "/" in layout else "auto")
    assert (dataset.layout, dataset.ids, dataset.modalities) == (layout, contents.ids, tuple(contents.images))
    if "/" not in layout and layout not in CODED:
        assert ("image files are named as in" in dataset.reason) != (layout == "dicom"), "auto says why"
    assert not any("no pattern of the layout fits" in note for note in dataset.notes)
    assert all(any(text in warning for text in contents.findings) for warning in dataset.warnings)
    assert tuple(s.id for s in dataset.subjects if s.label is None) == contents.unlabelled
    assert open_dataset(folder, layout).ids == contents.ids, "named, it reads the same"
    check_classes(dataset, contents)
    check_files(dataset, contents)
    if layout != "dicom":  # test_dicom_sets.py compares its voxels
        for subject in dataset.subjects:
            check_voxels(dataset, subject, contents)
    found = [f.message for f in check(dataset).findings if f.severity != "note"]
    assert all(any(text in message for message in found) for text in contents.findings)
    assert [m for m in found if not any(text in m for text in contents.findings)] == [], "a false alarm"


@pytest.mark.parametrize(
    ("names", "stated"),
    [
        (("brats2018", "brats2020", "brats2021"), {"whole": {1, 2, 4}, "core": {1, 4}, "enhancing": {4}}),
        (("brats2023", "brats2024"), {"whole": {1, 2, 3}, "core": {1, 3}, "enhancing": {3}}),
        (("kits",), {"kidney and masses": {1, 2, 3}, "masses": {2, 3}, "tumour": {2}}),
    ],
)
def test_regions_are_unions_of_the_published_values(
    tmp_path: Path, names: tuple[str, ...], stated: dict[str, set[int]]
) -> None:
    for name in names:
        dataset = open_dataset(EXAMPLES[name](tmp_path / name))
        raw = {c.name: c.raw for c in dataset.labels.classes}
        found = [{raw[part] for part in parts} for parts in dataset.regions.values()]
        assert found == list(stated.values()) and all(
            text in n for text, n in zip(stated, dataset.regions, strict=True)
        )


def check_classes(dataset: Dataset, contents: Contents) -> None:
    """Names and values of the classes are those that are stated."""
    labels, values = dataset.labels, contents.values
    assert labels.names[0] == next(iter(values)) and len(labels) - 1 == (
        contents.count or len(values) - 1 - ("ignore" in values)
    )
    raw = {c.name: {c.raw} for c in labels.classes}
    if labels.ignore is not None:
        raw["ignore"] = {labels.ignore.raw}
    owners = {c.raw: c.name for c in labels.classes} | ({labels.ignore.raw: "ignore"} if labels.ignore else {})
    for value, owner in dataset.value_map.items():
        raw[owners[owner]].add(value)
    for name, stated in values.items():
        assert raw[name] == set(stated), name


def check_files(dataset: Dataset, contents: Contents) -> None:
    """The first subject has the stated files, and no file is of two subjects."""
    first = dataset.subjects[0]
    for modality, path in contents.images.items():
        assert not path or first.images[modality].path.relative_to(dataset.path).as_posix() == path
    if contents.label:
        assert first.label is not None and first.label.relative_to(dataset.path).as_posix() == contents.label
    files = [file for subject in dataset.subjects for file in subject.files]
    assert len(set(files)) == len(files)


def check_voxels(dataset: Dataset, subject: Subject, contents: Contents) -> None:
    """Images, label map and affine are those of nibabel, turned to RAS."""
    for modality, ref in subject.images.items():
        loaded = load_subject(dataset, subject.id, (modality,))
        expected, affine = read_with_nibabel(ref.path)
        np.testing.assert_array_equal(loaded.image[0], expected)
        if affine is not None:
            np.testing.assert_allclose(loaded.geometry.affine, affine, atol=1e-4)
    for mask, value in subject.masks.items():
        name = mask.name.removesuffix(".nii.gz").removesuffix("_mask").rpartition("label-")[2]
        assert loaded.label is not None and dataset.labels.names[value] == name
        np.testing.assert_array_equal(loaded.label == value, read_with_nibabel(mask)[0] == 1)
    if subject.label is None or subject.masks:
        return
    raw, label, names = read_with_nibabel(subject.label)[0], loaded.label, dataset.labels.names
    assert label is not None
    for name, values in contents.values.items():
        index = names.index(name) if name in names else IGNORE_INDEX
        np.testing.assert_array_equal(label == index, np.isin(raw, values), name)
    pairs = np.unique(np.stack([raw.reshape(-1), label.reshape(-1)]), axis=1)
    assert pairs.shape[1] == len(np.unique(raw)), "each value is one class"


def read_with_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Voxels and affine in RAS; of Analyze, which states no orientation, the voxels as stored."""
    image = nib.load(path)
    if isinstance(image, nib.AnalyzeImage) and not isinstance(image, nib.Nifti1Pair):
        return np.squeeze(np.asanyarray(image.dataobj)), None
    turned = nib.as_closest_canonical(image)
    return np.asanyarray(turned.dataobj), turned.affine
