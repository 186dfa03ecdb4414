"""The Predict page: segment images with a trained network, view the result, save it."""

from __future__ import annotations

import streamlit as st

from core.datasets import ImageRef
from core.errors import UserError
from ui.predict import image_choice, segmentations, uploads
from ui.predict.modality_choice import assign_modalities, channel_numbers
from ui.predict.model_choice import Network, choose_network
from ui.predict.resampling import choose_resampling
from ui.predict.result_view import render_result
from ui.predict.segmentations import Request
from ui.shared.errors import error_box
from ui.shared.state import RESULT


def segment(network: Network, images: list[ImageRef], resample: bool) -> None:
    """Start the segmentation and show it."""
    request = Request(
        model=network.argument,
        title=network.title,
        checkpoint=network.path,
        labels=network.metadata.labels,
        modalities=network.metadata.modalities,
        images=tuple(images),
        channels=channel_numbers(images),
        uploaded=any(uploads.is_uploaded(path) for path in (network.path, *(ref.path for ref in images))),
        resample=resample,
    )
    try:
        st.query_params[RESULT] = segmentations.start(request)
    except UserError as error:
        error_box(error)
    else:
        st.rerun()


st.title("Predict", anchor=False)
uploads.sweep()
segmentations.sweep()
result = st.query_params.get(RESULT)
with st.grid(3, min_column_width=360, gap=("small", "medium")) as grid:
    with grid.cell():
        network, images, resample = None, None, False
        try:
            network = choose_network()
            refs = image_choice.choose_images(network)
            if network is not None and refs:
                images = assign_modalities(refs, network.metadata.modalities)
            if network is not None and images:
                resample = choose_resampling(network, images)
        except UserError as error:
            error_box(error)
        clicked = st.button(
            "Segment", type="primary", icon=":material/play_arrow:", width="stretch", disabled=images is None
        )
        if network is not None and images is not None and (image_choice.take_example_request() or clicked):
            segment(network, images, resample)
    with grid.cell(column_span=2):
        if result:
            render_result(result)
        else:
            st.info(
                "Choose a model and the images of one subject. The result can be viewed here and saved as NIfTI, with "
                "the position and orientation of the image.",
                icon=":material/info:",
            )
            subject = image_choice.example_subject(network) if network is not None else None
            if subject is not None:
                st.button(
                    f"Try it on the synthetic {subject}",
                    icon=":material/science:",
                    on_click=image_choice.choose_example,
                    args=(subject,),
                )
