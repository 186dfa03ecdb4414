"""Further forms in which known data sets lie on disk: other years and releases, test sets without label maps, folders
of parts, and names that do not fit the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.known_contents import (
    ABDOMEN,
    DRAWEM,
    GLIOMA,
    HEART,
    MRBRAINS,
    NO_TRAINING,
    Contents,
)
from tests.support.known_folders import BRATS, KITS, TURNED, Storage, numbered, suffixed, write_cases

Files = Mapping[str, Sequence[int] | None]
ISEG = (0, 10, 150, 250)
BRATS_NAMES = ("t1", "t1ce", "t2", "flair")
BRATS_CLASSES = "necrotic and non-enhancing core 1, oedema 2, enhancing tumour 4"
MRBRAINS13_IMAGES = ("T1", "T1_1mm", "T1_IR", "T2_FLAIR")


def _parts(*parts: tuple[Files, Sequence[str]], storage: Storage | None = None) -> Callable[[Path], Path]:
    """A folder of several parts, each with its files and the texts of {case}."""

    def make(folder: Path) -> Path:
        for files, cases in parts:
            write_cases(folder, files, [{"case": case} for case in cases], storage or Storage())
        return folder

    return make


def _iseg(part: str, labelled: bool) -> Files:
    start = f"{part}/subject-{{case}}-"
    return {f"{start}T1.hdr": None, f"{start}T2.hdr": None, **({f"{start}label.hdr": ISEG} if labelled else {})}


def _mrbrains13(part: str) -> Files:
    images: Files = {f"{part}/{{case}}/{n}.nii": None for n in MRBRAINS13_IMAGES}
    labels = {"LabelsForTraining": tuple(range(9)), "LabelsForTesting": tuple(range(4))}
    return {**images, **({f"{part}/{{case}}/{n}.nii": v for n, v in labels.items()} if part == "TrainingData" else {})}


def _brats(start: str, suffix: str = ".nii.gz", labelled: bool = True) -> Files:
    files: Files = {f"{start}{{case}}/{{case}}_{n}{suffix}": None for n in BRATS_NAMES}
    return {**files, **({f"{start}{{case}}/{{case}}_seg{suffix}": (0, 1, 2, 4)} if labelled else {})}


def _brats_images(path: str, suffix: str = ".nii.gz") -> dict[str, str]:
    return {m: f"{path}_{n}{suffix}" for m, n in zip(GLIOMA, BRATS_NAMES, strict=True)}


def make_brats2020_with_case_355(folder: Path) -> Path:
    """The last cases of the training set, of which one has a label map of another name."""
    write_cases(folder, _brats("MICCAI_BraTS2020_TrainingData/", ".nii"), [
        {"case": f"BraTS20_Training_{n}"} for n in (354, 355, 356)
    ], Storage(BRATS))  # fmt: skip
    case = folder / "MICCAI_BraTS2020_TrainingData" / "BraTS20_Training_355"
    (case / "BraTS20_Training_355_seg.nii").rename(case / "W39_1998.09.19_Segm.nii")
    for table in ("name_mapping.csv", "survival_info.csv"):
        (case.parent / table).write_text("BraTS_2020_subject_ID\n")
    return folder


def make_amos_with_its_list(folder: Path) -> Path:
    """AMOS as it is published: its dataset.json lists the cases of imagesTr."""
    write_cases(folder, {"imagesTr/{case}.nii.gz": None, "labelsTr/{case}.nii.gz": range(16)}, numbered("amos_{:04}"))
    write_cases(
        folder, {"imagesVa/{case}.nii.gz": None, "labelsVa/{case}.nii.gz": range(16)}, numbered("amos_{:04}", 1, 8)
    )
    names = [text.rpartition(" ")[0] for text in ABDOMEN.split(", ")]
    cases = [f"amos_{n:04}.nii.gz" for n in (1, 2, 3)]
    content = {
        "name": "AMOS",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(n): name for n, name in enumerate(names, start=1)}},
        "numTraining": 3,
        "training": [{"image": f"./imagesTr/{c}", "label": f"./labelsTr/{c}"} for c in cases],
        "validation": [{"image": "./imagesVa/amos_0008.nii.gz", "label": "./labelsVa/amos_0008.nii.gz"}],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def make_fmriprep(folder: Path) -> Path:
    """A derivative with tissues, FreeSurfer's structures with a table of their names, and both in another space."""
    start = "sub-{case}/anat/sub-{case}_"
    files: Files = {f"{start}desc-preproc_T1w.nii.gz": None, f"{start}dseg.nii.gz": range(4)}
    files = {**files, f"{start}desc-aseg_dseg.nii.gz": (0, 2, 3), f"{start}desc-brain_mask.nii.gz": (0, 1)}
    space = f"{start}space-MNI152NLin2009cAsym_"
    files = {**files, f"{space}desc-preproc_T1w.nii.gz": None, f"{space}dseg.nii.gz": range(4)}
    write_cases(folder, {**files, f"{start}label-GM_probseg.nii.gz": None}, numbered("{:02}"))
    (folder / "desc-aseg_dseg.tsv").write_text(ASEG_TABLE)
    return folder


