"""The Predict page: segment images with a trained network, view the result, save it."""

from __future__ import annotations

import streamlit as st

from core.errors import UserError
from ui.predict import batches, image_choice, segmentations
from ui.predict.batch_view import render_batch
from ui.predict.modality_choice import Case, channel_numbers, choose_cases
from ui.predict.model_choice import Network, choose_network
from ui.predict.postprocessing_choice import choose_postprocessing
from ui.predict.resampling import choose_resampling
from ui.predict.result_view import render_result
from ui.predict.segmentations import Request
from ui.shared import uploads
from ui.shared.errors import error_box
from ui.shared.query_params import query_params
from ui.shared.state import RESULT


def request_of(network: Network, case: Case, resample: bool, nan_is_zero: bool, postprocess: bool) -> Request:
    """The segmentation of a case."""
    return Request(
        model=network.argument,
        title=network.title,
        checkpoint=network.path,
        labels=network.metadata.labels,
        modalities=tuple(case.image_of),
        images=case.images,
        channels=channel_numbers(case.images),
        uploaded=any(uploads.is_uploaded(path) for path in (network.path, *(ref.path for ref in case.images))),
        resample=resample,
        nan_is_zero=nan_is_zero,
        postprocess=postprocess,
        without=case.without(network.metadata.modalities),
    )


def segment(requests: dict[str, Request]) -> None:
    """Start the segmentations and show them."""
    try:
        query_params[RESULT] = batches.start(requests)
    except UserError as error:
        error_box(error)
    else:
        st.rerun()


st.title("Predict", anchor=False)
uploads.remove_stale()
uploads.restore_after_reload()
segmentations.remove_stale()
result = query_params.get(RESULT)
with st.grid(3, min_column_width=220, gap=("small", "medium")) as grid:
    with grid.cell():
        network, chosen = None, image_choice.ChosenImages()
        requests: dict[str, Request] = {}
        try:
            network = choose_network()
            chosen = image_choice.choose_images(network)
            cases: tuple[Case, ...] = ()
            if network is not None:
                cases = choose_cases(chosen, network.metadata.modalities, network.metadata.learned_missing)
            if network is not None and cases:
                resample = choose_resampling(network, [case.images[0] for case in cases])
                postprocess = choose_postprocessing(network)
                requests = {c.name: request_of(network, c, resample, chosen.nan_is_zero, postprocess) for c in cases}
        except UserError as error:
            error_box(error)
        several = f" {len(requests)} cases" if len(requests) > 1 else ""
        clicked = st.button(
            f"Segment{several}",
            type="primary",
            icon=":material/play_arrow:",
            width="stretch",
            disabled=not requests,
            key="segment",
        )
        if requests and (image_choice.take_example_request() or clicked):
            segment(requests)
    with grid.cell(column_span=2):
        if result:
            earlier = batches.id_of(requests) != result if requests else bool(chosen.files) or not chosen.fit
            if batch := batches.read(result):
                render_batch(result, batch, earlier)
            else:
                render_result(result, earlier)
        else:
            st.info(
                "Choose a model and the images of one or several subjects. The result can be viewed here and saved as "
                "NIfTI, with the position and orientation of the image.",
                icon=":material/info:",
            )
            subject = image_choice.example_subject(network) if network is not None else None
            if subject is not None:
                st.button(
                    f"Try it on the synthetic {subject}",
                    icon=":material/science:",
                    type="secondary" if requests else "primary",
                    on_click=image_choice.choose_example,
                    args=(subject,),
                )
