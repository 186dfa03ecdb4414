"""The voxel size of the chosen images beside that of the network's training, and the offer to resample."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from core.datasets import ImageRef
from ui.predict.model_choice import Network
from ui.shared import cache, formatting
from ui.shared.voxel_size import image_spacing_mm, show_warnings

RESAMPLE = "predict_resample"  # session key


def choose_resampling(network: Network, images: Sequence[ImageRef]) -> bool:
    """Render a warning where a voxel size is not that of training; whether to resample to it.

    Parameters
    ----------
    images : sequence of ImageRef. The first image of each case.

    Raises
    ------
    UserError
        If the checkpoint or the header of an image cannot be read.
    """
    expected = cache.expected_voxel_size(network.path)
    warnings = [w for image in images if (w := expected.warning(image_spacing_mm(image.path)))]
    show_warnings(dict.fromkeys(warnings))
    if not warnings or expected.training is None:
        return False
    size = formatting.size(expected.training.median_mm)
    return st.checkbox(
        f"Resample to {size} mm",
        key=RESAMPLE,
        persist_state="session",
        help="The image is resampled to the voxel size of training, and the segmentation back to the image's grid.",
    )
