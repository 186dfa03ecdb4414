"""Feature maps on Review: which layers there are, and why there are none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.checkpointing.metadata import MEMBERS
from core.runs.predictions import Prediction
from tests.support.checkpoint_files import checkpoint_metadata
from ui.review import features_view
from ui.review.features_view import NONE, CaseFeatures
from ui.shared import jobs, maps_job
from ui.shared.jobs import Job

METADATA = checkpoint_metadata()
ENSEMBLE = replace(METADATA, inference={MEMBERS: [{"name": "one"}, {"name": "two"}]})


def keep_mean(folder: Path, stage: str) -> None:
    """Keep the mean of a stage for the prediction of the case in a folder."""
    of_stage = folder / "maps" / "case" / "features" / stage
    of_stage.mkdir(parents=True)
    mean = {"key": "mean", "channel": None, "low": 0, "high": 2, "bright": 1}
    record = {"version": 1, "made_at": 1.5, "stage": stage, "channel_count": 8, "voxel_mm": [1, 1, 1]}
    (of_stage / "maps.json").write_text(json.dumps({**record, "strongest": True, "maps": [mean]}))


def test_layers_are_those_of_the_chosen_stage_that_are_kept_for_this_prediction(tmp_path: Path) -> None:
    keep_mean(tmp_path, "encoder-0")
    one = Prediction("case", tmp_path / "case.nii.gz", None, 1, 1, "", 1.5)
    case = CaseFeatures(tmp_path / "model", tmp_path, METADATA, one, "encoder-0")
    assert not case.refusal and [layer.name for layer in case.layers] == ["encoder-0 mean"]
    assert not replace(case, prediction=replace(one, made_at=2.5)).layers, "another prediction's"
    for other in ("encoder-1", NONE):
        assert not replace(case, stage=other).layers
    assert not replace(case, prediction=None).layers


def test_ensembles_and_outdated_segmentations_have_none_and_say_why(tmp_path: Path) -> None:
    one = Prediction("case", tmp_path / "case.nii.gz", None, 1, 1, "", 1.5)
    ensemble = CaseFeatures(tmp_path / "model", tmp_path, ENSEMBLE, one, "encoder-0")
    assert "review one of its networks" in ensemble.refusal and not ensemble.layers
    stale = replace(ensemble, metadata=METADATA, prediction=replace(one, stale_reason="with an earlier checkpoint"))
    assert stale.refusal == "This segmentation was made with an earlier checkpoint: segment the case again."


def features_page(folder: str, refused: bool) -> None:
    """The controls of a case whose network has two stages."""
    from pathlib import Path

    import streamlit as st

    from core.runs.predictions import Prediction
    from tests.ui.review.test_features_view import ENSEMBLE, METADATA
    from ui.review import features_view

    features_view._stages = lambda metadata: {"encoder-0": 8, "bottleneck": 16}
    one = Prediction("case", Path(folder) / "case.nii.gz", None, 1, 1, "", 1.5)
    case = features_view.read_features(Path(folder) / "model", Path(folder), ENSEMBLE if refused else METADATA, one)
    st.caption(" ".join(["layers:", *(layer.name for layer in case.layers)]))
    features_view.features_controls(case)


def page(folder: Path, refused: bool = False) -> AppTest:
    return AppTest.from_function(features_page, kwargs={"folder": str(folder), "refused": refused})


def test_a_stage_is_chosen_computed_stopped_and_forgotten(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: dict[Path, Job] = {}
    started: list[list[str]] = []

    def start(folder: Path, arguments: list[str]) -> None:
        states[folder] = Job("running", 1, 4)
        started.append(list(arguments))

    monkeypatch.setattr(features_view, "_stages", features_view._stages)  # which the page replaces
    monkeypatch.setattr(maps_job, "_started", set())
    monkeypatch.setattr(jobs, "start", start)
    monkeypatch.setattr(
        jobs, "observe", lambda folder, complete: states.get(folder, Job("done" if complete else "none"))
    )
    monkeypatch.setattr(jobs, "is_running", lambda folder: folder in states)
    monkeypatch.setattr(jobs, "cancel", lambda folder: states.pop(folder, None))
    (tmp_path / "case.json").write_text(json.dumps({"made_at": 1.5}))
    app = page(tmp_path).run()
    assert not app.exception and not app.selectbox and not app.toggle[0].disabled
    app.toggle[0].set_value(True).run()
    assert app.selectbox[0].options == ["none", "encoder-0, 8 channels", "bottleneck, 16 channels"]
    app.selectbox[0].set_value("bottleneck").run()
    assert app.query_params["stage"] == "bottleneck"
    assert [button.label for button in app.button] == ["Compute bottleneck"]
    app.number_input[0].set_value(5).run()
    app.button[0].click().run()
    assert not app.exception and {"--stage=bottleneck", "--channel=5"} < set(started[0])
    assert [button.label for button in app.button] == ["Stop"]
    app.button[0].click().run()
    assert not states and [button.label for button in app.button] == ["Compute channel 5"]
    keep_mean(tmp_path, "bottleneck")
    app.number_input[0].set_value(None).run()
    assert not app.button and app.caption[0].value == "layers: bottleneck mean"
    assert "voxels of 1 × 1 × 1 mm" in app.caption[-1].value
    app.toggle[0].set_value(False).run()
    assert "stage" not in app.query_params and app.caption[0].value == "layers:" and not app.exception


def test_an_address_names_the_stage_and_an_unknown_one_is_said(tmp_path: Path, checkpoints: Path) -> None:
    keep_mean(tmp_path, "encoder-0")
    app = page(tmp_path)
    app.query_params["stage"] = "encoder-0"
    app.run()
    assert app.toggle[0].value and app.selectbox[0].value == "encoder-0"
    assert app.caption[0].value == "layers: encoder-0 mean" and not app.exception
    other = page(tmp_path)
    other.query_params["stage"] = "encoder-9"
    other.run()
    assert "no stage encoder-9; it has encoder-0, bottleneck" in other.caption[1].value.replace("\\", "")
    assert other.selectbox[0].value == "none" and "stage" not in other.query_params
    refused = page(tmp_path, refused=True).run()
    assert refused.toggle[0].disabled and "review one of its networks" in refused.toggle[0].help
