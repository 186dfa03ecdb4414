"""One phantom under every header: whichever axes, units, types and scaling a file has, the results are the same.

Volumes in ml, HD95 in mm, the predicted voxels and the geometry that is written agree with those of the plain phantom.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from core.datasets import ImageRef, LoadedSubject
from core.datasets.layouts.base import Dataset, Subject
from core.datasets.loading import load_subject
from core.evaluation.metrics import score_subject
from core.imaging.volume import read_label, to_stored, write_label
from core.inference.predictor import Predictor
from core.inference.subject_image import SubjectImage
from core.labels import LabelSpace
from tests.conftest import on_build_server
from tests.support.balls import CLASSES, untrained_run
from tests.support.volume_files import load

SHAPE = (18, 14, 12)
ORIENTATIONS = ["".join(c) for order in itertools.permutations(("RL", "AP", "SI")) for c in itertools.product(*order)]
UNITS = {"mm": 1.0, "unknown": 1.0, "micron": 1e3, "meter": 1e-3}  # units in a millimetre
TYPES = ("uint8", "int16", "uint16", "int32", "float32", "float64")
LABELS = LabelSpace.from_raw(dict(enumerate(CLASSES)))


@dataclass(frozen=True)
class Variant:
    """How a phantom is stored."""

    orientation: str
    unit: str
    dtype: str
    slope: float
    inter: float
    suffix: str
    forms: str
    big_endian: bool
    nifti2: bool

    def write(self, path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
        """Write whole numbers with an affine in mm."""
        kind = nib.Nifti2Image if self.nifti2 else nib.Nifti1Image
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(affine), nib.orientations.axcodes2ornt(self.orientation)
        )
        turned = kind(array, affine).as_reoriented(turn)
        in_unit = np.diag([UNITS[self.unit]] * 3 + [1.0]) @ turned.affine
        stored = np.asarray(turned.dataobj, np.float64)
        if self.slope > 0:  # neither 0 nor NaN
            stored = (stored - self.inter) / self.slope
        header = kind.header_class(endianness=">" if self.big_endian else "<")
        header.set_data_dtype(self.dtype)
        image = kind(stored.astype(self.dtype), in_unit, header)
        image.header.set_xyzt_units(self.unit, "sec" if self.big_endian else None)
        image.set_qform(in_unit, 1 if "q" in self.forms else 0)
        image.set_sform(in_unit, 1 if "s" in self.forms else 0)
        content = bytearray(image.to_bytes())
        scaling = np.array(
            [self.slope, self.inter], (">" if self.big_endian else "<") + ("f8" if self.nifti2 else "f4")
        )
        start = 176 if self.nifti2 else 112
        content[start : start + scaling.nbytes] = scaling.tobytes()
        file = path.with_name(path.name + self.suffix)
        file.write_bytes(gzip.compress(content, 1) if self.suffix == ".nii.gz" else content)
        return file


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Intensities, even numbers from 0 to 100, and labels 0 to 2; no symmetry."""
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)
    image = 2 * np.round(50 * (image - image.min()) / np.ptp(image))
    label = np.zeros(SHAPE, np.uint8)
    label[3:9, 2:8, 3:9] = 1
    label[8:14, 6:11, 2:7] = 2
    return image, label


IMAGE, LABEL = phantom()


