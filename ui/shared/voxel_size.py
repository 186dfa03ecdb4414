"""Warnings about an image whose voxel size a network was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import streamlit as st

from core.datasets import Dataset
from core.errors import UserError
from core.formatting import format_list
from core.imaging.headers import read_header
from core.types import SpacingMm
from ui.shared import cache, formatting

ICON = ":material/straighten:"


def image_spacing_mm(image: Path) -> SpacingMm:
    """Voxel size of an image along canonical i, j, k.

    Raises
    ------
    VolumeError
        If its header cannot be read.
    """
    return read_header(image).geometry.canonical.spacing_mm


def subject_warning(checkpoint: Path, dataset: Dataset, id: str, modalities: Sequence[str]) -> str:
    """Why a subject that is not segmented yet may be segmented wrongly; empty if nothing suggests it, or its header
    cannot be read."""
    images = dataset.subject(id).images
    first = next((images[m].path for m in modalities if m in images), None)
    try:
        return "" if first is None else cache.expected_voxel_size(checkpoint).warning(image_spacing_mm(first))
    except UserError:
        return ""


def show_warnings(warnings: Iterable[str], subjects: Sequence[str] = ()) -> None:
    """Show warnings about a segmentation, or about those of several subjects."""
    whose = f"{formatting.plain(format_list(subjects))}: " if subjects else ""
    for text in warnings:
        if text:
            st.warning(whose + formatting.plain(text if whose else formatting.sentence(text)) + ".", icon=ICON)
