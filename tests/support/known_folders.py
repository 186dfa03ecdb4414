"""Folders of the known data sets with their real names and values, and tiny volumes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.support.dicom_labels import contours_of, write_case, write_rtstruct, write_seg
from tests.support.volume_files import (
    AFFINE,
    label_map,
    make_decathlon,
    make_iseg,
    make_nnunet,
    voxels,
    write_analyze,
    write_nifti,
)

SHAPE = (6, 7, 5)
CORTEX = (2, 3, *range(5, 32), 34, 35)  # of the parcellation that FastSurfer predicts
DKT = (
    *(0, 2, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28, 31, 41, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54),
    *(58, 60, 63, 77, *(1000 + n for n in CORTEX), *(2000 + n for n in CORTEX)),
)
ASEG = (
    *(0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28, 30, 31, 41, 42, 43, 44, 46, 47, 49, 50, 51),
    *(52, 53, 54, 58, 60, 62, 63, 72, 77, 80, 85, 251, 252, 253, 254, 255),
)
APARC = (
    *(v for v in ASEG if v not in (3, 42)),
    *(side + n for side in (1000, 2000) for n in range(36) if n != 4),
)
DRAWEM = tuple(range(10))
# Voxel axes as published where that is known (BraTS: to L and P; KiTS: slices first, from the top; FreeSurfer: to L, I
# and A); in other sets any that would show a volume that is mirrored or has its axes exchanged.
BRATS = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
KITS = np.array([[0.0, 0, -0.8, 0], [0, -0.8, 0, 0], [-3, 0, 0, 0], [0, 0, 0, 1]])
FREESURFER = np.array([[-1.0, 0, 0, 128], [0, 0, 1, -128], [0, -1, 0, 128], [0, 0, 0, 1]])
SAGITTAL = np.array([[0.0, 0.2, 1.2, -80], [0.9, 0, 0, -120], [0, -0.9, 0.2, 110], [0, 0, 0, 1]])
RESAMPLED = np.diag([-1.5, -1.5, 1.5, 1.0])
TURNED = np.array([[-0.5, 0.05, 0, 40], [0.05, 0.5, 0, -60], [0, 0, 0.5, -30], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Storage:
    """How the files of a set are stored.

    Attributes
    ----------
    affine : ndarray, shape (4, 4). From voxels to mm.
    label_type : str. Type of the voxels of label maps; by default the smallest whole numbers.
    """

    affine: np.ndarray = field(default_factory=lambda: AFFINE)
    label_type: str = ""


def write_cases(
    folder: Path,
    files: Mapping[str, Sequence[int] | None],
    cases: Sequence[Mapping[str, str]],
    storage: Storage = Storage(),
) -> Path:
    """Write the files of some cases, each image and label map with other voxels.

    Parameters
    ----------
    files : mapping. Path with entities in braces, and the values of a label map, or ``None`` for an image.
    cases : sequence of mappings. Texts of the entities for each case.
    storage : Storage. Geometry, and type of label maps.
    """
    for case in cases:
        for name, values in files.items():
            path = folder / name.format(**case)
            seed = zlib.crc32(str(path.relative_to(folder)).encode())
            array = voxels(SHAPE, seed) if values is None else _label_map(values, seed, storage.label_type)
            if path.suffix == ".hdr":
                write_analyze(path, array)
            elif path.suffix == ".mgz":
                _write_mgz(path, array)
            else:
                _write_with_both_forms(path, array, storage.affine)
    return folder


def _write_with_both_forms(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write NIfTI with sform and qform, as most published files have."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def _label_map(values: Sequence[int], seed: int, label_type: str = "") -> np.ndarray:
    """A label map that holds every value, also those beyond 255."""
    index = label_map(tuple(range(len(values))), SHAPE, seed)
    smallest = "int16" if max(values) > 255 else "uint8"
    return np.array(values, label_type or smallest)[index]


def _write_mgz(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.freesurfer.MGHImage(array, FREESURFER.astype(np.float32)), path)


def numbered(pattern: str, count: int = 3, start: int = 1) -> list[dict[str, str]]:
    return [{"case": pattern.format(n)} for n in range(start, start + count)]


def make_brats2024(folder: Path) -> Path:
    """Two persons, one with two time points."""
    cases = [{"case": f"BraTS-GLI-{n:05}-{s}"} for n, s in ((5, 100), (6, 100), (6, 101))]
    names = [f"{{case}}/{{case}}-{s}.nii.gz" for s in ("t1n", "t1c", "t2w", "t2f")]
    return write_cases(
        folder, {**dict.fromkeys(names), "{case}/{case}-seg.nii.gz": (0, 1, 2, 3, 4)}, cases, Storage(BRATS)
    )


def make_iseg_challenge(folder: Path) -> Path:
    """Labelled training subjects and unlabelled test subjects, as Analyze pairs."""
    parts = {"iSeg-2017-Training": ("T1", "T2", "label"), "iSeg-2017-Testing": ("T1", "T2")}
    for part, start in (("iSeg-2017-Training", 1), ("iSeg-2017-Testing", 11)):
        files = {f"{part}/subject-{{case}}-{k}.hdr": (0, 10, 150, 250) if k == "label" else None for k in parts[part]}
        write_cases(folder, files, numbered("{}", 2, start))
    return folder


def make_ixi(folder: Path) -> Path:
    """Two subjects, one without T2; T1 is sagittal and the others are not, and have another number of slices."""
    for modality, numbers in (("T1", (2, 12)), ("T2", (2,)), ("PD", (2, 12))):
        for n in numbers:
            path = folder / f"IXI-{modality}" / f"IXI{n:03}-Guys-0828-{modality}.nii.gz"
            shape, affine = (SHAPE, SAGITTAL) if modality == "T1" else ((6, 6, 8), TURNED)
            write_nifti(path, voxels(shape, n), affine)
    return folder


def make_oasis(folder: Path) -> Path:
    files = {f"OASIS_OAS1_{{case}}_MR1/{n}.nii.gz": None for n in ("orig", "norm", "aligned_orig", "aligned_norm")}
    labels = {f"OASIS_OAS1_{{case}}_MR1/{n}.nii.gz": tuple(range(5)) for n in ("seg4", "aligned_seg4")}
    labels |= {f"OASIS_OAS1_{{case}}_MR1/{n}.nii.gz": tuple(range(36)) for n in ("seg35", "aligned_seg35")}
    return write_cases(folder, {**files, **labels}, numbered("{:04}"), Storage(FREESURFER))


def make_totalsegmentator(folder: Path, image: str) -> Path:
    """Two cases with masks that do not overlap."""
    for n in range(2):
        case = folder / f"s{n:04}"
        write_nifti(case / f"{image}.nii.gz", voxels(SHAPE, n), RESAMPLED)
        regions = label_map((0, 1, 2, 3), SHAPE, n)
        for value, name in enumerate(("kidney_left", "kidney_right", "spleen"), start=1):
            write_nifti(
                case / "segmentations" / f"{name}.nii.gz",
                (regions == value).astype(np.uint8),
                RESAMPLED,
            )
    (folder / "meta.csv").write_text("image_id;age\ns0000;54\n")
    return folder


def make_wmh(folder: Path) -> Path:
    files = {f"{{site}}/{{case}}/{p}/{m}.nii.gz": None for p in ("pre", "orig") for m in ("FLAIR", "T1")}
    files |= {"{site}/{case}/wmh.nii.gz": (0, 1, 2)}  # type: ignore[dict-item]
    cases = [{"site": s, "case": c} for s, c in (("Utrecht", "0"), ("Singapore", "50"), ("Amsterdam/GE3T", "100"))]
    return write_cases(folder, files, cases, Storage(TURNED, "float32"))


def make_covid(folder: Path) -> Path:
    parts = {"Lung_Mask": (0, 1, 2), "Infection_Mask": (0, 1), "Lung_and_Infection_Mask": (0, 1, 2, 3)}
    files = {"COVID-19-CT-Seg_20cases/{case}.nii.gz": None, **{f"{p}/{{case}}.nii.gz": v for p, v in parts.items()}}
    return write_cases(folder, files, [{"case": c} for c in ("coronacases_001", "radiopaedia_10_85902_1")])


def make_freesurfer(folder: Path) -> Path:
    files = {f"{{case}}/mri/{n}.mgz": None for n in ("orig", "T1", "brain")}
    labels = {"{case}/mri/aseg.mgz": ASEG, "{case}/mri/aparc+aseg.mgz": APARC}
    return write_cases(folder, {**files, **labels}, [{"case": c} for c in ("bert", "sub-02", "fsaverage")])


def make_bids(folder: Path) -> Path:
    """Raw images, and a derivative with label maps and a table of them; one subject has two sessions."""
    cases = [{"case": "01", "ses": "a"}, {"case": "01", "ses": "b"}, {"case": "02", "ses": "a"}]
    raw, seg = "sub-{case}/ses-{ses}/anat/sub-{case}_ses-{ses}", "derivatives/manual/sub-{case}/ses-{ses}/anat/"
    files = {f"{raw}_T1w.nii.gz": None, f"{raw}_T2w.nii.gz": None}
    write_cases(folder, {**files, seg + "sub-{case}_ses-{ses}_desc-expert_dseg.nii.gz": (0, 1, 5)}, cases)
    (folder / "dataset_description.json").write_text('{"Name": "Toy", "BIDSVersion": "1.9.0"}')
    table = "index\tname\tcolor\n1\tcortex\t#ff0000\n5\tlesion\t#00ff00\n"
    (folder / "derivatives" / "manual" / "desc-expert_dseg.tsv").write_text(table)
    return folder


def make_bids_masks(folder: Path) -> Path:
    for n in (1, 2, 3):
        name = f"sub-{n:02}"
        regions = label_map((0, 1, 2), SHAPE, n)
        write_nifti(folder / name / "anat" / f"{name}_T1w.nii.gz", voxels(SHAPE, n))
        for value, label in ((1, "lesion"), (2, "oedema")):
            file = folder / "derivatives" / "manual" / name / "anat" / f"{name}_label-{label}_mask.nii.gz"
            write_nifti(file, (regions == value).astype(np.uint8))
    return folder


def make_plain(folder: Path) -> Path:
    """Two folders, and a label description of itk-snap that names the classes."""
    write_cases(folder, {"images/{case}.nii.gz": None, "labels/{case}.nii.gz": (0, 1, 7)}, numbered("p{}"))
    lines = '0 0 0 0 0 0 0 "Clear Label"\n1 255 0 0 1 1 1 "liver"\n7 0 255 0 1 1 1 "spleen"\n'
    (folder / "labels.txt").write_text(lines)
    return folder


def make_dicom(folder: Path) -> Path:
    """Series in folders as The Cancer Imaging Archive has them: patient, study, series; two SEG and an RTSTRUCT."""
    first = np.zeros(SHAPE, bool)
    first[1:3, 2:5, 1:4] = True
    masks = {"Liver": first, "Spleen": np.roll(first, 3, axis=0)}
    for number in (1, 2, 3):
        study, uid = folder / f"PAT-{number}" / "01-02-2003-NA", f"1.2.{number}"
        elements = {"StudyInstanceUID": f"1.9.{number}", "PatientID": f"PAT-{number}", "Modality": "CT"}
        write_case(study / "2.000000-CT", voxels(SHAPE, number).astype(np.int16), AFFINE, uid, **elements)
        if number < 3:
            write_seg(study / "3.000000-Segmentation" / "1-1.dcm", masks, AFFINE, uid)
        else:
            regions = {name: contours_of(mask, AFFINE) for name, mask in masks.items()}
            write_rtstruct(study / "3.000000-RTSTRUCT" / "1-1.dcm", regions, uid)
    return folder


def simple(
    files: Mapping[str, Sequence[int] | None], cases: Sequence[Mapping[str, str]], storage: Storage = Storage()
) -> Callable[[Path], Path]:
    return lambda folder: write_cases(folder, files, cases, storage)


def suffixed(start: str, names: str, last: Sequence[int]) -> dict[str, Sequence[int] | None]:
    """Images of these suffixes, and label maps of the last one."""
    *images, label = names.split()
    return {**{f"{start}{n}.nii.gz": None for n in images}, f"{start}{label}.nii.gz": tuple(last)}


_MRBRAINS13: dict[str, Sequence[int] | None] = {
    f"TrainingData/{{case}}/{n}.nii": None for n in ("T1", "T1_1mm", "T1_IR", "T2_FLAIR")
}
_MRBRAINS18: dict[str, Sequence[int] | None] = {
    f"training/{{case}}/{p}/{n}.nii.gz": None for p in ("pre", "orig") for n in ("reg_T1", "reg_IR", "FLAIR")
}
_NEONATE = "sub-{case}/ses-7100/anat/sub-{case}_ses-7100_"
_STROKE = "sub-{case}/ses-0001/"

EXAMPLES: dict[str, Callable[[Path], Path]] = {
    "iseg": make_iseg,
    "nnunet": make_nnunet,
    "decathlon": make_decathlon,
    "iseg-challenge": make_iseg_challenge,
    "mrbrains2013": simple(
        _MRBRAINS13
        | {"TrainingData/{case}/LabelsForTraining.nii": range(9), "TrainingData/{case}/LabelsForTesting.nii": range(4)},
        numbered("{}"),
    ),
    "mrbrains2018": simple(
        _MRBRAINS18 | {"training/{case}/segm.nii.gz": range(11)}, [{"case": c} for c in ("1", "14", "070")]
    ),
    "brats2018": simple(
        suffixed("HGG/{case}/{case}_", "t1 t1ce t2 flair seg", (0, 1, 2, 4)),
        numbered("Brats18_2013_{}_1"),
        Storage(BRATS),
    ),
    "brats2020": simple(
        suffixed("MICCAI_BraTS2020_TrainingData/{case}/{case}_", "flair t1 t1ce t2 seg", (0, 1, 2, 4)),
        numbered("BraTS20_Training_{:03}"),
        Storage(BRATS),
    ),
    "brats2021": simple(
        suffixed("{case}/{case}_", "t1 t1ce t2 flair seg", (0, 1, 2, 4)), numbered("BraTS2021_{:05}"), Storage(BRATS)
    ),
    "brats2023": simple(
        suffixed("{case}/{case}-", "t1n t1c t2w t2f seg", range(4)), numbered("BraTS-GLI-{:05}-000"), Storage(BRATS)
    ),
    "brats2024": make_brats2024,
    "ixi": make_ixi,
    "dhcp": simple(
        {
            _NEONATE + "desc-restore_T2w.nii.gz": None,
            _NEONATE + "desc-restore_space-T2w_T1w.nii.gz": None,
            _NEONATE + "desc-drawem9_dseg.nii.gz": DRAWEM,
            _NEONATE + "desc-drawem87_dseg.nii.gz": range(20),
            _NEONATE + "desc-brain_mask.nii.gz": (0, 1),
        },
        numbered("CC0005{}XX07"),
        Storage(TURNED, "float32"),
    ),
    "feta": lambda folder: write_cases(
        write_cases(
            folder,
            suffixed("sub-{case}/anat/sub-{case}_rec-mial_", "T2w dseg", range(8)),
            numbered("{:03}", 2),
            Storage(TURNED, "float32"),
        ),
        suffixed("sub-{case}/anat/sub-{case}_rec-irtk_", "T2w dseg", range(8)),
        numbered("{:03}", 2, 41),
        Storage(TURNED),
    ),
    "oasis": make_oasis,
    "amos": lambda folder: write_cases(
        write_cases(
            folder, {"imagesTr/{case}.nii.gz": None, "labelsTr/{case}.nii.gz": range(16)}, numbered("amos_{:04}")
        ),
        {"imagesTs/{case}.nii.gz": None},
        numbered("amos_{:04}", 1, 600),
    ),
    "totalsegmentator-ct": lambda folder: make_totalsegmentator(folder, "ct"),
    "totalsegmentator-mr": lambda folder: make_totalsegmentator(folder, "mri"),
    "kits": simple(
        suffixed("{case}/", "imaging segmentation", range(4)), numbered("case_{:05}"), Storage(KITS, "float64")
    ),
    "lits": simple(
        {"volume-{case}.nii": None, "segmentation-{case}.nii": range(3)}, numbered("{}", 3, 9), Storage(BRATS)
    ),
    "acdc": simple(
        {
            "training/patient{case}/patient{case}_4d.nii.gz": None,
            "training/patient{case}/patient{case}_frame01.nii.gz": None,
            "training/patient{case}/patient{case}_frame01_gt.nii.gz": range(4),
            "training/patient{case}/patient{case}_frame12.nii.gz": None,
            "training/patient{case}/patient{case}_frame12_gt.nii.gz": range(4),
        },
        numbered("{:03}", 2),
    ),
    "isles2022": simple(
        {
            _STROKE + "dwi/sub-{case}_ses-0001_dwi.nii.gz": None,
            _STROKE + "dwi/sub-{case}_ses-0001_adc.nii.gz": None,
            _STROKE + "anat/sub-{case}_ses-0001_FLAIR.nii.gz": None,
            "derivatives/" + _STROKE + "sub-{case}_ses-0001_msk.nii.gz": (0, 1),
        },
        numbered("strokecase{:04}"),
    ),
    "wmh2017": make_wmh,
    "covid19-ct": make_covid,
    "fetal-atlas": simple(
        suffixed("{case}/", "srr parcellation", range(9)), numbered("fetal_SB_atlas_GA{}_operated", 3, 25)
    ),
    "freesurfer": make_freesurfer,
    "fastsurfer": simple(
        {
            "{case}/mri/orig.mgz": None,
            "{case}/mri/mask.mgz": (0, 1),
            "{case}/mri/aparc.DKTatlas+aseg.deep.mgz": DKT,
        },
        numbered("subject{}"),
    ),
    "bids": make_bids,
    "bids-masks": make_bids_masks,
    "plain": make_plain,
    "dicom": make_dicom,
}
