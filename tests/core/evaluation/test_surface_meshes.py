"""Surfaces of a case: both sides, regions, absent classes, the ignore label; and the file that holds them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.datasets import LoadedSubject
from core.evaluation import surface_meshes
from core.evaluation.compared_subject import ComparedSubject
from core.evaluation.surface_file import MAGIC, POSITIONS, STEP_MM, SurfaceFileError, decode, encode, read_header
from core.evaluation.surface_meshes import CaseSurfaces, case_surfaces, faces_per_surface, structures_of
from core.evaluation.surface_picture import PANEL, distance_colours, surface_picture
from core.imaging.geometry import Geometry
from core.labels import IGNORE_INDEX, LabelSpace
from core.regions import Region, RegionSpace
from tests.support.meshes import MIRRORED, ball

LABELS = LabelSpace.from_raw({0: "background", 1: "CSF", 2: "GM", 3: "WM"})


def case(
    truth: np.ndarray | None, prediction: np.ndarray, affine: np.ndarray, oriented: bool = True
) -> ComparedSubject:
    geometry = Geometry(prediction.shape, affine, oriented)
    image = np.zeros((1, *prediction.shape), np.float32)
    loaded = LoadedSubject("case 7", image, truth, geometry, geometry, Path("image.nii"))
    return ComparedSubject(loaded, truth, prediction, LABELS)


def made(compared: ComparedSubject, regions: RegionSpace | None = None) -> CaseSurfaces:
    return case_surfaces(compared, structures_of(compared, regions))


def balls(radius: float, spacing_mm: tuple[float, float, float] = (1, 1, 2)) -> tuple[np.ndarray, np.ndarray]:
    mask, affine = ball(radius, spacing_mm, 30)
    return mask.astype(np.uint8), affine


def test_distances_are_positive_where_a_surface_lies_outside_of_the_other() -> None:
    (truth, affine), (prediction, _) = balls(8), balls(11)
    seen: list[tuple[int, int]] = []
    compared = case(truth, prediction, affine)
    found = case_surfaces(compared, structures_of(compared, None), lambda done, total: seen.append((done, total)))
    assert [(s.structure, s.side) for s in found.surfaces] == [(0, "truth"), (0, "prediction")]
    inner, outer = found.find(0, "truth"), found.find(0, "prediction")
    assert inner is not None and outer is not None and inner.distance_mm is not None and outer.distance_mm is not None
    assert inner.distance_mm.mean() == pytest.approx(-3, abs=0.4) and outer.distance_mm.mean() == pytest.approx(
        3, abs=0.4
    )
    assert outer.volume_ml == pytest.approx(prediction.sum() * 2 / 1000)
    assert outer.mesh_ml == pytest.approx(outer.volume_ml, rel=0.02) and not outer.volume_differs
    assert seen[0] == (0, 3) and seen[-1] == (3, 3)


def test_a_class_of_one_side_only_has_no_distances_and_an_empty_case_no_surface() -> None:
    truth, affine = balls(8)
    found = made(case(truth, np.where(truth, 2, 0).astype(np.uint8), affine))
    assert [(s.structure, s.side) for s in found.surfaces] == [(0, "truth"), (1, "prediction")]
    assert all(s.distance_mm is not None and np.isnan(s.distance_mm).all() for s in found.surfaces)
    alone = made(case(None, truth, affine))
    assert not alone.has_truth and [s.distance_mm for s in alone.surfaces] == [None]
    nothing = made(case(np.zeros_like(truth), np.zeros_like(truth), affine))
    assert nothing.surfaces == ()
    assert decode(encode(nothing, "k", surface_picture(nothing))).surfaces.surfaces == ()


def test_a_surface_that_encloses_another_volume_than_its_voxels_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface_meshes, "FACES", 1000)
    specks = (np.random.default_rng(0).random((20, 20, 20)) < 0.3).astype(np.uint8)
    found = made(case(None, specks, np.eye(4)))
    (surface,) = found.surfaces
    assert surface.volume_differs and surface.mesh_ml < 0.9 * surface.volume_ml
    header, _, _ = read_header(encode(found, "key", b""))
    assert header["surfaces"][0]["volume_differs"]


def test_regions_are_unions_of_their_classes() -> None:
    truth, affine = balls(10)
    inner, _ = balls(6)
    index = np.where(inner, 3, truth).astype(np.uint8)
    space = RegionSpace((Region("whole", ("CSF", "WM")), Region("WM", ("WM",))), LABELS.names)
    found = made(case(index, index, affine), space)
    assert [(s.name, s.is_region, s.classes) for s in found.structures][3:] == [("whole", True, (1, 3))]
    whole, ring = found.find(3, "truth"), found.find(0, "truth")
    assert whole is not None and ring is not None
    assert whole.volume_ml == pytest.approx(truth.sum() * 2 / 1000)
    assert ring.mesh.volume_mm3 < 0.85 * whole.mesh.volume_mm3, "a ring around the inner class"
    assert whole.distance_mm is not None and np.abs(whole.distance_mm).max() < 0.3


def test_beside_ignored_voxels_nothing_is_compared() -> None:
    prediction, affine = balls(10)
    truth = prediction.copy()
    truth[:15] = IGNORE_INDEX
    found = made(case(truth, prediction, affine))
    whole = found.find(0, "prediction")
    assert whole is not None and whole.distance_mm is not None
    assert whole.mesh.volume_mm3 == pytest.approx(prediction.sum() * 2, rel=0.02), "the prediction is shown as it is"
    x = whole.mesh.vertices[:, 0]
    assert np.isnan(whole.distance_mm[x < 15]).all()
    assert np.isfinite(whole.distance_mm[x > 16.5]).all() and np.nanmax(np.abs(whole.distance_mm[x > 16.5])) < 0.5


def test_the_file_keeps_positions_and_distances_within_its_steps() -> None:
    (truth, _), (prediction, _) = balls(8), balls(11)
    prediction[2:4, 2:4, 2:4] = 2
    compared = case(truth, prediction, MIRRORED)
    found = made(compared)
    content = encode(found, "the key", b"picture")
    read = decode(content)
    assert read.key == "the key" and read.picture == b"picture" and read.scene + read.picture == content
    assert read.surfaces.structures == found.structures and read.surfaces.oriented and read.surfaces.has_truth
    for before, after in zip(found.surfaces, read.surfaces.surfaces, strict=True):
        size = np.ptp(before.mesh.vertices, axis=0)
        assert (np.abs(after.mesh.vertices - before.mesh.vertices) <= 0.51 * size / POSITIONS).all()
        assert np.array_equal(after.mesh.faces, before.mesh.faces) and after.mesh.volume_mm3 > 0
        assert before.distance_mm is not None and after.distance_mm is not None
        assert np.array_equal(np.isnan(before.distance_mm), np.isnan(after.distance_mm))
        assert np.nan_to_num(np.abs(after.distance_mm - before.distance_mm)).max() <= 0.51 * STEP_MM
        assert (after.structure, after.side, after.volume_ml) == (before.structure, before.side, before.volume_ml)
    header, start, end = read_header(content)
    assert start % 4 == 0 and end == len(content) - len(b"picture")
    assert header["surfaces"][0]["mean_distance_mm"] == pytest.approx(3, abs=0.5)


@pytest.mark.parametrize("damage", [b"", b"SEGSURF9", MAGIC, MAGIC + b"\xff\xff\xff\x7f{}", MAGIC + b"\x02\0\0\0[]"])
def test_damaged_files_are_refused(damage: bytes) -> None:
    with pytest.raises(SurfaceFileError):
        decode(damage)
    truth, affine = balls(8)
    content = encode(made(case(truth, truth, affine)), "k", b"")
    with pytest.raises(SurfaceFileError):
        decode(content[:-1])
    decode(content)


def test_many_structures_share_the_faces() -> None:
    assert faces_per_surface(1) == faces_per_surface(4) == 40_000
    assert faces_per_surface(40) == 4_000 and faces_per_surface(1000) == 160


def test_rugged_surfaces_together_have_no_more_faces_than_a_case_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Specks of two classes on both sides: each surface alone would keep four times its faces."""
    monkeypatch.setattr(surface_meshes, "FACES", 600)
    monkeypatch.setattr(surface_meshes, "ALL_FACES", 2_400)
    generator = np.random.default_rng(0)
    truth, prediction = (generator.choice(3, (20, 20, 20), p=(0.4, 0.3, 0.3)).astype(np.uint8) for _ in range(2))
    faces = [len(s.mesh.faces) for s in made(case(truth, prediction, np.eye(4))).surfaces]
    assert len(faces) == 4 and sum(faces) <= 2_400, faces
    assert max(faces) > 1.2 * faces_per_surface(3), "a class that is absent leaves its faces to the others"


