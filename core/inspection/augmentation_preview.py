"""A process that shows what a network will see: sub-volumes of a subject, plain and augmented as training does it.

It reads a question per line from standard input and writes an answer per line to standard output, both JSON, and ends
at the end of its input or after two minutes without a question. The last subject is kept prepared::

    {"data": "folder", "subject": "case_1", "config": {...}, "spacing_mm": [1, 1, 1], "seed": 0, "versions": 4,
     "plane": "axial", "examined": ["case_1", "case_2"], "unoriented": [], "stamp": "..."}
    {"answer": {"size": [64, 64, 64], "spacing_mm": [...], "shape": [120, 140, 130], "start": [10, 3, 8],
                "modalities": ["T1"], "classes": [{"name": "GM", "colour": "#00c8a0"}], "ignored": "",
                "versions": [{"changes": [], "pictures": ["<PNG in base64>"], "labelled": ["..."],
                              "indicator": [1]}, ...],
                "remarks": []}}

``config`` is a training configuration with the size of a sub-volume; ``spacing_mm`` is the voxel size that training
resamples to, or null. ``examined`` are the training subjects that decide which modalities are computed tomography
(:func:`core.datasets.ct_modalities.examined_subjects`), ``unoriented`` those subjects of the run whose files state no
orientation. The subject is read and prepared by the code of training, so that ``start``, the first voxel of the
sub-volume, is one of the prepared image, which has the size ``shape``: cropped and resampled. The first version is the
plain one; ``indicator`` is null where the network has no such channels. What the data or the configuration gets wrong
is answered as ``{"error": "..."}``.
"""

from __future__ import annotations

import base64
import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.augmentation.augmenter import AugmentationParams, Augmenter
from core.class_positions import measure_positions
from core.config import TrainConfig
from core.datasets import DataOptions, Dataset, LoadedSubject, load_subject, open_dataset
from core.datasets.ct_modalities import find_ct_modalities, refuse_absent_ct
from core.datasets.prepared_cache import Preparation
from core.errors import ConfigError, DatasetError
from core.formatting import format_list, format_size
from core.imaging.content import content_box
from core.imaging.display import upright_slices
from core.imaging.foreground_statistics import ForegroundIntensities
from core.imaging.normalise import Normaliser
from core.imaging.overlay import overlay_classes
from core.inspection.questions import serve
from core.labels import LabelSpace
from core.laterality import check_pairs, find_sides, resolve_mirroring
from core.models.indicator import with_indicator
from core.sampling.patches import PatchSampler, ResidentSubjects
from core.training.run_normalisation import measured_normaliser, methods_of
from core.types import SpacingMm, TrainingSubject, triple

PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}  # axis perpendicular to the plane
MAX_VERSIONS = 8
WINDOW_PERCENTILES = (1.0, 99.0)  # of the plain sub-volume, shown as black and white in all versions
PICTURE_SIDE = 224  # pixels of the longer side
LABEL_OPACITY = 0.45
VISIBLE_NOISE = 0.02  # standard deviations, from which on noise is named
SUBJECTS_KEPT = 2
ONE_SUBJECT = "intensities are normalised by this subject alone; training measures all of its subjects"
SIDES_OF_ONE = "left and right are judged by where they lie in this subject alone; training looks at all of them"
INDICATOR = (
    "the network also gets a channel for each modality, the indicator: 1 where its image exists, 0 where it is missing "
    "or left out"
)


@dataclass(frozen=True)
class Source:
    """A subject, and what its preparation depends on besides the configuration.

    Attributes
    ----------
    data, subject : str. Folder of the data set, and id.
    examined : tuple of str. Training subjects that decide which modalities are computed tomography.
    unoriented : tuple of str. Subjects of the run whose files state no orientation.
    stamp : str. Changes with the files and with how they are read.
    """

    data: str
    subject: str
    examined: tuple[str, ...] = ()
    unoriented: tuple[str, ...] = ()
    stamp: str = ""


