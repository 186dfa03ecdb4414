"""The images of one subject given as files, for a network: which file is which modality, and all of them read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.datasets import Dataset, ImageRef, LoadedSubject, Subject, load_subject
from core.errors import VolumeError
from core.imaging.headers import SUFFIXES, read_header
from core.labels import LabelSpace


def read_images(paths: Sequence[Path], modalities: Sequence[str], channels: Sequence[int] = ()) -> LoadedSubject:
    """Read the images of one subject for a network.

    Parameters
    ----------
    paths : one file per modality in the network's order, or one file with all channels.
    channels : with files of several channels: the one to take of each path, counted from 1; a path may come several
        times.

    Raises
    ------
    VolumeError
        If a file cannot be read, their number is not the network's, or a name says that the order is another one.
    DatasetError
        If the images do not lie in the same place.
    """
    held = {path: read_header(path).channels for path in dict.fromkeys(paths)}
    if channels:
        refs = _chosen(paths, channels, held)
    elif len(paths) == 1:
        refs = [ImageRef(paths[0], channel) for channel in range(held[paths[0]])]
    else:
        for path in paths:
            if held[path] != 1:
                raise VolumeError(
                    f"{path}: expected one image per file where there are several, got {held[path]} channels; say "
                    "which with --channels"
                )
        refs = [ImageRef(path) for path in paths]
    _check_number(refs, len(paths), modalities)
    if len(paths) > 1:
        _check_order(refs, modalities)
    images = dict(zip(modalities, refs, strict=True))
    unused = [ImageRef(path, c) for path, count in held.items() for c in range(count) if ImageRef(path, c) not in refs]
    everything = {**images, **{f"unused {number}": ref for number, ref in enumerate(unused)}}
    placeholder = LabelSpace.from_raw({0: "background", 1: "foreground"})
    subject = Subject("the subject", everything, None)
    given = Dataset(paths[0].parent, "", "the network", tuple(everything), placeholder, (subject,))
    return load_subject(given, subject.id, modalities)


def modalities_in_filename(path: Path, modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities that a file's name names as a word of its own."""
    name = path.name.lower()
    stem = name.removesuffix(next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), ""))
    words = re.split(r"[^a-z0-9]+", stem)
    return tuple(m for m in modalities if m.lower() in words)


def infer_modalities(refs: Mapping[str, ImageRef], modalities: Sequence[str]) -> dict[str, str]:
    """Which of some images is certainly which modality; what is not certain is left to the person to say.

    Certain is an image that is called like the modality, or in a file of its own whose name names this modality alone
    and no other file's name does; and the only image where only one is wanted.

    Parameters
    ----------
    refs : the images by what they are called.
    modalities : that are wanted.

    Returns
    -------
    The names of images by modality.
    """
    if len(refs) == len(modalities) == 1:
        return {modalities[0]: next(iter(refs))}
    alone = [ref.path for ref in refs.values()]
    says = {
        name: modalities_in_filename(ref.path, modalities) if alone.count(ref.path) == 1 else ()
        for name, ref in refs.items()
    }
    found = {}
    for modality in modalities:
        if modality in refs:
            found[modality] = modality
            continue
        fitting = [name for name, said in says.items() if modality in said]
        if len(fitting) == 1 and says[fitting[0]] == (modality,):
            found[modality] = fitting[0]
    return found


def _chosen(paths: Sequence[Path], channels: Sequence[int], held: Mapping[Path, int]) -> list[ImageRef]:
    if len(channels) != len(paths):
        raise VolumeError(
            f"{paths[0]}: expected one channel for each of {len(paths)} images, got {len(channels)}; name an image "
            "once for every channel that is taken of it"
        )
    for path, channel in zip(paths, channels, strict=True):
        if not 1 <= channel <= held[path]:
            raise VolumeError(f"{path}: expected a channel from 1 to {held[path]}, got {channel}")
    refs = [ImageRef(path, channel - 1) for path, channel in zip(paths, channels, strict=True)]
    if len(set(refs)) != len(refs):
        raise VolumeError(f"{paths[0]}: expected another image for each modality, got one twice")
    return refs


def _check_number(refs: Sequence[ImageRef], files: int, modalities: Sequence[str]) -> None:
    if len(refs) != len(modalities):
        held = "image" if files > 1 or len(refs) == 1 else "channel"
        raise VolumeError(
            f"{refs[0].path}: expected {len(modalities)} image{'s' * (len(modalities) > 1)} in the order "
            f"{', '.join(modalities)}, as the network was trained; got {len(refs)} {held}{'s' * (len(refs) > 1)}"
        )


def _check_order(refs: Sequence[ImageRef], modalities: Sequence[str]) -> None:
    """A name that names another modality than the file's place is most likely a slip."""
    for ref, modality in zip(refs, modalities, strict=True):
        said = modalities_in_filename(ref.path, modalities)
        if said and modality not in said:
            raise VolumeError(
                f"{ref.path}: expected images in the order {', '.join(modalities)}; this one stands in the place of "
                f"{modality}, but its name says {' '.join(said)}; swap them (or rename it)"
            )
