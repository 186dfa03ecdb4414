"""The chapter of the Learn page about the network: choice of a model, its figure, its feature maps."""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from core.checkpointing.metadata import CheckpointMetadata
from core.config import ModelConfig
from core.datasets import Dataset
from core.errors import UserError
from core.formatting import format_size
from core.labels import LabelSpace
from core.models import input_names
from core.paths import DEMO, DEMO_MODEL
from core.presets import preset
from core.types import Size3, triple
from ui.learn import figures, network_data
from ui.learn import jobs as learn_jobs
from ui.learn.layout import TEXT_WIDTH, chapter_heading, job_finished
from ui.learn.subject_data import SubjectData
from ui.shared import cache, formatting
from ui.shared.errors import error_box
from ui.shared.model_choice import choose_model
from ui.shared.navigation import page
from ui.shared.network_inspector import network_description, wait_for
from ui.shared.voxel_size import show_warnings

TRAIN_COMMAND = "python -m core train demo --preset quick"
ISEG_MODALITIES = ("T1", "T2")
OUTPUT_OF_CLASSES = (
    "Their softmax is a probability per class; the largest one gives the label of the voxel. The probabilities of a "
    "voxel add up to 1, as it is in one class only."
)
OUTPUT_OF_REGIONS = (
    "This network has a logit for each of its *regions*, which are unions of classes and may overlap. The sigmoid of "
    "a logit is the probability that the voxel is in the region, whatever the other logits are. The label is painted "
    "region by region, each over those before it, where its probability is above 0.5."
)
ISEG_CLASSES = {0: "background", 10: "CSF", 150: "GM", 250: "WM"}  # raw value to name


def chapter(data: SubjectData | None, dataset: Dataset | None, subject: str) -> None:
    """Render the chapter; without a subject, or a model of its modalities, the article's network without maps."""
    chapter_heading("network")
    output = st.container()
    models = _usable_models(dataset) if dataset is not None else {}
    if data is None or dataset is None or not models:
        output.markdown(OUTPUT_OF_CLASSES, width=TEXT_WIDTH)
        _article_network()
        if data is not None:
            _how_to_train()
        return
    default = DEMO_MODEL if DEMO_MODEL in models else next(iter(models))
    model = choose_model({key: model for key, (model, _) in models.items()}, default, width=440)
    metadata = models[model.key][1]
    output.markdown(OUTPUT_OF_REGIONS if metadata.trained_regions else OUTPUT_OF_CLASSES, width=TEXT_WIDTH)
    _network_of_model(model, metadata, data, dataset, subject)


def _network_of_model(
    model: cache.Model, metadata: CheckpointMetadata, data: SubjectData, dataset: Dataset, subject: str
) -> None:
    """The network of a model, with the feature maps of the subject once they are computed."""
    images = [dataset.subject(subject).images[m].path for m in metadata.modalities]
    size = _head_sized_sub_volume(data, metadata)
    options = ["--sub-volume", format_size(size)]
    folder = learn_jobs.features_folder(model.path, images, options)
    finished = job_finished(
        f"Computing feature maps of {formatting.plain(model.name)} for {formatting.plain(subject)}",
        lambda: learn_jobs.observe_features(folder),
        lambda: learn_jobs.start_features(model.path, images, options, folder),
    )
    labels, config = metadata.label_space, metadata.train_config
    channels, regions = metadata.output_names, network_data.region_channels(metadata)
    inputs = input_names(config, metadata.modalities)
    description = _described(model.name, config.model, len(inputs), len(channels), size)
    if description is None:
        return
    detail = any(stage["reads_image"] for stage in description["stages"] if stage["level"] == 1)
    if not finished:
        kind = "sigmoid" if regions else "softmax"
        stages = network_data.network_stages(description, inputs, channels, size, kind)
        figures.network(stages, labels.to_json(), None, detail, regions)
        return
    try:
        maps_url = network_data.publish_feature_maps(folder, dataset.path, subject, labels)
    except UserError as error:
        error_box(error)
        return
    manifest = network_data.read_manifest(folder)
    show_warnings(manifest.get("warnings", ()))
    st.markdown(
        f"Click a stage to see its feature maps of the middle slice of {formatting.plain(subject)}. "
        f"{_learned_from(metadata, subject)} It was trained on sub-volumes of "
        f"{formatting.size(config.sampling.sub_volume)} voxels; a convolutional network takes any size, here the width "
        "and length of the head. Bright is large; each map has its own scale, the logits share one. Move over a map to "
        "mark the same voxel in all of them.",
        width=TEXT_WIDTH,
    )
    figures.network(manifest["stages"], labels.to_json(), maps_url, detail, regions)


def _article_network() -> None:
    """The article's network without feature maps."""
    article = preset("article")
    size = triple(article.sampling.sub_volume)
    labels = LabelSpace.from_raw(ISEG_CLASSES)
    description = _described("The article's network", article.model, len(ISEG_MODALITIES), len(labels), size)
    if description is not None:
        stages = network_data.network_stages(description, ISEG_MODALITIES, labels.names, size)
        figures.network(stages, labels.to_json(), None)


def _usable_models(dataset: Dataset) -> dict[str, tuple[cache.Model, CheckpointMetadata]]:
    """Models whose modalities the data set has; unreadable checkpoints are reported on other pages."""
    usable = {}
    for model in cache.models():
        try:
            metadata = cache.checkpoint_metadata(model.path)
        except UserError:
            continue
        if set(metadata.modalities) <= set(dataset.modalities):
            usable[model.key] = model, metadata
    return usable


def _described(name: str, config: ModelConfig, in_channels: int, classes: int, size: Size3) -> dict[str, Any] | None:
    """The description of a network (:func:`ui.shared.network_inspector.network_description`), after a caption with its
    parameters and operations; ``None`` while it is worked out, or where it cannot be."""
    place = st.empty()
    try:
        description = wait_for(
            lambda: network_description(config, in_channels, classes, size),
            lambda: place.caption(f":material/hourglass_top: Reading the network of {formatting.plain(name)}"),
        )
    except UserError as error:
        error_box(error)
        return None
    place.empty()
    if description is None:
        return None
    st.caption(
        f"{formatting.plain(name)}: {config.model}, {description['parameters']:,} parameters; "
        f"{description['forward_gflop']:,.1f} billion operations for a sub-volume of {formatting.size(size)} voxels."
    )
    return description


def _learned_from(metadata: CheckpointMetadata, subject: str) -> str:
    """Whether the model was trained on the subject; empty for models of other data, which may reuse its name."""
    if not metadata.dataset.get("synthetic"):
        return ""
    if subject in metadata.split.get("train", []):
        return "The model has learned from this subject."
    return "The model has not learned from this subject."


def _head_sized_sub_volume(data: SubjectData, metadata: CheckpointMetadata) -> Size3:
    """Width and length of the head and the height of the training sub-volumes, in the model's voxels."""
    spacing = data.slices["spacing"]
    target = metadata.spacing_mm or spacing
    i, j = (math.ceil(n * mm / to) for n, mm, to in zip(data.extent[:2], spacing, target, strict=False))
    return i, j, metadata.train_config.sampling.sub_volume[2]


def _how_to_train() -> None:
    st.info(
        "Feature maps need a trained network, and the ready-made one is missing. Train one on the demo data: two "
        "minutes on a laptop.",
        icon=":material/info:",
    )
    st.code(TRAIN_COMMAND, language="bash")
    st.page_link(
        page("train"),
        label="Go to Train",
        icon=":material/model_training:",
        query_params={"data": DEMO, "preset": "quick"},
    )
