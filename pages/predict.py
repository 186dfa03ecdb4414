"""Predict: segment images of one's own with a trained model, look at the result, save it."""

from __future__ import annotations

import streamlit as st

from core.errors import UserError
from ui.predict import image_choice, result_view, segmentations, uploads
from ui.predict.segmentations import Request
from ui.shared.errors import error_box
from ui.shared.state import RESULT

st.title("Predict", anchor=False)
uploads.sweep()
segmentations.sweep()
result = st.query_params.get(RESULT)
with st.grid(3, min_column_width=360, gap=("small", "medium")) as body:
    with body.cell():
        images = None
        try:
            chosen = image_choice.choose_model()
            refs = image_choice.choose_images(chosen)
            if chosen is not None and refs:
                images = image_choice.assign(refs, chosen.description.modalities)
        except UserError as error:
            error_box(error)
        asked = st.button(
            "Segment", type="primary", icon=":material/play_arrow:", width="stretch", disabled=images is None
        )
        if chosen is not None and images is not None and (image_choice.example_is_chosen() or asked):
            files = [chosen.path, *(ref.path for ref in images)]
            request = Request(
                model=chosen.model,
                title=chosen.title,
                checkpoint=chosen.path,
                labels=chosen.description.labels,
                modalities=chosen.description.modalities,
                images=tuple(images),
                channels=image_choice.channels(images),
                uploaded=any(uploads.is_uploaded(path) for path in files),
            )
            try:
                st.query_params[RESULT] = segmentations.start(request)
            except UserError as error:
                error_box(error)
            else:
                st.rerun()
    with body.cell(column_span=2):
        if result:
            result_view.show(result)
        else:
            st.info(
                "Choose a model and the images of one subject. The result can be looked at here and saved as NIfTI, in "
                "the place and orientation of the image.",
                icon=":material/info:",
            )
            subject = image_choice.example(chosen) if chosen is not None else None
            if subject is not None:
                st.button(
                    f"Try it on the synthetic {subject}", icon=":material/science:",
                    on_click=image_choice.choose_example, args=(subject,),
                )  # fmt: skip