def make_aseg_derivative(folder: Path) -> Path:
    """A derivative with FreeSurfer's structures, their table, and one of label maps that are not there."""
    start = "sub-{case}/anat/sub-{case}_desc-"
    write_cases(folder, {f"{start}preproc_T1w.nii.gz": None, f"{start}aseg_dseg.nii.gz": (0, 2, 3)}, numbered("{:02}"))
    (folder / "desc-aseg_dseg.tsv").write_text(ASEG_TABLE)
    (folder / "desc-tissues_dseg.tsv").write_text("index\tname\n2\twhite matter\n3\tCSF\n")
    return folder


ASEG_TABLE = "index\tname\n0\tUnknown\n2\tLeft-Cerebral-White-Matter\n3\tLeft-Cerebral-Cortex\n"
_NEONATE = "sub-{case}/ses-7201/anat/sub-{case}_ses-7201_desc-"
_FIRST_NEONATE = _NEONATE.format(case="CC00050XX01")

# By the layout's name, and behind a space what is different.
FORMS: dict[str, Contents] = {
    "iseg-challenge 2019": Contents(
        ("subject-1", "subject-2", "subject-11", "subject-24"),
        {m: f"iSeg-2019-Training/subject-1-{m}.hdr" for m in ("T1", "T2")},
        "CSF 10, GM 150, WM 250",
        "iSeg-2019-Training/subject-1-label.hdr",
        unlabelled=("subject-11", "subject-24"),
        make=_parts(
            (_iseg("iSeg-2019-Training", True), ("1", "2")),
            (_iseg("iSeg-2019-Validation", False), ("11",)),
            (_iseg("iSeg-2019-Testing", False), ("24",)),
        ),
    ),
    "mrbrains2013 with test data": Contents(
        ("1", "2", "TestData-1", "TestData-2"),
        {m: f"TrainingData/1/{n}.nii" for m, n in (("T1", "T1"), ("T1 IR", "T1_IR"), ("FLAIR", "T2_FLAIR"))},
        MRBRAINS,
        "TrainingData/1/LabelsForTraining.nii",
        unlabelled=("TestData-1", "TestData-2"),
        make=_parts((_mrbrains13("TrainingData"), ("1", "2")), (_mrbrains13("TestData"), ("1", "2"))),
    ),
    "mrbrains2013 test data alone": Contents(
        ("TestData-1", "TestData-2"),
        {m: f"TestData/1/{n}.nii" for m, n in (("T1", "T1"), ("T1 IR", "T1_IR"), ("FLAIR", "T2_FLAIR"))},
        MRBRAINS,
        unlabelled=("TestData-1", "TestData-2"),
        findings=(NO_TRAINING,),
        make=_parts((_mrbrains13("TestData"), ("1", "2"))),
    ),
    "brats2018 2019": Contents(
        ("BraTS19_2013_0_1", "BraTS19_CBICA_AAB_1", "BraTS19_TCIA10_103_1", "BraTS19_TMC_06290_1"),
        _brats_images("LGG/BraTS19_2013_0_1/BraTS19_2013_0_1"),
        BRATS_CLASSES,
        "LGG/BraTS19_2013_0_1/BraTS19_2013_0_1_seg.nii.gz",
        make=_parts(
            (_brats("HGG/"), ("BraTS19_CBICA_AAB_1", "BraTS19_TMC_06290_1")),
            (_brats("LGG/"), ("BraTS19_2013_0_1", "BraTS19_TCIA10_103_1")),
            storage=Storage(BRATS, "int16"),
        ),
    ),
    "brats2018 validation": Contents(
        ("BraTS19_CBICA_AAM_1", "BraTS19_UAB_3446_1"),
        _brats_images("BraTS19_CBICA_AAM_1/BraTS19_CBICA_AAM_1"),
        BRATS_CLASSES,
        unlabelled=("BraTS19_CBICA_AAM_1", "BraTS19_UAB_3446_1"),
        findings=(NO_TRAINING,),
        make=_parts((_brats("", labelled=False), ("BraTS19_CBICA_AAM_1", "BraTS19_UAB_3446_1"))),
    ),
    "brats2018 both parts": Contents(
        ("Brats18_2013_2_1", "Brats18_CBICA_AAM_1", "Brats18_TCIA09_141_1"),
        _brats_images("MICCAI_BraTS_2018_Data_Training/HGG/Brats18_2013_2_1/Brats18_2013_2_1"),
        BRATS_CLASSES,
        "MICCAI_BraTS_2018_Data_Training/HGG/Brats18_2013_2_1/Brats18_2013_2_1_seg.nii.gz",
        unlabelled=("Brats18_CBICA_AAM_1",),
        make=_parts(
            (_brats("MICCAI_BraTS_2018_Data_Training/HGG/"), ("Brats18_2013_2_1",)),
            (_brats("MICCAI_BraTS_2018_Data_Training/LGG/"), ("Brats18_TCIA09_141_1",)),
            (_brats("MICCAI_BraTS_2018_Data_Validation/", labelled=False), ("Brats18_CBICA_AAM_1",)),
        ),
    ),
    "brats2020 case 355": Contents(
        ("BraTS20_Training_354", "BraTS20_Training_355", "BraTS20_Training_356"),
        _brats_images("MICCAI_BraTS2020_TrainingData/BraTS20_Training_354/BraTS20_Training_354", ".nii"),
        BRATS_CLASSES,
        "MICCAI_BraTS2020_TrainingData/BraTS20_Training_354/BraTS20_Training_354_seg.nii",
        make=make_brats2020_with_case_355,
    ),
    "brats2024 both parts": Contents(
        ("BraTS-GLI-02073-100", "BraTS-GLI-02073-101", "BraTS-GLI-02105-100"),
        {
            m: f"training_data1_v2/BraTS-GLI-02073-100/BraTS-GLI-02073-100-{n}.nii.gz"
            for m, n in zip(GLIOMA, ("t1n", "t1c", "t2w", "t2f"), strict=True)
        },
        "non-enhancing core 1, surrounding FLAIR hyperintensity 2, enhancing tissue 3, resection cavity 4",
        "training_data1_v2/BraTS-GLI-02073-100/BraTS-GLI-02073-100-seg.nii.gz",
        make=_parts(
            (
                suffixed("training_data1_v2/{case}/{case}-", "t1n t1c t2w t2f seg", range(5)),
                ("BraTS-GLI-02073-100", "BraTS-GLI-02073-101"),
            ),
            (
                suffixed("training_data_additional/{case}/{case}-", "t1n t1c t2w t2f seg", range(5)),
                ("BraTS-GLI-02105-100",),
            ),
        ),
    ),
    "bids of fMRIPrep": Contents(
        ("sub-01", "sub-02", "sub-03"),
        {"T1w": "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz"},
        "grey matter 1, white matter 2, CSF 3",
        "sub-01/anat/sub-01_dseg.nii.gz",
        count=11,
        findings=(
            "label maps of several kinds",
            "by name and place of other label maps",
            "no label map holds the class",
        ),
        make=make_fmriprep,
    ),
    "bids of FreeSurfer's labels": Contents(
        ("sub-01", "sub-02", "sub-03"),
        {"T1w": "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz"},
        "Unknown 0, Left-Cerebral-White-Matter 2, Left-Cerebral-Cortex 3",
        "sub-01/anat/sub-01_desc-aseg_dseg.nii.gz",
        make=make_aseg_derivative,
    ),
    "dhcp older release": Contents(
        ("sub-CC00050XX01_ses-7201", "sub-CC00051XX02_ses-7201"),
        {"T2": f"{_FIRST_NEONATE}restore_T2w.nii.gz", "T1": f"{_FIRST_NEONATE}restore_space-T2w_T1w.nii.gz"},
        DRAWEM,
        f"{_FIRST_NEONATE}drawem9_space-T2w_dseg.nii.gz",
        make=_parts(
            (
                {
                    f"{_NEONATE}restore_T2w.nii.gz": None,
                    f"{_NEONATE}restore_space-T2w_T1w.nii.gz": None,
                    f"{_NEONATE}drawem9_space-T2w_dseg.nii.gz": range(10),
                    f"{_NEONATE}drawem87_space-T2w_dseg.nii.gz": range(88),
                    f"{_NEONATE}ribbon_space-T2w_dseg.nii.gz": (0, 2, 3, 41, 42),
                    "sub-{case}/ses-7201/dwi/sub-{case}_ses-7201_desc-preproc_dwi.nii.gz": None,
                },
                ("CC00050XX01", "CC00051XX02"),
            ),
            storage=Storage(TURNED, "int16"),
        ),
    ),
    "kits 2019": Contents(
        ("case_00000", "case_00001", "case_00210"),
        {"CT": "case_00000/imaging.nii.gz"},
        "kidney 1, tumour 2, cyst 3",
        "case_00000/segmentation.nii.gz",
        unlabelled=("case_00210",),
        findings=("no label map holds the class cyst",),
        make=_parts(
            (suffixed("{case}/", "imaging segmentation", range(3)), ("case_00000", "case_00001")),
            ({"{case}/imaging.nii.gz": None}, ("case_00210",)),
            storage=Storage(KITS),
        ),
    ),
    "lits with test data": Contents(
        ("test-volume-0", "volume-0", "volume-28"),
        {"CT": "Test/test-volume-0.nii"},
        "liver 1, tumour 2",
        unlabelled=("test-volume-0",),
        make=_parts(
            ({"Training_Batch1/volume-{case}.nii": None, "Training_Batch1/segmentation-{case}.nii": range(3)}, ("0",)),
            ({"Training_Batch2/volume-{case}.nii": None, "Training_Batch2/segmentation-{case}.nii": range(3)}, ("28",)),
            ({"Test/test-volume-{case}.nii": None}, ("0",)),
            storage=Storage(BRATS),
        ),
    ),
    "acdc database": Contents(
        ("patient001_frame01", "patient001_frame12", "patient101_frame01", "patient101_frame12"),
        {"MR": "database/training/patient001/patient001_frame01.nii.gz"},
        HEART,
        "database/training/patient001/patient001_frame01_gt.nii.gz",
        make=_parts(
            *(
                (
                    {
                        f"database/{part}/patient{{case}}/patient{{case}}_{frame}{kind}.nii.gz": values
                        for frame in ("frame01", "frame12")
                        for kind, values in (("", None), ("_gt", range(4)))
                    },
                    (case,),
                )
                for part, case in (("training", "001"), ("testing", "101"))
            ),
        ),
    ),
    "decathlon amos": Contents(
        ("amos_0001", "amos_0002", "amos_0003"),
        {"CT": "imagesTr/amos_0001.nii.gz"},
        ABDOMEN,
        "labelsTr/amos_0001.nii.gz",
        make=make_amos_with_its_list,
    ),
}
