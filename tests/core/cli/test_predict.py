"""``predict``: geometry and content of the label map, JSON, progress, errors."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch

from core.checkpointing.checkpoint import Checkpoint, build_network, save
from core.checkpointing.metadata import CheckpointMetadata
from core.cli import main
from core.imaging.volume import read_header, read_label
from core.inference.predictor import Predictor
from core.inference.subject_image import SubjectImage
from core.labels import LabelSpace
from tests.support.balls import CLASSES, SPACING_MM, balls, tiny
from tests.support.dicom_labels import write_case
from tests.support.strict_json import loads_strict
from tests.support.volume_files import load, write_analyze, write_nifti

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["ball_0", "ball_1"])
def test_label_map_has_the_geometry_and_voxel_order_of_the_image(
    ball_run: BallRun, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], subject: str
) -> None:
    path, out = ball_run.data / "imagesTr" / f"{subject}.nii.gz", tmp_path / "seg.nii.gz"
    assert main(["predict", run_id, str(path), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "bright" in captured.out and " ml" in captured.out and captured.err == ""
    image, label_map = load(path), load(out)
    np.testing.assert_array_equal(image.affine, label_map.affine)
    for code in ("sform_code", "qform_code"):
        assert image.header[code] == label_map.header[code]
    truth = np.asarray(load(ball_run.data / "labelsTr" / f"{subject}.nii.gz").dataobj)
    prediction = np.asarray(label_map.dataobj)
    assert prediction.shape == truth.shape and set(np.unique(prediction)) <= {0, 1, 2}
    for value in (1, 2):
        intersection = ((prediction == value) & (truth == value)).sum()
        assert 2 * intersection / ((prediction == value).sum() + (truth == value).sum()) > 0.8


@pytest.mark.long
def test_a_dicom_series_gets_a_dicom_segmentation_of_the_same_voxels(
    ball_run: BallRun, checkpoints: Path, tmp_path: Path
) -> None:
    image = load(ball_run.data / "imagesTr" / "ball_0.nii.gz")
    stored = np.round(1000 * np.asarray(image.dataobj)).astype(np.int16)
    series = write_case(tmp_path / "im", stored, image.affine)
    dicom, nifti = tmp_path / "seg.dcm", tmp_path / "seg.nii.gz"
    for out in (dicom, nifti):
        assert main(["predict", str(ball_run.checkpoint), str(series), "--out", str(out)]) == 0
    np.testing.assert_array_equal(read_label(dicom).data, read_label(nifti).data)
    assert read_label(dicom).data.any()
    table = read_header(dicom).segments
    assert table is not None and table.names == ["bright", "dark"]


@pytest.mark.parametrize(("flags", "mirror"), [([], False), (["--mirror"], True), (["--no-mirror"], False)])
def test_json_report(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], mirror: bool
) -> None:
    image, out = ball_run.data / "imagesTr" / "ball_2.nii.gz", tmp_path / "seg.nii"
    arguments = ["predict", str(ball_run.checkpoint), str(image), "--out", str(out), "--mode", "tiles", "--json"]
    assert main([*arguments, *flags]) == 0
    report = loads_strict(capsys.readouterr().out)
    label_map = np.asarray(load(out).dataobj)
    assert report["volume_ml"]["dark"] == pytest.approx((label_map == 2).sum() * 1.5 / 1000)
    assert (report["mode"], report["device"], report["images"]) == ("tiles", "cpu", {"M0": str(image)})
    assert report["mirror"] is mirror and report["channels"] is None


def test_image_without_orientation_gives_a_label_map_without(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair, out = write_analyze(tmp_path / "scan", balls(5)[0][0], SPACING_MM), tmp_path / "seg.nii.gz"
    assert main(["predict", str(ball_run.checkpoint), str(pair), "--out", str(out)]) == 0
    assert "no orientation" in capsys.readouterr().err
    label_map = load(out)
    assert label_map.header["sform_code"] == label_map.header["qform_code"] == 0
    np.testing.assert_allclose(label_map.header.get_zooms(), SPACING_MM)


@pytest.fixture
def coarse(tmp_path: Path) -> Path:
    """An image with voxels three times as large as those of training."""
    return write_nifti(tmp_path / "coarse.nii.gz", balls(2)[0][0], np.diag([*(3 * mm for mm in SPACING_MM), 1]))


@pytest.mark.long
def test_other_voxel_size_than_in_training_is_warned_of_and_can_be_resampled(
    ball_run: BallRun, tmp_path: Path, coarse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "seg.nii.gz"
    arguments = ["predict", str(ball_run.checkpoint), str(coarse), "--out", str(out), "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    report = loads_strict(captured.out)
    (warning,) = report["warnings"]
    assert "the voxels are 3 x 3 x 4.5 mm, those of training 1 x 1 x 1.5 mm" in warning
    (line,) = (line for line in captured.err.splitlines() if line.startswith("warning: "))
    assert warning in line and "--resample" in line
    assert report["training_spacing_mm"]["median"] == list(SPACING_MM) and report["resampled_mm"] is None
    assert report["spacing_mm"] == pytest.approx([3, 3, 4.5])
    assert main([*arguments, "--resample"]) == 0
    captured = capsys.readouterr()
    report = loads_strict(captured.out)
    assert report["warnings"] == [] and "warning" not in captured.err
    assert report["resampled_mm"] == list(SPACING_MM)
    assert load(out).shape == load(coarse).shape
    np.testing.assert_array_equal(load(out).affine, load(coarse).affine)


def test_tiny_volume_is_not_shown_as_zero(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    micron = write_nifti(tmp_path / "fine.nii", balls(2)[0][0], np.diag([*(mm / 100 for mm in SPACING_MM), 1]))
    assert main(["predict", str(ball_run.checkpoint), str(micron), "--out", str(tmp_path / "seg.nii")]) == 0
    text = capsys.readouterr().out
    volumes = re.findall(r"(?:bright|dark) (\S+) ml", text)
    assert len(volumes) == 2 and all(0 < float(volume) < 1e-5 for volume in volumes)


@pytest.mark.slow
def test_progress_lines_count_tiles(ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, out = ball_run.data / "imagesTr" / "ball_2.nii.gz", tmp_path / "seg.nii"
    arguments = ["predict", str(ball_run.checkpoint), str(image), "--out", str(out), "--mode", "tiles", "--progress"]
    assert main(arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    total = int(lines[-1].split("/")[1])
    assert lines[-1] == f"progress {total}/{total}" and len(lines) >= total > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "IMAGE", "--out", "OUT.nii"], "expected a checkpoint file or a run, found no file 'nothing'"),
        (["IMAGE", "IMAGE", "--out", "OUT.nii"], "expected safetensors"),
        (["MODEL", "IMAGE", "--out", "OUT.txt"], "expected a name ending in .nii or .nii.gz"),
        (["MODEL", "IMAGE", "--out", "no/where.nii"], "expected a folder that exists"),
        (["MODEL", "missing.nii", "--out", "OUT.nii"], "missing.nii"),
        (["MODEL", "IMAGE", "IMAGE", "--out", "OUT.nii"], "expected 1 image in the order M0"),
        (["MODEL", "IMAGE", "--out", "IMAGE"], "expected another file"),
        (["MODEL", "OTHER", "IMAGE", "--out", "IMAGE"], "expected another file to write to than an image"),
        (
            ["MODEL", "OTHER", "IMAGE", "--out", "OUT.nii", "--uncertainty", "IMAGE"],
            "expected another file to write to",
        ),
        (["MODEL", "IMAGE", "--out", "OUT.nii", "--device", "cuda"], "expected a CUDA device"),
        (["MODEL", "IMAGE", "--out", "OUT.dcm"], "expected a DICOM series as the image"),
    ],
)
def test_error_is_one_line_and_nothing_is_written(
    ball_run: BallRun,
    checkpoints: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    image = tmp_path / "image.nii.gz"
    shutil.copy(ball_run.data / "imagesTr" / "ball_0.nii.gz", image)
    paths = {
        "IMAGE": image,
        "OTHER": ball_run.data / "imagesTr" / "ball_1.nii.gz",
        "MODEL": ball_run.checkpoint,
        "OUT.nii": tmp_path / "out.nii",
        "OUT.txt": tmp_path / "out.txt",
        "OUT.dcm": tmp_path / "out.dcm",
    }
    before = image.read_bytes()
    assert main(["predict", *(str(paths.get(word, word)) for word in arguments)]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == "" and line.startswith("error: ") and message in line
    assert image.read_bytes() == before and not (tmp_path / "out.nii").exists()


@pytest.mark.parametrize("option", ["--overlap=1", "--overlap=-0.1", "--overlap=x", "--channels=0", "--channels=x"])
def test_value_out_of_range_is_wrong_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "run", "image.nii", "--out", "out.nii", option])
    assert option.partition("=")[0] in capsys.readouterr().err


def stored_otherwise(path: Path, affine: np.ndarray, unit: str, out: Path) -> Path:
    """The voxels of a file under another affine."""
    image = nib.Nifti1Image(np.asarray(load(path).dataobj), affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, out)
    return out


@pytest.mark.parametrize(
    ("affine", "unit", "voxel_mm3", "said"),
    [
        (np.diag([10.0, 10, 15, 1]), "micron", 1.5e-6, "lengths are stated in micron: voxels of 0.01 x 0.01"),
        (np.diag([1e-3, 1e-3, 1.5e-3, 1]), "meter", 1.5, "lengths are stated in metre: voxels of 1 x 1 x 1.5 mm"),
        (np.diag([1, 1, 1.5, 1]), "unknown", 1.5, "no unit of length is stated: millimetres are assumed"),
        (np.array([[1, 0, 0, 0], [0, 1, 0.9, 0], [0, 0, 1.5, 0], [0, 0, 0, 1]]), "mm", 1.5, "sheared 31°"),
    ],
)
def test_volumes_are_those_of_the_voxels_and_the_result_keeps_the_unit(
    ball_run: BallRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    affine: np.ndarray,
    unit: str,
    voxel_mm3: float,
    said: str,
) -> None:
    image = stored_otherwise(ball_run.data / "imagesTr" / "ball_2.nii.gz", affine, unit, tmp_path / "image.nii")
    out = tmp_path / "seg.nii.gz"
    assert main(["predict", str(ball_run.checkpoint), str(image), "--out", str(out), "--json"]) == 0
    report = loads_strict(capsys.readouterr().out)
    label_map = load(out)
    voxels = int((np.asarray(label_map.dataobj) == 1).sum())
    assert voxels > 50 and report["volume_ml"]["bright"] == pytest.approx(voxels * voxel_mm3 / 1000, rel=1e-5)
    assert label_map.header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(label_map.affine, load(image).affine)
    assert said in report["remarks"][0]
    assert main(["predict", str(ball_run.checkpoint), str(image), "--out", str(out)]) == 0
    assert f"note: {image}: " in (shown := capsys.readouterr().err) and said in shown


def model_of_two(folder: Path, **values: Any) -> Path:
    """A checkpoint of an untrained network of T1 and T2."""
    config = tiny(path="somewhere", channels=(4, 8), **values)
    metadata = CheckpointMetadata(
        config.to_json(), LabelSpace.from_raw(dict(enumerate(CLASSES))).to_json(), ("T1", "T2"), None
    )
    torch.manual_seed(0)
    save(folder / "two.safetensors", Checkpoint(metadata, build_network(metadata).state_dict()))
    return folder / "two.safetensors"


def test_a_case_without_a_modality_is_segmented_by_a_network_that_learned_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of_two(tmp_path, modality_indicator=True, modality_dropout=0.3)
    (image, _), out = balls(5), tmp_path / "seg.nii.gz"
    t2 = write_nifti(tmp_path / "case_T2.nii.gz", image[0])
    assert main(["predict", str(model), str(t2), "--without", "T1", "--out", str(out), "--json"]) == 0
    report = loads_strict(capsys.readouterr().out)
    assert (report["images"], report["without"]) == ({"T2": str(t2)}, ["T1"])
    assert not any("T1" in warning for warning in report["warnings"])
    both = np.stack([np.zeros_like(image[0]), load(t2).get_fdata(dtype=np.float32)])
    expected = Predictor(model).segment(SubjectImage(both, (1.0, 1.5, 2.0)))
    np.testing.assert_array_equal(np.asarray(load(out).dataobj), expected)
    assert main(["predict", str(model), str(t2), "--without", "T2", "--out", str(out)]) == 1
    assert "this one is in the position of T1, but its name contains T2" in capsys.readouterr().err


def test_a_network_that_always_had_all_modalities_does_not_do_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, t2 = model_of_two(tmp_path), write_nifti(tmp_path / "case_T2.nii.gz", balls(5)[0][0])
    assert main(["predict", str(model), str(t2), "--without", "T1", "--out", str(tmp_path / "seg.nii.gz")]) == 1
    assert "--without: expected a network that was trained without some modalities" in capsys.readouterr().err
