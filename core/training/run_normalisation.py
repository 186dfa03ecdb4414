"""Chooses the intensity normalisation of a run, and measures what it needs in the training subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.checkpointing.checkpoint import Checkpoint
from core.choices import Normalisation
from core.datasets import load_subject
from core.datasets.ct_modalities import find_ct_modalities, refuse_absent_ct
from core.events import Preparing
from core.imaging.foreground_statistics import ForegroundIntensities
from core.imaging.normalise import Normaliser
from core.training.run_data import RunData, RunInputs


def choose_normaliser(inputs: RunInputs, data: RunData, last: Checkpoint | None) -> Normaliser | None:
    """The normaliser of the checkpoint to resume, or that of the configuration for the training subjects.

    "auto" is "ct" for modalities that are named CT, or whose intensities in the first training subjects look like
    Hounsfield units, and "z_score" for the others.

    Returns
    -------
    Normaliser, or ``None`` if a stop is requested while subjects are read.

    Raises
    ------
    UserError
        If a subject cannot be read, or none has labelled voxels where statistics of them are needed.
    """
    if last is not None:
        return last.metadata.normaliser
    requested = inputs.config.data.normalisation
    train = data.split.train
    methods = methods_of(
        requested, lambda: find_ct_modalities(data.dataset, train, data.modalities), len(data.modalities)
    )
    if "ct" not in methods:
        return Normaliser(methods)
    refuse_absent_ct(data.dataset, (*train, *data.split.val), data.modalities, methods)
    intensities = ForegroundIntensities(len(methods))
    for number, id in enumerate(train):
        inputs.listener(Preparing("measuring intensities", number, len(train)))
        if inputs.should_stop():
            return None
        loaded = load_subject(data.dataset, id, data.modalities, inputs.config.data.classes)
        if loaded.label is not None:
            intensities.add(loaded.image, loaded.label)
    return measured_normaliser(requested, methods, intensities)


def methods_of(requested: Normalisation, find_ct: Callable[[], Sequence[bool]], modalities: int) -> tuple[str, ...]:
    """The normalisation of each modality: "auto" is "ct" for computed tomography, and "z_score" for others.

    Parameters
    ----------
    requested : str. Normalisation of the configuration.
    find_ct : callable. Which modalities are computed tomography; asked only for "auto".
    modalities : int. Number of modalities.
    """
    if requested == "auto":
        return tuple("ct" if found else "z_score" for found in find_ct())
    return (requested,) * modalities


def measured_normaliser(
    requested: Normalisation, methods: tuple[str, ...], intensities: ForegroundIntensities
) -> Normaliser:
    """The normaliser with the statistics that "ct" takes from labelled voxels; z-score where "auto" finds none.

    Raises
    ------
    DatasetError
        If there are no labelled voxels and "ct" is requested.
    """
    if requested == "auto" and intensities.is_empty:
        return Normaliser(("z_score",) * len(methods))  # reading the subjects refuses them, unless training is forced
    measured = intensities.statistics()
    return Normaliser(methods, tuple(s if m == "ct" else None for m, s in zip(methods, measured, strict=True)))


def normaliser_facts(normaliser: Normaliser, modalities: tuple[str, ...]) -> dict[str, str]:
    """Facts about measured statistics for the log and the page, by name; empty where there are none."""
    texts = [
        f"{modality}: {s.low:.5g} to {s.high:.5g}, mean {s.mean:.5g}, std {s.std:.5g}"
        for modality, s in zip(modalities, normaliser.statistics, strict=True)
        if s is not None
    ]
    return {"intensities": "; ".join(texts)} if texts else {}
