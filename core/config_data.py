"""Sections of the configuration about data: reading, split, sub-volumes and augmentation."""

from __future__ import annotations

from dataclasses import dataclass

from core import choices
from core.choices import Lateral, MissingModalities, Normalisation, Resample, Targets
from core.errors import ConfigError
from core.fields import Checked, option

NO_FOLD = -1  # value of the field ``fold``: every subject is trained on


@dataclass(frozen=True)
class DataConfig(Checked):
    """Data: folder, modalities and classes; intensity normalisation and resampling."""

    path: str = option(
        "",
        "Data set",
        "folder of the data set; 'demo': the synthetic demo data, made on first use",
        advanced=False,
        searchable=False,
    )
    layout: str = option("auto", "Folder layout", "folder layout; auto: detected", searchable=False)
    modalities: tuple[str, ...] = option(
        (), "Modalities", "input channels, in order; empty: all modalities", advanced=False
    )
    classes: tuple[str, ...] = option(
        (), "Classes", "classes to segment; all others become background; empty: all", searchable=False
    )
    targets: Targets = option(
        "auto",
        "What the network learns",
        "labels: the classes, which exclude each other (softmax); regions: unions of them that may overlap (sigmoid); "
        "auto: the regions of a data set that has any, if the loss is for regions too",
        texts=choices.TARGETS_WORDS,
        searchable=False,
    )
    ignore: str = option(
        "auto",
        "Ignored label",
        "label left out of training and scores, by name or value; auto: one named ignore or the like; none: no label",
        searchable=False,
    )
    nan_is_zero: bool = option(
        False, "Read NaN as 0", "read NaN as 0, for files with NaN outside the field of view", searchable=False
    )
    missing_modalities: MissingModalities = option(
        "refuse",
        "Cases without a modality",
        "cases that lack an image of a modality: an error, left out, or trained on with an image of 0 in its place",
        texts=choices.MISSING_MODALITIES_WORDS,
        searchable=False,
    )
    modality_indicator: bool = option(
        False,
        "Tell the network which images exist",
        "one more input channel per modality: 1 where there is an image of it, 0 where it is missing or left out; "
        "for networks that are to work without some of them",
    )
    force: bool = option(
        False,
        "Train despite errors in the data",
        "train although the check of the data finds errors, but for files that cannot be read",
        searchable=False,
    )
    normalisation: Normalisation = option(
        "auto",
        "Intensity normalisation",
        "intensity normalisation, per modality; auto: ct for Hounsfield units, else z_score",
        texts=choices.NORMALISATION_WORDS,
    )
    resample: Resample = option(
        "none",
        "Resampling",
        "median: resample every subject to the median voxel size of the data set",
        texts=choices.RESAMPLE_WORDS,
        searchable=False,
    )
    spacing_mm: tuple[float, ...] = option(
        (),
        "Voxel size to resample to",
        "resample every subject to this voxel size instead",
        unit="mm",
        minimum=0.0001,
        maximum=100,
        length=3,
        searchable=False,
    )
    crop: bool = option(
        False,
        "Crop to the content",
        "leave out the margins in which all images are 0, in training and prediction; results have the whole grid",
        searchable=False,
    )
    resident_gb: float = option(
        0.0,
        "Device memory for the data",
        "device memory for images and labels; the rest is streamed from disk; 0: all free memory",
        unit="GB",
        minimum=0,
        maximum=10**6,
        special_word="all free memory",
        searchable=False,
    )


@dataclass(frozen=True)
class SplitConfig(Checked):
    """Split: training subjects, held-out subjects for validation (they choose the best epoch) and test subjects."""

    folds: int = option(
        5,
        "Cross-validation folds",
        "cross-validation folds; 0: one per subject (leave one out), as the default is with fewer subjects",
        minimum=0,
        maximum=1000,
        special_word="one per subject",
        searchable=False,
    )
    fold: int = option(
        0,
        "Held-out fold",
        "fold that is held out for validation, from 0; none: train on every subject, nothing is held out",
        minimum=0,
        maximum=999,
        advanced=False,
        special_word="none",
        special_value=NO_FOLD,
        searchable=False,
    )
    shuffle_subjects: bool = option(
        True,
        "Assign subjects to folds at random",
        "assign subjects to folds in random order (seeded) instead of by name",
        searchable=False,
    )
    split_seed: int = option(
        0, "Seed of the random folds", "seed of the random order", minimum=0, maximum=2**31 - 1, searchable=False
    )
    group_by: str = option(
        "auto",
        "Subjects that stay together",
        "subjects that a split keeps on one side: of one person, session, site or other part of their file names; "
        "auto: of one person, where file names state it; none: no groups",
        searchable=False,
    )
    subjects: int = option(
        0,
        "Subjects to use",
        "train and validate on the first so many labelled subjects only, in the order of their names; 0: all",
        minimum=2,
        maximum=10**6,
        special_word="all",
        searchable=False,
    )
    val_subjects: tuple[str, ...] = option(
        (), "Validation subjects", "ids of the held-out subjects, instead of a fold", searchable=False
    )
    test_subjects: tuple[str, ...] = option(
        (), "Test subjects", "ids of test subjects, excluded from training and validation", searchable=False
    )

    @property
    def holds_out_nothing(self) -> bool:
        """Whether every subject but the test subjects is trained on, and nothing is validated."""
        return self.fold == NO_FOLD

    def check(self) -> None:
        if self.holds_out_nothing and self.val_subjects:
            raise ConfigError(
                f"fold: expected a fold with val_subjects, which hold out {', '.join(self.val_subjects)}; got none"
            )
        if self.folds == 1:
            raise ConfigError("folds: expected 0 (leave one out) or at least 2, got 1")
        if self.folds and self.fold >= self.folds:
            raise ConfigError(f"fold: expected 0 to {self.folds - 1} with {self.folds} folds, got {self.fold}")
        both = set(self.val_subjects) & set(self.test_subjects)
        if both:
            raise ConfigError(f"test_subjects: {sorted(both)} are in val_subjects too; a subject has one role")