@dataclass(frozen=True)
class PreviewedSubject:
    """A subject as training has it, and how left and right are treated.

    Attributes
    ----------
    subject : TrainingSubject. Read, cropped, resampled and normalised as by training; the image is float32.
    modalities : tuple of str. Channels of the image.
    labels : LabelSpace. Classes of the network.
    oriented : bool. Whether its files state an orientation.
    mirroring : dict. Fields of the configuration that say what mirroring does.
    remarks : tuple of str. What cannot be seen in the pictures.
    """

    subject: TrainingSubject
    modalities: tuple[str, ...]
    labels: LabelSpace
    oriented: bool
    mirroring: dict[str, Any]
    remarks: tuple[str, ...]


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to a question, in the form of the module's docstring without its envelope.

    Raises
    ------
    UserError
        If the subject cannot be read, or the configuration cannot be used.
    """
    versions, plane = int(question["versions"]), str(question["plane"])
    if not 1 <= versions <= MAX_VERSIONS or plane not in PLANES:
        raise ConfigError(f"expected 1 to {MAX_VERSIONS} versions in one of {list(PLANES)}, got {versions} in {plane}")
    config = TrainConfig.from_json(question["config"])
    spacing_mm: SpacingMm | None = None
    if question["spacing_mm"] is not None:
        di, dj, dk = map(float, question["spacing_mm"])
        spacing_mm = di, dj, dk
    lateral = {"lateral": config.augment.lateral, "lateral_pairs": config.augment.lateral_pairs}
    decisive = TrainConfig(data=config.data).with_values(lateral)
    source = Source(
        str(question["data"]),
        str(question["subject"]),
        tuple(map(str, question.get("examined", ()))),
        tuple(map(str, question.get("unoriented", ()))),
        str(question.get("stamp", "")),
    )
    prepared = prepare_for_preview(source, decisive, spacing_mm)
    resolved = config.with_values({**prepared.mirroring, "classes": prepared.labels.names[1:]})
    drawn = _draw(prepared, resolved, int(question["seed"]), versions)
    ignored = prepared.labels.ignore
    return {
        "size": list(drawn.size),
        "spacing_mm": list(prepared.subject.spacing_mm),
        "shape": list(prepared.subject.label.shape),
        "start": list(drawn.start),
        "modalities": list(prepared.modalities),
        "classes": [{"name": c.name, "colour": c.colour} for c in prepared.labels.foreground],
        "ignored": "" if ignored is None else ignored.name,
        "versions": [_version(prepared, drawn, n, PLANES[plane]) for n in range(versions + 1)],
        "remarks": list(prepared.remarks),
    }


@functools.lru_cache(SUBJECTS_KEPT)
def prepare_for_preview(source: Source, config: TrainConfig, spacing_mm: SpacingMm | None) -> PreviewedSubject:
    """Read and prepare a subject as a run with a configuration does.

    Parameters
    ----------
    source : Source. The subject.
    config : TrainConfig. Its data section, ``lateral`` and ``lateral_pairs`` decide.
    spacing_mm : tuple of float, or None. Voxel size that training resamples to; ``None`` for no resampling.

    Raises
    ------
    UserError
        If the subject cannot be read, has no label map, or could not be trained on.
    """
    dataset = open_dataset(Path(source.data), config.data.layout, DataOptions.from_config(config.data))
    modalities = tuple(config.data.modalities or dataset.modalities)
    labels = dataset.labels.subset(config.data.classes) if config.data.classes else dataset.labels
    check_pairs(config.augment, labels.names)
    loaded = load_subject(dataset, source.subject, modalities, config.data.classes)
    if loaded.label is None:
        raise DatasetError(f"{source.subject}: expected a label map, found none; choose a labelled subject")
    normaliser = _normaliser(config, dataset, source, loaded)
    ready = Preparation.of_run(config.data, modalities, normaliser, spacing_mm).apply(loaded)
    oriented = loaded.geometry.oriented
    unoriented = source.unoriented if oriented else tuple(dict.fromkeys((*source.unoriented, source.subject)))
    position = measure_positions(source.subject, ready.label, len(labels), ready.spacing_mm)
    by_name, by_place = (
        resolve_mirroring(
            config.augment,
            find_sides(labels.names, dataset.labels.names, positions, config.augment.stated_pairs),
            unoriented,
        )
        for positions in ((), [position])
    )
    remarks = [by_place.reason] if by_place.reason else []
    remarks += [SIDES_OF_ONE] if by_place != by_name else []
    remarks += [ONE_SUBJECT] if "ct" in normaliser.methods else []
    remarks += _preparation_remarks(config, loaded)
    return PreviewedSubject(ready, modalities, labels, oriented, by_place.values(), tuple(remarks))


def _preparation_remarks(config: TrainConfig, loaded: LoadedSubject) -> list[str]:
    """What preparing a subject did that its pictures do not show."""
    remarks = []
    if config.data.crop:
        shape = tuple(side.stop - side.start for side in content_box(loaded.image, loaded.label))
        whole = loaded.image.shape[1:]
        remarks.append(
            "cropping leaves the image as it is: it has no margins of 0"
            if shape == whole
            else f"the margins of 0 are left out: {format_size(shape)} of {format_size(whole)} voxels remain, and "
            "voxels are counted in what remains"
        )
    if loaded.absent:
        remarks.append(f"there is no image of {format_list(loaded.absent)}: it is 0 in every voxel")
    return remarks + ([INDICATOR] if config.data.modality_indicator else [])


def _normaliser(config: TrainConfig, dataset: Dataset, source: Source, loaded: LoadedSubject) -> Normaliser:
    """The normalisation of training, its statistics measured in one subject."""
    assert loaded.label is not None
    modalities = tuple(config.data.modalities or dataset.modalities)
    requested = config.data.normalisation
    examined = source.examined or (source.subject,)
    methods = methods_of(requested, lambda: find_ct_modalities(dataset, examined, modalities), len(modalities))
    if "ct" not in methods:
        return Normaliser(methods)
    refuse_absent_ct(dataset, (source.subject,), modalities, methods)
    intensities = ForegroundIntensities(len(modalities))
    intensities.add(loaded.image, loaded.label)
    return measured_normaliser(requested, methods, intensities)


@dataclass(frozen=True)
class _Drawn:
    """A sub-volume in several versions, the plain one first; arrays (version, channel, i, j, k) and (version, ...).

    Attributes
    ----------
    present : tuple of bool. Which modalities the subject has an image of.
    indicator : ndarray, shape (version, channel), or None. What the network is told of the images.
    """

    start: tuple[int, int, int]
    size: tuple[int, int, int]
    image: np.ndarray
    label: np.ndarray
    params: AugmentationParams
    present: tuple[bool, ...]
    indicator: np.ndarray | None


def _draw(prepared: PreviewedSubject, config: TrainConfig, seed: int, versions: int) -> _Drawn:
    """Draw a place as training does, and augment it several times.

    The place depends on the seed and the sampling alone, so that it stays while the augmentation changes.
    """
    size = triple(config.sampling.sub_volume)
    sampler = PatchSampler([prepared.subject], size, config.sampling, len(prepared.labels))
    (location,) = sampler.draw(1, torch.Generator().manual_seed(seed))
    subjects = ResidentSubjects([prepared.subject], torch.device("cpu"))
    augmenter = Augmenter(config.augment, size, config.swapped_classes)
    params = augmenter.draw_for(subjects, [location] * versions, torch.Generator().manual_seed(seed + 1))
    plain_image, plain_label = subjects.crop([location], size)
    image, label = augmenter.apply(*subjects.crop(params.locations, params.region), params)
    channels, present = subjects.channels, subjects.present(location.subject)
    indicator = None
    if config.data.modality_indicator:
        told = [with_indicator(plain_image, [present]), with_indicator(image, params.kept)]
        indicator = torch.cat(told)[:, channels:, 0, 0, 0].numpy()
    return _Drawn(
        location.start,
        size,
        torch.cat([plain_image, image]).numpy(),
        torch.cat([plain_label, label]).numpy(),
        params,
        present,
        indicator,
    )


def _version(prepared: PreviewedSubject, drawn: _Drawn, number: int, axis: int) -> dict[str, Any]:
    """The middle slices of a version, one for each modality, without and with labels, and its changes in words."""
    middle = drawn.size[axis] // 2
    label = upright_slices(drawn.label[number].take(middle, axis), prepared.oriented)
    spacing_mm = [mm for n, mm in enumerate(prepared.subject.spacing_mm) if n != axis]
    colours = [c.colour for c in prepared.labels.classes]
    pictures, labelled = [], []
    for channel, plain in zip(drawn.image[number], drawn.image[0], strict=True):
        low, high = (float(v) for v in np.percentile(plain, WINDOW_PERCENTILES))
        grey = np.clip((channel.take(middle, axis) - low) / ((high - low) or 1.0), 0, 1) * 255
        rows = upright_slices(grey, prepared.oriented)[..., None].repeat(3, axis=2)
        pictures.append(_png(rows, spacing_mm))
        labelled.append(_png(overlay_classes(rows, label, colours, LABEL_OPACITY), spacing_mm))
    changes = [] if number == 0 else describe_changes(drawn.params, number - 1, prepared.modalities, drawn.present)
    indicator = None if drawn.indicator is None else [int(n) for n in drawn.indicator[number]]
    return {"changes": changes, "pictures": pictures, "labelled": labelled, "indicator": indicator}


def describe_changes(
    params: AugmentationParams, number: int, modalities: tuple[str, ...], present: Sequence[bool] = ()
) -> list[str]:
    """What was drawn for a sub-volume, in words; empty if it is unchanged.

    Parameters
    ----------
    params : AugmentationParams. Random parameters of a batch.
    number : int. Index of the sub-volume.
    modalities : tuple of str. Names of the channels.
    present : sequence of bool, optional. Which of them the subject has an image of, the others being no change; all by
        default.
    """
    words = ["mirrored left-right"] if params.flips[number] else []
    if params.warp is not None:
        matrix = params.warp.matrix[number].double()
        scales = matrix.norm(dim=0)
        rotation = matrix / scales
        angle = math.degrees(math.acos(max(-1.0, min(1.0, (float(rotation.trace()) - 1) / 2))))
        words += [f"rotated by {angle:.0f}°"] if angle >= 0.5 else []
        if float((scales - 1).abs().max()) >= 0.005:
            sizes = " × ".join(f"{100 / float(scale):.0f}" for scale in scales)
            words.append(f"size {sizes} %")
        words += ["deformed elastically"] if params.warp.is_elastic(number) else []
    channels = len(modalities)
    changes = params.intensity[number * channels : (number + 1) * channels]
    for name, is_changed in (
        ("brightness", lambda c: c.brightness != 0),
        ("contrast", lambda c: c.contrast != 1),
        ("gamma", lambda c: c.gamma != 1),
        ("bias field", lambda c: c.bias_field is not None),
        ("blur or low resolution", lambda c: c.smoothing is not None),
        ("noise", lambda c: c.noise_std >= VISIBLE_NOISE),
    ):
        changed = [m for m, change in zip(modalities, changes, strict=True) if is_changed(change)]
        if changed:
            words.append(name if len(changed) == channels else f"{name} ({', '.join(changed)})")
    kept = params.kept[number] if params.kept is not None else [True] * channels
    had = present or [True] * channels
    left_out = (m for m, is_kept, has in zip(modalities, kept, had, strict=True) if has and not is_kept)
    return words + [f"without {m}" for m in left_out]


def _png(rows: np.ndarray, spacing_mm: list[float]) -> str:
    """A picture in the true proportions of its voxels, as PNG in base64."""
    from PIL import Image

    picture = Image.fromarray(np.clip(np.rint(rows), 0, 255).astype(np.uint8))
    width_mm, height_mm = picture.width * spacing_mm[0], picture.height * spacing_mm[1]
    scale = PICTURE_SIDE / max(width_mm, height_mm)
    size = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.NEAREST).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def main() -> None:
    """Answer questions until the end of the input, or until none has come for two minutes."""
    torch.set_num_threads(1)
    serve(answer, "the sub-volumes cannot be made")


if __name__ == "__main__":
    main()
