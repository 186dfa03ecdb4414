"""Cases of the Predict page: images assigned to the modalities of a network, of one subject or of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from core.datasets import ImageRef
from core.datasets.single_case import check_images, group_cases, infer_modalities
from core.errors import UserError
from core.formatting import format_list
from core.imaging.headers import read_header
from ui.predict.image_choice import ChosenImages, refuse
from ui.shared import formatting
from ui.shared.hashes import short_hash

KEY = "predict_channel"  # prefix of session keys


@dataclass(frozen=True)
class Case:
    """A subject to segment.

    Attributes
    ----------
    name : str. Name on screen.
    images : tuple of ImageRef. One per modality of the network, in order.
    """

    name: str
    images: tuple[ImageRef, ...]


def choose_cases(chosen: ChosenImages, modalities: tuple[str, ...]) -> tuple[Case, ...]:
    """The cases of the chosen images; what cannot be segmented is reported.

    Returns
    -------
    tuple of Case. Empty until every image has its place and fits.
    """
    cases = _cases_of_subjects(chosen.subjects, modalities) or _cases_of_files(chosen.files, modalities)
    for case in cases:
        try:
            check_images([ref.path for ref in case.images], modalities, channel_numbers(case.images))
        except UserError as error:
            refuse(str(error))
            return ()
    return cases if chosen.fit else ()


def _cases_of_subjects(subjects: Mapping[str, Mapping[str, ImageRef]], modalities: tuple[str, ...]) -> tuple[Case, ...]:
    """A case for each subject of a data set; what the modalities are called there is decided by the first subject."""
    if not subjects:
        return ()
    first = next(iter(subjects.values()))
    images = assign_modalities(first, modalities)
    if images is None:
        return ()
    names = [next(name for name, ref in first.items() if ref == image) for image in images]
    lacking = [id for id, refs in subjects.items() if set(names) - set(refs)]
    if lacking:
        needed = formatting.plain(" and ".join(names))
        st.warning(
            f"Left out, since they have no {needed}: {formatting.plain(format_list(lacking))}.",
            icon=":material/warning:",
        )
    return tuple(Case(id, tuple(refs[n] for n in names)) for id, refs in subjects.items() if id not in lacking)


def _cases_of_files(refs: Mapping[str, ImageRef], modalities: tuple[str, ...]) -> tuple[Case, ...]:
    groups = group_cases(refs, modalities)
    if len(groups.cases) < 2:
        images = assign_modalities(refs, modalities) if refs else None
        return (Case(next(iter(groups.cases), "the subject"), images),) if images else ()
    st.caption(f"{len(groups.cases)} cases: {formatting.plain(format_list(list(groups.cases)))}")
    used = {name for names in groups.cases.values() for name in names}
    if unused := [name for name in refs if name not in used]:
        reasons = [f"{case} needs one {' and one '.join(wrong)}" for case, wrong in groups.incomplete.items()]
        why = f" ({format_list(reasons)})" if reasons else ""
        st.warning(f"Left out: {formatting.plain(format_list(unused) + why)}.", icon=":material/warning:")
    return tuple(Case(case, tuple(refs[name] for name in names)) for case, names in groups.cases.items())


def assign_modalities(refs: Mapping[str, ImageRef], modalities: tuple[str, ...]) -> tuple[ImageRef, ...] | None:
    """The image of each modality; select boxes are shown where it cannot be inferred.

    Returns
    -------
    tuple of ImageRef or None. One image per modality; ``None`` until each modality has a different image.
    """
    inferred = infer_modalities(refs, modalities)
    names = list(refs)
    single = len(refs) == len(modalities) == 1
    named_by_dataset = all(inferred.get(m) == m for m in modalities)
    if single or named_by_dataset:
        return tuple(refs[inferred[m]] for m in modalities)
    digest = short_hash("\n".join([*names, *modalities]))[:8]
    chosen = [
        st.selectbox(
            formatting.plain(modality) if modality in inferred else f"Which image is {formatting.plain(modality)}?",
            names,
            index=names.index(inferred[modality]) if modality in inferred else None,
            key=f"{KEY}-{digest}-{modality}",
            placeholder="Choose the image",
        )
        for modality in modalities
    ]
    if len(refs) < len(modalities):
        st.caption(
            f"This model needs {formatting.count(len(modalities), 'image')}: {formatting.plain(', '.join(modalities))}."
        )
    if any(name is None for name in chosen):
        return None
    if len(set(chosen)) < len(chosen):
        st.warning("One image is chosen for two modalities; choose another one for each.", icon=":material/warning:")
        return None
    return tuple(refs[str(name)] for name in chosen)


def channel_numbers(images: Sequence[ImageRef]) -> tuple[int, ...]:
    """The channel of each image, counted from 1; empty if every file has one channel."""
    several = any(read_header(path).channels > 1 for path in {ref.path for ref in images})
    return tuple(ref.channel + 1 for ref in images) if several else ()