@dataclass(frozen=True)
class SamplingConfig(Checked):
    """Sub-volumes: size, number per epoch, and how their positions are drawn."""

    sub_volume: tuple[int, ...] = option(
        (),
        "Sub-volume size",
        "size of a sub-volume; empty: fitted to the data and device",
        unit="voxels",
        minimum=8,
        maximum=1024,
        length=3,
        advanced=False,
    )
    samples_train: int = option(
        250, "Sub-volumes per epoch", "sub-volumes per training epoch", minimum=1, maximum=10**6, advanced=False
    )
    samples_val: int = option(
        16,
        "Sub-volumes per validation",
        "sub-volumes per validation; 0: none",
        minimum=0,
        maximum=10**5,
        special_word="none",
        searchable=False,
    )
    batch_size: int = option(2, "Batch size", "sub-volumes per batch", minimum=1, maximum=1024, advanced=False)
    draw_once: bool = option(
        False, "Same sub-volumes in every epoch", "draw the training sub-volumes once and reuse them in every epoch"
    )
    threshold: float = option(
        0.0,
        "Least labelled share of a sub-volume",
        "least share of labelled voxels in a drawn sub-volume",
        unit="share",
        minimum=0.0,
        maximum=0.99,
        special_word="none",
    )
    foreground: float = option(
        0.0,
        "Share of sub-volumes centred on a class",
        "share of sub-volumes centred on a voxel of a random foreground class",
        unit="share",
        minimum=0.0,
        maximum=1.0,
    )


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """Augmentation: random transforms of training sub-volumes; spatial ones apply to image and label alike."""

    flip: float = option(
        0.5,
        "Probability of a left-right flip",
        "probability of a left-right flip",
        unit="probability",
        minimum=0,
        maximum=1,
    )
    lateral: Lateral = option(
        "auto",
        "Left and right classes",
        "left and right classes when images are mirrored; swap: exchange the labels of each pair; off: do not mirror; "
        "ignore: keep the labels; auto: swap pairs known by name and position, off where a partner is missing",
        texts=choices.LATERAL_WORDS,
    )
    lateral_pairs: tuple[str, ...] = option(
        (),
        "Pairs of left and right classes",
        "classes that are left and right of one structure, pair after pair; empty: found by name and position",
    )
    affine: float = option(
        0.0,
        "Probability of rotation and scaling",
        "probability of rotation and scaling; within the slices of sub-volumes thinner than a third of their sides",
        unit="probability",
        minimum=0,
        maximum=1,
    )
    rotation_deg: float = option(
        15.0, "Largest rotation", "largest rotation about each axis", unit="degrees", minimum=0, maximum=180
    )
    scaling: float = option(
        0.15, "Largest change of size", "largest relative change of size", unit="share", minimum=0, maximum=0.9
    )
    elastic: float = option(
        0.0,
        "Probability of an elastic deformation",
        "probability of an elastic deformation; within the slices of sub-volumes thinner than a third of their sides",
        unit="probability",
        minimum=0,
        maximum=1,
    )
    elastic_voxels: float = option(
        2.0,
        "Elastic displacement, standard deviation",
        "standard deviation of the elastic displacements",
        unit="voxels",
        minimum=0,
        maximum=50,
    )
    intensity: float = option(
        0.0,
        "Probability of each change of intensity",
        "probability of each of brightness, contrast, gamma, bias field, blur, low resolution",
        unit="probability",
        minimum=0,
        maximum=1,
    )
    noise: float = option(
        0.0,
        "Largest noise",
        "largest standard deviation of Gaussian noise, relative to the image's",
        unit="share",
        minimum=0,
        maximum=10,
        special_word="none",
    )
    modality_dropout: float = option(
        0.0,
        "Probability of leaving out a modality",
        "probability with which each modality of a sub-volume is 0 everywhere, but never all: for networks that "
        "are to work without some of them",
        unit="probability",
        minimum=0,
        maximum=0.99,
    )

    @property
    def stated_pairs(self) -> tuple[tuple[str, str], ...]:
        """``lateral_pairs`` by two."""
        return tuple(zip(self.lateral_pairs[::2], self.lateral_pairs[1::2], strict=True))

    def check(self) -> None:
        if len(self.lateral_pairs) % 2:
            raise ConfigError(
                "lateral_pairs: expected an even number of classes, such as left,right; got "
                f"{', '.join(self.lateral_pairs)}"
            )
