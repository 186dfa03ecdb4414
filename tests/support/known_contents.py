"""What must be read of the folders of :mod:`tests.support.known_folders`.

Stated by hand from the pages of the data sets, not taken from the descriptions that are under test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

GLIOMA = ("T1", "T1ce", "T2", "FLAIR")
HEART = "right ventricle 1, myocardium 2, left ventricle 3"
MRBRAINS = (
    "cortical grey matter 1, basal ganglia 2, white matter 3, white matter lesions 4, extracerebral CSF 5, "
    "ventricles 6, cerebellum 7, brainstem 8"
)
DRAWEM = (
    "CSF 1, cortical grey matter 2, white matter 3, outside of the brain 4, ventricles 5, cerebellum 6, "
    "deep grey matter 7, brainstem 8, hippocampi and amygdala 9"
)
ABDOMEN = (
    "spleen 1, right kidney 2, left kidney 3, gall bladder 4, oesophagus 5, liver 6, stomach 7, aorta 8, postcava 9, "
    "pancreas 10, right adrenal gland 11, left adrenal gland 12, duodenum 13, bladder 14, prostate or uterus 15"
)
ATLAS = (
    "white matter 1, ventricular system 2, cerebellum 3, extra-axial CSF 4, cortical grey matter 5, "
    "deep grey matter 6, brainstem 7, corpus callosum 8"
)
FETAL = "external CSF 1, grey matter 2, white matter 3, ventricles 4, cerebellum 5, deep grey matter 6, brainstem 7"
MASKS = "kidney_left 1, kidney_right 2, spleen 3"  # numbered in the order of their names
# Some of FreeSurfer's structures, of both sides and beyond 255.
STRUCTURES = "Left-Cerebral-White-Matter 2, Left-Hippocampus 17, Right-Cerebral-White-Matter 41, Right-Hippocampus 53"
PARCELS = f"{STRUCTURES}, ctx-lh-caudalanteriorcingulate 1002, ctx-rh-superiortemporal 2030, ctx-rh-insula 2035"
NO_TRAINING = "expected at least 2 subjects with labels, one to train and one to validate, got 0"


@dataclass(frozen=True)
class Contents:
    """What a folder holds.

    Attributes
    ----------
    ids : tuple of str. Subjects, in natural order.
    images : dict. File of the first subject by modality, in the order of the channels; empty where it is not one file.
    classes : str. Values by class, without the background unless it has another name or more values: "CSF 1+5, GM 2".
    count : int. Number of classes without background, where ``classes`` lists some of them only; else 0.
    label : str. Label map of the first subject.
    unlabelled : tuple of str. Subjects for prediction.
    findings : tuple of str. What the doctor says besides notes, each as a part of it; nothing for a good data set.
    make : callable, optional. Writes the folder; by default the example of the layout.
    """

    ids: tuple[str, ...]
    images: dict[str, str]
    classes: str
    label: str = ""
    count: int = 0
    unlabelled: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    make: Callable[[Path], Path] | None = field(default=None, repr=False)

    @property
    def values(self) -> dict[str, tuple[int, ...]]:
        """Values by class, background first."""
        parts = [text.rpartition(" ") for text in self.classes.split(", ")]
        found = {name: tuple(int(v) for v in values.split("+")) for name, _, values in parts}
        return found if any(0 in values for values in found.values()) else {"background": (0,), **found}


def _glioma(start: str, texts: str) -> dict[str, str]:
    return {m: f"{start}{t}.nii.gz" for m, t in zip(GLIOMA, texts.split(), strict=True)}


def _mrbrains13(case: str) -> dict[str, str]:
    return {m: f"{case}/{n}.nii" for m, n in (("T1", "T1"), ("T1 IR", "T1_IR"), ("FLAIR", "T2_FLAIR"))}


def _mrbrains18(case: str) -> dict[str, str]:
    return {m: f"{case}/pre/{n}.nii.gz" for m, n in (("T1", "reg_T1"), ("T1 IR", "reg_IR"), ("FLAIR", "FLAIR"))}


def _oasis(prefix: str) -> tuple[dict[str, str], str]:
    start = f"OASIS_OAS1_0001_MR1/{prefix}"
    return {"T1": f"{start}norm.nii.gz"}, f"{start}seg4.nii.gz"


_NUMBERS = ("1", "2", "3")
_OASIS = tuple(f"OASIS_OAS1_{n:04}_MR1" for n in (1, 2, 3))
_BRATS18 = tuple(f"Brats18_2013_{n}_1" for n in (1, 2, 3))
_NEONATES = tuple(f"sub-CC0005{n}XX07_ses-7100" for n in (1, 2, 3))
_NEONATE = "sub-CC00051XX07/ses-7100/anat/sub-CC00051XX07_ses-7100_desc-"
_NEONATE_IMAGES = {"T2": f"{_NEONATE}restore_T2w.nii.gz", "T1": f"{_NEONATE}restore_space-T2w_T1w.nii.gz"}
_COVID = ("coronacases_001", "radiopaedia_10_85902_1")
_COVID_IMAGE = {"CT": "COVID-19-CT-Seg_20cases/coronacases_001.nii.gz"}
_STROKE = "sub-strokecase0001_ses-0001"
_BERT = {"T1": "bert/mri/T1.mgz"}

# By the name of each layout and variant, and behind a space of a further form of the same data set.
CONTENTS: dict[str, Contents] = {
    "iseg": Contents(
        ("subject-1", "subject-2", "subject-3"),
        {"T1": "subject-1-T1.nii.gz", "T2": "subject-1-T2.nii.gz"},
        "CSF 10, GM 150, WM 250",
        "subject-1-label.nii.gz",
    ),
    "nnunet": Contents(
        ("case_001", "case_002", "case_003"),
        {"M0": "imagesTr/case_001_0000.nii.gz", "M1": "imagesTr/case_001_0001.nii.gz"},
        "front 1, back 2",
        "labelsTr/case_001.nii.gz",
    ),
    "decathlon": Contents(
        ("case_001", "case_002", "case_003"),
        {"M0": "imagesTr/case_001.nii.gz"},
        "front 1, back 2",
        "labelsTr/case_001.nii.gz",
    ),
    "iseg-challenge": Contents(
        ("subject-1", "subject-2", "subject-11", "subject-12"),
        {m: f"iSeg-2017-Training/subject-1-{m}.hdr" for m in ("T1", "T2")},
        "CSF 10, GM 150, WM 250",
        "iSeg-2017-Training/subject-1-label.hdr",
        unlabelled=("subject-11", "subject-12"),
    ),
    "mrbrains2013": Contents(_NUMBERS, _mrbrains13("TrainingData/1"), MRBRAINS, "TrainingData/1/LabelsForTraining.nii"),
    "mrbrains2013/tissues": Contents(
        _NUMBERS, _mrbrains13("TrainingData/1"), "CSF 1, GM 2, WM 3", "TrainingData/1/LabelsForTesting.nii"
    ),
    "mrbrains2018": Contents(
        ("1", "14", "070"),
        _mrbrains18("training/1"),
        f"{MRBRAINS}, infarction 9, other 10",
        "training/1/segm.nii.gz",
    ),
    "mrbrains2018/tissues": Contents(
        ("1", "14", "070"),
        _mrbrains18("training/1"),
        "CSF 5+6, GM 1+2, WM 3+4, ignore 7+8+9+10",
        "training/1/segm.nii.gz",
    ),
    "brats2018": Contents(
        _BRATS18,
        _glioma(f"HGG/{_BRATS18[0]}/{_BRATS18[0]}_", "t1 t1ce t2 flair"),
        "necrotic and non-enhancing core 1, oedema 2, enhancing tumour 4",
        f"HGG/{_BRATS18[0]}/{_BRATS18[0]}_seg.nii.gz",
    ),
    "brats2020": Contents(
        tuple(f"BraTS20_Training_{n:03}" for n in (1, 2, 3)),
        _glioma("MICCAI_BraTS2020_TrainingData/BraTS20_Training_001/BraTS20_Training_001_", "t1 t1ce t2 flair"),
        "necrotic and non-enhancing core 1, oedema 2, enhancing tumour 4",
        "MICCAI_BraTS2020_TrainingData/BraTS20_Training_001/BraTS20_Training_001_seg.nii.gz",
    ),
    "brats2021": Contents(
        tuple(f"BraTS2021_{n:05}" for n in (1, 2, 3)),
        _glioma("BraTS2021_00001/BraTS2021_00001_", "t1 t1ce t2 flair"),
        "necrotic core 1, oedema 2, enhancing tumour 4",
        "BraTS2021_00001/BraTS2021_00001_seg.nii.gz",
    ),
    "brats2023": Contents(
        tuple(f"BraTS-GLI-{n:05}-000" for n in (1, 2, 3)),
        _glioma("BraTS-GLI-00001-000/BraTS-GLI-00001-000-", "t1n t1c t2w t2f"),
        "necrotic core 1, oedema 2, enhancing tumour 3",
        "BraTS-GLI-00001-000/BraTS-GLI-00001-000-seg.nii.gz",
    ),
    "brats2024": Contents(
        ("BraTS-GLI-00005-100", "BraTS-GLI-00006-100", "BraTS-GLI-00006-101"),
        _glioma("BraTS-GLI-00005-100/BraTS-GLI-00005-100-", "t1n t1c t2w t2f"),
        "non-enhancing core 1, surrounding FLAIR hyperintensity 2, enhancing tissue 3, resection cavity 4",
        "BraTS-GLI-00005-100/BraTS-GLI-00005-100-seg.nii.gz",
    ),
    "ixi": Contents(
        ("IXI002-Guys-0828", "IXI012-Guys-0828"),
        {m: f"IXI-{m}/IXI002-Guys-0828-{m}.nii.gz" for m in ("T1", "T2", "PD")},
        "foreground 1",
        unlabelled=("IXI002-Guys-0828", "IXI012-Guys-0828"),
        findings=(NO_TRAINING, "does not fit the first image"),  # its modalities lie on grids of their own
    ),
    "dhcp": Contents(_NEONATES, _NEONATE_IMAGES, DRAWEM, f"{_NEONATE}drawem9_dseg.nii.gz"),
    "dhcp/tissues": Contents(
        _NEONATES,
        _NEONATE_IMAGES,
        "background 0+4, CSF 1+5, GM 2+7+9, WM 3, ignore 6+8",
        f"{_NEONATE}drawem9_dseg.nii.gz",
    ),
    "feta": Contents(
        ("sub-001", "sub-002", "sub-041", "sub-042"),
        {"T2": "sub-001/anat/sub-001_rec-mial_T2w.nii.gz"},
        FETAL,
        "sub-001/anat/sub-001_rec-mial_dseg.nii.gz",
    ),
    "oasis": Contents(
        _OASIS,
        _oasis("aligned_")[0],
        "cortex 1, subcortical grey matter 2, white matter 3, CSF 4",
        _oasis("aligned_")[1],
    ),
    "oasis/native": Contents(
        _OASIS, _oasis("")[0], "cortex 1, subcortical grey matter 2, white matter 3, CSF 4", _oasis("")[1]
    ),
    "amos": Contents(
        ("amos_0001", "amos_0002", "amos_0003", "amos_0600"),
        {"CT or MR": "imagesTr/amos_0001.nii.gz"},
        ABDOMEN,
        "labelsTr/amos_0001.nii.gz",
        unlabelled=("amos_0600",),
    ),
    "totalsegmentator-ct": Contents(("s0000", "s0001"), {"CT": "s0000/ct.nii.gz"}, MASKS),
    "totalsegmentator-mr": Contents(("s0000", "s0001"), {"MR": "s0000/mri.nii.gz"}, MASKS),
    "kits": Contents(
        ("case_00001", "case_00002", "case_00003"),
        {"CT": "case_00001/imaging.nii.gz"},
        "kidney 1, tumour 2, cyst 3",
        "case_00001/segmentation.nii.gz",
    ),
    "lits": Contents(
        ("volume-9", "volume-10", "volume-11"), {"CT": "volume-9.nii"}, "liver 1, tumour 2", "segmentation-9.nii"
    ),
    "acdc": Contents(
        ("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame12"),
        {"MR": "training/patient001/patient001_frame01.nii.gz"},
        HEART,
        "training/patient001/patient001_frame01_gt.nii.gz",
    ),
    "isles2022": Contents(
        tuple(f"sub-strokecase{n:04}_ses-0001" for n in (1, 2, 3)),
        {m: f"sub-strokecase0001/ses-0001/dwi/{_STROKE}_{m.lower()}.nii.gz" for m in ("DWI", "ADC")},
        "infarct 1",
        f"derivatives/sub-strokecase0001/ses-0001/{_STROKE}_msk.nii.gz",
    ),
    "wmh2017": Contents(
        ("Amsterdam-GE3T-100", "Singapore-50", "Utrecht-0"),
        {m: f"Amsterdam/GE3T/100/pre/{m}.nii.gz" for m in ("FLAIR", "T1")},
        "white matter hyperintensities 1, ignore 2",
        "Amsterdam/GE3T/100/wmh.nii.gz",
    ),
    "covid19-ct": Contents(
        _COVID, _COVID_IMAGE, "left lung 1, right lung 2, infection 3", "Lung_and_Infection_Mask/coronacases_001.nii.gz"
    ),
    "covid19-ct/infection": Contents(_COVID, _COVID_IMAGE, "infection 1", "Infection_Mask/coronacases_001.nii.gz"),
    "fetal-atlas": Contents(
        tuple(f"fetal_SB_atlas_GA{n}_operated" for n in (25, 26, 27)),
        {"T2": "fetal_SB_atlas_GA25_operated/srr.nii.gz"},
        ATLAS,
        "fetal_SB_atlas_GA25_operated/parcellation.nii.gz",
    ),
    "freesurfer": Contents(
        ("bert", "sub-02"),
        _BERT,
        f"{STRUCTURES}, Left-Cerebral-Cortex 3, Right-Cerebral-Cortex 42, CC_Anterior 255",
        "bert/mri/aseg.mgz",
        count=45,
    ),
    "freesurfer/aparc": Contents(("bert", "sub-02"), _BERT, PARCELS, "bert/mri/aparc+aseg.mgz", count=113),
    "fastsurfer": Contents(
        ("subject1", "subject2", "subject3"),
        {"T1": "subject1/mri/orig.mgz"},
        PARCELS,
        "subject1/mri/aparc.DKTatlas+aseg.deep.mgz",
        count=95,
    ),
    "bids": Contents(
        ("sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a"),
        {m: f"sub-01/ses-a/anat/sub-01_ses-a_{m}.nii.gz" for m in ("T1w", "T2w")},
        "cortex 1, lesion 5",
        "derivatives/manual/sub-01/ses-a/anat/sub-01_ses-a_desc-expert_dseg.nii.gz",
    ),
    "bids-masks": Contents(
        ("sub-01", "sub-02", "sub-03"), {"T1w": "sub-01/anat/sub-01_T1w.nii.gz"}, "lesion 1, oedema 2"
    ),
    "plain": Contents(
        ("p1", "p2", "p3"), {"image": "images/p1.nii.gz"}, "Clear Label 0, liver 1, spleen 7", "labels/p1.nii.gz"
    ),
    "dicom": Contents(("PAT-1", "PAT-2", "PAT-3"), {"CT": ""}, "Liver 1, Spleen 2"),
}
