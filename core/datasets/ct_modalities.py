"""Finds the modalities of a data set that are computed tomography, for the normalisation "auto"."""

from __future__ import annotations

from collections.abc import Sequence

from core.datasets.layouts.base import Dataset
from core.datasets.loading import load_subject
from core.errors import DatasetError
from core.imaging.foreground_statistics import is_in_hounsfield_units, is_named_ct

EXAMINED_SUBJECTS = 3  # training subjects with an image of a modality that decide whether it is in Hounsfield units


def examined_subjects(dataset: Dataset, ids: Sequence[str], modalities: Sequence[str]) -> tuple[str, ...]:
    """The subjects whose intensities decide: for each modality whose name does not say that it is computed tomography
    the first ones that have an image of it.

    Parameters
    ----------
    dataset : Dataset.
    ids : sequence of str. Training subjects.
    modalities : sequence of str. Input channels of the network.
    """
    deciding = _deciding(dataset, ids, modalities)
    chosen = {id for of_modality in deciding.values() for id in of_modality}
    return tuple(id for id in ids if id in chosen)


def find_ct_modalities(dataset: Dataset, ids: Sequence[str], modalities: Sequence[str]) -> list[bool]:
    """Which modalities are computed tomography: those that are named so, and those whose intensities look like
    Hounsfield units in all subjects that decide.

    Parameters
    ----------
    dataset, ids, modalities : as in :func:`examined_subjects`; of the training subjects those that decide are enough.

    Raises
    ------
    DatasetError, VolumeError
        If a subject that decides cannot be read.
    """
    deciding = _deciding(dataset, ids, modalities)
    is_ct = [m not in deciding or bool(deciding[m]) for m in modalities]
    for id in examined_subjects(dataset, ids, modalities):
        asked = [n for n, m in enumerate(modalities) if is_ct[n] and id in deciding.get(m, ())]
        if not asked:
            continue
        image = load_subject(dataset, id, modalities).image
        for n in asked:
            is_ct[n] = is_in_hounsfield_units(image[n])
    return is_ct


def refuse_absent_ct(dataset: Dataset, ids: Sequence[str], modalities: Sequence[str], methods: Sequence[str]) -> None:
    """Refuse subjects that lack an image that is normalised as computed tomography: 0 is the intensity of water.

    Parameters
    ----------
    dataset, ids, modalities : as in :func:`examined_subjects`.
    methods : sequence of str. Normalisation of each modality.

    Raises
    ------
    DatasetError
        If there is one.
    """
    ct = tuple(m for m, method in zip(modalities, methods, strict=True) if method == "ct")
    for id in ids:
        absent = [m for m in dataset.absent(dataset.subject(id), modalities) if m in ct]
        if absent:
            raise DatasetError(
                f"{id}: expected an image of {' and '.join(absent)} for the normalisation ct, which 0 would distort; "
                "choose another normalisation, or leave such cases out: --missing-modalities leave_out"
            )


def _deciding(dataset: Dataset, ids: Sequence[str], modalities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The subjects that decide about each modality whose name does not."""
    absent = {id: dataset.absent(dataset.subject(id), modalities) for id in ids}
    return {
        modality: tuple(id for id in ids if modality not in absent[id])[:EXAMINED_SUBJECTS]
        for modality in modalities
        if not is_named_ct(modality)
    }
