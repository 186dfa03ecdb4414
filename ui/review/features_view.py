"""Feature maps of a stage on the Review page: the choice of stage and channel, and the job that computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from core.checkpointing.metadata import CheckpointMetadata
from core.errors import UserError
from core.formatting import format_list
from core.inference.stage_maps import STRONGEST, StageRequest
from core.models import input_names
from core.models.architecture import stage_names
from core.runs.kept_maps import has_logits
from core.runs.kept_stage_maps import KeptStage, read_kept_stage, suffices
from core.runs.predictions import Prediction
from core.types import triple
from ui.review.heat_layers import feature_name, stage_layers
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.maps_job import StageJob
from ui.shared.network_inspector import network_description, wait_for
from ui.shared.progress import progress
from ui.shared.state import load_from_url, save_to_url
from ui.viewer.component import Reveal
from ui.viewer.heat import HeatFile

STAGE, SHOWN, CHANNEL = "review_stage", "review_features", "review_channel"  # session keys
REQUESTED = "review_features_requested"  # session key: the map that was computed last, as a Reveal
PARAMETER, NONE = "stage", "none"
LOGITS = "logits"  # a stage with maps of its own
HELP = "activations of a stage of the network, as a map over the image"


@dataclass(frozen=True)
class CaseFeatures:
    """The stage that is chosen for a case.

    Attributes
    ----------
    checkpoint, data : Path. The model, and the folder of the data set.
    metadata : CheckpointMetadata. Metadata of the model.
    prediction : Prediction or None. The kept prediction of the case.
    stage : str. Name of the stage; ``NONE`` for none.
    """

    checkpoint: Path
    data: Path
    metadata: CheckpointMetadata
    prediction: Prediction | None
    stage: str

    @property
    def refusal(self) -> str:
        """Why there are no feature maps; empty where there may be."""
        if not has_logits(self.metadata):
            return "An ensemble has no stages of its own: review one of its networks."
        if self.prediction is not None and self.prediction.stale:
            return f"This segmentation was made {self.prediction.stale_reason}: segment the case again."
        return ""

    @property
    def layers(self) -> list[HeatFile]:
        """The heat layers of the feature maps that are kept."""
        if self.prediction is None or self.refusal or self.stage == NONE:
            return []
        kept = read_kept_stage(self.prediction.file, self.prediction.made_at, self.stage)
        return [] if kept is None else stage_layers(self.prediction, kept)

    @property
    def reveal(self) -> Reveal | None:
        """The map that was computed last on request, for the viewer to show; ``None`` if it is of another case."""
        requested: Reveal | None = st.session_state.get(REQUESTED)
        offered = [self.reveal_of(layer.name) for layer in self.layers]
        return requested if requested in offered else None

    def reveal_of(self, name: str) -> Reveal:
        """The request to show a map of this case, by the name of its layer."""
        kept = self.prediction
        return Reveal(name, f"{kept.file} {kept.made_at} {name}" if kept is not None else name)


def read_features(
    checkpoint: Path, data: Path, metadata: CheckpointMetadata, prediction: Prediction | None
) -> CaseFeatures:
    """The stage that the address names, or that is chosen; parameters are those of :class:`CaseFeatures`."""
    load_from_url(STAGE, NONE, parameter=PARAMETER)
    return CaseFeatures(checkpoint, data, metadata, prediction, str(st.session_state[STAGE]))


def features_controls(case: CaseFeatures) -> None:
    """Render the choice of stage and channel, the button that starts the computation, and its progress."""
    if case.prediction is None:
        return
    if case.stage != NONE and not case.refusal:
        st.session_state[SHOWN] = True
    is_on = st.toggle(
        "Feature maps", key=SHOWN, disabled=bool(case.refusal), help=case.refusal or HELP, on_change=_forget_stage
    )
    if case.refusal or not is_on:
        save_to_url(STAGE, case.stage, PARAMETER, NONE)
        return
    stages = _stages(case.metadata)
    if stages is None:
        return
    if not stages:
        st.caption(
            "This network names no stages but its logits, which are among the maps of the viewer; its `stages()` can "
            "name them (docs/own_network.md)."
        )
        return
    if st.session_state[STAGE] not in {NONE, *stages}:
        unknown, st.session_state[STAGE] = st.session_state[STAGE], NONE
        st.caption(
            f"This network has no stage {formatting.plain(unknown)}; it has {formatting.plain(format_list([*stages]))}."
        )
    error = ""
    kept: KeptStage | None = None
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        stage = st.selectbox(
            "Stage",
            [NONE, *stages],
            key=STAGE,
            width=260,
            format_func=lambda name: name if name == NONE else f"{name}, {formatting.count(stages[name], 'channel')}",
        )
        save_to_url(STAGE, stage, PARAMETER, NONE)
        if stage != NONE:
            job = StageJob(case.checkpoint, case.data, case.prediction, stage)
            error = _computation(case, job, stages[stage])
            kept = job.kept
    if error:
        error_box(error, context="The feature maps cannot be computed")
    if kept is not None:
        st.caption(_described(kept))


def _computation(case: CaseFeatures, job: StageJob, channel_count: int) -> str:
    """Render the choice of a channel, and the computation of what is not kept; returns why it failed."""
    stage = job.stage
    channel = st.number_input(
        f"Channel, 0 to {channel_count - 1}",
        0,
        channel_count - 1,
        value=None,
        placeholder=f"{STRONGEST} strongest",
        key=f"{CHANNEL}-{stage}-{channel_count}",
        width=200,
        help=f"Empty: the mean over all channels, and the {STRONGEST} with the largest standard deviation in the "
        "middle of the image.",
    )
    number = None if channel is None else int(channel)
    request = StageRequest(stage) if number is None else StageRequest(stage, (number,), strongest=False)
    state = job.observe(request)
    if state.state == "running":
        with st.container(width=260):
            progress(f"Computing {stage}", lambda: job.observe(request))
        st.button("Stop", key="features-stop", on_click=job.stop)
        return ""
    what = stage if channel is None else f"channel {channel}"
    if not suffices(job.kept, request) and st.button(
        f"Compute {what}", icon=":material/play_arrow:", key="features-start"
    ):
        try:
            job.start(request)
        except UserError as error:
            return str(error)
        st.session_state[REQUESTED] = case.reveal_of(feature_name(stage, number))
        st.rerun()
    return state.message if state.state == "failed" else ""


def _described(kept: KeptStage) -> str:
    channels = format_list([str(n) for n in kept.channels], limit=len(kept.channels))
    return (
        f"{kept.stage}: voxels of {formatting.size(kept.voxel_mm)} mm. *feature* among the maps of the viewer "
        f"(*More*, or Shift + U) shows the mean{f' and channels {channels}' if channels else ''}."
    )


def _stages(metadata: CheckpointMetadata) -> Mapping[str, int] | None:
    """Numbers of channels of the stages between image and logits, by name in the order of computation; ``None`` while
    the network is read, or where it cannot be."""
    config = metadata.train_config
    inputs = input_names(config, metadata.modalities)
    place = st.empty()
    try:
        description = wait_for(
            lambda: network_description(
                config.model, len(inputs), len(metadata.output_names), triple(config.sampling.sub_volume)
            ),
            lambda: place.caption(":material/hourglass_top: Reading the network"),
        )
    except UserError as error:
        error_box(error)
        return None
    place.empty()
    if description is None:
        return None
    names = stage_names((stage["kind"], stage["level"]) for stage in description["stages"])
    return {
        name: int(stage["channels"])
        for name, stage in zip(names, description["stages"], strict=True)
        if stage["kind"] != LOGITS
    }


def _forget_stage() -> None:
    """Choose no stage where the maps are switched off."""
    if not st.session_state.get(SHOWN):
        st.session_state[STAGE] = NONE
