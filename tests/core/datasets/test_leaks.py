"""Leaks: equal, resampled, turned and neighbouring images are found, independent ones, also of real sets, are not."""

from __future__ import annotations

import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from core.datasets import load_subject, open_dataset
from core.datasets.doctor import check
from core.datasets.leak_findings import judge_leaks
from core.datasets.leaks import TURNS, Fingerprint, Leak, find_leaks
from core.datasets.split_groups import split_groups
from core.datasets.splits import Split
from core.imaging.resample import resample_image

SHAPE = (40, 48, 36)


def scan(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A head-like image: a shape that all share, structures of its own, noise."""
    random = np.random.default_rng(seed)
    head = np.exp(-((np.indices(shape).T / np.array(shape) - 0.5) ** 2).sum(-1).T * 12)
    own = ndimage.gaussian_filter(random.normal(size=shape), 2.5)
    return (100 * head + 60 * own / own.std() + random.normal(size=shape)).astype(np.float32)


def fingerprints(**images: np.ndarray) -> dict[str, Fingerprint]:
    """Of ten independent images and some more."""
    others = {f"s{seed}": scan(seed) for seed in range(10)}
    return {id: Fingerprint.of(np.ascontiguousarray(image)) for id, image in {**others, **images}.items()}


@pytest.mark.slow
def test_the_same_voxels_are_found_however_they_were_changed() -> None:
    image = scan(3)
    half = resample_image(image[None], shape_to=(20, 24, 18))[0]
    found = find_leaks(
        fingerprints(
            copy=image.copy(),
            coarse=half,
            finer=ndimage.zoom(scan(4), 1.4, order=1),
            mirrored=scan(5)[::-1],
            rotated=np.rot90(scan(6), axes=(0, 2)),
            turned_half=resample_image(np.rot90(scan(7), 2, axes=(1, 2))[None], shape_to=(30, 36, 27))[0],
            rescaled=3 * scan(8) - 70,
        )
    )
    kinds = {leak.subjects: leak.kind for leak in found}
    assert kinds.pop(("copy", "s3")) == "same"
    assert kinds == {
        ("coarse", "copy"): "resampled",
        ("finer", "s4"): "resampled",
        ("mirrored", "s5"): "turned",
        ("rotated", "s6"): "turned",
        ("s7", "turned_half"): "turned",
        ("rescaled", "s8"): "resampled",
    }
    assert len(TURNS) == len(set(TURNS)) == 48


@pytest.mark.slow
def test_independent_images_are_no_leak_few_or_many_and_empty_ones_neither() -> None:
    assert not find_leaks(fingerprints(empty=np.zeros(SHAPE, np.float32), one=np.ones((3, 4, 5), np.float32)))
    assert not find_leaks({id: f for id, f in fingerprints().items() if id in ("s1", "s2")})
    assert not find_leaks({})


@pytest.mark.slow
def test_slices_of_volumes_are_distinguished_from_images_of_one_slice() -> None:
    volumes = {f"v{n}": ndimage.gaussian_filter(scan(n), (0, 0, 2)) for n in range(3)}
    slices = {
        f"{id}_{k:03d}": Fingerprint.of(np.ascontiguousarray(volume[:, :, [k]]))
        for id, volume in volumes.items()
        for k in range(8, 28)
    }
    found = find_leaks(slices)
    assert len(found) > 30 and {leak.kind for leak in found} == {"slices"}
    assert all(a.split("_")[0] == b.split("_")[0] for a, b in (leak.subjects for leak in found))
    singles = {f"p{n}": Fingerprint.of(np.ascontiguousarray(scan(n)[:, :, [18]])) for n in range(40)}
    assert not find_leaks(singles)
    (finding,) = judge_leaks(found, {key: {} for key in slices})
    assert "neighbouring slices of one volume" in finding.message and "--group-by" in finding.fix
    assert len(finding.subjects) > 30


def test_a_fingerprint_survives_json() -> None:
    before = Fingerprint.of(scan(0, (9, 8, 7)))
    after = Fingerprint.from_json(before.to_json())
    assert after.digest == before.digest and np.array_equal(after.grid, before.grid)


def test_only_pairs_on_two_sides_of_a_split_count_and_persons_too() -> None:
    leaks = [Leak("same", ("a", "b")), Leak("turned", ("a", "c"), 0.99)]
    split = Split(("a", "b"), ("c",), ("d",))
    (finding,) = judge_leaks(leaks, {}, split)
    assert finding.severity == "warning" and finding.subject == "c" and "that of a, mirrored or turned" in finding.line
    assert finding.subjects == ("a", "c")
    persons = {"a": {"case": "1"}, "b": {"case": "1"}, "c": {"case": "2"}, "d": {"case": "2"}}
    assert not judge_leaks([], persons, split), "validation and test share a person, training does not"
    (note,) = judge_leaks([], persons)
    assert note.severity == "note" and "2 of 2 persons have several images, 4 together" in note.message
    (torn,) = judge_leaks([], persons, Split(("a", "c"), ("b",), ()))
    assert torn.severity == "warning" and torn.subjects == ("a", "b") and "--group-by person" in torn.fix


def test_of_two_copies_the_labelled_one_is_kept_and_no_score_is_called_inflated() -> None:
    images = {id: Fingerprint.of(scan(0, (9, 8, 7))) for id in ("a", "b", "c")}
    leaks = find_leaks(images, ("b", "c"))
    assert [leak.subjects for leak in leaks] == [("b", "c"), ("b", "a")], (
        "the labelled ones are compared with each other"
    )
    findings = {f.subject: f for f in judge_leaks(leaks, {"b": {}, "c": {}})}
    assert findings["c"].severity == "warning" and findings["c"].subjects == ("b", "c")
    copy = findings["a"]
    assert copy.severity == "note" and copy.subjects == ("b", "a") and "inflate" not in copy.message
    assert copy.fix == "leave out the one that is not trained on" and copy.meaning
    (both,) = judge_leaks([Leak("same", ("x", "y"))], {"b": {}})
    assert both.severity == "note" and both.subject == "y"
    (turned,) = judge_leaks([Leak("turned", ("b", "x"), 0.99), Leak("slices", ("b", "x"))], {"b": {}})
    assert turned.subject == "x" and "mirrored or turned" in turned.message


def test_every_copy_has_a_finding_of_its_own_however_many_there_are() -> None:
    ids = [f"s{n}" for n in range(8)]
    leaks = [Leak("resampled", (a, b), 0.99) for n, a in enumerate(ids) for b in ids[n + 1 :]]
    findings = judge_leaks(leaks, {key: {} for key in ids})
    assert [f.subject for f in findings] == ids[1:], "one for each but the first"
    assert all(f.severity == "warning" and f.meaning and f.fix == "leave one of them out" for f in findings)
    split = Split(tuple(ids[:4]), tuple(ids[4:]), ())
    (joined,) = judge_leaks(leaks, {key: {} for key in ids}, split)
    assert "16 pairs of subjects" in joined.message and joined.meaning


def test_examinations_of_a_person_are_no_persons_of_their_own() -> None:
    exams = {f"p1_{study}": {"case": "p1", "study": study} for study in ("e1", "e2")}
    assert split_groups(exams, "auto") == {"p1_e1": "p1", "p1_e2": "p1"}
    cohorts = {f"{study}_p1": {"study": study, "case": "p1"} for study in ("adni", "oasis")}
    assert split_groups(cohorts, "auto") == {}, "a study that holds persons: two of the same number are two persons"


@pytest.mark.slow
def test_the_doctor_reports_a_mirrored_copy_with_both_subjects_as_json(tmp_path: Path) -> None:
    label = (scan(1) > 60).astype(np.uint8)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for n in range(8):
        image = scan(2)[:, ::-1] if n == 7 else scan(n)
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "images" / f"c{n}.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), tmp_path / "labels" / f"c{n}.nii.gz")
    (tmp_path / "labels.txt").write_text('0 0 0 0 0 0 0 "background"\n1 255 0 0 1 1 1 "head"\n')
    report = check(tmp_path).to_json()
    (finding,) = [f for f in report["findings"] if "mirrored" in f["message"]]
    assert finding["severity"] == "warning" and list(finding["subjects"]) == ["c2", "c7"]
    assert finding["fix"] == "leave one of them out" and finding["file"].endswith("c7.nii.gz")


@pytest.mark.slow
def test_no_false_alarm_on_real_sets(test_data: Path) -> None:
    for name in ("Task04_Hippocampus", "fetal_atlas"):
        dataset = open_dataset(test_data / name)
        images = {id: load_subject(dataset, id).image[0] for id in dataset.ids[:24]}
        found = {id: Fingerprint.of(np.ascontiguousarray(image)) for id, image in images.items()}
        assert not find_leaks(found), name
        coarser = resample_image(images[dataset.ids[5]][None], (1, 1, 1), (1.4, 1.4, 1.4))[0]
        planted = {"x": images[dataset.ids[3]][::-1], "y": coarser}
        found |= {id: Fingerprint.of(np.ascontiguousarray(image)) for id, image in planted.items()}
        assert {leak.kind for leak in find_leaks(found)} == {"turned", "resampled"}, name


@pytest.mark.long
def test_a_thousand_images_are_compared_within_seconds() -> None:
    random = np.random.default_rng(0)
    base = ndimage.gaussian_filter(random.normal(size=(16, 16, 16)), 1)
    found = {
        f"s{n}": Fingerprint(str(n), (base / 40 + random.normal(size=base.shape) / 64).astype(np.float16))
        for n in range(1000)
    }
    start = time.process_time()
    assert not find_leaks(found)
    assert time.process_time() - start < 60