def rotation(axis: int, degrees: float) -> np.ndarray:
    across = [n for n in range(3) if n != axis]
    angle, matrix = np.deg2rad(degrees), np.eye(3)
    matrix[np.ix_(across, across)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


@st.composite
def affines(draw: Callable) -> np.ndarray:
    """Oblique and sheared affines in mm of any voxel size."""
    spacing = [draw(st.sampled_from([0.02, 0.4, 0.75, 1.0, 1.3, 3.0, 5.0])) for _ in range(3)]
    shear = np.eye(3)
    if draw(st.booleans()):
        i, j = draw(st.sampled_from([(0, 1), (0, 2), (1, 2), (2, 1)]))
        shear[i, j] = np.tan(np.deg2rad(draw(st.integers(-30, 30))))
    affine = np.eye(4)
    affine[:3, :3] = rotation(draw(st.integers(0, 2)), draw(st.sampled_from([0, 0, 7, -17]))) @ shear * spacing
    affine[:3, 3] = [draw(st.integers(-90, 90)) for _ in range(3)]
    return affine


VARIANTS = st.builds(
    Variant,
    orientation=st.sampled_from(ORIENTATIONS),
    unit=st.sampled_from(sorted(UNITS)),
    dtype=st.sampled_from(TYPES),
    slope=st.sampled_from([1.0, 0.0, np.nan, 0.5, 2.0]),
    inter=st.sampled_from([0.0, -2.0]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    forms=st.sampled_from(["s", "sq", "q"]),
    big_endian=st.booleans(),
    nifti2=st.booleans(),
)
PLAIN = Variant("RAS", "mm", "float32", 1.0, 0.0, ".nii", "s", False, False)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    root = tmp_path_factory.mktemp("runs")
    return Predictor(root / untrained_run(root, "variants", ("M0",)) / "last.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("variants")


def read(image: Path, label: Path) -> LoadedSubject:
    subject = Subject("one", {"M0": ImageRef(image)}, label)
    return load_subject(Dataset(image.parent, "", "variants", ("M0",), LABELS, (subject,)), "one")


def hd95_mm(affine: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """By brute force, from all pairs of surface voxels."""
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) @ affine[:3, :3].T for mask in (one, other)]
    pairs = cdist(*points)
    return float(max(np.percentile(pairs.min(axis=1), 95), np.percentile(pairs.min(axis=0), 95)))


@pytest.mark.long
@pytest.mark.slow
@settings(
    derandomize=on_build_server(),
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(affine=affines(), of_image=VARIANTS, of_label=VARIANTS)
def test_results_do_not_depend_on_how_a_phantom_is_stored(
    folder: Path, predictor: Predictor, affine: np.ndarray, of_image: Variant, of_label: Variant
) -> None:
    for path in folder.iterdir():
        path.unlink()
    plain = read(PLAIN.write(folder / "plain", IMAGE, affine), PLAIN.write(folder / "plain-label", LABEL, affine))
    sheared = plain.geometry.is_sheared
    event(plain.geometry.tilt.partition(" ")[0] or "straight")
    if sheared:  # a qform holds no shear
        of_image, of_label = replace(of_image, forms="s"), replace(of_label, forms="s")
    if of_label.slope == 2:  # of which odd labels are no multiple
        of_label = replace(of_label, slope=0.5)
    file = of_image.write(folder / "image", IMAGE, affine)
    loaded = read(file, of_label.write(folder / "label", LABEL, affine))
    assert loaded.label is not None and plain.label is not None

    np.testing.assert_array_equal(loaded.image, plain.image)
    np.testing.assert_array_equal(loaded.label, plain.label)
    np.testing.assert_allclose(loaded.geometry.affine, plain.geometry.affine, rtol=1e-4, atol=1e-4)

    moved = np.roll(loaded.label, 1, axis=2)
    score = score_subject(loaded.label, moved, loaded.geometry.axes_mm, CLASSES)
    for value, name in ((1, "bright"), (2, "dark")):
        expected_ml = np.count_nonzero(plain.label == value) * abs(np.linalg.det(affine[:3, :3])) / 1000
        assert score.volume_ml[name]["truth"] == pytest.approx(expected_ml, rel=1e-4)
        truth, prediction = plain.label == value, moved == value
        expected_mm = hd95_mm(plain.geometry.affine, truth, prediction)
        assert score.hd95_mm[name] == pytest.approx(expected_mm, rel=1e-3)

    prediction = predictor.segment(SubjectImage.of(loaded))
    np.testing.assert_array_equal(prediction, predictor.segment(SubjectImage.of(plain)))
    write_label(folder / "out.nii.gz", prediction, loaded.stored, loaded.first_image)
    written, image = load(folder / "out.nii.gz"), load(file)
    step = np.abs(image.affine[:3, :3]).max()  # a quaternion holds a rotation to about 1e-8
    np.testing.assert_allclose(written.affine, image.affine, rtol=1e-6, atol=1e-6 * step)
    np.testing.assert_array_equal(np.asarray(written.dataobj), to_stored(prediction, loaded.stored))
    assert written.header.get_xyzt_units()[0] == of_image.unit
    for field in ("sform_code", "qform_code"):
        assert int(written.header[field]) == int(image.header[field])
    np.testing.assert_array_equal(read_label(folder / "out.nii.gz").data[0], prediction)
