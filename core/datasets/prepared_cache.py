"""Prepared subjects that are kept: canonical, resampled, normalised, in half precision, memory-mapped.

Training computes with half precision, so what is kept gives the same weights, bit for bit, as what is read anew. The
name of an entry is a digest of all that its content depends on: the content of the files, how the data set and its
recipe read them, the settings of the preparation, and the code with its libraries. An entry that does not fit is never
opened, and one of changed files or code is made anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.config_data import DataConfig
from core.datasets.content_digests import ContentDigests
from core.datasets.layouts.base import Dataset, Subject
from core.datasets.loading import LoadedSubject, load_subject
from core.datasets.prepare import prepare_loaded
from core.datasets.voxel_facts import VoxelFacts
from core.disk_cache import CacheUse, DiskCache, cache_limit_bytes
from core.imaging.foreign_files import DECODING_LIBRARIES
from core.imaging.image_files import files_of
from core.imaging.normalise import Normaliser, to_float16
from core.labels import LabelSpace
from core.library_versions import installed_versions
from core.paths import CACHE, cache_folder
from core.types import SpacingMm, TrainingSubject

FOLDER = "prepared"  # in the cache of a root of runs
VOXELS, FACTS, DIGESTS = "voxels", "facts.json", "digests.jsonl"
FACTS_BYTES = 16 * 1024  # about what the facts of a subject take
BLOCK = 64 * 1024  # bytes; blocks of zeros become holes of the file
LIBRARIES = ("numpy", "scipy", "nibabel", *DECODING_LIBRARIES)
CODE = (".", "imaging", "datasets", "datasets/layouts")  # folders of the modules that reading and preparing may use


@dataclass(frozen=True)
class Preparation:
    """Settings by which subjects are prepared.

    Attributes
    ----------
    modalities : tuple of str. Channels of the image, in order.
    classes : tuple of str. Foreground classes; empty for all.
    normaliser : Normaliser. Intensity normalisation of the channels.
    spacing_mm : tuple of float, or None. Voxel size that is resampled to; ``None`` for no resampling.
    crop : bool. Whether margins in which all images are 0 are left out.
    """

    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    normaliser: Normaliser
    spacing_mm: SpacingMm | None
    crop: bool = False

    @classmethod
    def of_run(
        cls, config: DataConfig, modalities: tuple[str, ...], normaliser: Normaliser, spacing_mm: SpacingMm | None
    ) -> Preparation:
        """Those of a run with a configuration; what is not in it was decided from the data."""
        return cls(modalities, config.classes, normaliser, spacing_mm, config.crop)

    def labels(self, dataset: Dataset) -> LabelSpace:
        """Classes of the prepared label maps."""
        return dataset.labels.subset(self.classes) if self.classes else dataset.labels

    def prepare(self, dataset: Dataset, id: str) -> PreparedSubject:
        """Read and prepare a subject.

        Raises
        ------
        DatasetError
            If the subject has no label map, lacks an image, or its files do not fit each other.
        VolumeError
            If a file cannot be read.
        """
        loaded = load_subject(dataset, id, self.modalities, self.classes)
        full = self.apply(loaded)
        facts = VoxelFacts.of(loaded, full, self.modalities, self.labels(dataset))
        half = TrainingSubject(id, to_float16(full.image), np.ascontiguousarray(full.label), full.spacing_mm)
        return PreparedSubject(half, facts)

    def apply(self, loaded: LoadedSubject) -> TrainingSubject:
        """Prepare a subject that was read with these modalities and classes; its image is float32.

        Raises
        ------
        DatasetError
            If the subject has no label map.
        """
        return prepare_loaded(loaded, self.normaliser, self.spacing_mm, self.crop)


@dataclass(frozen=True)
class PreparedSubject:
    """A subject that is ready for training, its image float16, and what was measured in its voxels."""

    subject: TrainingSubject
    facts: VoxelFacts

    def in_memory(self) -> TrainingSubject:
        """The subject with arrays that depend on no file."""
        subject = self.subject
        return TrainingSubject(subject.id, np.array(subject.image), np.array(subject.label), subject.spacing_mm)


@dataclass(frozen=True)
class PreparedFiles:
    """Files that a subject is prepared from, in one state.

    Attributes
    ----------
    key : str. Name of the entry.
    digests : tuple of str. Digest of each file.
    """

    key: str
    digests: tuple[str, ...]


class PreparedCache:
    """Prepared subjects in a folder, limited in size as all caches (``SEGMENTARIUM_CACHE_GB``).

    Parameters
    ----------
    folder : Path, optional. By default that of the root of runs.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / FOLDER
        self._cache = DiskCache(self.folder)
        self._digests = ContentDigests(self.folder / DIGESTS)

    @classmethod
    def of_root(cls, root: Path) -> PreparedCache:
        """That of a root of runs."""
        return cls(root / CACHE / FOLDER)

    def identify(self, dataset: Dataset, id: str, preparation: Preparation) -> PreparedFiles | None:
        """The files of a subject and the name of its entry; ``None`` if one cannot be read, as reading it will say."""
        subject = dataset.subject(id)
        files = [file for path in subject.files for file in files_of(path)]
        try:
            digests = tuple(self._digests.digest(file) for file in files if not file.is_dir())
        except OSError:
            return None
        facts = {
            "code": code_digest(),
            "files": digests,
            "names": [file.name.partition(".")[2] for file in files],
            "reading": reading_of(dataset, subject, preparation.modalities, preparation.classes),
            "normaliser": preparation.normaliser.to_json(),
            "spacing_mm": preparation.spacing_mm,
            **({"crop": True} if preparation.crop else {}),
        }
        return PreparedFiles(hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:40], digests)

    def open(self, key: str, id: str) -> PreparedSubject | None:
        """A kept subject, memory-mapped; ``None`` where there is none. A damaged one is removed."""
        entry = self._cache.get(key)
        if entry is None:
            return None
        try:
            content = json.loads((entry / FACTS).read_text())
            channels, i, j, k = (int(n) for n in content["shape"])
            facts = VoxelFacts.from_json(id, content["facts"])
            sizes = 2 * channels * i * j * k, i * j * k
            voxels = np.memmap(entry / VOXELS, np.uint8, "r")
            if voxels.size != sum(sizes):
                raise ValueError(f"{voxels.size} bytes instead of {sum(sizes)}")
            spacing_mm = tuple(float(n) for n in content["spacing_mm"])
        except (OSError, ValueError, KeyError, TypeError):
            self._cache.remove(key)
            return None
        image = voxels[: sizes[0]].view("<f2").reshape(channels, i, j, k)
        label = voxels[sizes[0] :].reshape(i, j, k)
        return PreparedSubject(TrainingSubject(id, image, label, (spacing_mm[0], spacing_mm[1], spacing_mm[2])), facts)

    def add(self, key: str, prepared: PreparedSubject) -> None:
        """Keep a subject.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        subject = prepared.subject
        content = {
            "shape": subject.image.shape,
            "spacing_mm": subject.spacing_mm,
            "facts": prepared.facts.to_json(),
        }

        def write(folder: Path) -> None:
            parts = np.ascontiguousarray(subject.image, "<f2"), np.ascontiguousarray(subject.label, np.uint8)
            write_with_holes(folder / VOXELS, [part.reshape(-1).view(np.uint8) for part in parts])
            (folder / FACTS).write_text(json.dumps(content))

        self._cache.add(key, write, tidy=False)

    def size(self, key: str) -> int:
        """Bytes on the disk that an entry takes; 0 without one."""
        return self._cache.size(key)

    def tidy(self) -> None:
        """Remove entries used longest ago while the limit is exceeded, and what killed processes left."""
        self._cache.tidy()

    def use(self) -> CacheUse:
        """What is kept."""
        return self._cache.use()

    def clear(self) -> CacheUse:
        """Remove all that is kept; returns what it was. Runs that use some of it go on."""
        use = self._cache.clear()
        (self.folder / DIGESTS).unlink(missing_ok=True)
        return use


def limit_bytes() -> int:
    """Most bytes of prepared subjects; 0 where none are kept."""
    return cache_limit_bytes()


def write_with_holes(path: Path, parts: Sequence[np.ndarray]) -> None:
    """Write arrays of bytes, shape (n,), one after the other, and flush them to the disk; blocks of zeros, such as the
    air around a head, become holes, which take no room where the file system has them."""
    with open(path, "wb") as file:
        end = 0
        for part in parts:
            for start in range(0, part.size, BLOCK):
                block = part[start : start + BLOCK]
                if block.any():
                    file.seek(end + start)
                    file.write(block.data)
            end += part.size
        file.truncate(end)
        file.flush()
        os.fsync(file.fileno())  # a power failure must not leave an entry of the right size without its content


@functools.cache
def code_digest() -> str:
    """Digest of the code that reads and prepares, of its libraries and of the kind of machine."""
    digest = hashlib.sha256()
    core = Path(__file__).resolve().parents[1]
    for folder in CODE:
        for source in sorted((core / folder).glob("*.py")):
            digest.update(source.name.encode() + source.read_bytes())
    versions = installed_versions(*LIBRARIES)
    digest.update(f"{versions} {sys.byteorder} {os.name} {np.show_config('dicts')['SIMD Extensions']}".encode())
    return digest.hexdigest()


def reading_of(
    dataset: Dataset, subject: Subject, modalities: tuple[str, ...], classes: tuple[str, ...]
) -> dict[str, Any]:
    """How the files of a subject are read: all of a data set that the voxels depend on, as JSON values.

    Parameters
    ----------
    dataset, subject : Dataset and Subject.
    modalities : tuple of str. Channels of the image, in order.
    classes : tuple of str. Foreground classes; empty for all.
    """
    place = {path: number for number, path in enumerate(subject.files)}
    absent = dataset.absent(subject, modalities)
    labels = dataset.labels
    return {
        "modalities": [
            None
            if m in absent or m not in subject.images
            else (place[subject.images[m].path], subject.images[m].channel)
            for m in modalities
        ],
        "names": modalities,
        "label": None if subject.label is None else place[subject.label],
        "masks": [(place[path], value) for path, value in subject.masks.items()],
        "classes": [(c.raw, c.name) for c in labels.classes],
        "ignore": None if labels.ignore is None else labels.ignore.raw,
        "value_map": sorted(dataset.value_map.items()),
        "kept": (labels.subset(classes) if classes else labels).names,
        "nan_is_zero": dataset.nan_is_zero,
        "labels_follow_images": dataset.labels_follow_images or subject.id in dataset.recipe.follow_image,
        "take_qform": subject.id in dataset.recipe.take_qform,
        "nearest_label": subject.id in dataset.recipe.nearest_label,
        "later_mask_wins": dataset.later_mask_wins,
        **({"segments": sorted(dataset.segments.items())} if dataset.segments else {}),
    }
