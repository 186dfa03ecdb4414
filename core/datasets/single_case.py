"""Reads the images of one subject, given as files, for a network: assigns files and channels to modalities."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.datasets.layouts.base import Dataset, ImageRef, Subject
from core.datasets.layouts.files import image_stem
from core.datasets.loading import LoadedSubject, load_subject, read_subject_headers
from core.errors import VolumeError
from core.formatting import format_count
from core.imaging.headers import read_header
from core.imaging.image_files import FOREIGN_FORMATS
from core.labels import LabelSpace


def read_images(
    paths: Sequence[Path],
    modalities: Sequence[str],
    channels: Sequence[int] = (),
    nan_is_zero: bool = False,
    without: Sequence[str] = (),
) -> LoadedSubject:
    """Read the images of one subject for a network.

    Parameters
    ----------
    paths : sequence of Path. One file per modality in the network's order, or one file with all channels.
    modalities : sequence of str. Modalities of the network, in order.
    channels : sequence of int. Channel of each path, from 1, for files with several channels; a path may be repeated.
    nan_is_zero : bool. Whether NaN is read as 0.
    without : sequence of str. Modalities of which there is no file: their image is 0 in every voxel.

    Raises
    ------
    VolumeError
        If a file cannot be read, their number differs from the network's, an image is given twice, a file name
        contradicts the order, or a modality of which there is none is unknown or the last one.
    DatasetError
        If the geometries of the images differ.
    """
    dataset = dataset_of_images(paths, modalities, channels, nan_is_zero, without)
    return load_subject(dataset, dataset.ids[0], modalities)


def check_images(
    paths: Sequence[Path], modalities: Sequence[str], channels: Sequence[int] = (), without: Sequence[str] = ()
) -> None:
    """Check, reading only headers, that the images of one subject exist, fit a network, and fit each other.

    Parameters and errors are those of :func:`read_images`, but for faults of voxels.
    """
    dataset = dataset_of_images(paths, modalities, channels, False, without)
    read_subject_headers(dataset, dataset.subjects[0], modalities)


def dataset_of_images(
    paths: Sequence[Path],
    modalities: Sequence[str],
    channels: Sequence[int],
    nan_is_zero: bool,
    without: Sequence[str] = (),
) -> Dataset:
    """A data set of one subject with these images; see :func:`read_images`."""
    given = _given(modalities, without)
    channel_counts = {path: read_header(path).channels for path in dict.fromkeys(paths)}
    if channels:
        refs = _select_channels(paths, channels, channel_counts)
    elif len(paths) == 1:
        refs = [ImageRef(paths[0], channel) for channel in range(channel_counts[paths[0]])]
    else:
        refs = [ImageRef(path) for path in paths]
        for path, count in channel_counts.items():
            if count != 1:
                raise VolumeError(
                    f"{path}: expected one image per file where there are several, got {count} channels; choose with "
                    "--channels"
                )
    _check_count(refs, len(paths), given)
    _check_distinct(refs, given)
    if len(paths) > 1 or without:
        _check_order(refs, given, modalities)
    images = dict(zip(given, refs, strict=True))
    all_refs = [ImageRef(path, channel) for path, count in channel_counts.items() for channel in range(count)]
    unused = [ref for ref in all_refs if ref not in refs]
    # A data set states every channel of its files, the unused ones too.
    images_and_unused = {**images, **{f"unused {number}": ref for number, ref in enumerate(unused)}}
    placeholder = LabelSpace.from_raw({0: "background", 1: "foreground"})
    subject = Subject("the subject", images_and_unused, None)
    return Dataset(
        paths[0].parent,
        "",
        "the network",
        (*images_and_unused, *without),
        placeholder,
        (subject,),
        nan_is_zero=nan_is_zero,
        missing_modalities="zero" if without else "refuse",
    )


def modalities_in_filename(path: Path, modalities: Sequence[str]) -> tuple[str, ...]:
    """Modalities that occur in a file name as separate words, in any case; ``T1w``, as in BIDS, is ``T1``."""
    words = set(map(_modality_word, re.split(r"[\W_]+", image_stem(path.name))))
    return tuple(m for m in modalities if _modality_word(m) in words)


@dataclass(frozen=True)
class CaseGroups:
    """Images of several subjects, one file per modality, grouped by their names.

    Attributes
    ----------
    cases : dict. Image names by modality, in the network's order, by the name of the case.
    incomplete : dict. Modalities that are missing or given twice, by the name of the case.
    """

    cases: dict[str, dict[str, str]]
    incomplete: dict[str, tuple[str, ...]]


def group_cases(refs: Mapping[str, ImageRef], modalities: Sequence[str], may_lack: bool = False) -> CaseGroups:
    """Group images into cases: those whose file names differ only in the name of a modality belong together.

    For one modality each image is a case; where some name the modality, those alone. Images that are one of several
    channels of a file are in no case, nor are those of several modalities whose name has none.

    Parameters
    ----------
    refs : mapping. Images by name.
    modalities : sequence of str. Modalities of the network, in order.
    may_lack : bool. Whether cases without an image of each modality are complete: where there are images of one
        modality in several of them, so that they cannot be one subject whose names differ.
    """
    images_per_file = Counter(ref.path for ref in refs.values())
    single = {name: ref for name, ref in refs.items() if images_per_file[ref.path] == 1}
    named = {name: modalities_in_filename(ref.path, modalities) for name, ref in single.items()}
    if len(modalities) == 1:
        chosen = [name for name in single if named[name]] or list(single)
        return CaseGroups({image_stem(name): {modalities[0]: name} for name in chosen}, {})
    groups: dict[str, dict[str, list[str]]] = {}
    for name, found in named.items():
        if len(found) == 1:
            group = groups.setdefault(_without_modality(image_stem(single[name].path.name), found[0]), {})
            group.setdefault(found[0], []).append(name)
    counts = Counter(modality for images in groups.values() for modality in images)
    allowed = (0, 1) if may_lack and any(count > 1 for count in counts.values()) else (1,)
    cases, incomplete = {}, {}
    for case, images in groups.items():
        wrong = tuple(m for m in modalities if len(images.get(m, ())) not in allowed)
        if wrong:
            incomplete[case] = wrong
        else:
            cases[case] = {m: images[m][0] for m in modalities if m in images}
    return CaseGroups(cases, incomplete)


def _modality_word(word: str) -> str:
    """A word of a file name for comparison with modalities: lower case, without the w of weighted (T1w, PDw)."""
    word = word.lower()
    return word[:-1] if re.fullmatch(r"(t[12]|pd)w", word) else word


def _without_modality(stem: str, modality: str) -> str:
    """A file name without the word that is its modality, and without the separators around it."""
    parts = re.split(r"([\W_]+)", stem)
    words = [n for n in range(0, len(parts), 2) if _modality_word(parts[n]) != _modality_word(modality)]
    kept = [parts[n] + (parts[n + 1] if n + 1 < len(parts) else "") for n in words]
    return re.sub(r"[\W_]+$", "", "".join(kept)) or "the subject"


def infer_modalities(refs: Mapping[str, ImageRef], modalities: Sequence[str]) -> dict[str, str]:
    """Assign images to modalities where names leave no doubt.

    An image is assigned if it has the name of the modality; or if it is the only image in its file, and the file name
    contains this modality and no other, and is the only one to contain it. A single
    image is assigned to a single modality.

    Parameters
    ----------
    refs : mapping. Images by name.
    modalities : sequence of str. Modalities of the network.

    Returns
    -------
    dict. Image name by modality; modalities in doubt are absent.
    """
    if len(refs) == len(modalities) == 1:
        return {modalities[0]: next(iter(refs))}
    images_per_file = Counter(ref.path for ref in refs.values())
    named = {
        name: modalities_in_filename(ref.path, modalities) if images_per_file[ref.path] == 1 else ()
        for name, ref in refs.items()
    }
    assigned = {}
    for modality in modalities:
        if modality in refs:
            assigned[modality] = modality
            continue
        candidates = [name for name, found in named.items() if modality in found]
        if len(candidates) == 1 and named[candidates[0]] == (modality,):
            assigned[modality] = candidates[0]
    return assigned


def _select_channels(
    paths: Sequence[Path], channels: Sequence[int], channel_counts: Mapping[Path, int]
) -> list[ImageRef]:
    """One channel, from 1, of each path."""
    if len(channels) != len(paths):
        raise VolumeError(
            f"{paths[0]}: expected one channel for each of {len(paths)} images, got {len(channels)}; name an image "
            "once for every channel that is taken of it"
        )
    for path, channel in zip(paths, channels, strict=True):
        if not 1 <= channel <= channel_counts[path]:
            raise VolumeError(f"{path}: expected a channel from 1 to {channel_counts[path]}, got {channel}")
    return [ImageRef(path, channel - 1) for path, channel in zip(paths, channels, strict=True)]


def _given(modalities: Sequence[str], without: Sequence[str]) -> tuple[str, ...]:
    """The modalities of which there is an image, in order."""
    unknown = [name for name in without if name not in modalities]
    given = tuple(name for name in modalities if name not in without)
    if unknown or not given:
        raise VolumeError(
            f"expected some of the modalities {', '.join(modalities)}, but not all, of which there is no image; got "
            f"{', '.join(without)}"
        )
    return given


def _check_count(refs: Sequence[ImageRef], files: int, modalities: Sequence[str]) -> None:
    if len(refs) != len(modalities):
        unit = "image" if files > 1 or len(refs) == 1 else "channel"
        raise VolumeError(
            f"{refs[0].path}: expected {format_count(len(modalities), 'image')} in the order "
            f"{', '.join(modalities)}, as the network was trained; got {format_count(len(refs), unit)}"
        )


def _check_distinct(refs: Sequence[ImageRef], modalities: Sequence[str]) -> None:
    """Refuse one image for two modalities, also under two names: a relative path, a link, the other file of a pair."""
    modality_of: dict[tuple[int, int, int], str] = {}
    for ref, modality in zip(refs, modalities, strict=True):
        header = read_header(ref.path)
        # Voxels of another format lie in the cache, once for each name of the file.
        status = os.stat(ref.path if header.format in FOREIGN_FORMATS else header.data_path)
        first = modality_of.setdefault((status.st_dev, status.st_ino, ref.channel), modality)
        if first != modality:
            channel = f"channel {ref.channel + 1} of it" if header.channels > 1 else "the same file"
            raise VolumeError(
                f"{ref.path}: expected another image for each modality, got {channel} for {first} and for {modality}; "
                f"give the image of {modality}"
            )


def _check_order(refs: Sequence[ImageRef], given: Sequence[str], modalities: Sequence[str]) -> None:
    """Refuse a file whose name contains another modality of the network than that of its position."""
    for ref, modality in zip(refs, given, strict=True):
        named = modalities_in_filename(ref.path, modalities)
        if named and modality not in named:
            raise VolumeError(
                f"{ref.path}: expected images in the order {', '.join(given)}; this one is in the position of "
                f"{modality}, but its name contains {' '.join(named)}; swap them (or rename it)"
            )
