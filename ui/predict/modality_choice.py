"""Assignment of images to the modalities of a network on the Predict page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import streamlit as st

from core.datasets import ImageRef
from core.datasets.single_case import infer_modalities
from core.imaging.headers import read_header
from ui.shared import formatting

KEY = "predict_channel"  # prefix of session keys


def assign_modalities(refs: Mapping[str, ImageRef], modalities: tuple[str, ...]) -> list[ImageRef] | None:
    """The image of each modality; select boxes are shown where it cannot be inferred.

    Returns
    -------
    list of ImageRef or None. One image per modality; ``None`` until each modality has a different image.
    """
    inferred = infer_modalities(refs, modalities)
    names = list(refs)
    single = len(refs) == len(modalities) == 1
    named_by_dataset = all(inferred.get(m) == m for m in modalities)
    if single or named_by_dataset:
        return [refs[inferred[m]] for m in modalities]
    digest = hashlib.sha256("\n".join([*names, *modalities]).encode("utf-8", "surrogateescape")).hexdigest()[:8]
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
    return [refs[str(name)] for name in chosen]


def channel_numbers(images: list[ImageRef]) -> tuple[int, ...]:
    """The channel of each image, counted from 1; empty if every file has one channel."""
    several = any(read_header(path).channels > 1 for path in {ref.path for ref in images})
    return tuple(ref.channel + 1 for ref in images) if several else ()
