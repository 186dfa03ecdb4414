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
NO_IMAGE = "There is none"


@dataclass(frozen=True)
class Case:
    """A subject to segment.

    Attributes
    ----------
    name : str. Name on screen.
    image_of : mapping. Image by modality, in the order of the network, which was trained without some where any lacks.
    """

    name: str
    image_of: Mapping[str, ImageRef]

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """The images, in the order of their modalities."""
        return tuple(self.image_of.values())

    def without(self, modalities: Sequence[str]) -> tuple[str, ...]:
        """Modalities, of these, of which the case has no image."""
        return tuple(name for name in modalities if name not in self.image_of)


def choose_cases(chosen: ChosenImages, modalities: tuple[str, ...], may_lack: bool) -> tuple[Case, ...]:
    """The cases of the chosen images; what cannot be segmented is reported.

    Parameters
    ----------
    chosen : ChosenImages. Images.
    modalities : tuple of str. Modalities of the network, in order.
    may_lack : bool. Whether cases may lack some of them.

    Returns
    -------
    tuple of Case. Empty until every image has its place and fits.
    """
    cases = _cases_of_subjects(chosen.subjects, modalities, may_lack)
    cases = cases or _cases_of_files(chosen.files, modalities, may_lack)
    for case in cases:
        try:
            paths = [ref.path for ref in case.images]
            check_images(paths, modalities, channel_numbers(case.images), case.without(modalities))
        except UserError as error:
            refuse(str(error))
            return ()
    return cases if chosen.fit else ()


def _cases_of_subjects(
    subjects: Mapping[str, Mapping[str, ImageRef]], modalities: tuple[str, ...], may_lack: bool
) -> tuple[Case, ...]:
    """A case for each subject of a data set; what the modalities are called there is decided by the first subject that
    has most of them."""
    if not subjects:
        return ()
    first = max(subjects.values(), key=len)
    images = assign_modalities(first, modalities, may_lack)
    if images is None:
        return ()
    names = {m: next(name for name, ref in first.items() if ref == image) for m, image in images.items()}
    found = {id: {m: refs[name] for m, name in names.items() if name in refs} for id, refs in subjects.items()}
    lacking = [id for id, of_case in found.items() if len(of_case) < (1 if may_lack else len(names))]
    if lacking:
        needed = formatting.plain(f" {'or' if may_lack else 'and'} ".join(names.values()))
        st.warning(
            f"Left out, since they have no {needed}: {formatting.plain(format_list(lacking))}.",
            icon=":material/warning:",
        )
    return tuple(Case(id, of_case) for id, of_case in found.items() if id not in lacking)


def _cases_of_files(refs: Mapping[str, ImageRef], modalities: tuple[str, ...], may_lack: bool) -> tuple[Case, ...]:
    groups = group_cases(refs, modalities, may_lack)
    if len(groups.cases) < 2:
        images = assign_modalities(refs, modalities, may_lack) if refs else None
        return (Case(next(iter(groups.cases), "the subject"), images),) if images else ()
    st.caption(f"{len(groups.cases)} cases: {formatting.plain(format_list(list(groups.cases)))}")
    cases = tuple(Case(case, {m: refs[name] for m, name in names.items()}) for case, names in groups.cases.items())
    lacking = [
        f"{case.name} without {' and '.join(missing)}" for case in cases if (missing := case.without(modalities))
    ]
    if lacking:
        st.caption(formatting.plain(f"{format_list(lacking)}."))
    used = {name for names in groups.cases.values() for name in names.values()}
    if unused := [name for name in refs if name not in used]:
        reasons = [f"{case} needs one {' and one '.join(wrong)}" for case, wrong in groups.incomplete.items()]
        why = f" ({format_list(reasons)})" if reasons else ""
        st.warning(f"Left out: {formatting.plain(format_list(unused) + why)}.", icon=":material/warning:")
    return cases


def assign_modalities(
    refs: Mapping[str, ImageRef], modalities: tuple[str, ...], may_lack: bool
) -> dict[str, ImageRef] | None:
    """The image of each modality; select boxes are shown where it cannot be inferred.

    Parameters
    ----------
    refs : mapping. Images by name, at least one.
    modalities : tuple of str. Modalities of the network, in order.
    may_lack : bool. Whether there need not be an image of each.

    Returns
    -------
    dict of ImageRef or None. Image by modality, in order; ``None`` until each modality has a different image, or is
    said to have none.
    """
    inferred = infer_modalities(refs, modalities)
    names = list(refs)
    single = len(refs) == len(modalities) == 1
    named_by_dataset = all(inferred.get(m) == m for m in modalities)
    if single or named_by_dataset:
        return {m: refs[inferred[m]] for m in modalities}
    options = [*names, NO_IMAGE] if may_lack else names
    undecided = NO_IMAGE if may_lack and len(inferred) == len(refs) else None
    digest = short_hash("\n".join([*names, *modalities]))[:8]
    chosen = [
        st.selectbox(
            formatting.plain(modality) if modality in inferred else f"Which image is {formatting.plain(modality)}?",
            options,
            index=options.index(chosen_first) if (chosen_first := inferred.get(modality, undecided)) else None,
            key=f"{KEY}-{digest}-{modality}",
            placeholder="Choose the image",
        )
        for modality in modalities
    ]
    if len(refs) < len(modalities) and not may_lack:
        st.caption(
            f"This model needs {formatting.count(len(modalities), 'image')}: {formatting.plain(', '.join(modalities))}."
        )
    if any(name is None for name in chosen):
        return None
    image_of = {m: refs[str(name)] for m, name in zip(modalities, chosen, strict=True) if name != NO_IMAGE}
    if not image_of:
        st.warning("Choose at least one image.", icon=":material/warning:")
        return None
    if len(set(image_of.values())) < len(image_of):
        st.warning("One image is chosen for two modalities; choose another one for each.", icon=":material/warning:")
        return None
    return image_of


def channel_numbers(images: Sequence[ImageRef]) -> tuple[int, ...]:
    """The channel of each image, counted from 1; empty if every file has one channel."""
    several = any(read_header(path).channels > 1 for path in {ref.path for ref in images})
    return tuple(ref.channel + 1 for ref in images) if several else ()