def test_a_rugged_surface_has_the_faces_that_a_smooth_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface_meshes, "FACES", 1_000)
    monkeypatch.setattr(surface_meshes, "ALL_FACES", 4_800)
    smooth, _ = ball(4, (1, 1, 1), 20)
    specks = (np.random.default_rng(0).random((20, 20, 20)) < 0.4).astype(np.uint8)
    found = made(case(smooth.astype(np.uint8), specks, np.eye(4)))
    truth, prediction = (len(s.mesh.faces) for s in found.surfaces)
    assert truth <= faces_per_surface(3) == 800 and 2 * 800 < prediction <= 4_800 - truth


def test_the_picture_shows_each_side_and_the_distances_in_their_colours() -> None:
    (truth, affine), (prediction, _) = balls(8), balls(11)
    found = made(case(truth, prediction, affine))
    pixels = np.asarray(Image.open(io.BytesIO(surface_picture(found))).convert("RGB")).astype(int)
    rows = pixels.shape[0] // (PANEL + 24)
    assert rows == 3 and pixels.shape[1] > 3 * PANEL
    middles = [pixels[row * (PANEL + 24) + 24 + PANEL // 2, PANEL // 2] for row in range(rows)]
    blue = np.array([0x4A, 0x90, 0xD9])
    assert np.abs(middles[0] - blue).max() < 12 and np.abs(middles[1] - blue).max() < 12, "seen from the front: bright"
    assert np.abs(middles[2] - [0xB2, 0x18, 0x2B]).max() < 12, "3 mm outside of the reference"
    areas = [int((pixels[row * (PANEL + 24) + 24 :][:PANEL, :PANEL].sum(axis=-1) > 60).sum()) for row in range(rows)]
    assert areas[0] / areas[1] == pytest.approx((8 / 11) ** 2, rel=0.06)


def test_colours_of_distances_are_symmetric_and_grey_without_one() -> None:
    colours = distance_colours(np.array([-5, -2, 0, 2, 9, np.nan]), 2.0)
    assert [tuple(c) for c in colours[[0, 1]]] == [(0x21, 0x66, 0xAC)] * 2
    assert [tuple(c) for c in colours[[3, 4]]] == [(0xB2, 0x18, 0x2B)] * 2
    assert tuple(colours[2]) == (0xF3, 0xF3, 0xF1) and tuple(colours[5]) == (0x8D, 0x93, 0xA0)
