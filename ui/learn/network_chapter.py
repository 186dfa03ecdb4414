"""The chapter on the network: which one, its figure, and its feature maps once they are computed."""

from __future__ import annotations

import math

import streamlit as st

from core.checkpointing.metadata import Description
from core.config import ModelConfig
from core.datasets import Dataset
from core.errors import UserError
from core.labels import LabelSpace
from core.models.cost import cost
from core.paths import READY_MADE
from core.presets import preset
from core.types import Size3, triple
from ui.learn import figures, network_data
from ui.learn import jobs as learn_jobs
from ui.learn.chapters import READING, head, made
from ui.learn.subject_data import Lesson
from ui.shared import cache, formatting
from ui.shared.errors import error_box
from ui.shared.navigation import page
from ui.shared.state import DEMO, MODEL, put_into_address, take_from_address

COMMAND = "python -m core train demo --preset quick"


def chapter(lesson: Lesson | None, dataset: Dataset | None, subject: str) -> None:
    """Draw it. Without a subject, or a model that fits it, the article's network is drawn without maps."""
    head("network")
    known = _known(dataset) if dataset is not None else {}
    if lesson is None or dataset is None or not known:
        article = preset("article")
        size = triple(article.sampling.sub_volume)
        _facts("The article's network", article.model, 2, 4, size)
        labels = LabelSpace.from_raw({0: "background", 10: "CSF", 150: "GM", 250: "WM"})
        figures.network(network_data.stages(article.model, ("T1", "T2"), labels.names, size), labels.to_json(), None)
        if lesson is not None:
            _how_to_get_one()
        return
    first = READY_MADE if READY_MADE in known else next(iter(known))
    take_from_address(MODEL, first, among=tuple(known))
    if st.session_state[MODEL] not in known:  # chosen on another page, and for other data
        st.session_state[MODEL] = first
    key = st.selectbox(
        "Model", list(known), key=MODEL, persist_state="session", width=440,
        format_func=lambda k: known[k][0].name,
    )  # fmt: skip
    model, description = known[key]
    put_into_address(MODEL, model.key)
    images = [dataset.subject(subject).images[m].path for m in description.modalities]
    size = _across(lesson, description)
    options = ["--sub-volume", "x".join(map(str, size))]
    folder = learn_jobs.features_folder(model.path, images, options)
    doing = f"{formatting.plain(model.name)} looks at {formatting.plain(subject)}"
    there = made(
        doing,
        lambda: learn_jobs.features(folder),
        lambda: learn_jobs.start_features(model.path, images, options, folder),
    )
    labels, config = description.label_space, description.train_config
    detail = config.model.full_resolution == "detail"
    if not there:
        _facts(model.name, config.model, len(images), len(labels), size)
        stages = network_data.stages(config.model, description.modalities, labels.names, size)
        figures.network(stages, labels.to_json(), None, detail)
        return
    try:
        maps = network_data.publish_maps(folder, dataset.path, subject, labels)
    except UserError as error:
        error_box(error)
        return
    facts = network_data.manifest(folder)
    _facts(model.name, config.model, len(images), len(labels), triple(facts["sub_volume"]["size"]))
    st.markdown(
        f"Click a stage to see what it makes of the middle slice of {formatting.plain(subject)}. "
        f"{_seen(description, subject)} It learned from sub-volumes of {formatting.size(config.sampling.sub_volume)} "
        "voxels; as it is made of convolutions it takes any size, here one as wide as the head. Bright is large; each "
        "map has its own scale, the pre-activations share one. Move over a map, and the same voxel is marked in all of "
        "them.",
        width=READING,
    )
    figures.network(facts["stages"], labels.to_json(), maps, detail)


def _known(dataset: Dataset) -> dict[str, tuple[cache.Model, Description]]:
    """The models that take these modalities; damaged checkpoints are left to the pages that are about them."""
    found = {}
    for model in cache.models():
        try:
            description = cache.description(model.path)
        except UserError:
            continue
        if set(description.modalities) <= set(dataset.modalities):
            found[model.key] = model, description
    return found


def _facts(name: str, config: ModelConfig, in_channels: int, classes: int, size: Size3) -> None:
    counted = cost(config, in_channels, classes, size)
    st.caption(
        f"{formatting.plain(name)}: {config.model}, {counted.parameters:,} parameters; "
        f"{counted.forward_gflop:,.1f} billion operations for a sub-volume of {formatting.size(size)} voxels."
    )


def _seen(description: Description, subject: str) -> str:
    """Whether the model learned from the subject; other data may have subjects of the same name."""
    if not description.dataset.get("synthetic"):
        return ""
    if subject in description.split.get("train", []):
        return "The model has learned from this subject."
    return "The model has not learned from this subject."


def _across(lesson: Lesson, description: Description) -> Size3:
    """A sub-volume as wide and as long as the head, and as high as those of training, in the model's own voxels."""
    own, target = lesson.slices["spacing"], description.spacing_mm or lesson.slices["spacing"]
    i, j = (math.ceil(n * mm / to) for n, mm, to in zip(lesson.extent[:2], own, target, strict=False))
    return i, j, description.train_config.sampling.sub_volume[2]


def _how_to_get_one() -> None:
    st.info(
        "Feature maps need a trained network, and the ready-made one is not here. Train one on the demo data: two "
        "minutes on a laptop.",
        icon=":material/info:",
    )
    st.code(COMMAND, language="bash")
    st.page_link(
        page("train"),
        label="Go to Train",
        icon=":material/model_training:",
        query_params={"data": DEMO, "preset": "quick"},
    )
